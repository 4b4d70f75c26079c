//! Which URLs are asked at all, and where a redirect leads.

use super::reply::shown;
use hyper::Uri;
use std::net::IpAddr;

/// Why a URL is not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not a URL with a host.
    #[error("the tracker's URL is malformed: {0}")]
    Malformed(String),
    /// A scheme other than `http`.
    #[error("trackers with {0}:// URLs are not supported, only http://")]
    UnsupportedScheme(String),
    /// `user:password@` in front of the host.
    #[error("the tracker's URL carries a user name, which is not supported")]
    Credentials,
}

/// An `http` URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpUrl {
    /// Name or address literal, without the brackets of an IPv6 literal.
    pub(super) host: String,
    pub(super) port: u16,
    /// `host` or `host:port` as written: the value of the `Host` header.
    pub(super) authority: String,
    /// Path and query, never empty.
    pub(super) path_and_query: String,
}

impl HttpUrl {
    /// Reads a URL.
    pub(super) fn parse(url: &str) -> Result<Self, UrlError> {
        let malformed = |what: &str| UrlError::Malformed(what.to_owned());
        let (scheme, _) = url.split_once("://").ok_or_else(|| malformed("it has no scheme"))?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(UrlError::UnsupportedScheme(shown(scheme.as_bytes())));
        }
        let uri: Uri =
            url.parse().map_err(|error: hyper::http::uri::InvalidUri| malformed(&error.to_string()))?;
        let authority = uri.authority().ok_or_else(|| malformed("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(malformed("it has no host"));
        }
        // `port()` is also `None` for `host:99999`, which must not turn into port 80.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            None | Some("" | ":") => 80,
            Some(_) => {
                authority.port_u16().filter(|p| *p != 0).ok_or_else(|| malformed("its port is no port"))?
            }
        };
        let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
        let path_and_query = if path_and_query.starts_with('/') {
            path_and_query.to_owned()
        } else {
            format!("/{path_and_query}")
        };
        Ok(Self { host: host.to_owned(), port, authority: authority.as_str().to_owned(), path_and_query })
    }

    /// The URL that a `Location` header means, seen from this one (RFC 3986, section 5.2, without dot segments).
    pub(super) fn join(&self, location: &str) -> Result<Self, UrlError> {
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
            return Self::parse(&format!("http:{location}"));
        }
        let path = self.path_and_query.split('?').next().unwrap_or("/");
        let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
        let base = match location.as_bytes().first() {
            Some(b'/') => "",
            Some(b'?') => path,
            _ => folder,
        };
        Self::parse(&format!("http://{}{base}{location}", self.authority))
    }
}

/// What a log may show of a tracker's URL: scheme and host, never the path, which may hold a passkey.
pub fn label(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let separator = if scheme.is_empty() { "" } else { "://" };
    shown(format!("{scheme}{separator}{host}").as_bytes())
}

/// Whether an address belongs to this machine or its own network, where a tracker elsewhere must not send us.
pub(super) fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified()
        }
    }
}
