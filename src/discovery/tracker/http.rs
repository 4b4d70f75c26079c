//! One announce over HTTP/1.1. The server is hostile: it may never answer, never stop answering, answer byte by
//! byte, or send us in circles.

use super::announce::AnnounceRequest;
use super::reply::{AnnounceResponse, ReplyError};
use super::url::{HttpUrl, UrlError, is_local};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT_ENCODING, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Most addresses of one host name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Largest response head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
const AGENT: &str = concat!("seedring/", env!("CARGO_PKG_VERSION"));

/// How much a tracker may take of us.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// For the whole announce, redirects included.
    pub total: Duration,
    /// For connecting to one address.
    pub connect: Duration,
    /// Between two signs of life: the head, then each part of the body.
    pub idle: Duration,
    /// Bytes of the body.
    pub body: usize,
    /// Redirects followed.
    pub redirects: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(10),
            body: 1024 * 1024,
            redirects: 5,
        }
    }
}

/// Why an announce failed. None of the sentences shows the URL's path, which may hold a passkey.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// The URL, or one we were sent to, is not one to ask.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The host name has no address.
    #[error("cannot look up the tracker's host {host}: {source}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the tracker accepts a connection; the last one tried is named.
    #[error("cannot connect to the tracker at {addr}: {source}")]
    Connect {
        /// The address.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Too slow, as a whole or in between.
    #[error("the tracker did not {0} in time")]
    Timeout(&'static str),
    /// What came is not HTTP, or broke off.
    #[error("the tracker does not speak proper HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The body is larger than [`HttpLimits::body`].
    #[error("the tracker's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// More redirects than [`HttpLimits::redirects`].
    #[error("the tracker redirects more than {0} times")]
    TooManyRedirects(usize),
    /// A redirect without a place to go.
    #[error("the tracker redirects without saying where to")]
    NoLocation,
    /// A tracker on the internet sent us to an address of our own network.
    #[error("the tracker redirects into the local network, to {0}")]
    LocalRedirect(SocketAddr),
    /// Another status than success, without a reason a tracker gives.
    #[error("the tracker answered with HTTP status {0}")]
    Status(StatusCode),
    /// The body is not a successful reply.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// Announces once.
///
/// # Errors
/// Whatever kept a successful reply from arriving.
pub async fn announce(
    url: &str,
    request: &AnnounceRequest,
    limits: &HttpLimits,
) -> Result<AnnounceResponse, TrackerError> {
    let answer = timeout(limits.total, follow(url, request, limits)).await;
    answer.map_err(|_| TrackerError::Timeout("answer"))?
}

/// Asks, and asks again wherever a redirect leads. A `Location` is taken as it is: whoever writes one puts the
/// query of the announce into it.
async fn follow(
    url: &str,
    request: &AnnounceRequest,
    limits: &HttpLimits,
) -> Result<AnnounceResponse, TrackerError> {
    let mut url = HttpUrl::parse(url)?;
    url.path_and_query = request.target(&url.path_and_query);
    let mut came_from_outside = false;
    for _ in 0..=limits.redirects {
        let stream = connect(&url, limits, came_from_outside).await?;
        came_from_outside |= stream.peer_addr().is_ok_and(|addr| !is_local(addr.ip()));
        match exchange(stream, &url, limits).await? {
            Answer::Body(status, body) => return judge(status, &body),
            Answer::Redirect(next) => url = next,
        }
    }
    Err(TrackerError::TooManyRedirects(limits.redirects))
}

/// Connects to the first address of the host that accepts. With `only_outside`, not to one of our own network.
pub(super) async fn connect(
    url: &HttpUrl,
    limits: &HttpLimits,
    only_outside: bool,
) -> Result<TcpStream, TrackerError> {
    let dns = |source| TrackerError::Dns { host: url.host.clone(), source };
    let addrs = lookup_host((url.host.as_str(), url.port)).await.map_err(dns)?;
    let mut failure = dns(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    for addr in addrs.take(MAX_ADDRESSES) {
        if only_outside && is_local(addr.ip()) {
            return Err(TrackerError::LocalRedirect(addr));
        }
        match timeout(limits.connect, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(source)) => failure = TrackerError::Connect { addr, source },
            Err(_) => failure = TrackerError::Connect { addr, source: io::ErrorKind::TimedOut.into() },
        }
    }
    Err(failure)
}

enum Answer {
    Body(StatusCode, Vec<u8>),
    Redirect(HttpUrl),
}

/// One request and its response on a fresh connection, which ends with it.
async fn exchange(stream: TcpStream, url: &HttpUrl, limits: &HttpLimits) -> Result<Answer, TrackerError> {
    let request = Request::get(&url.path_and_query)
        .header(HOST, &url.authority)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| UrlError::Malformed(error.to_string()))?;
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    // The set ends the connection's task when this function ends, however it ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = timeout(limits.idle, sender.send_request(request)).await;
    let response = response.map_err(|_| TrackerError::Timeout("answer"))??;
    let status = response.status();
    if is_redirect(status) {
        let location = response.headers().get(LOCATION).ok_or(TrackerError::NoLocation)?;
        let location = location.to_str().map_err(|error| UrlError::Malformed(error.to_string()))?;
        return Ok(Answer::Redirect(url.join(location)?));
    }
    Ok(Answer::Body(status, read_body(response, limits).await?))
}

fn is_redirect(status: StatusCode) -> bool {
    use StatusCode as S;
    [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT]
        .contains(&status)
}

async fn read_body(response: Response<Incoming>, limits: &HttpLimits) -> Result<Vec<u8>, TrackerError> {
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    loop {
        let frame = timeout(limits.idle, incoming.frame()).await;
        let Some(frame) = frame.map_err(|_| TrackerError::Timeout("go on answering"))? else {
            return Ok(body);
        };
        // Frames that are not data are trailers, which mean nothing here.
        let Ok(data) = frame?.into_data() else { continue };
        if body.len() + data.len() > limits.body {
            return Err(TrackerError::TooLarge(limits.body));
        }
        body.extend_from_slice(&data);
    }
}

/// Some trackers give their reason with a status of failure, so the body is looked at first.
fn judge(status: StatusCode, body: &[u8]) -> Result<AnnounceResponse, TrackerError> {
    match AnnounceResponse::parse(body) {
        Err(refusal @ ReplyError::Refused(_)) => Err(refusal.into()),
        _ if !status.is_success() => Err(TrackerError::Status(status)),
        parsed => Ok(parsed?),
    }
}
