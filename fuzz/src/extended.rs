//! What extensions say, and the fetching of metadata from peers that may lie.

use super::script::Script;
use seedring::metainfo::InfoHash;
use seedring::swarm::{MetadataFetch, MetadataOutcome};
use seedring::wire::extended::{
    ExtendedHandshake, Extension, ExtensionIds, MAX_PEX_PEERS, METADATA_BLOCK_LEN, MetadataMessage,
    PexMessage, parse_dont_have, parse_upload_only,
};
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The payload of a message of an extension, which each of them tries to read. What is read can be said, and then reads
/// the same.
pub fn extended(input: &[u8]) {
    if let Some(hello) = ExtendedHandshake::parse(input) {
        assert_eq!(ExtendedHandshake::parse(&hello.encode()), Some(hello.clone()));
        let mut ids = ExtensionIds::default();
        ids.update(&hello);
        let told = |extension: Extension| hello.ids[extension as usize].filter(|id| *id != 0);
        assert!(Extension::ALL.into_iter().all(|extension| ids.get(extension) == told(extension)));
    }
    if let Some(message) = MetadataMessage::parse(input) {
        assert_eq!(MetadataMessage::parse(&message.encode()), Some(message));
    }
    if let Some(message) = PexMessage::parse(input) {
        assert!(message.added.len() <= 2 * MAX_PEX_PEERS && message.dropped.len() <= 2 * MAX_PEX_PEERS);
        let again = PexMessage::parse(&message.encode()).expect("what we say can be read");
        assert_eq!((again.added.len(), again.dropped.len()), (message.added.len(), message.dropped.len()));
        assert!(message.added.iter().all(|peer| again.added.contains(peer)));
    }
    assert_eq!(parse_dont_have(input).is_some(), input.len() == 4);
    assert_eq!(parse_upload_only(input).is_some(), input.len() == 1);
}

/// Peers of a metadata fetch: some honest, some not; the input says which, and in which order all goes.
///
/// No honest peer is blamed, what comes out is what was wished for, and with an honest peer there it does end.
pub fn metadata(input: &[u8]) {
    let mut script = Script(input);
    let len = usize::from(script.number()) + 1;
    let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + at / 256) as u8).collect();
    let mut fetch = MetadataFetch::new(InfoHash(Sha1::digest(&bytes).into()));
    let mut now = Duration::from_secs(5);
    // Blocks that each peer was asked for.
    let mut asked: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    let mut liars = Vec::new();
    while !script.is_over() {
        let peer = u64::from(script.byte() % 6);
        let honest = peer < 3;
        let gone = match script.byte() % 7 {
            0 => {
                let size = match script.byte() {
                    _ if honest => Some(len as i64),
                    number @ 0..4 => [None, Some(-1), Some(i64::MAX), Some(0)][usize::from(number)],
                    number @ 4..8 => Some(i64::from(u32::MAX) << (number - 4)),
                    number => Some(len as i64 + i64::from(number % 3) - 1),
                };
                fetch.offer(now, peer, at(peer), size);
                false
            }
            1 | 2 => {
                asked.entry(peer).or_default().extend(fetch.next_request(now, peer));
                false
            }
            3 => {
                let mine = asked.entry(peer).or_default();
                if let Some(block) = mine.pop() {
                    fetch.rejected(now, peer, block);
                }
                false
            }
            4 => {
                now += Duration::from_millis(100) * u32::from(script.byte());
                for late in fetch.tick(now) {
                    fetch.gone(late);
                    asked.remove(&late);
                }
                false
            }
            5 => {
                let mine = asked.entry(peer).or_default();
                let (block, total, body) = if honest {
                    let Some(block) = mine.pop() else { continue };
                    (block, Some(len as i64), block_of(&bytes, block).to_vec())
                } else {
                    let block =
                        if script.byte() % 4 == 0 { script.number().into() } else { mine.pop().unwrap_or(0) };
                    let total = Some(i64::from(script.number())).filter(|total| *total != 0);
                    let mut body = block_of(&bytes, block).to_vec();
                    body.resize(body.len().saturating_add_signed(isize::from(script.byte() as i8 / 100)), 1);
                    body.first_mut().into_iter().for_each(|byte| *byte ^= script.byte() % 2);
                    (block, total, body)
                };
                match fetch.data(now, peer, (block, total), &body) {
                    MetadataOutcome::Done(whole) => return assert_eq!(whole, bytes),
                    MetadataOutcome::Wrong { liar } => {
                        liars.extend(liar);
                        liar.is_some_and(|liar| {
                            assert!(liar >= 3, "an honest peer is blamed");
                            liar == peer
                        })
                    }
                    MetadataOutcome::Offence => {
                        assert!(!honest || mine.is_empty() || !mine.contains(&block), "{block}");
                        true
                    }
                    MetadataOutcome::Wait => false,
                }
            }
            _ => true,
        };
        if gone {
            fetch.gone(peer);
            asked.remove(&peer);
        }
    }
    // All have gone but one who is honest.
    (0..6).for_each(|peer| fetch.gone(peer));
    assert!(fetch.offer(now, 9, at(9), Some(len as i64)));
    // What liars have left behind may have to come out wrong first.
    for _ in 0..=2 * len.div_ceil(METADATA_BLOCK_LEN) {
        let Some(block) = fetch.next_request(now, 9) else { break };
        if let MetadataOutcome::Done(whole) = fetch.data(now, 9, (block, None), block_of(&bytes, block)) {
            return assert_eq!(whole, bytes);
        }
    }
    panic!("an honest peer alone does not bring it to an end");
}

fn at(peer: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, peer as u8], 1))
}

fn block_of(bytes: &[u8], block: u32) -> &[u8] {
    bytes.chunks(METADATA_BLOCK_LEN).nth(block as usize).unwrap_or_default()
}
