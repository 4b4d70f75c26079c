//! SHA-1 of any number of streams.

use super::HashState;
use super::engine::Engine;
use super::state::{Padding, State};
use super::stream::{Job, Slices, Stream};

/// SHA-1 over bytes that come in slices (BEP 3: the hash of a piece).
#[derive(Clone)]
pub struct Sha1State(State<5>);

impl Sha1State {
    /// The state before the first byte.
    pub fn new() -> Self {
        Self(State::new([0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]))
    }

    /// The hash of all bytes that went in.
    pub fn finish(self) -> [u8; 20] {
        self.0.finish(Engine::current().sha1_of_one())
    }
}

impl Default for Sha1State {
    fn default() -> Self {
        Self::new()
    }
}

impl HashState for Sha1State {
    type Hash = [u8; 20];

    fn advance_by(engine: Engine, jobs: &mut [Job<'_, Self>]) {
        engine.sha1(
            jobs.iter_mut().map(Job::take).filter_map(|(state, slices)| Stream::new(&mut state.0, slices)),
        );
    }

    fn finish_by(engine: Engine, mut states: Vec<Self>) -> Vec<Self::Hash> {
        let paddings: Vec<Padding> = states.iter().map(|state| state.0.padding()).collect();
        let ends = states.iter_mut().zip(&paddings);
        engine.sha1(
            ends.filter_map(|(state, padding)| Stream::new(&mut state.0, Slices::one(padding.bytes()))),
        );
        states.iter().map(|state| state.0.hash()).collect()
    }
}
