//! One request over HTTP/1.1, plain or within TLS. The server is hostile: it may never answer, never stop answering,
//! answer byte by byte, or send us in circles.

use super::counters::{Count, Counters};
use super::error::TrackerError;
use super::names;
use super::reach::Reach;
use super::reply::clamped;
use super::tls::Tls;
use super::udp_packet::Family;
use super::url::{HttpUrl, UrlError};
use crate::discovery::dial;
use crate::discovery::names::Names;
use crate::wire::{GzipError, Home, gunzip};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderValue,
    LOCATION, RETRY_AFTER, TRANSFER_ENCODING, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Largest response head, in bytes; of lines, hyper takes 100.
pub(super) const MAX_HEAD: usize = 64 * 1024;
const AGENT: &str = concat!("seedring/", env!("CARGO_PKG_VERSION"));

/// How much a tracker may take of us.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// For the whole announce, redirects included.
    pub total: Duration,
    /// For connecting to one address.
    pub connect: Duration,
    /// Between two signs of life: the handshake of TLS, the head, then each part of the body.
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

/// What a server has answered in the end.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    /// All of it.
    pub(super) body: Vec<u8>,
    /// Where that server is, which may be another than was asked at first.
    pub(super) from: Option<IpAddr>,
    /// For how long it wants to be left alone.
    pub(super) wait: Option<Duration>,
}

/// The means to ask over HTTP.
pub(super) struct Http<'a> {
    pub(super) limits: &'a HttpLimits,
    pub(super) tls: &'a Tls,
    pub(super) names: &'a Names,
    pub(super) counters: &'a Counters,
    /// The family that all of the way keeps to: the tracker is to see this address of ours.
    pub(super) family: Family,
    pub(super) reach: Reach,
    pub(super) home: Home,
}

enum Answer {
    Page(StatusCode, Option<Duration>, Vec<u8>),
    Redirect(HttpUrl),
}

impl Http<'_> {
    /// Gets a URL whose host has these addresses, wherever it is redirected to. A `Location` is taken as it is: whoever
    /// writes one puts the query of the announce into it.
    pub(super) async fn get(&self, url: HttpUrl, addrs: Vec<SocketAddr>) -> Result<Page, TrackerError> {
        let page = timeout(self.limits.total, self.follow(url, addrs)).await;
        page.map_err(|_| TrackerError::Timeout("answer"))?
    }

    async fn follow(&self, mut url: HttpUrl, mut addrs: Vec<SocketAddr>) -> Result<Page, TrackerError> {
        let mut came_from_outside = false;
        for hop in 0..=self.limits.redirects {
            if hop > 0 {
                addrs = names::resolve(self.names, &url.host, url.port).await?;
                addrs.retain(|addr| Family::of(addr) == self.family);
                addrs = self.reach.permitted(addrs, &url.path_and_query)?;
            }
            let stream = self.connect(&url, &addrs, came_from_outside).await?;
            let from = stream.peer_addr().ok().map(|addr| addr.ip());
            came_from_outside |= from.is_some_and(|ip| !(self.reach.is_local)(ip));
            let answer = if url.secure {
                let handshake = timeout(self.limits.idle, self.tls.connect(&url.host, stream)).await;
                let stream = handshake.map_err(|_| TrackerError::Timeout("shake hands"))??;
                self.exchange(stream, &url).await?
            } else {
                self.exchange(stream, &url).await?
            };
            match answer {
                Answer::Page(status, wait, body) => return Ok(Page { status, body, from, wait }),
                Answer::Redirect(next) => url = next,
            }
        }
        Err(TrackerError::TooManyRedirects(self.limits.redirects))
    }

    /// Connects to the first of the addresses that accepts. With `only_outside`, not to one of our own network.
    pub(super) async fn connect(
        &self,
        url: &HttpUrl,
        addrs: &[SocketAddr],
        only_outside: bool,
    ) -> Result<TcpStream, TrackerError> {
        let mut failure = TrackerError::Dns {
            host: url.host.clone(),
            source: io::Error::new(io::ErrorKind::NotFound, "it has no address of this family"),
        };
        for &addr in addrs {
            if only_outside && (self.reach.is_local)(addr.ip()) {
                return Err(TrackerError::LocalRedirect(addr));
            }
            match timeout(self.limits.connect, dial(self.home, addr)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(source)) => failure = TrackerError::Connect { addr, source },
                Err(_) => failure = TrackerError::Connect { addr, source: io::ErrorKind::TimedOut.into() },
            }
        }
        Err(failure)
    }

    /// One request and its response on a fresh connection, which ends with it.
    async fn exchange<S>(&self, stream: S, url: &HttpUrl) -> Result<Answer, TrackerError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut request = Request::get(&url.path_and_query)
            .header(HOST, &url.authority)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT_ENCODING, "gzip")
            .header(CONNECTION, "close");
        if let Some(authorization) = url.authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|error| UrlError::Malformed(error.to_string()))?;
        self.counters.add(Count::BytesSent, url.path_and_query.len() as u64);
        let mut builder = hyper::client::conn::http1::Builder::new();
        let (mut sender, connection) = builder.max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
        // The set ends the connection's task when this function ends, however it ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = timeout(self.limits.idle, sender.send_request(request)).await;
        let response = response.map_err(|_| TrackerError::Timeout("answer"))?;
        let response = response.map_err(|error| match error.is_parse_too_large() {
            true => TrackerError::HeadTooLarge,
            false => error.into(),
        })?;
        let status = response.status();
        if is_redirect(status) {
            let location = response.headers().get(LOCATION).ok_or(TrackerError::NoLocation)?;
            let location = location.to_str().map_err(|error| UrlError::Malformed(error.to_string()))?;
            return Ok(Answer::Redirect(url.join(location)?));
        }
        let wait = busy_for(status, response.headers().get(RETRY_AFTER));
        let packed = is_packed(response.headers().get(CONTENT_ENCODING));
        let body = self.read_body(response).await?;
        let page = packed.and_then(|packed| if packed { self.unpack(&body) } else { Ok(body) });
        // Of a page that only says that something went wrong, the status says more.
        let page = page.or_else(|error| if status.is_success() { Err(error) } else { Ok(Vec::new()) })?;
        Ok(Answer::Page(status, wait, page))
    }

    /// What was packed may be no longer than what comes as it is.
    fn unpack(&self, body: &[u8]) -> Result<Vec<u8>, TrackerError> {
        // Of nothing, some servers say that it is packed, too.
        if body.is_empty() {
            return Ok(Vec::new());
        }
        gunzip(body, self.limits.body).map_err(|cause| match cause {
            GzipError::TooLong(most) => TrackerError::TooLarge(most),
            cause => TrackerError::Packed(cause),
        })
    }

    async fn read_body(&self, response: Response<Incoming>) -> Result<Vec<u8>, TrackerError> {
        let named = |header| response.headers().contains_key(header);
        let ends_with_connection = !named(CONTENT_LENGTH) && !named(TRANSFER_ENCODING);
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        loop {
            let frame = timeout(self.limits.idle, incoming.frame()).await;
            let Some(frame) = frame.map_err(|_| TrackerError::Timeout("go on answering"))? else {
                return Ok(body);
            };
            let frame = match frame {
                // There are servers that hang up without the farewell of TLS. Of an answer that is cut off, nothing can be read.
                Err(error) if ends_with_connection && is_unexpected_end(&error) => return Ok(body),
                frame => frame?,
            };
            // Frames that are not data are trailers, which mean nothing here.
            let Ok(data) = frame.into_data() else { continue };
            self.counters.add(Count::BytesReceived, data.len() as u64);
            if body.len() + data.len() > self.limits.body {
                return Err(TrackerError::TooLarge(self.limits.body));
            }
            body.extend_from_slice(&data);
        }
    }
}

/// Whether the connection ended where it should not have.
fn is_unexpected_end(error: &hyper::Error) -> bool {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let mut kinds = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.any(|kind| kind == io::ErrorKind::UnexpectedEof)
}

/// Whether a body with this encoding is packed with gzip. We ask for no other packing; but there are servers that pack whatever they
/// are asked.
fn is_packed(encoding: Option<&HeaderValue>) -> Result<bool, TrackerError> {
    let is =
        |name: &str| encoding.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(name.as_bytes()));
    match encoding {
        None => Ok(false),
        Some(_) if is("identity") || is("") => Ok(false),
        Some(_) if is("gzip") || is("x-gzip") => Ok(true),
        Some(_) => Err(TrackerError::Compressed),
    }
}

/// For how long a server that has too much to do wants to be left alone, when it names a time in seconds.
fn busy_for(status: StatusCode, retry_after: Option<&HeaderValue>) -> Option<Duration> {
    let is_busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let seconds = retry_after.filter(|_| is_busy)?.to_str().ok()?;
    seconds.trim().parse().ok().and_then(clamped)
}

fn is_redirect(status: StatusCode) -> bool {
    use StatusCode as S;
    [S::MOVED_PERMANENTLY, S::FOUND, S::SEE_OTHER, S::TEMPORARY_REDIRECT, S::PERMANENT_REDIRECT]
        .contains(&status)
}
