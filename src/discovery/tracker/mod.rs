//! Trackers (BEP 3, 7, 12, 23, 24): servers that introduce the peers of a torrent to each other.
//!
//! | file | subject |
//! |---|---|
//! | `announce` | what a peer tells a tracker, as an HTTP request target. Pure |
//! | `reply` | what a tracker answers, from hostile bytes. Pure |
//! | `url` | which URLs are asked at all, and where a redirect leads. Pure |
//! | `http` | one announce over HTTP/1.1, with every limit a hostile server needs |
//! | `announcer` | when to ask which tracker of a torrent: tiers, intervals, back-off. Pure |
//! | `driver` | the task that asks for one torrent, and its handle [`Announcing`] |
//! | `swarms` | what a tracker remembers. Pure |
//! | `embedded` | a small HTTP tracker of our own, for the demo and for tests |

mod announce;
mod announcer;
mod driver;
mod embedded;
mod http;
mod reply;
mod swarms;
mod url;

#[cfg(test)]
mod tests;

pub use announce::{AnnounceRequest, Event};
pub use announcer::{Announcer, AnnouncerConfig, Due, Input};
pub use driver::{Announcing, Note, TorrentIdentity, Totals};
pub use embedded::{EmbeddedTracker, EmbeddedTrackerConfig};
pub use http::{HttpLimits, TrackerError, announce};
pub use reply::{AnnounceResponse, MAX_PEERS, PeerAddr, ReplyError};
pub use url::{UrlError, label};
