//! A connection until its handshake is done: in the clear, or behind the handshake that hides it (MSE).

use super::failures::Refusal;
use super::secrecy::randomness;
use super::torrent::TorrentShard;
use crate::ring::Socket;
use crate::wire::mse::{Ciphers, Encryption, Established, Initiator, Responder, Step};
use std::io;
use std::net::IpAddr;

/// Bytes received at a time.
const SIP: usize = 4096;
/// Length of the name that a plain connection begins with.
const NAME_LEN: usize = 20;

/// Receives and sends what belongs to the handshake.
pub(super) struct Channel<'a> {
    socket: &'a Socket,
    /// Whether the handshake is encrypted; what comes behind it need not be.
    pub(super) encrypted: bool,
    ciphers: Option<Ciphers>,
    /// Bytes that have come already, decrypted.
    ahead: Vec<u8>,
}

impl<'a> Channel<'a> {
    /// A connection in the clear.
    pub(super) fn plain(socket: &'a Socket) -> Self {
        Self { socket, encrypted: false, ciphers: None, ahead: Vec::new() }
    }

    /// Encrypts a connection that we have made; `initial` is the first that is said.
    pub(super) async fn initiate(
        socket: &'a Socket,
        torrent: &TorrentShard,
        initial: Vec<u8>,
    ) -> io::Result<Self> {
        let methods = torrent.secrecy.borrow().mode().methods();
        let mut out = Vec::new();
        let skey = torrent.handshake.info_hash;
        let mut initiator = Initiator::new(randomness(), methods, skey, initial, &mut out);
        let mut sip = vec![0; SIP];
        loop {
            socket.send_all(&out).await?;
            out.clear();
            let count = socket.recv_some(&mut sip).await?;
            match initiator.receive(&sip[..count], &mut out).map_err(io::Error::other)? {
                Step::More(next) => initiator = next,
                Step::Done(established) => return Ok(Self::go_on(socket, established)),
            }
        }
    }

    /// Takes a connection that the peer at `ip` has made, however it begins.
    pub(super) async fn answer(socket: &'a Socket, torrent: &TorrentShard, ip: IpAddr) -> io::Result<Self> {
        let mode = torrent.secrecy.borrow().mode();
        let mut begin = [0; NAME_LEN];
        socket.recv_exact(&mut begin).await?;
        match (Responder::is_plaintext(&begin), mode) {
            (true, Encryption::Required) => return Err(Refusal::Plain.into()),
            (false, Encryption::Allowed | Encryption::Required) => {}
            // Without encryption, whoever begins otherwise is found out by the handshake.
            (true, _) | (false, Encryption::Off) => {
                return Ok(Self { ahead: begin.to_vec(), ..Self::plain(socket) });
            }
        }
        if !torrent.secrecy.borrow_mut().admit(torrent.now(), ip) {
            return Err(Refusal::TooMany.into());
        }
        Self::respond(socket, torrent, begin).await
    }

    async fn respond(socket: &'a Socket, torrent: &TorrentShard, begin: [u8; NAME_LEN]) -> io::Result<Self> {
        let mut responder = Responder::new(randomness(), torrent.secrecy.borrow().mode().methods());
        let mut sip = vec![0; SIP];
        sip[..begin.len()].copy_from_slice(&begin);
        let mut count = begin.len();
        let mut out = Vec::new();
        loop {
            let find = |name: &_| torrent.secrecy.borrow().find(name);
            let step = responder.receive(&sip[..count], find, &mut out).map_err(io::Error::other)?;
            socket.send_all(&out).await?;
            out.clear();
            match step {
                Step::More(next) => responder = next,
                Step::Done(established) => return Ok(Self::go_on(socket, established)),
            }
            count = socket.recv_some(&mut sip).await?;
        }
    }

    fn go_on(socket: &'a Socket, established: Established) -> Self {
        Self { socket, encrypted: true, ciphers: established.ciphers, ahead: established.received }
    }

    /// Receives exactly `buffer.len()` bytes.
    pub(super) async fn recv_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let (ready, rest) = buffer.split_at_mut(self.ahead.len().min(buffer.len()));
        ready.copy_from_slice(&self.ahead[..ready.len()]);
        self.ahead.drain(..ready.len());
        self.socket.recv_exact(rest).await?;
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.incoming.apply(rest);
        }
        Ok(())
    }

    /// Whether so many bytes more are here.
    pub(super) fn has_unread(&self, count: usize) -> bool {
        self.ahead.len() as u64 + self.socket.unread() >= count as u64
    }

    /// Sends a few bytes.
    pub(super) async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.outgoing.apply(&mut bytes);
        }
        self.socket.send_all(&bytes).await
    }

    /// The ciphers that the connection goes on with, and bytes that have come behind the handshake.
    pub(super) fn end(self) -> (Option<Ciphers>, Vec<u8>) {
        (self.ciphers, self.ahead)
    }
}
