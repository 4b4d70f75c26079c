//! Which of the machine's instructions hash.

use super::Job;
use super::state::Stream;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512, avx512vl::Avx512Vl, lanes::side_by_side};

/// A way to hash that this machine has. All give the same hashes; they differ in speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512, Avx512Vl),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Single,
}

/// No engine of this machine has the name that was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this machine has no digest engine {asked:?}, only {}", .has.join(", "))]
pub struct NoSuchEngine {
    asked: String,
    has: Vec<&'static str>,
}

impl Engine {
    /// The fastest engine.
    pub fn best() -> Self {
        Self::all().next().expect("there is always the engine of single streams")
    }

    /// Every engine of this machine, the fastest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let kinds = [
            #[cfg(target_arch = "x86_64")]
            Avx512::detect().zip(Avx512Vl::detect()).map(|(full, half)| Kind::Avx512(full, half)),
            #[cfg(target_arch = "x86_64")]
            Avx2::detect().map(Kind::Avx2),
            Some(Kind::Single),
        ];
        kinds.into_iter().flatten().map(Self)
    }

    /// The engine of that name, or the fastest when no name is given.
    pub fn choose(name: Option<&str>) -> Result<Self, NoSuchEngine> {
        let Some(name) = name else { return Ok(Self::best()) };
        Self::all().find(|engine| engine.name() == name).ok_or_else(|| NoSuchEngine {
            asked: name.to_owned(),
            has: Self::all().map(Self::name).collect(),
        })
    }

    /// `avx512` (16 streams at once), `avx2` (8) or `single` (one after the other, with the processor's SHA
    /// instructions if it has them).
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(..) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            Kind::Single => "single",
        }
    }

    /// Moves every stream on by its run.
    pub fn advance(self, jobs: &mut [Job<'_>]) {
        let streams = jobs.iter_mut().map(Job::begin).filter(|stream| !stream.blocks.is_empty());
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(full, half) => {
                side_by_side(half, side_by_side(full, streams)).for_each(Stream::compress);
            }
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(lanes) => side_by_side(lanes, streams).for_each(Stream::compress),
            Kind::Single => streams.for_each(Stream::compress),
        }
    }
}
