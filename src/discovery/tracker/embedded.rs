//! A small HTTP tracker (BEP 3, 7, 23) for `seedring demo` and for tests: one process, all in memory, bounded.

use super::swarms::{Swarms, refusal};
use crate::metainfo::InfoHash;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// Most connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// Largest request head in bytes, time for it, and time for a connection as a whole.
const MAX_HEAD: usize = 16 * 1024;
const HEAD_TIME: Duration = Duration::from_secs(10);
const CONNECTION_TIME: Duration = Duration::from_secs(20);
/// Rest after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How an [`EmbeddedTracker`] behaves.
#[derive(Clone, Debug)]
pub struct EmbeddedTrackerConfig {
    /// The interval it names, in whole seconds, at least 1 s. Who is silent for two of them is forgotten.
    pub interval: Duration,
    /// The torrents it serves; `None` for any.
    pub allowed: Option<Vec<InfoHash>>,
}

impl Default for EmbeddedTrackerConfig {
    /// Any torrent, every 30 minutes.
    fn default() -> Self {
        Self { interval: Duration::from_secs(30 * 60), allowed: None }
    }
}

/// A tracker with its listening socket. Announces wait in the socket until [`run`](Self::run) is polled.
#[derive(Debug)]
pub struct EmbeddedTracker {
    listener: TcpListener,
    addr: SocketAddr,
    swarms: Mutex<Swarms>,
}

impl EmbeddedTracker {
    /// Listens on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(addr: SocketAddr, config: EmbeddedTrackerConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, swarms: Mutex::new(Swarms::new(config)) })
    }

    /// The announce URL, of use to others when bound to a definite address.
    pub fn url(&self) -> String {
        format!("http://{}/announce", self.addr)
    }

    /// Serves for ever. To end it, drop the future (or abort its task).
    pub async fn run(self) {
        let tracker = Arc::new(self);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // Connections end together with this future.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            let Ok((stream, from)) = tracker.listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let tracker = tracker.clone();
            connections.spawn(async move {
                tracker.serve(stream, from.ip()).await;
                drop(slot);
            });
        }
    }

    async fn serve(&self, stream: TcpStream, from: IpAddr) {
        let service = service_fn(async |request| Ok::<_, Infallible>(self.respond(from, &request)));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // A connection that breaks or lingers concerns nobody but its peer.
        let _ = timeout(CONNECTION_TIME, connection).await;
    }

    fn respond(&self, from: IpAddr, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let announce = request.method() == Method::GET && request.uri().path() == "/announce";
        let (status, body) = if announce {
            let mut swarms = self.swarms.lock().unwrap_or_else(PoisonError::into_inner);
            let query = request.uri().query().unwrap_or("");
            (StatusCode::OK, swarms.announce(Instant::now().into_std(), from, query))
        } else {
            (StatusCode::NOT_FOUND, refusal("announces go to GET /announce only"))
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response
    }
}
