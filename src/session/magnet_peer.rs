//! One peer of a magnet link: handshakes, then messages of the extension protocol; all others are passed over.

use crate::wire::extended::{ExtendedHandshake, Extension, HANDSHAKE_ID, MetadataMessage};
use crate::wire::{
    HANDSHAKE_HEAD_LEN, HANDSHAKE_LEN, Handshake, Item, Limits, Message, PeerId, Reader, Reserved,
};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a peer may take to answer a dial, to say its handshake, and to take what we say.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// A connection that says nothing for so long ends.
const READ_LIMIT: Duration = Duration::from_secs(120);
/// Messages that wait to be said.
const OUTBOX: usize = 64;

/// What a peer has said.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// Its handshake of the extension protocol, the first or a further one.
    Hello(Box<ExtendedHandshake>),
    /// A message of `ut_metadata`.
    Metadata(Vec<u8>),
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

/// Talks to a peer that was dialled or `accepted`, until the connection ends. `tell` gets what it says, and answers
/// whether there is interest in more.
///
/// # Errors
/// Why it ended.
pub(super) async fn talk<F: Future<Output = bool>>(
    addr: SocketAddr,
    accepted: Option<TcpStream>,
    ours: &Handshake,
    port: u16,
    outbox: mpsc::Receiver<Vec<u8>>,
    tell: impl FnMut(Heard) -> F,
) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let (mut stream, theirs) = match accepted {
        Some(stream) => timeout(HANDSHAKE_LIMIT, shake_incoming(stream, ours)).await.map_err(late)??,
        None => {
            let stream = timeout(CONNECT_LIMIT, TcpStream::connect(addr)).await.map_err(late)??;
            timeout(HANDSHAKE_LIMIT, shake_outgoing(stream, ours)).await.map_err(late)??
        }
    };
    if !theirs.extended() {
        return Err(io::Error::other("it does not speak the extension protocol"));
    }
    stream.set_nodelay(true)?;
    stream.write_all(&greeting(theirs, addr, port)).await?;
    listen(stream, outbox, tell).await
}

async fn shake_outgoing(mut stream: TcpStream, ours: &Handshake) -> io::Result<(TcpStream, Reserved)> {
    stream.write_all(&ours.encode()).await?;
    let mut answer = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut answer).await?;
    let theirs = Handshake::parse(&answer).map_err(io::Error::other)?;
    if theirs.info_hash != ours.info_hash {
        return Err(io::Error::other("it answered with another info-hash"));
    }
    if theirs.peer_id == ours.peer_id {
        return Err(io::Error::other("it is ourselves"));
    }
    Ok((stream, theirs.reserved))
}

async fn shake_incoming(mut stream: TcpStream, ours: &Handshake) -> io::Result<(TcpStream, Reserved)> {
    let mut head = [0; HANDSHAKE_HEAD_LEN];
    stream.read_exact(&mut head).await?;
    let (reserved, info_hash) = Handshake::parse_head(&head).map_err(io::Error::other)?;
    if info_hash != ours.info_hash {
        return Err(io::Error::other("it asked for another torrent"));
    }
    stream.write_all(&ours.encode()).await?;
    let mut id = PeerId([0; 20]);
    stream.read_exact(&mut id.0).await?;
    if id == ours.peer_id {
        return Err(io::Error::other("it is ourselves"));
    }
    Ok((stream, reserved))
}

/// What is said first: that we have nothing, and what we want.
fn greeting(theirs: Reserved, addr: SocketAddr, port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    if theirs.fast() {
        Message::HaveNone.encode(&mut bytes);
    }
    let mut hello = ExtendedHandshake {
        port: Some(port),
        version: Some(concat!("seedring ", env!("CARGO_PKG_VERSION")).into()),
        your_ip: Some(addr.ip().to_canonical()),
        ..ExtendedHandshake::default()
    };
    hello.want(Extension::Metadata);
    Message::Extended { id: HANDSHAKE_ID, payload: &hello.encode() }.encode(&mut bytes);
    bytes
}

async fn listen<F: Future<Output = bool>>(
    mut stream: TcpStream,
    mut outbox: mpsc::Receiver<Vec<u8>>,
    mut tell: impl FnMut(Heard) -> F,
) -> io::Result<()> {
    let mut reader = Reader::new(Limits::without_metadata());
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let received = tokio::select! {
            said = outbox.recv() => {
                let Some(bytes) = said else { return Ok(()) };
                timeout(WRITE_LIMIT, stream.write_all(&bytes)).await??;
                continue;
            }
            received = timeout(READ_LIMIT, stream.read(&mut buffer)) => received??,
        };
        if received == 0 {
            return Ok(());
        }
        let mut input = &buffer[..received];
        while let Some(item) = reader.next(&mut input).map_err(io::Error::other)? {
            let Item::Message(Message::Extended { id, payload }) = item else { continue };
            let heard = match id {
                HANDSHAKE_ID => ExtendedHandshake::parse(payload).map(|hello| Heard::Hello(Box::new(hello))),
                id if id == Extension::Metadata.id() => Some(Heard::Metadata(payload.to_vec())),
                _ => None,
            };
            if let Some(heard) = heard
                && !tell(heard).await
            {
                return Ok(());
            }
        }
    }
}
