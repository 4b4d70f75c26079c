//! SHA-1 and SHA-256 of many streams at once.
//!
//! Pieces arrive run by run, many at a time: [`advance`] takes any number of streams, each with any number of slices that
//! are ready ([`Job`]), and lays them side by side, one stream a lane of a vector register. A stream keeps its lane from
//! slice to slice; when it is through, the next takes the lane. Which [`Engine`] does it depends on the machine.
//!
//! | file | subject |
//! |---|---|
//! | `stream` | slices of any length become whole blocks |
//! | `state` | what is remembered between calls; padding |
//! | `lanes` | which stream is in which lane, for every kernel |
//! | `avx512`, `avx512vl`, `avx2`, `shani` | kernels of 16, 8, 8 and 4 lanes: the only `unsafe` here |
//! | `portable` | one stream, without special instructions |
//! | `rounds` | the rounds, written once for all of these |
//! | `engine` | what the machine has, and how many streams are enough for lanes |
//! | `sha1`, `sha256` | the two hashes |
//! | `crc32c` | a checksum, of a few bytes: no part of the above |
//!
//! Single streams of SHA-1 go through the `sha1` crate, which uses the processor's SHA instructions, too; SHA-256 that does not
//! fill lanes goes through `ring`.
//!
//! Pure: no I/O, no clock, no task.

#[macro_use]
mod rounds;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vl;
mod crc32c;
mod engine;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod portable;
mod sha1;
mod sha256;
#[cfg(target_arch = "x86_64")]
mod shani;
mod state;
mod stream;
#[cfg(test)]
mod tests;

pub use crc32c::crc32c;
pub use engine::{Engine, NoSuchEngine};
pub use sha1::Sha1State;
pub use sha256::Sha256State;
pub use stream::Job;

/// A hash over bytes that come in slices: [`Sha1State`] or [`Sha256State`].
pub trait HashState: Default {
    /// The hash, as bytes.
    type Hash;

    /// See [`Engine::advance`].
    fn advance_by(engine: Engine, jobs: &mut [Job<'_, Self>]);

    /// See [`Engine::finish`].
    fn finish_by(engine: Engine, states: Vec<Self>) -> Vec<Self::Hash>;
}

/// Moves every stream on by its slices, with the engine of the program: see [`Engine::advance`].
pub fn advance<S: HashState>(jobs: &mut [Job<'_, S>]) {
    Engine::current().advance(jobs);
}
