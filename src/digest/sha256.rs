//! SHA-256 of any number of streams.

use super::HashState;
use super::engine::Engine;
use super::state::State;
use super::stream::{Job, Slices, Stream};
use ::ring::digest::{Context, SHA256};

/// SHA-256 over bytes that come in slices (BEP 52: leaves and nodes of merkle trees).
///
/// Whether a stream is hashed beside others or by `ring` is decided by the first call that advances it, for `ring` takes
/// over no stream that somebody else began. Streams that are begun together should go on together.
#[derive(Clone)]
pub struct Sha256State(Form);

#[derive(Clone)]
enum Form {
    /// Not begun, or begun in the lanes.
    Own(State<8>),
    Ring(Context),
}

impl Sha256State {
    /// The state before the first byte.
    pub fn new() -> Self {
        Self(Form::Own(State::new([
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ])))
    }

    /// The hash of all bytes that went in.
    pub fn finish(self) -> [u8; 32] {
        match self.0 {
            Form::Own(state) => state.finish(super::portable::sha256),
            Form::Ring(context) => finish_ring(context),
        }
    }

    /// What is left to be done side by side with other streams: `ring` does its own at once.
    fn begin<'a>(&'a mut self, slices: Slices<'a>) -> Option<Stream<'a, 8>> {
        match &mut self.0 {
            Form::Own(state) => Stream::new(state, slices),
            Form::Ring(context) => {
                slices.for_each(|slice| context.update(slice));
                None
            }
        }
    }

    fn own(&mut self) -> Option<&mut State<8>> {
        match &mut self.0 {
            Form::Own(state) => Some(state),
            Form::Ring(_) => None,
        }
    }

    /// Gives a stream to `ring` if nobody has begun it.
    fn prefer_ring(&mut self) {
        if let Form::Own(State { total: 0, .. }) = self.0 {
            self.0 = Form::Ring(Context::new(&SHA256));
        }
    }
}

fn finish_ring(context: Context) -> [u8; 32] {
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Default for Sha256State {
    fn default() -> Self {
        Self::new()
    }
}

impl HashState for Sha256State {
    type Hash = [u8; 32];

    fn advance_by(engine: Engine, jobs: &mut [Job<'_, Self>]) {
        let streams = jobs.iter_mut().filter_map(|job| job.state().own()).count();
        if !engine.begins_sha256(streams) {
            jobs.iter_mut().for_each(|job| job.state().prefer_ring());
        }
        engine.sha256(jobs.iter_mut().map(Job::take).filter_map(|(state, slices)| state.begin(slices)));
    }

    fn finish_by(engine: Engine, mut states: Vec<Self>) -> Vec<Self::Hash> {
        let own = states.iter_mut().filter_map(Self::own);
        let mut own: Vec<_> = own.map(|state| (state.padding(), state)).collect();
        let ends = own.iter_mut().map(|(padding, state)| Stream::new(state, Slices::one(padding.bytes())));
        engine.sha256(ends.flatten());
        let hash = |state: Self| match state.0 {
            Form::Own(state) => state.hash(),
            Form::Ring(context) => finish_ring(context),
        };
        states.into_iter().map(hash).collect()
    }
}
