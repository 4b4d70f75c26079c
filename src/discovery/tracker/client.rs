//! Asking trackers of any kind: by which protocol, at which addresses, how many at once.

use super::announce::{AnnounceRequest, Event};
use super::counters::{Count, Counters, TrackerCounts};
use super::error::TrackerError;
use super::http::{Http, HttpLimits, Page};
use super::names::{self, PeerNames};
use super::reach::Reach;
use super::reply::{AnnounceResponse, PeerAddr, ReplyError, first};
use super::scrape::{self, Scrape};
use super::tls::{Authorities, Tls};
use super::udp;
use super::udp_exchange::{Question, UdpPatience};
use super::udp_packet::{Family, MAX_SCRAPED, Response};
use super::url::{HttpUrl, TrackerUrl, UdpUrl};
use crate::discovery::names::Names;
use crate::metainfo::InfoHash;
use crate::swarm::may_name;
use crate::wire::Home;
use crate::wire::mse::Encryption;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Most questions at once, over HTTP and over UDP: each is asked on a socket of its own.
const HTTP_AT_ONCE: usize = 50;
const UDP_AT_ONCE: usize = 200;
/// How long the answer by one address family waits for that by the other.
const OTHER_FAMILY: Duration = Duration::from_secs(5);
/// And when we leave.
const LAST_FAMILY: Duration = Duration::from_secs(1);
/// Most torrents in one scrape over HTTP, for the length of its URL.
const HTTP_SCRAPED: usize = 40;

/// How a [`TrackerClient`] asks.
#[derive(Clone, Debug, Default)]
pub struct TrackerOptions {
    /// How much a tracker over HTTP may take of us.
    pub limits: HttpLimits,
    /// How patient to be with UDP trackers.
    pub patience: UdpPatience,
    /// Authorities to trust beside the usual ones.
    pub authorities: Authorities,
    /// A host name to announce, for networks whose trackers hand names on.
    pub hostname: Option<String>,
    /// What to tell of how connections to peers are encrypted.
    pub encryption: Encryption,
    /// Where peers connect to, for trackers to be asked from there.
    pub listen: Option<SocketAddr>,
    /// Whether to ask trackers at addresses where a torrent could do harm: other paths of this machine than
    /// `/announce`, and its link, where clouds keep secrets.
    pub any_address: bool,
}

/// Asks trackers for any number of torrents.
#[derive(Debug)]
pub struct TrackerClient {
    options: TrackerOptions,
    tls: Tls,
    http_turns: Semaphore,
    udp_turns: Semaphore,
    names: Names,
    pub(super) peer_names: PeerNames,
    pub(super) counters: Arc<Counters>,
}

impl TrackerClient {
    /// A client, which has asked nobody yet.
    pub fn new(options: TrackerOptions) -> Self {
        Self {
            tls: Tls::new(options.authorities.clone()),
            options,
            http_turns: Semaphore::new(HTTP_AT_ONCE),
            udp_turns: Semaphore::new(UDP_AT_ONCE),
            names: Names::of_trackers(),
            peer_names: PeerNames::default(),
            counters: Arc::default(),
        }
    }

    /// All that was counted so far.
    pub fn counts(&self) -> TrackerCounts {
        self.counters.read()
    }

    pub(super) fn options(&self) -> &TrackerOptions {
        &self.options
    }

    /// Announces once; to a host with addresses of both families, from each in which we listen (BEP 7), and the answers become one.
    ///
    /// # Errors
    /// Whatever kept a successful reply from arriving.
    pub async fn announce(
        &self,
        url: &str,
        request: &AnnounceRequest,
    ) -> Result<AnnounceResponse, TrackerError> {
        self.announce_with(url, request, self.options.patience, &|_| ()).await
    }

    /// Announces with another patience towards UDP trackers than usual. What is answered in one family is told `early` while the other
    /// is waited for.
    pub(super) async fn announce_with(
        &self,
        url: &str,
        request: &AnnounceRequest,
        patience: UdpPatience,
        early: &(impl Fn(&AnnounceResponse) + Sync),
    ) -> Result<AnnounceResponse, TrackerError> {
        let url = TrackerUrl::parse(url)?;
        let result = match self.addresses(&url).await {
            Ok(addrs) => self.announce_at(&url, addrs, request, patience, early).await,
            Err(error) => Err(error),
        };
        self.count_announce(&url, &result);
        result
    }

    /// Announces to a tracker that has these addresses.
    pub(super) async fn announce_at(
        &self,
        url: &TrackerUrl,
        addrs: Vec<SocketAddr>,
        request: &AnnounceRequest,
        patience: UdpPatience,
        early: &(impl Fn(&AnnounceResponse) + Sync),
    ) -> Result<AnnounceResponse, TrackerError> {
        let addrs = self.home().suitable(addrs);
        let wait = if request.event == Some(Event::Stopped) { LAST_FAMILY } else { OTHER_FAMILY };
        match url {
            TrackerUrl::Http(http) => {
                let ask = |addrs| self.announce_http(http, request, addrs);
                by_family(addrs, wait, ask, early, merged).await
            }
            TrackerUrl::Udp(udp) => {
                let patience = patience_with(&addrs, patience);
                let ask = |addrs| self.announce_udp(udp, request, patience, addrs);
                by_family(addrs, wait, ask, early, merged).await
            }
        }
    }

    /// The counts of these torrents, in their order; `None` for those that the tracker does not know.
    ///
    /// # Errors
    /// Whatever kept a successful reply from arriving.
    pub async fn scrape(
        &self,
        url: &str,
        torrents: &[InfoHash],
    ) -> Result<Vec<Option<Scrape>>, TrackerError> {
        let result = self.scrape_all(&TrackerUrl::parse(url)?, torrents).await;
        self.counters.add(if result.is_ok() { Count::Scraped } else { Count::ScrapeFailed }, 1);
        self.count_limits(&result);
        result
    }

    async fn scrape_all(
        &self,
        url: &TrackerUrl,
        torrents: &[InfoHash],
    ) -> Result<Vec<Option<Scrape>>, TrackerError> {
        let (either, early) = (|one, _other| one, &|_: &_| ());
        let mut all = Vec::new();
        match url {
            TrackerUrl::Http(http) => {
                let http = http.scrape()?;
                for part in torrents.chunks(HTTP_SCRAPED) {
                    let ask = |addrs| self.scrape_http(&http, part, addrs);
                    all.extend(
                        by_family(self.addresses(url).await?, OTHER_FAMILY, ask, early, either).await?,
                    );
                }
            }
            TrackerUrl::Udp(_) => {
                for part in torrents.chunks(MAX_SCRAPED) {
                    let addrs = self.addresses(url).await?;
                    let patience = patience_with(&addrs, self.options.patience);
                    let ask = |addrs| self.scrape_udp(part, patience, addrs);
                    all.extend(by_family(addrs, OTHER_FAMILY, ask, early, either).await?);
                }
            }
        }
        Ok(all)
    }

    /// Where a tracker is asked.
    async fn addresses(&self, url: &TrackerUrl) -> Result<Vec<SocketAddr>, TrackerError> {
        let (host, port) = url.place();
        self.reach().permitted(names::resolve(&self.names, host, port).await?, url.path())
    }

    /// Waits until not too many questions of its kind are under way.
    async fn turn<'a>(&self, turns: &'a Semaphore) -> SemaphorePermit<'a> {
        if let Ok(turn) = turns.try_acquire() {
            return turn;
        }
        self.counters.add(Count::Waited, 1);
        turns.acquire().await.expect("the semaphore is never closed")
    }

    fn http(&self, addrs: &[SocketAddr]) -> Http<'_> {
        let family = addrs.first().map_or(Family::V4, Family::of);
        let (limits, reach) = (&self.options.limits, self.reach());
        let (tls, names, counters) = (&self.tls, &self.names, &self.counters);
        Http { limits, tls, names, counters, family, reach, home: self.home() }
    }

    fn reach(&self) -> Reach {
        Reach::new(self.options.any_address)
    }

    fn home(&self) -> Home {
        Home::new(self.options.listen)
    }

    async fn announce_http(
        &self,
        url: &HttpUrl,
        request: &AnnounceRequest,
        addrs: Vec<SocketAddr>,
    ) -> Result<AnnounceResponse, TrackerError> {
        let _turn = self.turn(&self.http_turns).await;
        let url = HttpUrl { path_and_query: request.target(&url.path_and_query), ..url.clone() };
        let page = self.http(&addrs).get(url, addrs).await?;
        let from = page.from;
        judge(page, AnnounceResponse::parse).map(|reply| self.heard_from(from, reply))
    }

    async fn scrape_http(
        &self,
        url: &HttpUrl,
        torrents: &[InfoHash],
        addrs: Vec<SocketAddr>,
    ) -> Result<Vec<Option<Scrape>>, TrackerError> {
        let _turn = self.turn(&self.http_turns).await;
        let url = HttpUrl { path_and_query: scrape::target(&url.path_and_query, torrents), ..url.clone() };
        let page = self.http(&addrs).get(url, addrs).await?;
        judge(page, |body| scrape::parse(body, torrents))
    }

    async fn announce_udp(
        &self,
        url: &UdpUrl,
        request: &AnnounceRequest,
        patience: UdpPatience,
        addrs: Vec<SocketAddr>,
    ) -> Result<AnnounceResponse, TrackerError> {
        let question = Question::Announce(request.clone(), request.url_data(&url.url_data));
        match self.ask_udp(addrs, question, patience).await? {
            (from, Response::Announced(reply)) => Ok(self.heard_from(Some(from.ip()), reply)),
            (_, Response::Connected(_) | Response::Scraped(_) | Response::Error(_)) => {
                unreachable!("an announce is answered by nothing else")
            }
        }
    }

    async fn scrape_udp(
        &self,
        torrents: &[InfoHash],
        patience: UdpPatience,
        addrs: Vec<SocketAddr>,
    ) -> Result<Vec<Option<Scrape>>, TrackerError> {
        let question = Question::Scrape(torrents.to_vec());
        match self.ask_udp(addrs, question, patience).await? {
            (_, Response::Scraped(counts)) => {
                let mut counts: Vec<_> = counts.into_iter().map(Some).collect();
                counts.resize(torrents.len(), None);
                Ok(counts)
            }
            (_, Response::Connected(_) | Response::Announced(_) | Response::Error(_)) => {
                unreachable!("a scrape is answered by nothing else")
            }
        }
    }

    /// What a tracker there has answered, without the addresses that it may not name. What a host name of a peer leads to is
    /// seen later.
    pub(super) fn heard_from(&self, from: Option<IpAddr>, mut reply: AnnounceResponse) -> AnnounceResponse {
        let (all, trusted) = (reply.peers.len(), self.trusted_as(from));
        reply.peers.retain(|peer| match peer {
            PeerAddr::Socket(addr) => names::may_name(trusted, addr.ip()),
            PeerAddr::Host(..) => true,
        });
        self.counters.add(Count::LocalPeerDropped, (all - reply.peers.len()) as u64);
        AnnounceResponse { from, ..reply }
    }

    /// Where a tracker would be that may name as much as one there: where trackers may be anywhere, each is as good as one of our
    /// own.
    pub(super) fn trusted_as(&self, from: Option<IpAddr>) -> Option<IpAddr> {
        if self.options.any_address { Some(Ipv4Addr::LOCALHOST.into()) } else { from }
    }

    /// Asks the addresses of a UDP tracker one after the other until one answers, and says which.
    pub(super) async fn ask_udp(
        &self,
        addrs: Vec<SocketAddr>,
        question: Question,
        patience: UdpPatience,
    ) -> Result<(SocketAddr, Response), TrackerError> {
        let _turn = self.turn(&self.udp_turns).await;
        let mut failure = TrackerError::Timeout("answer");
        for addr in addrs {
            match udp::ask(addr, self.home(), question.clone(), patience, &self.counters).await {
                Ok(answer) => return Ok((addr, answer)),
                Err(error @ TrackerError::Reply(_)) => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn count_announce(&self, url: &TrackerUrl, result: &Result<AnnounceResponse, TrackerError>) {
        let count = match (url, result) {
            (TrackerUrl::Http(_), Ok(_)) => Count::HttpAnnounced,
            (TrackerUrl::Udp(_), Ok(_)) => Count::UdpAnnounced,
            (TrackerUrl::Http(_), Err(TrackerError::Reply(ReplyError::Refused { .. }))) => Count::HttpRefused,
            (TrackerUrl::Udp(_), Err(TrackerError::Reply(ReplyError::Refused { .. }))) => Count::UdpRefused,
            (TrackerUrl::Http(_), Err(_)) => Count::HttpFailed,
            (TrackerUrl::Udp(_), Err(_)) => Count::UdpFailed,
        };
        self.counters.add(count, 1);
        if let Ok(reply) = result {
            self.counters.add(Count::Peers, reply.peers.len() as u64);
            self.counters.add(Count::PeerDropped, reply.dropped as u64);
            self.counters.add(Count::IntervalClamped, reply.clamped as u64);
        }
        self.count_limits(result);
    }

    fn count_limits<T>(&self, result: &Result<T, TrackerError>) {
        let count = match result {
            Err(TrackerError::TooLarge(_) | TrackerError::HeadTooLarge) => Count::TooLarge,
            Err(TrackerError::Timeout(_)) => Count::TooSlow,
            Err(TrackerError::TooManyRedirects(_) | TrackerError::LocalRedirect(_)) => Count::RedirectRefused,
            Err(TrackerError::Forbidden(_)) => Count::AddressRefused,
            Err(TrackerError::Tls { .. }) => Count::Untrusted,
            _ => return,
        };
        self.counters.add(count, 1);
    }
}

/// How patient to be with a UDP tracker that has these addresses. One that several lead to is asked again soon rather than waited
/// for: where packets to one of them vanish, its whole patience would keep a torrent silent for hours although another is there
/// again.
fn patience_with(addrs: &[SocketAddr], patience: UdpPatience) -> UdpPatience {
    if addrs.len() > 1 { patience.hasty() } else { patience }
}

/// Asks a tracker at its addresses of each family, at the same time, and merges what comes in time: who has answered waits so
/// long for the other, and is heard `early`. Who has failed waits until the other has an end of its own.
pub(super) async fn by_family<T, F>(
    addrs: Vec<SocketAddr>,
    wait: Duration,
    ask: impl Fn(Vec<SocketAddr>) -> F,
    early: &impl Fn(&T),
    merge: impl Fn(T, T) -> T,
) -> Result<T, TrackerError>
where
    F: Future<Output = Result<T, TrackerError>>,
{
    let (v4, v6): (Vec<_>, Vec<_>) = addrs.into_iter().partition(SocketAddr::is_ipv4);
    if v6.is_empty() {
        return ask(v4).await;
    }
    if v4.is_empty() {
        return ask(v6).await;
    }
    let (mut v4, mut v6) = (pin!(ask(v4)), pin!(ask(v6)));
    let (first, last) = tokio::select! {
        result = &mut v4 => (result, v6),
        result = &mut v6 => (result, v4),
    };
    match first {
        // Whoever took longer has more to say about what is wrong, but for who wants to be left alone.
        Err(first) => last.await.map_err(|last| if last.wait() < first.wait() { first } else { last }),
        Ok(first) => {
            early(&first);
            match timeout(wait, last).await {
                Ok(Ok(last)) => Ok(merge(first, last)),
                Ok(Err(_)) | Err(_) => Ok(first),
            }
        }
    }
}

/// Some trackers give their reason with a status of failure, so the body is looked at first.
fn judge<T>(
    Page { status, body, wait, .. }: Page,
    parse: impl FnOnce(&[u8]) -> Result<T, ReplyError>,
) -> Result<T, TrackerError> {
    match parse(&body) {
        Err(ReplyError::Refused { reason, wait: named }) => {
            Err(ReplyError::Refused { reason, wait: named.max(wait) }.into())
        }
        _ if !status.is_success() => Err(TrackerError::Status(status, wait)),
        parsed => Ok(parsed?),
    }
}

/// Two answers of one tracker, given to two addresses of ours.
pub(super) fn merged(mut one: AnnounceResponse, other: AnnounceResponse) -> AnnounceResponse {
    let mut seen: HashSet<PeerAddr> = one.peers.iter().cloned().collect();
    let fresh = other.peers.into_iter().filter(|peer| seen.insert(peer.clone()));
    let (peers, dropped) = first(std::mem::take(&mut one.peers).into_iter().chain(fresh));
    one.peers = peers;
    one.dropped += other.dropped + dropped;
    one.clamped += other.clamped;
    one.interval = one.interval.max(other.interval);
    one.min_interval = one.min_interval.max(other.min_interval);
    one.complete = one.complete.max(other.complete);
    one.incomplete = one.incomplete.max(other.incomplete);
    one.tracker_id = one.tracker_id.or(other.tracker_id);
    one.warning = one.warning.or(other.warning);
    one.external_ip = one.external_ip.or(other.external_ip);
    // Who may name the other may name all that it may.
    one.from = one.from.zip(other.from).map(|(one, other)| if may_name(one, other) { other } else { one });
    one
}
