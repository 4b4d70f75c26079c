//! Trackers (BEP 3, 7, 12, 15, 21, 23, 24, 41, 48): servers that introduce the peers of a torrent to each other.
//!
//! | file | subject |
//! |---|---|
//! | `announce` | what a peer tells a tracker, as an HTTP request target. Pure |
//! | `reply` | what a tracker answers, from hostile bytes. Pure |
//! | `scrape` | what a tracker answers to a scrape. Pure |
//! | `url` | which URLs are asked at all, and where a redirect leads. Pure |
//! | `reach` | which addresses are asked at. Pure |
//! | `http` | one request over HTTP/1.1, with every limit a hostile server needs |
//! | `tls` | whom to trust as an HTTPS tracker |
//! | `udp_packet` | the datagrams of UDP trackers. Pure |
//! | `udp_exchange` | a question to a UDP tracker until there is an answer. Pure |
//! | `udp` | the socket under it |
//! | `names` | host names of trackers and of peers |
//! | `client` | asking any tracker: [`TrackerClient`] |
//! | `counters` | what that has cost and given: [`TrackerCounts`] |
//! | `announcer` | when to ask which tracker of a torrent: tiers, intervals, back-off. Pure |
//! | `driver` | the task that asks for one torrent, and its handle [`Announcing`] |
//! | `swarms` | what a tracker remembers. Pure |
//! | `embedded` | a small HTTP tracker of our own, for the demo and for tests |

mod announce;
mod announcer;
mod client;
mod counters;
mod driver;
mod embedded;
mod error;
mod http;
mod identity;
mod names;
mod reach;
mod reply;
mod scrape;
mod swarms;
mod tls;
mod udp;
mod udp_exchange;
mod udp_packet;
mod url;

#[cfg(test)]
mod tests;

pub use announce::{AnnounceRequest, Event};
pub use announcer::{Announcer, AnnouncerConfig, Due, Goodbye, Input, Told};
pub use client::{TrackerClient, TrackerOptions};
pub use counters::{Count, TrackerCounts};
pub use driver::{Announcing, Note};
pub use embedded::{EmbeddedTracker, EmbeddedTrackerConfig};
pub use error::TrackerError;
pub use http::HttpLimits;
pub use identity::{TorrentIdentity, Totals, announce_key};
pub use reply::{AnnounceResponse, MAX_PEERS, PeerAddr, ReplyError};
pub use scrape::{Scrape, parse as parse_scrape};
pub use swarms::Swarms as TrackerSwarms;
pub use tls::{Authorities, AuthorityError};
pub use udp_exchange::{
    Exchange as UdpExchange, Heard as UdpHeard, Question as UdpQuestion, Step as UdpStep, UdpPatience,
};
pub use udp_packet::Response as UdpResponse;
pub use url::{HttpUrl, TrackerUrl, UdpUrl, UrlError, label};
