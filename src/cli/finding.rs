//! The options of all commands that look for peers: where to be found, and by what means to find others.

use super::Error;
use super::address::{address, peer_address};
use super::args::switch;
use super::shunned::ShunArgs;
use crate::session::{AnnounceLimits, Authorities, DhtOptions, Listen, TrackerOptions};
use crate::wire::mse::Encryption;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct FindArgs {
    /// Address and port for peers to connect to [default: port 6881 of all addresses, or the next free one]
    #[arg(long, value_name = "ADDR:PORT", env = "SEEDRING_LISTEN", value_parser = address)]
    listen: Option<SocketAddr>,

    /// A peer to connect to, may be repeated; several can be separated by commas; one of a link names it: [fe80::1%eth0]:6881
    #[arg(long = "peer", value_name = "ADDR:PORT", env = "SEEDRING_PEER", value_delimiter = ',', value_parser = peer_address)]
    pub(super) peers: Vec<SocketAddr>,

    /// Do not look for peers on the local network (BEP 14)
    #[arg(long, env = "SEEDRING_NO_LSD", value_parser = switch)]
    pub(super) no_lsd: bool,

    /// Neither tell peers of other peers nor listen to what they tell (BEP 11); for private torrents it is always so
    #[arg(long, env = "SEEDRING_NO_PEX", value_parser = switch)]
    pub(super) no_pex: bool,

    /// Encrypt connections to peers: off, allowed (for peers that insist) or required (of all, all that is sent)
    #[arg(long, value_name = "MODE", env = "SEEDRING_ENCRYPTION", value_parser = encryption, default_value = "allowed")]
    pub(super) encryption: Encryption,

    #[command(flatten)]
    pub(super) shun: ShunArgs,

    #[command(flatten)]
    dht: DhtArgs,

    #[command(flatten)]
    pub(super) trackers: TrackerArgs,
}

impl FindArgs {
    /// Where peers connect to.
    pub(super) fn listen(&self) -> Listen {
        self.listen.map_or(Listen::Default, Listen::At)
    }

    /// How often trackers are asked, and which.
    pub(super) fn announce(&self) -> AnnounceLimits {
        AnnounceLimits { to_all: self.trackers.announce_to_all, ..AnnounceLimits::default() }
    }

    /// How the DHT is used; `None`: not at all.
    pub(super) fn dht(&self) -> Option<DhtOptions> {
        let mut options = DhtOptions { read_only: self.dht.dht_read_only, ..DhtOptions::default() };
        if !self.dht.dht_bootstrap.is_empty() {
            options.bootstrap.clone_from(&self.dht.dht_bootstrap);
        }
        options.state = self.dht.state.clone().or_else(default_state).map(|folder| folder.join("dht.dat"));
        (!self.dht.no_dht).then_some(options)
    }
}

/// Where programs keep what is not worth a backup, by the XDG specification: relative paths there count as none.
fn default_state() -> Option<PathBuf> {
    let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = path("XDG_STATE_HOME").or_else(|| Some(path("HOME")?.join(".local/state")));
    folder.map(|folder| folder.join("seedring"))
}

#[derive(Debug, clap::Args)]
pub(super) struct TrackerArgs {
    /// Ask no tracker
    #[arg(long, env = "SEEDRING_NO_TRACKERS", value_parser = switch)]
    pub(super) no_trackers: bool,

    /// Announce to every tracker of the torrent, not to the first that answers
    #[arg(long, env = "SEEDRING_ANNOUNCE_TO_ALL", value_parser = switch)]
    pub(super) announce_to_all: bool,

    /// Tell trackers this host name, for networks whose trackers hand names on to peers
    #[arg(long, value_name = "NAME", env = "SEEDRING_ANNOUNCE_HOSTNAME", value_parser = hostname)]
    pub(super) announce_hostname: Option<String>,

    #[command(flatten)]
    pub(super) trust: TrustArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct TrustArgs {
    /// Trust the authorities in this PEM file, too, when an HTTPS tracker shows its certificate
    #[arg(long, value_name = "FILE", env = "SEEDRING_TRACKER_CA")]
    tracker_ca: Option<PathBuf>,

    /// Ask trackers at any address: of this machine with other paths than /announce, of its link (169.254.0.0/16), too; and
    /// take peers within networks of our own from trackers elsewhere
    #[arg(long, env = "SEEDRING_ANY_TRACKER_ADDRESS", value_parser = switch)]
    any_tracker_address: bool,
}

impl TrackerArgs {
    /// How trackers are to be asked, if they are.
    pub(super) fn options(&self) -> Result<Option<TrackerOptions>, Error> {
        // A file that is of no use is told of in any case.
        let options = TrackerOptions { hostname: self.announce_hostname.clone(), ..self.trust.options()? };
        Ok((!self.no_trackers).then_some(options))
    }
}

impl TrustArgs {
    /// Which trackers are believed, and asked.
    pub(super) fn options(&self) -> Result<TrackerOptions, Error> {
        let read = self.tracker_ca.as_deref().map(Authorities::read).transpose();
        let authorities = read.map_err(|cause| Error::Other(cause.to_string()))?.unwrap_or_default();
        let any_address = self.any_tracker_address;
        Ok(TrackerOptions { authorities, any_address, ..TrackerOptions::default() })
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct DhtArgs {
    /// Do not look for peers in the DHT; for private torrents that is never done
    #[arg(long, env = "SEEDRING_NO_DHT", value_parser = switch)]
    pub(super) no_dht: bool,

    /// Only ask the DHT, and answer nobody (BEP 43): for hosts that strangers cannot reach
    #[arg(long, env = "SEEDRING_DHT_READ_ONLY", value_parser = switch)]
    pub(super) dht_read_only: bool,

    /// A node of the DHT to begin with, may be repeated; several can be separated by commas [default: public ones]
    #[arg(long, value_name = "HOST:PORT", env = "SEEDRING_DHT_BOOTSTRAP", value_delimiter = ',')]
    pub(super) dht_bootstrap: Vec<String>,

    /// The folder for what is kept from run to run [default: seedring in $XDG_STATE_HOME, or in ~/.local/state]
    #[arg(long, value_name = "DIR", env = "SEEDRING_STATE")]
    pub(super) state: Option<PathBuf>,
}

/// How connections are encrypted.
fn encryption(text: &str) -> Result<Encryption, String> {
    match text.to_ascii_lowercase().as_str() {
        "off" => Ok(Encryption::Off),
        "allowed" => Ok(Encryption::Allowed),
        "required" => Ok(Encryption::Required),
        _ => Err("write off, allowed or required".into()),
    }
}

/// A name that others can look up.
fn hostname(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    match text.len() {
        1..=253 if plain && !text.starts_with(['-', '.']) => Ok(text.to_owned()),
        _ => Err("write a host name of letters, digits, '-', '_' and '.'".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        find: FindArgs,
    }

    #[test]
    fn the_dht_is_asked_and_answered_unless_the_user_says_otherwise() {
        let read_only = |line: &str| {
            let line = Line::try_parse_from(line.split_whitespace()).unwrap();
            line.find.dht().map(|dht| dht.read_only)
        };
        assert_eq!(read_only("x"), Some(false));
        assert_eq!(read_only("x --dht-read-only"), Some(true));
        assert_eq!(read_only("x --dht-read-only --no-dht"), None);
    }

    #[test]
    fn host_names_are_plain() {
        for name in ["seed-1", "a.b.example", "x_y"] {
            assert_eq!(hostname(name).as_deref(), Ok(name));
        }
        for name in ["", "-x", ".x", "a b", "a&b=c", "a\n", "h\u{e9}", &"x".repeat(254)] {
            assert!(hostname(name).is_err(), "{name:?}");
        }
    }
}
