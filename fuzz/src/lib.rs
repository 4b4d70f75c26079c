//! What is fuzzed: a function of bytes for each door through which foreign bytes come in. None may panic; what it lets
//! through must hold what its types promise.
//!
//! Two drivers share these bodies. `scripts/fuzz` runs them under libFuzzer, which looks for new paths; `tests/fuzz.rs`
//! includes this module and runs them on mutated seeds, a fixed number of times, with the ordinary toolchain.
//!
//! A new target is a function and a line in [`TARGETS`]; and, for libFuzzer, a file `fuzz_targets/<name>.rs` like the
//! others there with its section in `Cargo.toml`, which the test of the seeds asks for.

mod dht;
mod extended;
mod mse;
mod mutate;
mod parsers;
mod script;
mod seeds;
mod session;
mod swarm_seeds;
mod udp;

pub use mutate::Mutator;

/// One door.
pub struct Target {
    /// As in `fuzz_targets/<name>.rs`.
    pub name: &'static str,
    /// The body.
    pub run: fn(&[u8]),
    /// Good input to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "bencode", run: parsers::bencode, seeds: seeds::bencode },
    Target { name: "torrent", run: parsers::torrent, seeds: seeds::torrent },
    Target { name: "handshake", run: parsers::handshake, seeds: seeds::handshake },
    Target { name: "messages", run: parsers::messages, seeds: seeds::messages },
    Target { name: "tracker_reply", run: parsers::tracker_reply, seeds: seeds::tracker_reply },
    Target { name: "tracker_url", run: parsers::tracker_url, seeds: seeds::tracker_url },
    Target { name: "tracker_query", run: parsers::tracker_query, seeds: seeds::tracker_query },
    Target { name: "local_search", run: parsers::local_search, seeds: seeds::local_search },
    Target { name: "magnet", run: parsers::magnet, seeds: seeds::magnet },
    Target { name: "ip_filter", run: parsers::ip_filter, seeds: seeds::ip_filter },
    Target { name: "gzip", run: parsers::gzip, seeds: seeds::gzip },
    Target { name: "udp_tracker", run: udp::udp_tracker, seeds: seeds::udp_tracker },
    Target { name: "dht", run: dht::dht, seeds: swarm_seeds::dht },
    Target { name: "mse", run: mse::mse, seeds: swarm_seeds::mse },
    Target { name: "extended", run: extended::extended, seeds: swarm_seeds::extended },
    Target { name: "metadata", run: extended::metadata, seeds: swarm_seeds::metadata },
    Target { name: "session", run: session::session, seeds: swarm_seeds::session },
];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, or the target finds a fault.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).run)(input);
}
