//! A connection of a magnet link's stage: in the clear, or behind the handshake that hides it (MSE).

use crate::shard::{Secrecy, randomness};
use crate::wire::mse::{Ciphers, Encryption, Established, Initiator, Responder, Step};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Bytes received at a time while the handshake goes on.
const SIP: usize = 4096;
/// Length of the name that a plain connection begins with.
const NAME_LEN: usize = 20;

/// Who is talked to under encryption: known to all connections of the stage.
#[derive(Clone)]
pub(super) struct Shared {
    secrecy: Arc<Mutex<Secrecy>>,
    begun: Instant,
}

impl Shared {
    pub(super) fn new(secrecy: Secrecy) -> Self {
        Self { secrecy: Arc::new(Mutex::new(secrecy)), begun: Instant::now() }
    }

    /// Never held while anything is waited for.
    pub(super) fn secrecy(&self) -> MutexGuard<'_, Secrecy> {
        self.secrecy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Receives and sends, encrypted when that was agreed on.
pub(super) struct Channel {
    stream: TcpStream,
    ciphers: Option<Ciphers>,
    /// Bytes that have come already, decrypted.
    ahead: Vec<u8>,
}

impl Channel {
    /// A connection in the clear.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { stream, ciphers: None, ahead: Vec::new() }
    }

    /// Encrypts a connection that we have made for the torrent `handshake` is about, which is the first that is said.
    pub(super) async fn initiate(
        mut stream: TcpStream,
        shared: &Shared,
        handshake: &crate::wire::Handshake,
    ) -> io::Result<Self> {
        let methods = shared.secrecy().mode().methods();
        let (mut out, mut sip) = (Vec::new(), vec![0; SIP]);
        let initial = handshake.encode().to_vec();
        let mut initiator = Initiator::new(randomness(), methods, handshake.info_hash, initial, &mut out);
        loop {
            stream.write_all(&out).await?;
            out.clear();
            let count = some(stream.read(&mut sip).await?)?;
            match initiator.receive(&sip[..count], &mut out).map_err(io::Error::other)? {
                Step::More(next) => initiator = next,
                Step::Done(established) => return Ok(Self::go_on(stream, established)),
            }
        }
    }

    /// Takes a connection that the peer at `addr` has made, however it begins.
    pub(super) async fn answer(mut stream: TcpStream, shared: &Shared, addr: SocketAddr) -> io::Result<Self> {
        let mode = shared.secrecy().mode();
        let mut begin = [0; NAME_LEN];
        stream.read_exact(&mut begin).await?;
        match (Responder::is_plaintext(&begin), mode) {
            (true, Encryption::Required) => return Err(io::Error::other("it did not encrypt its handshake")),
            (false, Encryption::Allowed | Encryption::Required) => {}
            // Without encryption, whoever begins otherwise is found out by the handshake.
            (true, _) | (false, Encryption::Off) => {
                return Ok(Self { ahead: begin.to_vec(), ..Self::plain(stream) });
            }
        }
        if !shared.secrecy().admit(shared.now(), addr.ip()) {
            return Err(io::Error::other("it began too many encrypted handshakes"));
        }
        Self::respond(stream, shared, &begin).await
    }

    async fn respond(mut stream: TcpStream, shared: &Shared, begin: &[u8]) -> io::Result<Self> {
        let mut responder = Responder::new(randomness(), shared.secrecy().mode().methods());
        let (mut out, mut sip) = (Vec::new(), vec![0; SIP]);
        sip[..begin.len()].copy_from_slice(begin);
        let mut count = begin.len();
        loop {
            let find = |name: &_| shared.secrecy().find(name);
            let step = responder.receive(&sip[..count], find, &mut out).map_err(io::Error::other)?;
            stream.write_all(&out).await?;
            out.clear();
            match step {
                Step::More(next) => responder = next,
                Step::Done(established) => return Ok(Self::go_on(stream, established)),
            }
            count = some(stream.read(&mut sip).await?)?;
        }
    }

    fn go_on(stream: TcpStream, established: Established) -> Self {
        Self { stream, ciphers: established.ciphers, ahead: established.received }
    }

    /// Receives exactly `buffer.len()` bytes.
    pub(super) async fn read_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let count = some(self.read(buffer).await?)?;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    /// Receives some bytes, none when the peer has ended the connection. Nothing is lost when it is given up.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
            return Ok(count);
        }
        let count = self.stream.read(buffer).await?;
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.incoming.apply(&mut buffer[..count]);
        }
        Ok(count)
    }

    /// Sends a few bytes; the connection is of no use any more when that is given up half-way.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.outgoing.apply(&mut bytes);
        }
        self.stream.write_all(&bytes).await
    }
}

/// As many bytes as came; none is the end.
fn some(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
}
