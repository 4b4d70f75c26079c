//! The socket under an exchange with a UDP tracker.

use super::counters::{Count, Counters};
use super::error::TrackerError;
use super::reply::ReplyError;
use super::udp_exchange::{Exchange, Heard, Question, Step, UdpPatience};
use super::udp_packet::Response;
use crate::wire::Home;
use ::ring::rand::{SecureRandom, SystemRandom};
use std::net::SocketAddr;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Largest datagram looked at in bytes: 200 peers of 18 bytes and the head. What is longer loses its end.
const MAX_DATAGRAM: usize = 4096;

/// Asks one address of a tracker.
///
/// # Errors
/// When there is no answer in time, the answer is a refusal, or the kernel says that nobody is there.
pub(super) async fn ask(
    tracker: SocketAddr,
    home: Home,
    question: Question,
    patience: UdpPatience,
    counters: &Counters,
) -> Result<Response, TrackerError> {
    let mut exchange = Exchange::new(tracker, question, patience);
    let connect = |source| TrackerError::Connect { addr: tracker, source };
    // A socket of its own for each exchange has a port that nobody can guess; connected, it hears the tracker alone. So a
    // connection id is of one exchange, too: a tracker may give it to an address with its port, and hear nobody else by it.
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
            Heard::Answer(Response::Error(reason)) => {
                return Err(ReplyError::Refused { reason, wait: None }.into());
            }
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
