//! What the tests of the whole program share: the program, what it shows of itself, payload, and peers on raw sockets.
#![allow(dead_code, reason = "each test binary has its own part of it")]

pub(crate) mod metrics;
pub(crate) mod payload;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod stage;

use std::time::{Duration, Instant};

/// Only a hang takes so long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Looks again and again until there is something to see; fails, with the last word of `otherwise`, when there never is.
pub(crate) fn until<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(seen) => return seen,
            Err(why) => assert!(Instant::now() < deadline, "waited {DEADLINE:?} in vain: {why}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
