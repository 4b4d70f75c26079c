//! The life of one core: it checks its part of what is on disk, serves and fetches until told to stop, and ends in order.

use super::crew::{Crew, Letter, Mail};
use super::listen::listen;
use super::memory::Memory;
use super::snapshot::Snapshot;
use super::strangers::Strangers;
use super::torrent::TorrentShard;
use super::{Command, Report, Room};
use crate::ring::{self, Config, CoreError};
use crate::storage::{self, Access, StorageError};
use crate::swarm::{RUN_LEN, Settings, Source, Swarm};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Upload slots of a torrent while it is fetched: few enough for each to be worth something in return. A seed serves
/// whoever is interested.
const SLOTS: usize = 32;
/// Pieces up to this length (bytes) are kept in memory until they are verified.
const HOLD: u32 = 4 * 1024 * 1024;
/// Letters read in one go.
const LETTERS: usize = 64;
/// How often a core tells of itself.
const PUBLISHING: Duration = Duration::from_secs(1);

/// What a core starts with.
pub(super) struct Work {
    pub(super) crew: Arc<Crew>,
    pub(super) core: usize,
    pub(super) room: Room,
    pub(super) listener: TcpListener,
    pub(super) mail: Mail,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) reports: mpsc::Sender<Report>,
}

/// Addresses with who has named them.
type Found = Vec<(Vec<SocketAddr>, Source)>;

impl Work {
    /// Starts the core's thread.
    ///
    /// # Errors
    /// When there can be none.
    pub(super) fn start(self, config: Config) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(format!("shard-{}", self.core));
        thread.spawn(move || {
            let (crew, number, tell) = (Arc::clone(&self.crew), self.core, self.reports.clone());
            let problem = match ring::run(config, async |core| self.run(core).await) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(CoreError::Panicked(said)) => {
                    ring::bug_of_ours(format_args!("core {number} has failed: {said}"))
                }
                Err(error) => error.to_string(),
            };
            crew.fail();
            // The control thread waits for reports, so there is room sooner or later, or nobody to tell.
            let _ = tell.blocking_send(Report::Failed(problem));
        })?;
        Ok(())
    }

    async fn run(mut self, core: ring::Core) -> Result<(), StorageError> {
        let access = Access::new(Arc::clone(&self.crew.store), self.crew.cores());
        let access = Rc::new(access.for_memory(core.arena.capacity() * ring::SLAB_LEN));
        let layout = self.crew.store.layout();
        let runs = layout.piece_count() as usize * layout.piece_length().div_ceil(RUN_LEN) as usize;
        let memory = Memory::new(&core, runs);
        let Some(found) = self.prepare(&core, &access, &memory).await? else { return Ok(()) };
        // Other cores map files into what this one leaves, and the check has made it grow.
        access.map_within(memory.unused());
        let torrent = self.torrent(memory, access, found);
        ring::spawn(listen(Rc::clone(&torrent), self.listener));
        ring::spawn(keep_time(Rc::clone(&torrent)));
        ring::spawn(read_mail(Rc::clone(&torrent), self.mail));
        torrent.check_complete();
        #[cfg(test)]
        super::faults::strike(torrent.handshake.info_hash, torrent.core, super::faults::Place::Root);
        while let Some(Command::Peers { addrs, source }) = self.commands.recv().await {
            addrs.into_iter().for_each(|addr| torrent.swarm.borrow_mut().add_candidate(addr, source));
        }
        torrent.stop().await;
        torrent.publish();
        if let Some(last) = torrent.snapshot() {
            // Until the mailbox is closed somebody empties it.
            let _ = self.reports.send(last).await;
        }
        Ok(())
    }

    /// Takes part in the check of what is on disk. Gives the addresses that were named meanwhile; `None` when told to stop.
    async fn prepare(
        &mut self,
        core: &ring::Core,
        access: &Rc<Access>,
        memory: &Memory,
    ) -> Result<Option<Found>, StorageError> {
        let mut found = Found::new();
        let mut seconds = tokio::time::interval(PUBLISHING);
        let checking = check(&self.crew, core, access, &self.reports);
        tokio::pin!(checking);
        loop {
            tokio::select! {
                checked = &mut checking => return checked.map(|()| Some(found)),
                _ = seconds.tick(), if self.crew.snapshots => {
                    let snapshot = Snapshot::of_check(self.core, access, memory);
                    // When the mailbox is full, the next one will do.
                    let _ = self.reports.try_send(Report::Snapshot(Box::new(snapshot)));
                }
                command = self.commands.recv() => match command {
                    Some(Command::Peers { addrs, source }) => found.push((addrs, source)),
                    Some(Command::Stop) | None => {
                        self.crew.queue.close();
                        return Ok(None);
                    }
                },
            }
        }
    }

    fn torrent(&self, memory: Memory, access: Rc<Access>, found: Found) -> Rc<TorrentShard> {
        let settings = Settings {
            id: self.crew.id,
            most_peers: self.room.peers,
            most_dials: self.room.dials,
            most_of_host: self.crew.choices.most_of_host,
            slots: SLOTS,
            seed_slots: self.room.peers,
            hold: HOLD,
            fetch: self.crew.download,
            sequential: self.crew.choices.sequential,
            seed_choker: self.crew.choices.seed_choker,
            super_seed: self.crew.choices.super_seed,
            upload_limit: self.crew.choices.upload.rate(),
            download_limit: self.crew.choices.download.rate(),
            filter: self.crew.choices.filter.clone(),
            greeting: self.crew.greeting.clone(),
        };
        let layout = Arc::clone(self.crew.store.layout());
        let commons = Arc::clone(&self.crew.commons);
        let mut swarm = Swarm::new(layout, commons, self.core, settings, fastrand::u64(..));
        for (addrs, source) in found {
            addrs.into_iter().for_each(|addr| swarm.add_candidate(addr, source));
        }
        let strangers = Strangers::new(self.room.strangers);
        let (crew, reports) = (Arc::clone(&self.crew), self.reports.clone());
        TorrentShard::new(crew, self.core, swarm, access, memory, strangers, reports)
    }
}

/// Checks this core's part. The last core to be through deals with what all have found; the others wait for it.
async fn check(
    crew: &Crew,
    core: &ring::Core,
    access: &Rc<Access>,
    reports: &mpsc::Sender<Report>,
) -> Result<(), StorageError> {
    let tell = reports.clone();
    #[cfg(test)]
    let torrent = crew.torrent.info_hash;
    let seen = move |done| {
        #[cfg(test)]
        super::faults::strike(torrent, 0, super::faults::Place::Check);
        // Only for the eye: when the mailbox is full, the next one will do.
        let _ = tell.try_send(Report::Checking(done));
    };
    let good = storage::check(access, &core.arena, &crew.torrent, &crew.queue, seen).await;
    let good = good.inspect_err(|_| crew.queue.close())?;
    good.into_iter().for_each(|piece| crew.commons.map.set_have(piece));
    if crew.has_checked() {
        let report = crew.prepare(access).await?;
        let _ = reports.send(Report::Checked(report)).await;
        crew.go_on();
    } else {
        crew.prepared().await;
    }
    Ok(())
}

/// Calls the swarm at its deadlines, and tells of progress.
async fn keep_time(torrent: Rc<TorrentShard>) {
    let mut next_progress = Duration::ZERO;
    loop {
        let wait = torrent.swarm.borrow().next_deadline().saturating_sub(torrent.now());
        tokio::select! {
            () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
            () = torrent.clock.notified() => continue,
        }
        #[cfg(test)]
        super::faults::strike(torrent.handshake.info_hash, torrent.core, super::faults::Place::Clock);
        let is_beat = torrent.swarm.borrow_mut().tick(torrent.now());
        torrent.pump();
        if is_beat {
            torrent.post_again();
            torrent.give_way();
        }
        if torrent.now() >= next_progress {
            next_progress = torrent.now() + PUBLISHING;
            torrent.publish();
            torrent.charge_shifts();
            if let Err(error) = torrent.access.look_after_files() {
                torrent.fail(&error);
            }
            if torrent.core == 0 {
                torrent.report(Report::Progress(torrent.crew.progress()));
            }
            torrent.snapshot().into_iter().for_each(|report| torrent.report(report));
        }
    }
}

/// Takes in what other cores have to say.
async fn read_mail(torrent: Rc<TorrentShard>, mut mail: Mail) {
    let mut letters: Vec<Letter> = Vec::new();
    loop {
        tokio::select! {
            _ = mail.letters.recv_many(&mut letters, LETTERS) => {}
            () = mail.bell.notified() => torrent.swarm.borrow_mut().catch_up(torrent.now()),
        }
        letters.drain(..).for_each(|letter| torrent.take_letter(letter));
        torrent.pump();
    }
}
