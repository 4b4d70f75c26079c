//! SHA-1 of many streams at once, and SHA-256 of one.
//!
//! Pieces arrive run by run, many at a time: [`advance`] takes all runs that are ready in one call and lays them side by
//! side, one stream a lane of a vector register (`lanes.rs`, with kernels in `avx512.rs`, `avx512vl.rs` and `avx2.rs`). Which
//! [`Engine`] does it depends on the machine.
//!
//! Pure: no I/O, no clock, no task.

use ::ring::digest;

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod rounds;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vl;
mod engine;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod state;
#[cfg(test)]
mod tests;

pub use engine::{Engine, NoSuchEngine};
pub use state::Sha1State;

/// The next run of one stream.
pub struct Job<'a> {
    /// The state of the stream; moves on by the run.
    pub state: &'a mut Sha1State,
    /// The bytes that follow in the stream, of any length.
    pub run: &'a [u8],
}

/// Moves every stream on by its run, with the best engine of this machine. The more jobs and the more alike their
/// lengths, the better.
pub fn advance(jobs: &mut [Job<'_>]) {
    Engine::best().advance(jobs);
}

/// SHA-256 over bytes that come in runs.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl Sha256 {
    /// The state before the first byte.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes that went in.
    pub fn finish(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}
