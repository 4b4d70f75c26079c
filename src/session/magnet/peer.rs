//! One peer of a magnet link: handshakes, then messages of the extension protocol, and the port of its DHT node; all others
//! are passed over.

use super::channel::{Channel, Shared};
use crate::discovery::dial;
use crate::wire::extended::{ExtendedHandshake, Extension, HANDSHAKE_ID, MetadataMessage};
use crate::wire::{
    HANDSHAKE_HEAD_LEN, HANDSHAKE_LEN, Handshake, Home, Item, Limits, Message, PeerId, Reader, Reserved,
};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// How long a peer may take to answer a dial, to say its handshake, and to take what we say.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// A connection that says nothing for so long ends.
const READ_LIMIT: Duration = Duration::from_secs(120);
/// How often it is told that a part of a message has come.
const PART_PAUSE: Duration = Duration::from_secs(1);
/// Messages that wait to be said.
const OUTBOX: usize = 64;

/// What a peer has said.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// Its handshake of the extension protocol, the first or a further one.
    Hello(Box<ExtendedHandshake>),
    /// A message of `ut_metadata`.
    Metadata(Vec<u8>),
    /// A message of `ut_pex`: whom it is connected to.
    Others(Vec<u8>),
    /// The port of its DHT node (BEP 5).
    Port(u16),
    /// A part of a message that is not whole yet; said once a second at most.
    Part,
    /// Nothing more: the connection has ended.
    Gone,
}

/// The way to a peer. When it is dropped, the connection ends.
pub(super) struct Line(mpsc::Sender<Vec<u8>>);

impl Line {
    pub(super) fn new() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (line, outbox) = mpsc::channel(OUTBOX);
        (Self(line), outbox)
    }

    /// Says something by the peer's number. To one that does not read, nothing more is said.
    pub(super) fn say(&self, id: u8, message: MetadataMessage<'_>) {
        let mut bytes = Vec::new();
        Message::Extended { id, payload: &message.encode() }.encode(&mut bytes);
        let _ = self.0.try_send(bytes);
    }
}

/// Who we are to a peer.
#[derive(Clone)]
pub(super) struct Ourselves {
    pub(super) handshake: Handshake,
    /// Where we listen.
    pub(super) home: Home,
    /// The port that peers are told.
    pub(super) port: u16,
    /// The port on which our DHT node answers, if there is one that does.
    pub(super) dht_port: Option<u16>,
    /// Whether peers are asked whom they know (BEP 11).
    pub(super) pex: bool,
    pub(super) shared: Shared,
}

/// Talks to a peer that was dialled or `accepted`, until the connection ends. `tell` gets what it says, and answers
/// whether there is interest in more.
///
/// # Errors
/// Why it ended.
pub(super) async fn talk<F: Future<Output = bool>>(
    addr: SocketAddr,
    accepted: Option<TcpStream>,
    ours: &Ourselves,
    outbox: mpsc::Receiver<Vec<u8>>,
    tell: impl FnMut(Heard) -> F,
) -> io::Result<()> {
    let (mut channel, theirs) = match accepted {
        Some(stream) => in_time(HANDSHAKE_LIMIT, shake_incoming(stream, addr, ours)).await?,
        None => reach(addr, ours).await?,
    };
    if !theirs.extended() {
        return Err(io::Error::other("it does not speak the extension protocol"));
    }
    channel.write_all(&greeting(theirs, addr, ours)).await?;
    listen(channel, outbox, tell).await
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Dials: as is known to work there, else in the clear first, and encrypted when the peer hangs up on that or does not answer.
async fn reach(addr: SocketAddr, ours: &Ourselves) -> io::Result<(Channel, Reserved)> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
    let (first, second) = ours.shared.secrecy().tries(&addr, false);
    match (attempt(addr, ours, first).await, second) {
        (Err(error), Some(second))
            if matches!(error.kind(), BrokenPipe | ConnectionReset | TimedOut | UnexpectedEof) =>
        {
            attempt(addr, ours, second).await
        }
        (reached, _) => reached,
    }
}

async fn attempt(addr: SocketAddr, ours: &Ourselves, encrypted: bool) -> io::Result<(Channel, Reserved)> {
    // Where nobody is, no other handshake helps.
    let stream = in_time(CONNECT_LIMIT, dial(ours.home, addr)).await.map_err(io::Error::other)?;
    let shaken = in_time(HANDSHAKE_LIMIT, shake_outgoing(stream, ours, encrypted)).await;
    if encrypted {
        ours.shared.secrecy().learn(addr, shaken.is_ok());
    }
    shaken
}

async fn shake_outgoing(
    stream: TcpStream,
    ours: &Ourselves,
    encrypted: bool,
) -> io::Result<(Channel, Reserved)> {
    stream.set_nodelay(true)?;
    let mut channel = if encrypted {
        Channel::initiate(stream, &ours.shared, &ours.handshake).await?
    } else {
        let mut channel = Channel::plain(stream);
        channel.write_all(&ours.handshake.encode()).await?;
        channel
    };
    let mut answer = [0; HANDSHAKE_LEN];
    channel.read_exact(&mut answer).await?;
    let theirs = Handshake::parse(&answer).map_err(io::Error::other)?;
    if theirs.info_hash != ours.handshake.info_hash {
        return Err(io::Error::other("it answered with another info-hash"));
    }
    if theirs.peer_id == ours.handshake.peer_id {
        return Err(io::Error::other("it is ourselves"));
    }
    Ok((channel, theirs.reserved))
}

async fn shake_incoming(
    stream: TcpStream,
    addr: SocketAddr,
    ours: &Ourselves,
) -> io::Result<(Channel, Reserved)> {
    stream.set_nodelay(true)?;
    let mut channel = Channel::answer(stream, &ours.shared, addr).await?;
    let mut head = [0; HANDSHAKE_HEAD_LEN];
    channel.read_exact(&mut head).await?;
    let (reserved, info_hash) = Handshake::parse_head(&head).map_err(io::Error::other)?;
    if info_hash != ours.handshake.info_hash {
        return Err(io::Error::other("it asked for another torrent"));
    }
    channel.write_all(&ours.handshake.encode()).await?;
    let mut id = PeerId([0; 20]);
    channel.read_exact(&mut id.0).await?;
    if id == ours.handshake.peer_id {
        return Err(io::Error::other("it is ourselves"));
    }
    Ok((channel, reserved))
}

/// What is said first: that we have nothing, and what we want.
fn greeting(theirs: Reserved, addr: SocketAddr, ours: &Ourselves) -> Vec<u8> {
    let mut bytes = Vec::new();
    if theirs.fast() {
        Message::HaveNone.encode(&mut bytes);
    }
    let mut hello = ExtendedHandshake {
        port: Some(ours.port),
        version: Some(concat!("seedring ", env!("CARGO_PKG_VERSION"))),
        your_ip: Some(addr.ip().to_canonical()),
        ..ExtendedHandshake::default()
    };
    hello.want(Extension::Metadata);
    if ours.pex {
        hello.want(Extension::Pex);
    }
    Message::Extended { id: HANDSHAKE_ID, payload: &hello.encode() }.encode(&mut bytes);
    if let Some(port) = ours.dht_port.filter(|_| theirs.dht()) {
        Message::Port(port).encode(&mut bytes);
    }
    bytes
}

async fn listen<F: Future<Output = bool>>(
    mut channel: Channel,
    mut outbox: mpsc::Receiver<Vec<u8>>,
    mut tell: impl FnMut(Heard) -> F,
) -> io::Result<()> {
    let mut reader = Reader::new(Limits::without_metadata());
    let mut buffer = vec![0; 32 * 1024];
    let mut part_at = Instant::now();
    loop {
        let received = tokio::select! {
            said = outbox.recv() => {
                let Some(bytes) = said else { return Ok(()) };
                timeout(WRITE_LIMIT, channel.write_all(&bytes)).await??;
                continue;
            }
            received = timeout(READ_LIMIT, channel.read(&mut buffer)) => received??,
        };
        if received == 0 {
            return Ok(());
        }
        let mut input = &buffer[..received];
        let mut whole = false;
        while let Some(item) = reader.next(&mut input).map_err(io::Error::other)? {
            whole = true;
            let Item::Message(message) = item else { continue };
            if let Some(heard) = heard(message)
                && !tell(heard).await
            {
                return Ok(());
            }
        }
        if !whole && part_at.elapsed() >= PART_PAUSE {
            part_at = Instant::now();
            if !tell(Heard::Part).await {
                return Ok(());
            }
        }
    }
}

/// What is of interest here, out of all that peers say.
fn heard(message: Message<'_>) -> Option<Heard> {
    match message {
        Message::Port(port) => Some(Heard::Port(port)),
        Message::Extended { id: HANDSHAKE_ID, payload } => {
            ExtendedHandshake::parse(payload).map(|hello| Heard::Hello(Box::new(hello)))
        }
        Message::Extended { id, payload } if id == Extension::Metadata.id() => {
            Some(Heard::Metadata(payload.to_vec()))
        }
        Message::Extended { id, payload } if id == Extension::Pex.id() => {
            Some(Heard::Others(payload.to_vec()))
        }
        _ => None,
    }
}
