//! What can be asked of the running program over HTTP: pages for Prometheus. On the control thread, beside everything
//! else that is not payload.
//!
//! Whoever connects is bounded: in number, in the length of what it says, and in time. Only GET and HEAD are
//! answered, each on a connection of its own.

#[cfg(test)]
mod tests;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Most connections at once. For one more the oldest gives way: so who connects and says nothing keeps nobody out who asks and
/// goes, within milliseconds as a rule.
const MOST_CONNECTIONS: usize = 32;
/// Largest request head in bytes, time for it, and time for a connection as a whole.
const MOST_HEAD: usize = 16 * 1024;
const HEAD_TIME: Duration = Duration::from_secs(5);
const CONNECTION_TIME: Duration = Duration::from_secs(20);
/// Rest after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Prometheus' text format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
struct Limits {
    connections: usize,
    head_time: Duration,
    connection_time: Duration,
}

/// A server with its listening socket. Requests wait in the socket until [`run`](Self::run) is polled.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    limits: Limits,
}

impl Server {
    /// Listens on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let limits =
            Limits { connections: MOST_CONNECTIONS, head_time: HEAD_TIME, connection_time: CONNECTION_TIME };
        Ok(Self { listener, addr, limits })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves for ever: `page` gives the text of a path, or none when there is no such page. To end it, drop the
    /// future (or abort its task); connections end with it.
    pub async fn run(self, page: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
        let page = Arc::new(page);
        let mut connections = JoinSet::new();
        // From the oldest to the newest.
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            while connections.try_join_next().is_some() {}
            open.retain(|connection| !connection.is_finished());
            if open.len() >= self.limits.connections
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            let (page, limits) = (Arc::clone(&page), self.limits);
            open.push_back(connections.spawn(async move { serve(stream, limits, &*page).await }));
        }
    }
}

async fn serve(stream: TcpStream, limits: Limits, page: &(impl Fn(&str) -> Option<String> + Sync)) {
    let service = service_fn(async |request| Ok::<_, Infallible>(respond(&request, page)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(MOST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A connection that breaks or lingers concerns nobody but its client.
    let _ = timeout(limits.connection_time, connection).await;
}

fn respond(request: &Request<Incoming>, page: impl Fn(&str) -> Option<String>) -> Response<Full<Bytes>> {
    let found = matches!(*request.method(), Method::GET | Method::HEAD);
    let found = found.then(|| page(request.uri().path()));
    let (status, text) = match found {
        Some(Some(text)) => (StatusCode::OK, text),
        Some(None) => (StatusCode::NOT_FOUND, "there is no such page\n".to_owned()),
        None => (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n".to_owned()),
    };
    // The body is left out by hyper when only the head was asked for.
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
