//! What is fuzzed: a function of bytes for each door through which foreign bytes come in. None may panic; what it lets
//! through must hold what its types promise.
//!
//! Two drivers share these bodies. `scripts/fuzz` runs them under libFuzzer, which looks for new paths; `tests/fuzz.rs`
//! includes this module and runs them on mutated seeds, a fixed number of times, with the ordinary toolchain.
//!
//! A new target is a function and a line in [`TARGETS`]; and, for libFuzzer, a file `fuzz_targets/<name>.rs` like the
//! others there with its section in `Cargo.toml`, which the test of the seeds asks for.

mod mutate;
mod parsers;
mod seeds;
mod session;

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
    Target { name: "local_search", run: parsers::local_search, seeds: seeds::local_search },
    Target { name: "session", run: session::session, seeds: seeds::session },
];

/// Runs the target of that name.
///
/// # Panics
/// When there is none, or the target finds a fault.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("there is no target {name}")).run)(input);
}
