//! The lines of `--json`: one object a line, told apart by `event`. Sizes are bytes, rates bytes a second.

use crate::discovery::dht::DhtNote;
use crate::load::Report;
use crate::session::{CheckReport, Event, MagnetLimits, Progress};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};

/// Most indices that `checked` lists.
const MAX_BAD_PIECES: usize = 100;

/// A line, of one of several sessions when there is a `node`.
#[derive(Serialize)]
pub(super) struct NodeLine<'a> {
    #[serde(flatten)]
    pub(super) line: &'a Line<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<&'a str>,
}

/// A line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// A torrent file has been written.
    Created {
        file: &'a str,
        name: &'a str,
        info_hash: String,
        length: u64,
        piece_length: u32,
        pieces: u32,
        files: usize,
    },
    /// What a torrent file says.
    Torrent {
        name: &'a str,
        info_hash: String,
        length: u64,
        piece_length: u32,
        pieces: u32,
        private: bool,
        comment: Option<&'a str>,
        created_by: Option<&'a str>,
        creation_date: Option<i64>,
        trackers: &'a [Vec<String>],
        files: Vec<TorrentFile>,
        /// Names that are other ones here.
        changed_names: usize,
    },
    /// What `check` found of one file; the fault, if it could not be read.
    File {
        path: String,
        length: u64,
        good: bool,
        pieces: u32,
        good_pieces: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        fault: Option<&'a str>,
    },
    /// What a check found of all pieces.
    Checked { pieces: u32, good_pieces: u32, good_bytes: u64, bad_pieces: &'a [u32] },
    /// So much of what a magnet link stands for has come, the last time all of it; and how often limits have said no.
    Metadata { bytes: usize, limits: MagnetLimits },
    /// Peers can connect.
    Listening { addr: SocketAddr },
    /// Figures for Prometheus can be had here.
    Metrics { addr: SocketAddr },
    /// How it goes, once a second.
    Progress(&'a Progress),
    /// A piece had a wrong hash.
    PieceFailed { piece: u32 },
    /// A piece that was there cannot be read any more.
    PieceLost { piece: u32, reason: &'a str },
    /// A peer has gone, or had to go.
    PeerDropped { addr: SocketAddr, reason: &'a str },
    /// A tracker has answered with so many peers.
    Tracker {
        url: &'a str,
        peers: usize,
        seeds: Option<u64>,
        leeches: Option<u64>,
        warning: Option<&'a str>,
        external_ip: Option<IpAddr>,
    },
    /// A tracker's counts of a torrent; `null` for what it does not say.
    Scrape { url: &'a str, seeds: Option<u64>, leeches: Option<u64>, downloaded: Option<u64> },
    /// A tracker gave no counts.
    ScrapeFailed { url: &'a str, reason: &'a str },
    /// A tracker could not be asked.
    TrackerFailed { url: &'a str, reason: &'a str },
    /// The DHT has sockets, and so many nodes of the last run.
    DhtStarted { addrs: &'a [SocketAddr], kept: usize },
    /// So many nodes of the DHT answer: the first, or none any more.
    DhtNodes { nodes: usize },
    /// The DHT knows so many peers.
    DhtPeers { peers: usize },
    /// Something of the DHT does not work.
    DhtFailed { reason: String },
    /// The download is complete.
    Completed(&'a Progress),
    /// The session has ended.
    Stopped { downloaded: u64, uploaded: u64 },
    /// What the demo has shown.
    Demo {
        verified: bool,
        leechers: u16,
        bytes: u64,
        seconds: f64,
        bytes_per_second: u64,
        uploaded_by_seeder: u64,
        uploaded_by_leechers: u64,
        sha256: String,
    },
    /// What came of a load.
    Load(&'a Report),
    /// Why the command failed.
    Error { message: &'a str },
}

/// A file that a torrent lists.
#[derive(Serialize)]
pub(super) struct TorrentFile {
    pub(super) path: String,
    pub(super) length: u64,
    pub(super) pad: bool,
    pub(super) symlink: bool,
    /// Whether the magnet link, if it is one, selects it.
    pub(super) selected: bool,
}

impl<'a> Line<'a> {
    /// Whether another like it comes soon, and says all that it does.
    pub(super) fn is_periodic(&self) -> bool {
        matches!(self, Self::Progress(_))
    }

    /// The line for what a check found.
    pub(super) fn checked(report: &'a CheckReport) -> Self {
        let CheckReport { pieces, good_pieces, good_bytes, ref bad_pieces, .. } = *report;
        let bad_pieces = &bad_pieces[..bad_pieces.len().min(MAX_BAD_PIECES)];
        Self::Checked { pieces, good_pieces, good_bytes, bad_pieces }
    }

    /// The line for something a session tells; none for the steps of a check.
    pub(super) fn of(event: &'a Event) -> Option<Self> {
        Some(match event {
            Event::Checking { .. }
            | Event::Snapshot(_)
            | Event::TrackerCounts(_)
            | Event::Local(_)
            | Event::DhtCounters(_) => return None,
            Event::Dht(note) => Self::dht(note),
            Event::Checked(report) => Self::checked(report),
            Event::Listening(addr) => Self::Listening { addr: *addr },
            Event::Progress(progress) => Self::Progress(progress),
            Event::PieceFailed(piece) => Self::PieceFailed { piece: *piece },
            Event::PieceLost { piece, reason } => Self::PieceLost { piece: *piece, reason },
            Event::PeerDropped { addr, reason } => Self::PeerDropped { addr: *addr, reason },
            Event::Tracker { url, result: Ok(answer) } => Self::Tracker {
                url,
                peers: answer.peers,
                seeds: answer.complete,
                leeches: answer.incomplete,
                warning: answer.warning.as_deref(),
                external_ip: answer.external_ip,
            },
            Event::Tracker { url, result: Err(reason) } => Self::TrackerFailed { url, reason },
            Event::Completed(progress) => Self::Completed(progress),
        })
    }
}

impl<'a> Line<'a> {
    /// The line for something that has happened to the DHT.
    fn dht(note: &'a DhtNote) -> Self {
        match note {
            DhtNote::Started { addrs, kept, .. } => Self::DhtStarted { addrs, kept: *kept },
            DhtNote::Nodes(nodes) => Self::DhtNodes { nodes: *nodes },
            DhtNote::Found { peers, .. } => Self::DhtPeers { peers: *peers },
            DhtNote::Unresolved(host) => Self::DhtFailed { reason: format!("{host} has no address") },
            DhtNote::Failed(reason) | DhtNote::State(reason) => Self::DhtFailed { reason: reason.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::LimitHits;

    fn text(node: Option<&str>, line: &Line<'_>) -> String {
        serde_json::to_string(&NodeLine { line, node }).unwrap()
    }

    #[test]
    fn a_line_is_flat_and_begins_with_its_event() {
        let line = Line::Stopped { downloaded: 1, uploaded: 2 };
        assert_eq!(text(None, &line), r#"{"event":"stopped","downloaded":1,"uploaded":2}"#);
        let line = Line::of(&Event::PieceFailed(7)).map(|line| text(Some("leecher-1"), &line));
        assert_eq!(line.as_deref(), Some(r#"{"event":"piece_failed","piece":7,"node":"leecher-1"}"#));
    }

    #[test]
    fn progress_carries_every_number() {
        let progress = Progress {
            left: 1,
            skipped: 12,
            downloaded: 2,
            uploaded: 3,
            wasted: 4,
            moved: 10,
            peers: 5,
            download_rate: 6,
            upload_rate: 7,
            pieces: 8,
            good_pieces: 9,
            limits: LimitHits { offences: 11, ..LimitHits::default() },
        };
        let numbers = r#""left":1,"skipped":12,"downloaded":2,"uploaded":3,"wasted":4,"moved":10,"peers":5,"download_rate":6,"upload_rate":7,"pieces":8,"good_pieces":9,"limits":{"requests":0,"offences":11,"peers":0,"#;
        for (event, name) in
            [(Event::Progress(progress), "progress"), (Event::Completed(progress), "completed")]
        {
            let line = Line::of(&event).map(|line| text(None, &line)).unwrap();
            assert!(
                line.starts_with(&format!(r#"{{"event":"{name}",{numbers}"#)) && line.ends_with("}}"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_check_lists_no_more_than_a_hundred_bad_pieces() {
        let report = CheckReport { pieces: 1000, bad_pieces: (0..1000).collect(), ..CheckReport::default() };
        let Line::Checked { bad_pieces, .. } = Line::checked(&report) else { panic!("another line") };
        assert_eq!(bad_pieces.len(), 100);
    }
}
