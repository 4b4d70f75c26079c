//! One question to a UDP tracker and its answer (BEP 15): the connection id, the question, and both again until
//! something comes back. A machine of values: time and random numbers come in as arguments.

use super::announce::AnnounceRequest;
use super::udp_packet::{self as packet, Asked, Family, Response};
use crate::metainfo::InfoHash;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a connection id is good.
const CONNECTION_ID_AGE: Duration = Duration::from_secs(60);
/// Most that a wait doubles.
const MAX_DOUBLINGS: u32 = 8;
/// Longest first wait, and retries, when there is somebody else to ask: lists of trackers are full of those that are gone.
const WAIT_BEFORE_NEXT: Duration = Duration::from_secs(5);
const RETRIES_BEFORE_NEXT: u32 = 1;

/// How patient one is with a UDP tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpPatience {
    /// Wait for an answer to the first datagram; doubles each time after that.
    pub first_wait: Duration,
    /// How often a datagram is sent again, at most 8 times.
    pub retries: u32,
}

impl Default for UdpPatience {
    /// As BEP 15 has it: 15 s, and eight times more, which takes over two hours.
    fn default() -> Self {
        Self { first_wait: Duration::from_secs(15), retries: 8 }
    }
}

impl UdpPatience {
    /// Less of it, for when there is another address or tracker to ask.
    pub(super) fn hasty(self) -> Self {
        let first_wait = self.first_wait.min(WAIT_BEFORE_NEXT);
        Self { first_wait, retries: self.retries.min(RETRIES_BEFORE_NEXT) }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// An announce, with path and query of the URL.
    Announce(AnnounceRequest, String),
    /// The counts of these torrents, of the first 74 of them.
    Scrape(Vec<InfoHash>),
}

/// A connection id, and when it came.
#[derive(Clone, Copy, Debug)]
struct ConnectionId {
    id: u64,
    since: Instant,
}

impl ConnectionId {
    fn is_good(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < CONNECTION_ID_AGE
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this to the tracker.
    Send(Vec<u8>),
    /// Listen until then.
    Wait(Instant),
    /// There was no answer.
    GiveUp,
}

/// What became of a datagram that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is none of ours; nothing has changed.
    Ignored,
    /// It brings the exchange on.
    Connected,
    /// It is the answer, also when it is [`Response::Error`].
    Answer(Response),
}

#[derive(Debug)]
enum State {
    /// A datagram is to be sent now.
    ToSend,
    /// A datagram with this transaction id is on its way; at the time it counts as lost.
    Sent { asked: Asked, transaction: u32, until: Instant },
}

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange {
    tracker: SocketAddr,
    question: Question,
    patience: UdpPatience,
    connection: Option<ConnectionId>,
    /// Datagrams that went unanswered.
    lost: u32,
    state: State,
}

impl Exchange {
    /// With the tracker's address.
    pub fn new(tracker: SocketAddr, question: Question, patience: UdpPatience) -> Self {
        Self { tracker, question, patience, connection: None, lost: 0, state: State::ToSend }
    }

    /// What to do now. `random` gives numbers that nobody can guess: one for each datagram, to know its answer by.
    pub fn poll(&mut self, now: Instant, mut random: impl FnMut() -> u32) -> Step {
        if let State::Sent { until, .. } = self.state {
            if now < until {
                return Step::Wait(until);
            }
            self.lost += 1;
            if self.lost > self.patience.retries.min(MAX_DOUBLINGS) {
                return Step::GiveUp;
            }
        }
        let transaction = random();
        let good = self.connection.filter(|connection| connection.is_good(now));
        let (asked, datagram) = match (good, &self.question) {
            (None, _) => (Asked::Connect, packet::connect(transaction)),
            (Some(connection), Question::Announce(request, url_data)) => {
                (Asked::Announce, packet::announce(connection.id, transaction, request, url_data))
            }
            (Some(connection), Question::Scrape(torrents)) => {
                (Asked::Scrape, packet::scrape(connection.id, transaction, torrents))
            }
        };
        // Those who were silenced together are not to come back together: up to an eighth longer.
        let wait = self.patience.first_wait * (1 << self.lost);
        let jitter = wait.mul_f64(f64::from(random()) / f64::from(u32::MAX) / 8.0);
        self.state = State::Sent { asked, transaction, until: now + wait + jitter };
        Step::Send(datagram)
    }

    /// Takes a datagram.
    pub fn hear(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Heard {
        let State::Sent { asked, transaction, .. } = self.state else { return Heard::Ignored };
        let family = Family::of(&self.tracker);
        if from != self.tracker {
            return Heard::Ignored;
        }
        match packet::parse(datagram, asked, transaction, family) {
            None => Heard::Ignored,
            Some(Response::Connected(id)) => {
                self.connection = Some(ConnectionId { id, since: now });
                self.state = State::ToSend;
                Heard::Connected
            }
            Some(answer) => Heard::Answer(answer),
        }
    }
}
