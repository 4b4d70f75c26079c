//! What people see of one session while it runs: a bar on a terminal, plain lines elsewhere.

use super::output::Output;
use super::progress::{self, Pace, Steps};
use super::{check, human};
use crate::discovery::dht::DhtNote;
use crate::metainfo::Torrent;
use crate::session::{Event, Goal, Progress};
use indicatif::ProgressBar;
use std::time::{Duration, Instant};

/// Tells people about one session.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    out: &'a Output,
    torrent: &'a Torrent,
    /// Nothing is fetched, also when not all is there.
    seeds: bool,
    started: Instant,
    checking: Option<Steps<'a>>,
    bar: Option<ProgressBar>,
    pace: Pace,
}

impl<'a> Watch<'a> {
    pub(super) fn new(out: &'a Output, torrent: &'a Torrent, goal: Goal) -> Self {
        let (seeds, started) = (goal == Goal::Seed, Instant::now());
        Self { out, torrent, seeds, started, checking: None, bar: None, pace: Pace::new() }
    }

    /// Shows what a session tells.
    pub(super) fn show(&mut self, event: &Event) {
        match event {
            Event::Checking { done, pieces } => {
                self.checking
                    .get_or_insert_with(|| Steps::new(self.out, "checking", "pieces"))
                    .show(*done, *pieces);
            }
            Event::Checked(report) => {
                self.checking = None;
                self.started = Instant::now();
                self.out.note(&format!("{}: {}", self.torrent.name, check::summary(self.torrent, report)));
            }
            Event::Listening(addr) => self.out.note(&format!("listening on {addr}")),
            Event::Progress(progress) => self.progress(progress),
            Event::PieceFailed(piece) => {
                self.out.note(&format!("piece {piece} had a wrong hash; it will be fetched again"));
            }
            Event::PieceLost { piece, reason } => {
                self.out.note(&format!("piece {piece} is lost, and is offered no more: {reason}"));
            }
            Event::PeerDropped { addr, reason } => tracing::info!("the peer {addr} {reason}"),
            Event::Tracker { .. } | Event::Dht(_) => tell_of_search(self.out, event),
            Event::Snapshot(_) | Event::TrackerCounts(_) | Event::Local(_) | Event::DhtCounters(_) => {}
            Event::Completed(progress) => self.completed(progress),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let total = self.torrent.layout.total();
        let text = standing(progress, total, self.seeds);
        let (held, wanted) = held_of(progress, total);
        if self.bar.is_none() {
            self.bar =
                self.out.add_bar(progress::bar(wanted, "[{bar:24.cyan/blue}] {percent:>3}%  {wide_msg}"));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(held);
            bar.set_message(text);
        } else if self.pace.is_due() {
            let percent = held as f64 * 100.0 / wanted.max(1) as f64;
            self.out.note(&format!("{percent:.1}%  {text}"));
        }
    }

    fn completed(&mut self, progress: &Progress) {
        let time = self.started.elapsed();
        let mean = (progress.downloaded as f64 / time.as_secs_f64().max(0.001)) as u64;
        self.out.note(&format!(
            "complete: {} fetched in {:.1} s, {}",
            human::size(progress.downloaded),
            time.as_secs_f64(),
            human::rate(mean),
        ));
    }

    /// Takes the bar away and says where the session ended.
    pub(super) fn end(&mut self, progress: &Progress) {
        self.checking = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let (held, _) = held_of(progress, self.torrent.layout.total());
        self.out.note(&format!(
            "stopped: downloaded {}, uploaded {}, share ratio {:.2}",
            human::size(progress.downloaded),
            human::size(progress.uploaded),
            share_ratio(progress.uploaded, held),
        ));
    }
}

/// Tells what trackers and the DHT have to say.
pub(super) fn tell_of_search(out: &Output, event: &Event) {
    match event {
        Event::Tracker { url, result: Ok(answer) } => {
            tracing::info!("the tracker {url} knows {}", human::count(answer.peers as u64, "peer"));
            if let Some(warning) = &answer.warning {
                out.note(&format!("tracker {url}: {warning}"));
            }
        }
        Event::Tracker { url, result: Err(reason) } => out.note(&format!("tracker {url}: {reason}")),
        Event::Dht(note) => tell_of_dht(out, note),
        _ => {}
    }
}

fn tell_of_dht(out: &Output, note: &DhtNote) {
    match note {
        DhtNote::Started { addrs, kept, borrowed } => {
            let nodes = human::count(*kept as u64, "node");
            tracing::info!("the DHT is at {addrs:?}, with {nodes} of the last run");
            if *borrowed {
                tracing::info!("another program keeps the DHT's nodes: this one has an id of its own");
            }
        }
        DhtNote::Failed(reason) => out.note(&format!("no DHT: {reason}")),
        DhtNote::Nodes(0) => tracing::info!("no node of the DHT answers any more"),
        DhtNote::Nodes(_) => tracing::info!("nodes of the DHT answer"),
        DhtNote::Found { peers, .. } => {
            tracing::info!("the DHT knows {}", human::count(*peers as u64, "peer"));
        }
        DhtNote::Unresolved(host) => tracing::info!("the DHT's node {host} has no address"),
        DhtNote::State(problem) => out.note(&format!("DHT: {problem}")),
    }
}

/// Bytes of the torrent that are there, and how many there will be: not those of files that are left out.
fn held_of(progress: &Progress, total: u64) -> (u64, u64) {
    let wanted = total.saturating_sub(progress.skipped);
    (wanted.saturating_sub(progress.left), wanted)
}

/// One line about a session: rates, peers, time to go unless it only `seeds`, share ratio.
fn standing(progress: &Progress, total: u64, seeds: bool) -> String {
    let (held, wanted) = held_of(progress, total);
    let peers = human::count(progress.peers.into(), "peer");
    let up = human::rate(progress.upload_rate);
    let ratio = share_ratio(progress.uploaded, held);
    if progress.left == 0 || seeds {
        let uploaded = human::size(progress.uploaded);
        return format!("seeding to {peers}  up {up}  uploaded {uploaded}  ratio {ratio:.2}");
    }
    let down = human::rate(progress.download_rate);
    let eta = match progress.left.checked_div(progress.download_rate) {
        Some(seconds) => human::time(Duration::from_secs(seconds)),
        None => "unknown".into(),
    };
    let (held, wanted) = (human::size(held), human::size(wanted));
    format!("{held} of {wanted}  down {down}  up {up}  {peers}  ETA {eta}  ratio {ratio:.2}")
}

/// Bytes given in this run for each byte held.
fn share_ratio(uploaded: u64, held: u64) -> f64 {
    if held == 0 { 0.0 } else { uploaded as f64 / held as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::LimitHits;

    fn half() -> Progress {
        Progress {
            left: 512 << 20,
            skipped: 0,
            downloaded: 512 << 20,
            uploaded: 128 << 20,
            wasted: 0,
            moved: 0,
            peers: 1,
            download_rate: 64 << 20,
            upload_rate: 2048,
            pieces: 1024,
            good_pieces: 512,
            limits: LimitHits::default(),
        }
    }

    #[test]
    fn a_download_shows_the_time_to_go() {
        let text = standing(&half(), 1 << 30, false);
        assert_eq!(text, "512.0 MiB of 1.00 GiB  down 64.0 MiB/s  up 2.0 KiB/s  1 peer  ETA 8 s  ratio 0.25");
        let stalled = standing(&Progress { download_rate: 0, ..half() }, 1 << 30, false);
        assert!(stalled.contains("ETA unknown"), "{stalled}");
    }

    #[test]
    fn a_seeder_shows_what_it_gives() {
        let text = standing(&Progress { left: 0, peers: 3, ..half() }, 1 << 30, false);
        assert_eq!(text, "seeding to 3 peers  up 2.0 KiB/s  uploaded 128.0 MiB  ratio 0.12");
    }

    #[test]
    fn what_is_left_out_is_neither_held_nor_to_come() {
        let some = Progress { skipped: 256 << 20, uploaded: 64 << 20, ..half() };
        let text = standing(&some, 1 << 30, false);
        assert_eq!(
            text,
            "256.0 MiB of 768.0 MiB  down 64.0 MiB/s  up 2.0 KiB/s  1 peer  ETA 8 s  ratio 0.25"
        );
    }

    #[test]
    fn a_seed_that_lacks_something_waits_for_nothing() {
        let text = standing(&half(), 1 << 30, true);
        assert_eq!(text, "seeding to 1 peer  up 2.0 KiB/s  uploaded 128.0 MiB  ratio 0.25");
    }

    #[test]
    fn nothing_held_has_no_ratio() {
        let nothing = Progress { left: 1 << 30, uploaded: 0, ..half() };
        assert!(standing(&nothing, 1 << 30, false).ends_with("ratio 0.00"));
    }
}
