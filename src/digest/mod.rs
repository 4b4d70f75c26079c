//! SHA-1 of many streams at once, and SHA-256 of one.
//!
//! Pieces arrive run by run, many at a time: [`advance`] takes all runs that are ready in one call, so that the
//! work can be laid side by side.
//!
//! Pure: no I/O, no clock, no task.

use ::ring::digest;
use sha1::{Digest, Sha1};

#[cfg(test)]
mod tests;

/// SHA-1 over bytes that come in runs (BEP 3: the hash of a piece).
#[derive(Clone, Default)]
pub struct Sha1State(Sha1);

impl Sha1State {
    /// The state before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// The hash of all bytes that went in.
    pub fn finish(self) -> [u8; 20] {
        self.0.finalize().into()
    }
}

/// The next run of one stream.
pub struct Job<'a> {
    /// The state of the stream; moves on by the run.
    pub state: &'a mut Sha1State,
    /// The bytes that follow in the stream, of any length.
    pub run: &'a [u8],
}

/// Moves every stream on by its run. The more jobs and the more alike their lengths, the better.
pub fn advance(jobs: &mut [Job<'_>]) {
    for job in jobs {
        job.state.0.update(job.run);
    }
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
