//! What trackers have cost and given, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Announces over HTTP or HTTPS that a tracker accepted.
    HttpAnnounced,
    /// Those that a tracker refused, with a reason.
    HttpRefused,
    /// Those that came to nothing for any other reason.
    HttpFailed,
    /// Announces over UDP that a tracker accepted.
    UdpAnnounced,
    /// Those that a tracker refused, with a reason.
    UdpRefused,
    /// Those that came to nothing for any other reason.
    UdpFailed,
    /// Scrapes that were answered.
    Scraped,
    /// Scrapes that were not.
    ScrapeFailed,
    /// Bytes of requests: targets over HTTP, whole datagrams over UDP.
    BytesSent,
    /// Bytes of answers: bodies over HTTP, whole datagrams over UDP.
    BytesReceived,
    /// Peers taken from replies.
    Peers,
    /// Replies that hit a limit: larger than allowed.
    TooLarge,
    /// Exchanges that hit a limit: slower than allowed.
    TooSlow,
    /// Redirects that were not followed: too many, or into the local network.
    RedirectRefused,
    /// Trackers that were not asked: of this machine or its link, and not as trackers are there.
    AddressRefused,
    /// Certificates that were not trusted.
    Untrusted,
    /// Datagrams that answered nothing that was asked.
    DatagramIgnored,
    /// Host names of peers that were not looked up, because there were too many or the resolver is busy.
    NameDropped,
    /// Trackers of a torrent that are never asked, because it has too many.
    TrackerDropped,
    /// Questions that had to wait for their turn, because too many were under way.
    Waited,
    /// Peers of a reply that were left out, because it named too many.
    PeerDropped,
    /// Peers' addresses of our own networks that were left out, because a tracker elsewhere named them.
    LocalPeerDropped,
    /// Intervals that trackers named and that were not kept to: longer than is believed, or shorter.
    IntervalClamped,
}

impl Count {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::HttpAnnounced,
        Self::HttpRefused,
        Self::HttpFailed,
        Self::UdpAnnounced,
        Self::UdpRefused,
        Self::UdpFailed,
        Self::Scraped,
        Self::ScrapeFailed,
        Self::BytesSent,
        Self::BytesReceived,
        Self::Peers,
        Self::TooLarge,
        Self::TooSlow,
        Self::RedirectRefused,
        Self::AddressRefused,
        Self::Untrusted,
        Self::DatagramIgnored,
        Self::NameDropped,
        Self::TrackerDropped,
        Self::Waited,
        Self::PeerDropped,
        Self::LocalPeerDropped,
        Self::IntervalClamped,
    ];

    /// A name for labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpAnnounced => "http_announced",
            Self::HttpRefused => "http_refused",
            Self::HttpFailed => "http_failed",
            Self::UdpAnnounced => "udp_announced",
            Self::UdpRefused => "udp_refused",
            Self::UdpFailed => "udp_failed",
            Self::Scraped => "scraped",
            Self::ScrapeFailed => "scrape_failed",
            Self::BytesSent => "bytes_sent",
            Self::BytesReceived => "bytes_received",
            Self::Peers => "peers",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::RedirectRefused => "redirect_refused",
            Self::AddressRefused => "address_refused",
            Self::Untrusted => "untrusted",
            Self::DatagramIgnored => "datagram_ignored",
            Self::NameDropped => "name_dropped",
            Self::TrackerDropped => "tracker_dropped",
            Self::Waited => "waited",
            Self::PeerDropped => "peer_dropped",
            Self::LocalPeerDropped => "local_peer_dropped",
            Self::IntervalClamped => "interval_clamped",
        }
    }
}

/// The counters of one client, which only grow.
#[derive(Debug, Default)]
pub(super) struct Counters([AtomicU64; Count::ALL.len()]);

impl Counters {
    pub(super) fn add(&self, count: Count, n: u64) {
        self.0[count as usize].fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> TrackerCounts {
        TrackerCounts(std::array::from_fn(|index| self.0[index].load(Ordering::Relaxed)))
    }
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerCounts([u64; Count::ALL.len()]);

impl TrackerCounts {
    /// One of them.
    pub fn get(&self, count: Count) -> u64 {
        self.0[count as usize]
    }
}
