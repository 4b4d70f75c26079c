//! When to say which torrents (BEP 14). A machine of values: time comes in as an argument.

use super::packet::MOST_INFO_HASHES;
use crate::metainfo::InfoHash;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time between two datagrams: on a network of many hosts, more would be a storm.
const PACKET_INTERVAL: Duration = Duration::from_secs(60);
/// Time after which a torrent is said again.
const TORRENT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What is to be said when. Each torrent is said every five minutes, in datagrams of [`MOST_INFO_HASHES`] torrents
/// that are a minute apart; with more torrents than five such datagrams hold, each waits its turn.
#[derive(Debug)]
pub struct Schedule {
    /// The torrents, and when each is due; the first to be due comes first.
    due: VecDeque<(Instant, InfoHash)>,
    /// No datagram before this.
    not_before: Instant,
}

impl Schedule {
    /// All of these torrents are due at `now`.
    pub fn new(info_hashes: impl IntoIterator<Item = InfoHash>, now: Instant) -> Self {
        Self { due: info_hashes.into_iter().map(|hash| (now, hash)).collect(), not_before: now }
    }

    /// The torrents to be named in a datagram now; none when it is too early.
    pub fn next(&mut self, now: Instant) -> Option<Vec<InfoHash>> {
        if now < self.not_before {
            return None;
        }
        let due = self.due.iter().take(MOST_INFO_HASHES).take_while(|(at, _)| *at <= now).count();
        let said: Vec<InfoHash> = self.due.drain(..due).map(|(_, hash)| hash).collect();
        self.due.extend(said.iter().map(|hash| (now + TORRENT_INTERVAL, *hash)));
        (!said.is_empty()).then(|| {
            self.not_before = now + PACKET_INTERVAL;
            said
        })
    }

    /// When [`next`](Self::next) has something to say.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| (*at).max(self.not_before))
    }
}
