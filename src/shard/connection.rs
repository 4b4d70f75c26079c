//! One connection: dialled or accepted, handshake, its seat on a core, then a task for each direction.

use super::channel::Channel;
use super::crew::Letter;
use super::failures::{Failure, Refusal};
use super::receive::Receiver;
use super::seats::Seat;
use super::send::Sender;
use super::torrent::{Line, TorrentShard};
use crate::ring::{self, Descriptors, LooseSocket, Socket};
use crate::swarm::{Introduction, PeerSlot};
use crate::wire::mse::Ciphers;
use crate::wire::{HANDSHAKE_HEAD_LEN, HANDSHAKE_LEN, Handshake, PeerId, Reserved};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// How long a peer may take to answer a dial: three packets of it may get lost. And to say its whole handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take nothing of what is sent to it. Twice as long as it may say nothing: one whose buffer is full shows that it
/// reads only when some of that is free again, a sixteenth perhaps.
const STUCK: Duration = Duration::from_secs(300);
/// So long a peer has to notice that the connection that we have made is closed for the one that it has.
const GIVING_WAY: Duration = Duration::from_millis(50);

/// Connects to a peer, in a task of its own.
pub(super) fn dial(torrent: &Rc<TorrentShard>, addr: SocketAddr) {
    let torrent = Rc::clone(torrent);
    ring::spawn(async move {
        match reach(&torrent, addr).await {
            Ok((socket, shaken)) => {
                let _seat = torrent.crew.seats.take(torrent.core);
                serve(&torrent, socket, shaken, (addr, true)).await;
            }
            Err(error) => {
                tracing::debug!("{addr}: {error}");
                torrent.gauges.count_failure(Failure::of(&error));
                let mut swarm = torrent.swarm.borrow_mut();
                if is_for_want_of_ours(&error, swarm.reaches_out()) {
                    swarm.dial_prevented(torrent.now(), addr);
                } else {
                    swarm.dial_failed(torrent.now(), addr);
                }
            }
        }
    });
}

/// Whether a dial has failed for want of something that is ours. Of a network that cannot be reached nobody can tell whether it is
/// that one or all of them; while somebody out there is connected (`reaches_out`) it is that one.
fn is_for_want_of_ours(error: &io::Error, reaches_out: bool) -> bool {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => true,
        Some(libc::ENETUNREACH | libc::ENETDOWN) => !reaches_out,
        _ => false,
    }
}

/// Why nobody was reached.
enum Unreached {
    /// The peer has hung up before its handshake was through.
    HungUp(io::Error),
    /// Anything else.
    Failed(io::Error),
}

impl Unreached {
    fn into_error(self) -> io::Error {
        let (Self::HungUp(error) | Self::Failed(error)) = self;
        error
    }
}

/// What a connection goes on with when its handshake is done.
struct Shaken {
    id: PeerId,
    reserved: Reserved,
    /// Whether the handshake was encrypted.
    encrypted: bool,
    ciphers: Option<Ciphers>,
    /// Bytes that have come behind the handshake.
    ahead: Vec<u8>,
}

/// Connects and shakes hands, encrypted or not: as is known to work, else first as is likelier.
async fn reach(torrent: &TorrentShard, addr: SocketAddr) -> io::Result<(Socket, Shaken)> {
    let hinted = torrent.swarm.borrow().may_encrypt(&addr);
    let (first, second) = torrent.secrecy.borrow().tries(&addr, hinted);
    let reached = match (attempt(torrent, addr, first).await, second) {
        // So does a peer that takes the other kind only. It may have other reasons; then it does so again.
        (Err(Unreached::HungUp(error)), Some(second)) if !torrent.is_stopping() => {
            let kind = if first { "an encrypted" } else { "a plain" };
            tracing::debug!("{addr}: hung up on {kind} handshake ({error})");
            attempt(torrent, addr, second).await
        }
        (reached, _) => reached,
    };
    reached.map_err(Unreached::into_error)
}

async fn attempt(
    torrent: &TorrentShard,
    addr: SocketAddr,
    encrypted: bool,
) -> Result<(Socket, Shaken), Unreached> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let dialled =
        Socket::connect(addr, torrent.crew.home.towards(addr), CONNECT_LIMIT).await.map_err(|error| {
            torrent.hits.borrow_mut().dials += u64::from(error.kind() == io::ErrorKind::TimedOut);
            if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
                Descriptors::of_process().count_refusal();
            }
            Unreached::Failed(error)
        });
    let socket = dialled?;
    let deadline = socket.deadline(HANDSHAKE_LIMIT);
    let shaken = shake_outgoing(torrent, &socket, encrypted).await;
    if encrypted {
        torrent.secrecy.borrow_mut().learn(addr, shaken.is_ok());
    }
    match shaken {
        Ok(shaken) => Ok((socket, shaken)),
        Err(_) if deadline.has_passed() => {
            torrent.hits.borrow_mut().silent += 1;
            torrent.swarm.borrow_mut().is_silent_at(&addr, encrypted);
            Err(Unreached::Failed(io::ErrorKind::TimedOut.into()))
        }
        Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {
            Err(Unreached::HungUp(error))
        }
        Err(error) => Err(Unreached::Failed(error)),
    }
}

async fn shake_outgoing(torrent: &TorrentShard, socket: &Socket, encrypted: bool) -> io::Result<Shaken> {
    let ours = torrent.handshake.encode();
    let mut channel = if encrypted {
        Channel::initiate(socket, torrent, ours.to_vec()).await?
    } else {
        socket.send_all(&ours).await?;
        Channel::plain(socket)
    };
    let mut answer = [0; HANDSHAKE_LEN];
    channel.recv_exact(&mut answer).await?;
    let theirs = Handshake::parse(&answer).map_err(io::Error::other)?;
    if theirs.info_hash != torrent.handshake.info_hash {
        return Err(Refusal::OtherTorrent.into());
    }
    let encrypted = channel.encrypted;
    let (ciphers, ahead) = channel.end();
    Ok(Shaken { id: theirs.peer_id, reserved: theirs.reserved, encrypted, ciphers, ahead })
}

/// Takes a connection that a peer has made.
pub(super) async fn accept(torrent: &Rc<TorrentShard>, socket: Socket, addr: SocketAddr) {
    // Before anything is said to it: a peer on this host acknowledges that on our CPU.
    let cpu = socket.incoming_cpu();
    let number = torrent.strangers.borrow_mut().enter(socket.clone(), addr.ip(), torrent.now());
    let deadline = socket.deadline(HANDSHAKE_LIMIT);
    let result = shake_incoming(torrent, &socket, addr.ip()).await;
    let late = result.is_err() && deadline.has_passed();
    drop(deadline);
    let stayed = torrent.strangers.borrow_mut().leave(number);
    torrent.hits.borrow_mut().silent += u64::from(late);
    torrent.settled.notify_one();
    match result {
        Ok(shaken) => welcome(torrent, socket, shaken, (addr, cpu)).await,
        Err(error) => {
            tracing::debug!("{addr}: {error}");
            torrent.gauges.count_failure(match (late, stayed) {
                (true, _) => Failure::Timeout,
                (false, false) => Failure::Crowded,
                (false, true) => Failure::of(&error),
            });
            socket.shutdown();
        }
    }
}

async fn shake_incoming(torrent: &Rc<TorrentShard>, socket: &Socket, ip: IpAddr) -> io::Result<Shaken> {
    let mut channel = Channel::answer(socket, torrent, ip).await?;
    let mut head = [0; HANDSHAKE_HEAD_LEN];
    channel.recv_exact(&mut head).await?;
    let (reserved, info_hash) = Handshake::parse_head(&head).map_err(io::Error::other)?;
    if info_hash != torrent.handshake.info_hash {
        return Err(Refusal::OtherTorrent.into());
    }
    let mut id = [0; 20];
    // Most say all of their handshake at once.
    let is_here = channel.has_unread(id.len());
    if is_here {
        channel.recv_exact(&mut id).await?;
        give_way(torrent, ip, PeerId(id)).await;
    }
    channel.send_all(&torrent.handshake.encode()).await?;
    if !is_here {
        channel.recv_exact(&mut id).await?;
    }
    let encrypted = channel.encrypted;
    let (ciphers, ahead) = channel.end();
    Ok(Shaken { id: PeerId(id), reserved, encrypted, ciphers, ahead })
}

/// We have dialled the peer, too, and it is ours that has to go. It goes before the peer hears of us by the other: aria2 closes that,
/// as one too many, while the first is there, and is left with none.
async fn give_way(torrent: &Rc<TorrentShard>, ip: IpAddr, id: PeerId) {
    let gives_way = torrent.swarm.borrow_mut().leaves_to(ip, id);
    if gives_way {
        torrent.pump();
        tokio::time::sleep(GIVING_WAY).await;
    }
}

/// A peer that has connected to one core and belongs to another.
pub(super) struct Transfer {
    socket: LooseSocket,
    shaken: Shaken,
    addr: SocketAddr,
    seat: Seat,
}

impl Transfer {
    /// It is where it belongs, and is heard as soon as those who have come before it have been.
    pub(super) fn arrive(self, torrent: &Rc<TorrentShard>) {
        let Self { socket, shaken, addr, seat } = self;
        let socket = match socket.arrive() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!("{addr}: {error}");
                return torrent.gauges.count_failure(Failure::of(&error));
            }
        };
        let (torrent, turn) = (Rc::clone(torrent), torrent.take_turn());
        ring::spawn(async move {
            turn.await;
            serve(&torrent, socket, shaken, (addr, false)).await;
            drop(seat);
        });
    }
}

/// Talks to a peer that has connected to us, by way of this CPU, or has it talked to by the core where it belongs.
async fn welcome(
    torrent: &Rc<TorrentShard>,
    socket: Socket,
    shaken: Shaken,
    (addr, cpu): (SocketAddr, Option<usize>),
) {
    let crew = &torrent.crew;
    let core = crew.seats.choose(torrent.core, cpu);
    // Where there is no room for the letter, or no descriptor, it stays.
    if core != torrent.core
        && let (Some(letter), Some(loose)) = (crew.reserve_letter(core), socket.for_another_core())
    {
        let seat = crew.seats.take(core);
        letter.send(Letter::Seat(Box::new(Transfer { socket: loose, shaken, addr, seat })));
        return;
    }
    let _seat = crew.seats.take(torrent.core);
    serve(torrent, socket, shaken, (addr, false)).await;
}

/// Talks to a peer until the connection ends.
async fn serve(
    torrent: &Rc<TorrentShard>,
    socket: Socket,
    shaken: Shaken,
    (addr, outgoing): (SocketAddr, bool),
) {
    let who = Introduction { addr, outgoing, id: shaken.id, reserved: shaken.reserved };
    if torrent.is_stopping() {
        return socket.shutdown();
    }
    let connected = torrent.swarm.borrow_mut().connect(torrent.now(), who);
    let slot = match connected {
        Ok(slot) => slot,
        Err(reason) => {
            tracing::debug!("{}: the peer {reason}", who.addr);
            torrent.pump();
            return socket.shutdown();
        }
    };
    if shaken.encrypted {
        torrent.swarm.borrow_mut().is_encrypted(slot);
    }
    socket.give_up_after(STUCK);
    socket.use_zero_copy(&torrent.memory.borrow().zero_copy);
    let bell = Rc::new(Notify::new());
    torrent.add_line(slot, Line { socket: socket.clone(), bell: Rc::clone(&bell), addr: who.addr });
    torrent.pump();
    #[cfg(test)]
    super::faults::strike(torrent.handshake.info_hash, torrent.core, super::faults::Place::Connection);
    talk(torrent, slot, &socket, bell, shaken).await;
    torrent.remove_line(slot);
    torrent.swarm.borrow_mut().gone(torrent.now(), slot);
    torrent.pump();
}

/// Runs both directions; whichever ends first ends the other.
async fn talk(torrent: &Rc<TorrentShard>, slot: PeerSlot, socket: &Socket, bell: Rc<Notify>, shaken: Shaken) {
    let (decipher, cipher) = shaken.ciphers.map(|both| (both.incoming, both.outgoing)).unzip();
    let sender = Sender::new(Rc::clone(torrent), slot, Rc::clone(&bell), cipher);
    let outgoing = socket.clone();
    let sends = Rc::new(Mutex::new(()));
    let under_way = Rc::clone(&sends);
    let sending = ring::spawn(async move {
        let result = sender.run(&outgoing, &under_way).await;
        outgoing.shutdown();
        result
    });
    let receiver = Receiver::new(Rc::clone(torrent), slot, decipher);
    let received = receiver.run(socket, shaken.ahead).await;
    socket.shutdown();
    // It may be waiting for work: then nothing but this ends it. What the kernel takes just now it counts before: no send waits for
    // the peer. Another operation that it leaves behind keeps its memory until the kernel has answered.
    let no_send = sends.lock().await;
    sending.abort();
    drop(no_send);
    let sent = sending.await.unwrap_or(Ok(()));
    // The kernel tells one of the two.
    let is_stuck = |result: &io::Result<()>| {
        result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ETIMEDOUT))
    };
    torrent.hits.borrow_mut().silent += u64::from(is_stuck(&received) || is_stuck(&sent));
    if let Err(error) = received {
        tracing::debug!("connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_that_no_peer_has_seen_fails_for_want_of_ours() {
        let ours =
            |code| [false, true].map(|out| is_for_want_of_ours(&io::Error::from_raw_os_error(code), out));
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(ours(code), [true, true]);
        }
        for code in [libc::ENETUNREACH, libc::ENETDOWN] {
            assert_eq!(
                ours(code),
                [true, false],
                "with somebody out there it is that network, not all of them"
            );
        }
        for code in [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ECONNRESET] {
            assert_eq!(ours(code), [false, false]);
        }
        assert!(!is_for_want_of_ours(&io::ErrorKind::TimedOut.into(), false));
    }
}
