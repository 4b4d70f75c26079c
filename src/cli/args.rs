//! The command line. Every option `--some-name` can also be given as `SEEDRING_SOME_NAME` in the environment.

use super::address::{address, peer_address};
use super::choices::ChoiceArgs;
use super::finding::FindArgs;
use crate::discovery::tracker::{TrackerUrl, UrlError};
use crate::ring::ZeroCopySend;
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// BitTorrent seeder and downloader for Linux, on io_uring
#[derive(Debug, Parser)]
#[command(name = "seedring", version, propagate_version = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Print one JSON object a line to stdout
    #[arg(long, global = true, env = "SEEDRING_JSON", value_parser = switch, hide_env_values = true)]
    pub(super) json: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "Every option can also be given in the environment: --piece-length as \
SEEDRING_PIECE_LENGTH.\nSEEDRING_LOG filters the log on stderr: error, warn (the default), info, debug, trace.\n\
SEEDRING_DIGEST sets how pieces are hashed, for tests: avx512, avx2, shani or portable; without it, the fastest here.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a torrent file of a file or folder
    Create(CreateArgs),
    /// Print what a torrent file says, or what a magnet link stands for
    Show(ShowArgs),
    /// Check files on disk against a torrent, without writing anything
    Check(CheckArgs),
    /// Download a torrent or magnet link; what is already on disk is checked and kept
    Download(DownloadArgs),
    /// Check the files of a torrent and serve them until stopped
    Seed(TransferArgs),
    /// Watch a swarm at work: a tracker, a seeder and downloaders in this process, over real sockets and files
    Demo(DemoArgs),
    /// Download from, or upload to, any client from many addresses, and print what it took as one JSON object
    #[command(hide = true)]
    Load(LoadArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The file or folder to share
    pub(super) path: PathBuf,

    /// The torrent file to write; a file that is there is replaced
    #[arg(short, long, value_name = "FILE", env = "SEEDRING_OUTPUT")]
    pub(super) output: PathBuf,

    /// Announce URL of a tracker, may be repeated; in the environment, separated by spaces
    #[arg(long, value_name = "URL", env = "SEEDRING_ANNOUNCE", value_delimiter = ' ', value_parser = announce_url)]
    pub(super) announce: Vec<String>,

    /// Bytes a piece, with K, M or G for powers of 1024 [default: by the size, for 1000 to 2000 pieces]
    #[arg(long, value_name = "BYTES", env = "SEEDRING_PIECE_LENGTH", value_parser = piece_length)]
    pub(super) piece_length: Option<u32>,

    /// Peers may only come from the trackers (BEP 27)
    #[arg(long, env = "SEEDRING_PRIVATE", value_parser = switch)]
    pub(super) private: bool,

    /// A comment to put in the torrent
    #[arg(long, value_name = "TEXT", env = "SEEDRING_COMMENT")]
    pub(super) comment: Option<String>,

    /// Work on this many processors [default: all]
    #[arg(long, value_name = "N", env = "SEEDRING_CORES", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) cores: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The torrent file, or a magnet link
    pub(super) file: PathBuf,

    /// Ask its trackers how many seeds and leeches there are, and how often it was downloaded
    #[arg(long, env = "SEEDRING_SCRAPE", value_parser = switch)]
    pub(super) scrape: bool,

    #[command(flatten)]
    pub(super) find: FindArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The torrent file
    pub(super) file: PathBuf,

    /// The folder that holds the torrent's file or folder
    #[arg(short, long, value_name = "DIR", env = "SEEDRING_DIR")]
    pub(super) dir: PathBuf,

    /// Work on this many processors [default: all]
    #[arg(long, value_name = "N", env = "SEEDRING_CORES", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) cores: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(super) struct DownloadArgs {
    #[command(flatten)]
    pub(super) transfer: TransferArgs,

    /// Go on seeding when the download is complete
    #[arg(long, env = "SEEDRING_SEED", value_parser = switch)]
    pub(super) seed: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct TransferArgs {
    /// The torrent file, or a magnet link
    pub(super) file: PathBuf,

    /// The folder that holds, or shall hold, the torrent's file or folder
    #[arg(short, long, value_name = "DIR", env = "SEEDRING_DIR")]
    pub(super) dir: PathBuf,

    #[command(flatten)]
    pub(super) find: FindArgs,

    /// Work on this many processors, each with a thread of its own [default: all]
    #[arg(long, value_name = "N", env = "SEEDRING_CORES", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) cores: Option<u16>,

    /// Memory for payload, with K, M or G for powers of 1024 [default: a quarter of the memory of the machine or of its cgroup, at most 1G]
    #[arg(long, value_name = "BYTES", env = "SEEDRING_MEMORY_LIMIT", value_parser = memory_limit)]
    pub(super) memory_limit: Option<u64>,

    /// Send payload that lies in memory of ours without copying it into the kernel: auto (to peers on other hosts), on or off
    #[arg(long, value_name = "WHEN", env = "SEEDRING_ZERO_COPY_SEND", value_parser = zero_copy_send, default_value = "auto")]
    pub(super) zero_copy_send: ZeroCopySend,

    #[command(flatten)]
    pub(super) choices: ChoiceArgs,

    #[command(flatten)]
    pub(super) metrics: MetricsArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct MetricsArgs {
    /// Serve figures for Prometheus here, at /metrics and /metrics/peers; whoever can connect can read them
    #[arg(long, value_name = "ADDR:PORT", env = "SEEDRING_METRICS", value_parser = address)]
    pub(super) metrics: Option<SocketAddr>,

    /// How many of the busiest peers /metrics/peers lists one by one; the others are summed
    #[arg(long, value_name = "N", env = "SEEDRING_METRICS_PEERS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(0..=500))]
    pub(super) metrics_peers: u16,

    /// Put what is on /metrics/peers at the end of /metrics, too
    #[arg(long, env = "SEEDRING_METRICS_FOLD", value_parser = switch)]
    pub(super) metrics_fold: bool,

    /// Name peers by their network (IPv4 /24, IPv6 /48) and not by their address
    #[arg(long, env = "SEEDRING_METRICS_MASK", value_parser = switch)]
    pub(super) metrics_mask: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Size of the shared file in bytes, with K, M, G or T for powers of 1024
    #[arg(long, value_name = "BYTES", env = "SEEDRING_SIZE", value_parser = size, default_value = "256M")]
    pub(super) size: u64,

    /// How many downloaders
    #[arg(long, value_name = "N", env = "SEEDRING_LEECHERS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) leechers: u16,

    /// Work in this folder and leave the files there [default: a temporary folder, removed afterwards]
    #[arg(short, long, value_name = "DIR", env = "SEEDRING_DIR")]
    pub(super) dir: Option<PathBuf>,

    #[command(flatten)]
    pub(super) metrics: MetricsArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// What to do to the client
    pub(super) mode: LoadMode,

    /// The torrent file
    pub(super) file: PathBuf,

    /// The folder that holds the torrent's file or folder: blocks are compared with it, and sent from it
    #[arg(short, long, value_name = "DIR", env = "SEEDRING_DIR")]
    pub(super) dir: PathBuf,

    /// The client to connect to; on a loopback address, connections come from 127.0.0.2, .3 and so on
    #[arg(long, value_name = "ADDR:PORT", env = "SEEDRING_PEER", value_parser = peer_address, required_unless_present = "listen")]
    pub(super) peer: Option<SocketAddr>,

    /// Wait for the client at this address and those that follow it, as many as connections
    #[arg(long, value_name = "ADDR:PORT", env = "SEEDRING_LISTEN", value_parser = address, conflicts_with = "peer")]
    pub(super) listen: Option<SocketAddr>,

    /// How many connections
    #[arg(long, value_name = "N", env = "SEEDRING_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) connections: u16,

    /// Do not fail when the client takes fewer connections, or ends some of them
    #[arg(long, env = "SEEDRING_ALLOW_FEWER", value_parser = switch)]
    pub(super) allow_fewer: bool,

    /// Download: requests in flight on each connection
    #[arg(long, value_name = "N", env = "SEEDRING_REQUESTS", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) requests: u16,

    /// Download: this many bytes by each connection [default: the whole torrent]
    #[arg(long, value_name = "BYTES", env = "SEEDRING_BYTES_PER_CONNECTION", value_parser = size, conflicts_with = "bytes")]
    pub(super) bytes_per_connection: Option<u64>,

    /// Download: this many bytes by all connections together, whichever the client serves
    #[arg(long, value_name = "BYTES", env = "SEEDRING_BYTES", value_parser = size)]
    pub(super) bytes: Option<u64>,

    /// Download: which blocks follow each other
    #[arg(long, value_name = "ORDER", env = "SEEDRING_ORDER", default_value = "sequential")]
    pub(super) order: LoadOrder,

    /// End well after this many seconds, whatever was reached
    #[arg(long, value_name = "SECONDS", env = "SEEDRING_SECONDS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) seconds: Option<u64>,

    /// Fail after this many seconds
    #[arg(long, value_name = "SECONDS", env = "SEEDRING_TIMEOUT", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) timeout: u64,
}

/// Which way the blocks go.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum LoadMode {
    /// The client is a seed
    Download,
    /// The client is a downloader, every connection a seed
    Upload,
}

/// Which blocks follow each other.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum LoadOrder {
    /// Each connection begins at another place and goes on from there
    Sequential,
    /// Each connection goes all over the torrent
    Scattered,
}

/// How many processors to work on: those asked for, or all.
pub(super) fn cores(asked: Option<u16>) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.map_or_else(all, usize::from)
}

/// Payload memory, in bytes: what was asked for, or a quarter of what there is for the program, at most 1 GiB.
pub(super) fn payload_memory(asked: Option<u64>, there: u64) -> u64 {
    const MOST: u64 = 1 << 30;
    asked.unwrap_or(MOST.min(there / 4))
}

/// A number of bytes that is enough to work with.
fn memory_limit(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 8 << 20;
    let bytes = size(text)?;
    if bytes < LEAST { Err("less than 8M is not enough to work with".into()) } else { Ok(bytes) }
}

/// A number of bytes, at least 1: digits, then nothing or K, M, G, T for powers of 1024 (also as KiB and so on).
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("write a whole number of bytes, with K, M, G or T for powers of 1024".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a whole number of bytes, such as 16384 or 16K")?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| i64::try_from(*bytes).is_ok());
    match bytes {
        Some(0) => Err("it must be at least 1 byte".into()),
        Some(bytes) => Ok(bytes),
        None => Err("no disk holds that many bytes".into()),
    }
}

/// A piece length that a torrent can have.
fn piece_length(text: &str) -> Result<u32, String> {
    use crate::metainfo::MAX_PIECE_LENGTH;
    let bytes = u32::try_from(size(text)?).ok().filter(|bytes| *bytes <= MAX_PIECE_LENGTH);
    bytes.ok_or_else(|| format!("a piece has at most {MAX_PIECE_LENGTH} bytes"))
}

/// The URL of a tracker, ours to ask or not: others may speak what we do not. With a space too many in the environment, nothing.
fn announce_url(text: &str) -> Result<String, String> {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !text.is_empty() && !is_scheme {
        return Err("the URL of a tracker begins with http://, https:// or udp://".into());
    }
    match TrackerUrl::parse(text) {
        Err(error @ UrlError::Malformed(_)) if !text.is_empty() => Err(error.to_string()),
        _ => Ok(text.to_owned()),
    }
}

/// When payload is sent without a copy.
fn zero_copy_send(text: &str) -> Result<ZeroCopySend, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(ZeroCopySend::Auto),
        "on" => Ok(ZeroCopySend::On),
        "off" => Ok(ZeroCopySend::Off),
        _ => Err("write auto, on or off".into()),
    }
}

/// The environment twin of an option without a value. An empty variable counts as unset.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write true or false".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mse::Encryption;
    use clap::{ArgAction, CommandFactory};

    #[test]
    fn clap_finds_no_fault() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_environment_twin() {
        let command = Args::command();
        let mut seen = 0;
        for arg in command.get_subcommands().chain([&command]).flat_map(clap::Command::get_arguments) {
            if arg.is_positional() || matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
                continue;
            }
            let long = arg.get_long().expect("every option has a long name");
            let twin = format!("SEEDRING_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(twin.as_str()), "--{long}");
            seen += 1;
        }
        assert!(seen > 10, "{seen} options");
    }

    #[test]
    fn sizes_take_suffixes() {
        let cases = [("1", 1), ("16384", 1 << 14), ("16k", 1 << 14), ("256M", 256 << 20), ("3GiB", 3 << 30)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size("2T"), Ok(2 << 40));
        for text in
            ["", "0", "0K", "-1", "1.5G", "MiB", "12 M", "1MB", "huge", "99999999999999999999", "9999999T"]
        {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn piece_lengths_have_a_limit() {
        assert_eq!(piece_length("512M"), Ok(512 << 20));
        assert!(piece_length("513M").is_err());
        assert!(piece_length("4G").is_err());
    }

    #[test]
    fn announce_urls_have_a_scheme_and_a_host() {
        for good in
            ["http://t.example/a", "UDP://t.example:1", "wss://t.example", "http://t.example/?port=1", ""]
        {
            assert_eq!(announce_url(good).as_deref(), Ok(good));
        }
        for bad in [
            "t.example/x",
            "t.example/x?u=http://t",
            "://t.example",
            "http:///a",
            "udp://t.example",
            "http://t.example:x/",
        ] {
            assert!(announce_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn switches_take_the_usual_words() {
        assert_eq!((switch("1"), switch("Yes"), switch("")), (Ok(true), Ok(true), Ok(false)));
        assert!(switch("perhaps").is_err());
    }

    #[test]
    fn lists_come_repeated_or_separated() {
        let line = "seedring seed a.torrent -d x --peer 10.0.0.1:1,10.0.0.2:2 --peer [::1]:3";
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        let Command::Seed(seed) = args.command else { panic!("another command") };
        assert_eq!(seed.find.peers.len(), 3);
        let line = ["seedring", "create", "x", "-o", "y", "--announce", "http://a/?x,y http://b/"];
        let Command::Create(create) = Args::try_parse_from(line).unwrap().command else { panic!("another") };
        assert_eq!(create.announce, ["http://a/?x,y", "http://b/"]);
    }

    #[test]
    fn encryption_is_allowed_unless_said_otherwise() {
        let mode = |more: &str| {
            let line = format!("seedring seed a.torrent -d x{more}");
            let Command::Seed(seed) = Args::try_parse_from(line.split(' ')).ok()?.command else {
                panic!("another command")
            };
            Some(seed.find.encryption)
        };
        assert_eq!(mode(""), Some(Encryption::Allowed));
        let words = ["off", "allowed", "required"].map(|word| mode(&format!(" --encryption {word}")));
        assert_eq!(words, [Encryption::Off, Encryption::Allowed, Encryption::Required].map(Some));
        assert_eq!(mode(" --encryption perhaps"), None);
    }

    #[test]
    fn payload_takes_a_quarter_of_the_memory_and_a_gibibyte_at_most() {
        const GIB: u64 = 1 << 30;
        assert_eq!([2, 64].map(|there| payload_memory(None, there * GIB)), [GIB / 2, GIB]);
        assert_eq!(payload_memory(Some(2 * GIB), GIB), 2 * GIB);
    }

    #[test]
    fn json_may_stand_before_and_behind_the_command() {
        for line in ["seedring --json show x", "seedring show x --json"] {
            assert!(Args::try_parse_from(line.split(' ')).unwrap().json, "{line}");
        }
    }
}
