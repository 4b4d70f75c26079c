//! Why asking a tracker fails.

use super::http::MAX_HEAD;
use super::reply::ReplyError;
use super::url::UrlError;
use crate::wire::GzipError;
use hyper::StatusCode;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why an announce or a scrape failed. None of the sentences shows the URL's path, which may hold a passkey.
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
    /// The server could not show that it is who it should be, or broke off before it could.
    #[error("cannot speak to the tracker {host} in confidence: {source}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        source: io::Error,
    },
    /// Too slow, as a whole or in between.
    #[error("the tracker did not {0} in time")]
    Timeout(&'static str),
    /// What came is not HTTP, or broke off.
    #[error("the tracker does not speak proper HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The body is larger than [`HttpLimits::body`](super::HttpLimits::body).
    #[error("the tracker's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The head of the response is too large, or has too many lines.
    #[error("the head of the tracker's answer is larger than {MAX_HEAD} bytes, or has more than 100 lines")]
    HeadTooLarge,
    /// More redirects than [`HttpLimits::redirects`](super::HttpLimits::redirects).
    #[error("the tracker redirects more than {0} times")]
    TooManyRedirects(usize),
    /// A redirect without a place to go.
    #[error("the tracker redirects without saying where to")]
    NoLocation,
    /// A tracker on the internet sent us to an address of our own network.
    #[error("the tracker redirects into the local network, to {0}")]
    LocalRedirect(SocketAddr),
    /// A torrent's tracker is at an address where no torrent should send us, with that path.
    #[error(
        "trackers at {0} are not asked for this path: of this machine only for /announce, of its link not at all"
    )]
    Forbidden(SocketAddr),
    /// Another status than success, without a reason a tracker gives; and for how long the server wants to be left alone.
    #[error("the tracker answered with HTTP status {0}")]
    Status(StatusCode, Option<Duration>),
    /// The body is compressed otherwise than with gzip, which is all that we asked for.
    #[error("the tracker's answer is compressed, and not with gzip, which is all that was asked for")]
    Compressed,
    /// The body is compressed, and not whole or not right.
    #[error("the tracker's answer is compressed, but {0}")]
    Packed(GzipError),
    /// The body is not a successful reply.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

impl TrackerError {
    /// For how long the tracker itself does not want to be asked again, when it has said so.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status(_, wait) | Self::Reply(ReplyError::Refused { wait, .. }) => *wait,
            _ => None,
        }
    }
}
