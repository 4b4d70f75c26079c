//! One connection: handshake, bytes in and out.

use super::download::Downloader;
use super::net;
use super::run::World;
use super::upload::Uploader;
use crate::wire::{HANDSHAKE_LEN, Handshake, Item, Message, Reader};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A handshake must be answered within this.
const HANDSHAKE_TIME: Duration = Duration::from_secs(20);
/// After so long in silence a keep-alive is sent: others hang up after two minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the client closed it")]
    Closed,
    #[error("the client closed it before the handshake: does it have this torrent?")]
    ClosedEarly,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Handshake(#[from] crate::wire::HandshakeError),
    #[error("{0}")]
    Wire(#[from] crate::wire::WireError),
    #[error("{0}")]
    Nonsense(&'static str),
    #[error("there was no handshake within {} seconds", HANDSHAKE_TIME.as_secs())]
    Silent,
}

#[derive(Debug)]
enum Stage {
    Connecting,
    /// What has come of the handshake.
    Greeting(Vec<u8>),
    Open,
}

/// What a connection is there for.
#[derive(Debug)]
pub(super) enum Role {
    Download(Box<Downloader>),
    Upload(Uploader),
}

pub(super) struct Connection {
    fd: OwnedFd,
    stage: Stage,
    since: Instant,
    /// As epoll has told, until a call has found otherwise.
    readable: bool,
    writable: bool,
    hung_up: bool,
    /// Messages to be sent: from `out_at` on.
    out: Vec<u8>,
    out_at: usize,
    last_sent: Instant,
    reader: Reader,
    pub(super) role: Role,
}

impl Connection {
    /// A connection that is being made, or was taken. The handshake is sent as soon as it can.
    pub(super) fn new(world: &World<'_>, fd: OwnedFd, role: Role) -> Self {
        let id = crate::wire::PeerId::generate(std::array::from_fn(|_| fastrand::u8(..)));
        let info_hash = world.info_hash;
        let out = Handshake { reserved: Default::default(), info_hash, peer_id: id }.encode().to_vec();
        Self {
            fd,
            stage: Stage::Connecting,
            since: world.now,
            readable: false,
            writable: false,
            hung_up: false,
            out,
            out_at: 0,
            last_sent: world.now,
            reader: Reader::new(world.limits),
            role,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Payload moved.
    pub(super) fn moved(&self) -> u64 {
        match &self.role {
            Role::Download(downloader) => downloader.received,
            Role::Upload(uploader) => uploader.sent,
        }
    }

    /// Notes what epoll says.
    pub(super) fn ready(&mut self, ready: net::Ready) {
        self.readable |= ready.readable;
        self.writable |= ready.writable;
        self.hung_up |= ready.hung_up;
    }

    /// Receives once and sends once, where that can be done; says whether there may be more to do at once.
    pub(super) fn turn(&mut self, world: &mut World<'_>, buffer: &mut [u8]) -> Result<bool, Fault> {
        if matches!(self.stage, Stage::Connecting) {
            net::outcome(&self.fd)?;
            if !self.writable {
                return Ok(false);
            }
            self.stage = Stage::Greeting(Vec::with_capacity(HANDSHAKE_LEN));
        }
        if self.readable {
            self.receive(world, buffer)?;
        }
        if let (Stage::Open, Role::Download(downloader)) = (&self.stage, &mut self.role) {
            downloader.ask(world, &mut self.out);
        }
        self.send(world)?;
        Ok(self.readable || (self.writable && self.has_more_to_send()))
    }

    fn has_more_to_send(&self) -> bool {
        !self.out.is_empty() || matches!(&self.role, Role::Upload(uploader) if uploader.outstanding() > 0)
    }

    fn receive(&mut self, world: &mut World<'_>, buffer: &mut [u8]) -> Result<(), Fault> {
        world.report.receives += 1;
        let count = match net::recv(&self.fd, buffer)? {
            None => {
                self.readable = false;
                return Ok(());
            }
            Some(0) if self.is_open() => return Err(Fault::Closed),
            Some(0) => return Err(Fault::ClosedEarly),
            Some(count) => count,
        };
        // A receive that did not fill the buffer has emptied the socket: the next bytes make a new event. Only the
        // end of the stream, if it has been told of, would not.
        self.readable = count == buffer.len() || self.hung_up;
        if let Role::Download(downloader) = &self.role {
            world.report.outstanding(downloader.outstanding());
        }
        let mut input = &buffer[..count];
        if let Stage::Greeting(got) = &mut self.stage {
            let (part, rest) = input.split_at(input.len().min(HANDSHAKE_LEN - got.len()));
            got.extend_from_slice(part);
            input = rest;
            let Some(whole) = got.first_chunk::<HANDSHAKE_LEN>() else { return Ok(()) };
            if Handshake::parse(whole)?.info_hash != world.info_hash {
                return Err(Fault::Nonsense("it answered with another torrent"));
            }
            self.stage = Stage::Open;
            world.report.connected += 1;
            // Not before: aria2 hangs up when more than a handshake has come before it has sent its own.
            match self.role {
                Role::Download(_) => Message::Interested.encode(&mut self.out),
                Role::Upload(_) => Message::Bitfield(&world.bitfield).encode(&mut self.out),
            }
        }
        self.read(world, input)
    }

    /// Reads messages and blocks.
    fn read(&mut self, world: &mut World<'_>, received: &[u8]) -> Result<(), Fault> {
        let mut input = received;
        while let Some(item) = self.reader.next(&mut input)? {
            let result = match (item, &mut self.role) {
                (Item::Message(message), Role::Download(downloader)) => downloader.hear(world, message),
                (Item::Message(message), Role::Upload(uploader)) => {
                    uploader.hear(world, message, &mut self.out)
                }
                (Item::PieceHead(head), Role::Download(downloader)) => downloader.begin(world, head),
                (Item::Payload { len }, Role::Download(downloader)) => {
                    let end = received.len() - input.len();
                    downloader.take(world, &received[end - len..end]);
                    Ok(())
                }
                (_, Role::Upload(_)) => Err("it sent a block that nobody asked for"),
            };
            result.map_err(Fault::Nonsense)?;
        }
        Ok(())
    }

    fn send(&mut self, world: &mut World<'_>) -> Result<(), Fault> {
        if !self.writable || !self.has_more_to_send() {
            return Ok(());
        }
        self.last_sent = world.now;
        let at_boundary = match &self.role {
            Role::Download(_) => true,
            Role::Upload(uploader) => uploader.at_boundary(),
        };
        if at_boundary && !self.out.is_empty() {
            let rest = &self.out[self.out_at..];
            world.report.sends += 1;
            let count = net::send(&self.fd, rest)?.unwrap_or(0);
            self.out_at += count;
            if self.out_at < self.out.len() {
                self.writable = false;
                return Ok(());
            }
            self.out.clear();
            self.out_at = 0;
        }
        if let Role::Upload(uploader) = &mut self.role {
            self.writable = uploader.send(world, &self.fd)?;
        }
        Ok(())
    }

    /// Time has gone by.
    pub(super) fn tick(&mut self, world: &mut World<'_>) -> Result<(), Fault> {
        if !self.is_open() {
            let late = world.now.duration_since(self.since) > HANDSHAKE_TIME;
            return if late { Err(Fault::Silent) } else { Ok(()) };
        }
        if let Role::Download(downloader) = &mut self.role {
            downloader.tick(world, &mut self.out);
        }
        if world.now.duration_since(self.last_sent) > KEEP_ALIVE && !self.has_more_to_send() {
            Message::KeepAlive.encode(&mut self.out);
        }
        self.send(world)
    }
}
