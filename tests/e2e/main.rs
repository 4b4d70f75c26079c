//! End to end: the `seedring` binary among clients and a tracker that other people wrote, over real sockets and
//! real files. What arrives is compared with the origin by SHA-256.
//!
//! Nothing here is skipped: a missing client fails the test and names the Debian package that has it.
//! Deadlines only end what hangs; no test measures time.

mod clients;
mod support;

mod announces;
mod chokers;
mod comparison;
mod crash;
mod demo;
mod dht;
mod disk;
mod encryption;
mod failures;
mod hostile;
mod interop;
mod ipv6;
mod layouts;
mod life;
mod local;
mod magnets;
mod metrics;
mod mixed;
mod partners;
mod pex;
mod silence;
mod swarm;
mod tools;
mod trackers;
mod zero_copy;
