//! The socket under an exchange with a UDP tracker.

use super::counters::{Count, Counters};
use super::error::TrackerError;
use super::home::Home;
use super::udp_exchange::{ConnectionId, Exchange, Heard, Question, Step, UdpPatience};
use super::udp_packet::Response;
use ::ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Largest datagram looked at in bytes: 200 peers of 18 bytes and the head. What is longer loses its end.
const MAX_DATAGRAM: usize = 4096;
/// Most connection ids kept.
pub(super) const MAX_CONNECTIONS: usize = 1000;

/// The connection ids that trackers have given, each good for a minute.
#[derive(Debug, Default)]
pub(super) struct ConnectionIds(Mutex<HashMap<SocketAddr, ConnectionId>>);

impl ConnectionIds {
    fn get(&self, tracker: SocketAddr, now: std::time::Instant) -> Option<ConnectionId> {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.get(&tracker).copied().filter(|connection| connection.is_good(now))
    }

    /// Keeps this one, or none any more. Whether there was room.
    pub(super) fn put(
        &self,
        tracker: SocketAddr,
        connection: Option<ConnectionId>,
        now: std::time::Instant,
    ) -> bool {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connection) = connection else {
            ids.remove(&tracker);
            return true;
        };
        if ids.len() >= MAX_CONNECTIONS {
            ids.retain(|_, connection| connection.is_good(now));
        }
        // A tracker that has a place keeps it.
        let fits = ids.len() < MAX_CONNECTIONS || ids.contains_key(&tracker);
        if fits {
            ids.insert(tracker, connection);
        }
        fits
    }
}

/// Asks one address of a tracker.
///
/// # Errors
/// When there is no answer in time, the answer is a refusal, or the kernel says that nobody is there.
pub(super) async fn ask(
    tracker: SocketAddr,
    home: Home,
    question: Question,
    patience: UdpPatience,
    ids: &ConnectionIds,
    counters: &Counters,
) -> Result<Response, TrackerError> {
    let inherited = ids.get(tracker, now());
    let mut exchange = Exchange::new(tracker, question, patience, inherited);
    let result = converse(tracker, home, &mut exchange, counters).await;
    // After a refusal or silence the next one begins anew.
    if !ids.put(tracker, exchange.connection().filter(|_| result.is_ok()), now()) {
        counters.add(Count::ConnectionIdDropped, 1);
    }
    result
}

async fn converse(
    tracker: SocketAddr,
    home: Home,
    exchange: &mut Exchange,
    counters: &Counters,
) -> Result<Response, TrackerError> {
    let connect = |source| TrackerError::Connect { addr: tracker, source };
    // A socket of its own for each exchange has a port that nobody can guess; connected, it hears the tracker alone.
    let socket = UdpSocket::bind(home.or_any(tracker)).await.map_err(connect)?;
    socket.connect(tracker).await.map_err(connect)?;
    let mut datagram = [0; MAX_DATAGRAM];
    loop {
        let until = match exchange.poll(now(), unguessable) {
            Step::GiveUp => return Err(TrackerError::Timeout("answer")),
            Step::Send(datagram) => {
                counters.add(Count::BytesSent, datagram.len() as u64);
                socket.send(&datagram).await.map_err(connect)?;
                continue;
            }
            Step::Wait(until) => until,
        };
        let Ok(received) = timeout_at(until.into(), socket.recv_from(&mut datagram)).await else { continue };
        let (len, from) = received.map_err(connect)?;
        counters.add(Count::BytesReceived, len as u64);
        match exchange.hear(now(), from, &datagram[..len]) {
            Heard::Ignored => counters.add(Count::DatagramIgnored, 1),
            Heard::Connected => {}
            Heard::Answer(Response::Error(reason)) => return Err(super::ReplyError::Refused(reason).into()),
            Heard::Answer(answer) => return Ok(answer),
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn unguessable() -> u32 {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    u32::from_be_bytes(bytes)
}
