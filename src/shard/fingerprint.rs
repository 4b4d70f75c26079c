//! Fingerprints of the blocks of a piece that came out wrong, and of the same piece when it is fetched again and when it comes
//! out right: where they differ, somebody has lied.

use super::memory::RunKey;
use super::torrent::{Fetched, TorrentShard};
use crate::digest::{Job, Sha1State, advance};
use crate::metainfo::{BLOCK_LEN, PieceIndex};
use crate::ring::Slab;
use crate::storage::StorageError;
use crate::swarm::RUN_LEN;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// How long to wait for a slab that others are about to give back.
const WAIT: Duration = Duration::from_millis(5);

impl TorrentShard {
    /// Takes the fingerprints of runs of a piece. Nothing else happens to them meanwhile.
    pub(super) async fn fingerprint(
        self: Rc<Self>,
        piece: PieceIndex,
        runs: Range<usize>,
    ) -> Result<(), StorageError> {
        let mut prints = Vec::new();
        for run in runs.clone() {
            prints.extend(self.prints_of_run((piece, run)).await?);
        }
        self.swarm.borrow_mut().fingerprinted(self.now(), piece, runs, &prints);
        Ok(())
    }

    async fn prints_of_run(&self, key: RunKey) -> Result<Vec<u64>, StorageError> {
        let (range, print_key) = (0..self.run_len(key) as usize, &self.crew.print_key);
        // All of it has come, and it is not hashed yet.
        if let Some(Fetched::Filling(slab)) = self.fetched.borrow().get(&key) {
            return Ok(prints_of(slab.read(range), print_key));
        }
        let slab = self.run_of_piece(key).await?;
        Ok(prints_of(slab.bytes(range), print_key))
    }

    /// The run, which is in memory or was written.
    async fn run_of_piece(&self, key: RunKey) -> Result<Slab, StorageError> {
        if let Some(Fetched::Full(slab)) = self.fetched.borrow().get(&key) {
            return Ok(slab.clone());
        }
        let len = self.run_len(key);
        if let Some(slab) = self.memory.borrow_mut().get(key, &(0..len as usize)) {
            return Ok(slab);
        }
        let slab = loop {
            match self.take_anyhow(self.skew(key)) {
                Some(slab) => break slab,
                None => tokio::time::sleep(WAIT).await,
            }
        };
        self.access.read(key.0, key.1 as u32 * RUN_LEN, len, 0, slab).await
    }
}

/// The fingerprint of each block of a run: part of a hash that nobody outside can foresee.
fn prints_of(run: &[u8], key: &[u8; 16]) -> Vec<u64> {
    let blocks: Vec<&[u8]> = run.chunks(BLOCK_LEN as usize).collect();
    let mut states: Vec<Sha1State> = blocks.iter().map(|_| Sha1State::default()).collect();
    let jobs = states.iter_mut().zip(&blocks).map(|(state, block)| Job::of_slices(state, [&key[..], block]));
    advance(&mut jobs.collect::<Vec<_>>());
    let first = |hash: [u8; 20]| u64::from_le_bytes(*hash.first_chunk().expect("20 bytes are more than 8"));
    states.into_iter().map(|state| first(state.finish())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_changes_the_print_of_its_block_only() {
        let mut run = vec![7; 3 * BLOCK_LEN as usize + 100];
        let before = prints_of(&run, &[1; 16]);
        assert_eq!(before.len(), 4);
        assert!(before[0] == before[1] && before[2] != before[3]);
        run[BLOCK_LEN as usize] ^= 1;
        let after = prints_of(&run, &[1; 16]);
        let changed: Vec<usize> = (0..4).filter(|block| before[*block] != after[*block]).collect();
        assert_eq!(changed, [1]);
        assert!(prints_of(&run, &[2; 16]).iter().zip(&after).all(|(a, b)| a != b), "the key counts");
    }
}
