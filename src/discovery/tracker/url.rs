//! Which URLs are asked at all, and where a redirect leads.

use super::announce::percent_decode;
use super::reply::shown;
use hyper::Uri;
use std::net::Ipv6Addr;

/// Longest path and query of a UDP tracker's URL in bytes, so that a request fits into a datagram of any path.
const MAX_URL_DATA: usize = 1000;
/// Query keys of an announce that are ours to write: a torrent that brings them wants us to say something else.
const OWN_KEYS: [&str; 8] =
    ["info_hash", "peer_id", "port", "uploaded", "downloaded", "left", "event", "compact"];

/// Why a URL is not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL with a host.
    #[error("the tracker's URL is malformed: {0}")]
    Malformed(String),
    /// A scheme other than `http`, `https` and `udp`; in a redirect, than the first two.
    #[error("trackers with {0}:// URLs are not supported, only http://, https:// and udp://")]
    UnsupportedScheme(String),
    /// The query already has a key that only we may write.
    #[error("the tracker's URL has the key {0}, which is not its to set")]
    OwnKey(&'static str),
    /// No datagram takes the path and query.
    #[error("the path of the UDP tracker's URL is longer than {MAX_URL_DATA} bytes")]
    TooLong,
    /// There is no scrape URL to this announce URL (BEP 48).
    #[error(
        "the tracker cannot be scraped: the last part of its URL's path does not begin with \"announce\""
    )]
    NoScrape,
}

/// The URL of a tracker, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrackerUrl {
    /// Of one over HTTP or HTTPS.
    Http(HttpUrl),
    /// Of one over UDP.
    Udp(UdpUrl),
}

/// A `udp` URL (BEP 15), taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpUrl {
    /// Name or address literal, without the brackets of an IPv6 literal.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, empty when there is neither (BEP 41).
    pub(super) url_data: String,
}

/// An `http` or `https` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// Whether it is an `https` URL.
    pub(super) secure: bool,
    /// Name or address literal, without the brackets of an IPv6 literal.
    pub(super) host: String,
    pub(super) port: u16,
    /// `host` or `host:port` as written: the value of the `Host` header.
    pub(super) authority: String,
    /// `user:password`, decoded: for the `Authorization` header of this host alone.
    pub(super) credentials: Option<Vec<u8>>,
    /// Path and query, never empty.
    pub(super) path_and_query: String,
}

/// Which tracker a URL means, and as whom it is asked.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    scheme: &'static str,
    /// In lower case.
    host: String,
    port: u16,
    path: String,
    credentials: Option<Vec<u8>>,
}

impl TrackerUrl {
    /// Reads the URL that a torrent names.
    ///
    /// # Errors
    /// When it is none, or of a kind that is not asked.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let (_, rest) = url.split_once('?').unwrap_or((url, ""));
        let keys = rest.split('&').map(|pair| pair.split('=').next().unwrap_or(""));
        for key in keys {
            if let Some(own) = OWN_KEYS.iter().find(|own| **own == key) {
                return Err(UrlError::OwnKey(own));
            }
        }
        if scheme(url)? == "udp" {
            UdpUrl::parse(url).map(Self::Udp)
        } else {
            HttpUrl::parse(url).map(Self::Http)
        }
    }

    /// Host and port.
    pub fn place(&self) -> (&str, u16) {
        match self {
            Self::Http(url) => (&url.host, url.port),
            Self::Udp(url) => (&url.host, url.port),
        }
    }

    /// Path and query as the torrent names them; of a UDP tracker empty when there is neither.
    pub fn path(&self) -> &str {
        match self {
            Self::Http(url) => &url.path_and_query,
            Self::Udp(url) => &url.url_data,
        }
    }

    /// What is the same for all URLs of one tracker, however scheme, host and the usual port are written.
    pub(super) fn identity(&self) -> Identity {
        let (scheme, credentials) = match self {
            Self::Http(url) => (if url.secure { "https" } else { "http" }, url.credentials.clone()),
            Self::Udp(_) => ("udp", None),
        };
        let (host, port) = self.place();
        Identity { scheme, host: host.to_ascii_lowercase(), port, path: self.path().to_owned(), credentials }
    }
}

/// The scheme in lower case.
fn scheme(url: &str) -> Result<String, UrlError> {
    let (scheme, _) = url.split_once("://").ok_or_else(|| malformed("it has no scheme"))?;
    Ok(scheme.to_ascii_lowercase())
}

fn malformed(what: &str) -> UrlError {
    UrlError::Malformed(what.to_owned())
}

/// The parts that all URLs have.
struct Parts {
    uri: Uri,
    host: String,
    /// `None` when the URL names none.
    port: Option<u16>,
    /// `host` or `host:port` as written.
    place: String,
    user: Option<String>,
}

impl Parts {
    fn parse(url: &str) -> Result<Self, UrlError> {
        let uri: Uri =
            url.parse().map_err(|error: hyper::http::uri::InvalidUri| malformed(&error.to_string()))?;
        let authority = uri.authority().ok_or_else(|| malformed("it has no host"))?;
        let (user, place) = match authority.as_str().rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place.to_owned()),
            None => (None, authority.as_str().to_owned()),
        };
        let (host, port) = host_and_port(&place)?;
        let (host, port) = (host.to_owned(), port.map(port_number).transpose()?);
        Ok(Self { host, port, place, user, uri })
    }

    /// Path and query, with its slash; empty when there is neither.
    fn path_and_query(&self) -> String {
        match self.uri.path_and_query().map_or("", |path| path.as_str()) {
            "" => String::new(),
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        }
    }
}

/// `host`, `host:port`, `[IPv6 address]` and `[IPv6 address]:port` taken apart, the host without its brackets. Read here and not
/// by the `http` crate, which takes more for an authority than can be joined or dialled.
fn host_and_port(place: &str) -> Result<(&str, Option<&str>), UrlError> {
    let (host, rest) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) =
                bracketed.split_once(']').ok_or_else(|| malformed("its address has no end"))?;
            host.parse::<Ipv6Addr>().map_err(|_| malformed("what is in brackets is no IPv6 address"))?;
            (host, rest)
        }
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    if host.is_empty() {
        return Err(malformed("it has no host"));
    }
    if host.contains(['[', ']']) {
        return Err(malformed("its host is no name"));
    }
    match rest.strip_prefix(':') {
        // A colon with nothing behind it is the usual port (RFC 3986, section 6.2.3).
        Some("") => Ok((host, None)),
        None if rest.is_empty() => Ok((host, None)),
        Some(port) => Ok((host, Some(port))),
        None => Err(malformed("its port is no port")),
    }
}

fn port_number(text: &str) -> Result<u16, UrlError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| malformed("its port is no port"))
}

impl UdpUrl {
    fn parse(url: &str) -> Result<Self, UrlError> {
        let parts = Parts::parse(url)?;
        let port = parts.port.ok_or_else(|| malformed("it has no port"))?;
        let url_data = Some(parts.path_and_query()).filter(|path| path != "/").unwrap_or_default();
        if url_data.len() > MAX_URL_DATA {
            return Err(UrlError::TooLong);
        }
        Ok(Self { host: parts.host, port, url_data })
    }
}

impl HttpUrl {
    /// Reads a URL.
    pub(super) fn parse(url: &str) -> Result<Self, UrlError> {
        let scheme = scheme(url)?;
        let secure = match scheme.as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::UnsupportedScheme(shown(scheme.as_bytes()))),
        };
        let parts = Parts::parse(url)?;
        let path_and_query = Some(parts.path_and_query()).filter(|path| !path.is_empty());
        let undecodable = || malformed("its user name is not percent-encoded properly");
        let credentials =
            parts.user.as_deref().map(|user| percent_decode(user).ok_or_else(undecodable)).transpose()?;
        Ok(Self {
            secure,
            port: parts.port.unwrap_or(if secure { 443 } else { 80 }),
            path_and_query: path_and_query.unwrap_or_else(|| "/".into()),
            host: parts.host,
            authority: parts.place,
            credentials,
        })
    }

    /// The URL that a `Location` header means, seen from this one (RFC 3986, section 5.2, without dot segments).
    /// Credentials stay with the host that they were written for.
    ///
    /// # Errors
    /// When it is no URL, or of a scheme that redirects must not lead to.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        let mut next = self.resolve(location)?;
        let same = (next.secure, &next.port) == (self.secure, &self.port)
            && next.host.eq_ignore_ascii_case(&self.host);
        next.credentials = if same { self.credentials.clone() } else { None };
        Ok(next)
    }

    fn resolve(&self, location: &str) -> Result<Self, UrlError> {
        let own_scheme = if self.secure { "https" } else { "http" };
        let scheme_len = location.find([':', '/', '?', '#']).filter(|at| location[*at..].starts_with(':'));
        if scheme_len.is_some_and(|len| len > 0) {
            return match location.split_once(':') {
                Some((scheme, rest)) if !rest.starts_with("//") => {
                    Err(UrlError::UnsupportedScheme(shown(scheme.as_bytes())))
                }
                _ => Self::parse(location),
            };
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{own_scheme}:{location}"));
        }
        let path = self.path_and_query.split('?').next().unwrap_or("/");
        let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
        let base = match location.as_bytes().first() {
            Some(b'/') => "",
            Some(b'?') => path,
            _ => folder,
        };
        Self::parse(&format!("{own_scheme}://{}{base}{location}", self.authority))
    }

    /// The scrape URL of this announce URL (BEP 48): `announce` at the beginning of the last part of the path
    /// becomes `scrape`.
    ///
    /// # Errors
    /// When the last part does not begin so.
    pub fn scrape(&self) -> Result<Self, UrlError> {
        let path_len = self.path_and_query.find('?').unwrap_or(self.path_and_query.len());
        let (path, query) = self.path_and_query.split_at(path_len);
        let (folder, last) = path.rsplit_once('/').ok_or(UrlError::NoScrape)?;
        let rest = last.strip_prefix("announce").ok_or(UrlError::NoScrape)?;
        Ok(Self { path_and_query: format!("{folder}/scrape{rest}{query}"), ..self.clone() })
    }

    /// The value of the `Authorization` header, when there are credentials (RFC 7617).
    pub fn authorization(&self) -> Option<String> {
        self.credentials.as_deref().map(|credentials| format!("Basic {}", base64(credentials)))
    }
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= group.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

/// What a log may show of a tracker's URL: scheme and host, never the path, which may hold a passkey.
pub fn label(url: &str) -> String {
    // Without a scheme, the first `://` may be anywhere behind a passkey.
    let is_scheme = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (scheme, rest) = url.split_once("://").filter(|(scheme, _)| is_scheme(scheme)).unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let separator = if scheme.is_empty() { "" } else { "://" };
    shown(format!("{scheme}{separator}{host}").as_bytes())
}
