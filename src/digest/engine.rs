//! Which of the machine's instructions hash.

use super::state::Block;
use super::stream::{Job, Stream};
use super::{HashState, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512, avx512vl::Avx512Vl, lanes::side_by_side, shani::ShaNi};
use std::sync::OnceLock;

/// A way to hash that this machine has. All give the same hashes; they differ in speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512, Avx512Vl),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Instructions made for it.
    Sha,
    Portable,
}

/// No engine of this machine has the name that was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this machine has no digest engine {asked:?}, only {}", .has.join(", "))]
pub struct NoSuchEngine {
    asked: String,
    has: Vec<&'static str>,
}

/// The fewest streams that are hashed faster side by side than otherwise; measured by `benches/digest.rs`.
#[cfg(target_arch = "x86_64")]
struct Enough {
    /// For SHA-1 in 16 lanes: fewer fit into 8 lanes, which are never slower.
    full: usize,
    /// For SHA-1 in 8 lanes.
    half: usize,
    avx2: usize,
}

#[cfg(target_arch = "x86_64")]
impl Enough {
    fn here() -> Self {
        if has_sha() { Self { full: 9, half: 3, avx2: 5 } } else { Self { full: 9, half: 2, avx2: 2 } }
    }

    /// To begin with SHA-256 in 16 lanes; `ring` uses the processor's SHA instructions too.
    fn to_begin_sha256() -> usize {
        if has_sha() { 6 } else { 2 }
    }
}

static CURRENT: OnceLock<Engine> = OnceLock::new();

impl Engine {
    /// The engine of the program: [`Engine::best`], unless [`Engine::set_current`] came first.
    pub fn current() -> Self {
        *CURRENT.get_or_init(Self::best)
    }

    /// Makes this the engine of the program, for good. Gives it back if there is one already: because this was called
    /// before, or because something was hashed.
    pub fn set_current(self) -> Result<(), Self> {
        CURRENT.set(self)
    }

    /// The fastest engine.
    pub fn best() -> Self {
        Self::all().next().expect("the portable engine is everywhere")
    }

    /// Every engine of this machine, the fastest first.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let mut kinds = [
            Avx512::detect().zip(Avx512Vl::detect()).map(|(full, half)| Kind::Avx512(full, half)),
            Avx2::detect().map(Kind::Avx2),
            ShaNi::detect().map(|_| Kind::Sha),
            Some(Kind::Portable),
        ];
        #[cfg(target_arch = "x86_64")]
        if ShaNi::detect().is_some_and(ShaNi::outruns_avx2) {
            kinds.swap(1, 2);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let kinds = [has_sha().then_some(Kind::Sha), Some(Kind::Portable)];
        kinds.into_iter().flatten().map(Self)
    }

    /// Every name that an engine of some machine has.
    #[cfg(test)]
    pub(super) const NAMES: [&str; 4] = ["avx512", "avx2", "shani", "portable"];

    /// The engine of that name, or the fastest when no name is given.
    pub fn choose(name: Option<&str>) -> Result<Self, NoSuchEngine> {
        let Some(name) = name else { return Ok(Self::best()) };
        Self::all().find(|engine| engine.name() == name).ok_or_else(|| NoSuchEngine {
            asked: name.to_owned(),
            has: Self::all().map(Self::name).collect(),
        })
    }

    /// * `avx512`: 16 streams at once (8 where there are fewer), of SHA-256 too;
    /// * `avx2`: 8 streams of SHA-1 at once;
    /// * `shani`: by instructions made for it, 4 streams of SHA-1 at once (on ARM one after the other);
    /// * `portable`: one after the other, by what every processor has.
    ///
    /// The first two use the third for streams without company, and all three use `ring` for SHA-256 that is not done
    /// 16 at once.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(..) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            Kind::Sha => "shani",
            Kind::Portable => "portable",
        }
    }

    /// Streams of SHA-1 that keep it busy: more at once are no faster.
    pub fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(..) => 16,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => 8,
            #[cfg(target_arch = "x86_64")]
            Kind::Sha => 4,
            _ => 1,
        }
    }

    /// Moves every stream on by its slices, which are used up. The more jobs and the more alike their lengths, the better.
    pub fn advance<S: HashState>(self, jobs: &mut [Job<'_, S>]) {
        S::advance_by(self, jobs);
    }

    /// The hashes of all bytes that went in, in the order of the states. Their last blocks are hashed side by side too,
    /// which counts where streams are short.
    pub fn finish<S: HashState>(self, states: Vec<S>) -> Vec<S::Hash> {
        S::finish_by(self, states)
    }

    pub(super) fn sha1<'a>(self, streams: impl Iterator<Item = Stream<'a, 5>>) {
        let alone = |stream: Stream<'_, 5>| stream.compress(self.sha1_of_one());
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(full, half) => {
                let enough = Enough::here();
                few(side_by_side(half, enough.half, side_by_side(full, enough.full, streams)), alone);
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(lanes) => few(side_by_side(lanes, Enough::here().avx2, streams), alone),
            Kind::Sha => few(streams, alone),
            Kind::Portable => streams.for_each(alone),
        }
    }

    /// The compression function for a single stream.
    pub(super) fn sha1_of_one(self) -> fn(&mut [u32; 5], &[Block]) {
        // The crate looks itself what the processor has.
        if self.0 == Kind::Portable { portable::sha1 } else { sha1::block_api::compress }
    }

    /// Whether so many streams of SHA-256 should not be left to `ring`.
    pub(super) fn begins_sha256(self, count: usize) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(..) => count >= Enough::to_begin_sha256(),
            Kind::Portable => true,
            _ => false,
        }
    }

    /// Those that are not left to `ring`, or no longer can be.
    pub(super) fn sha256<'a>(self, streams: impl Iterator<Item = Stream<'a, 8>>) {
        let alone = |stream: Stream<'_, 8>| stream.compress(portable::sha256);
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(lanes, _) => side_by_side(lanes, 2, streams).for_each(alone),
            _ => streams.for_each(alone),
        }
    }
}

/// Streams that are too few for wide lanes: side by side where the processor has SHA instructions for that.
fn few<'a>(streams: impl Iterator<Item = Stream<'a, 5>>, alone: impl Fn(Stream<'a, 5>)) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sha) = ShaNi::detect() {
        let three = side_by_side::<5, 3>(sha, 3, side_by_side::<5, 4>(sha, 4, streams));
        return side_by_side::<5, 2>(sha, 2, three).for_each(alone);
    }
    streams.for_each(alone);
}

/// Whether the processor has the instructions that the `sha1` crate and `ring` use.
fn has_sha() -> bool {
    #[cfg(target_arch = "x86_64")]
    return ShaNi::detect().is_some();
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}
