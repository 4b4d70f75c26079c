//! What a connection is called on all cores.

/// Names a connection for good, on all cores: who sent a block is known also after it has gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tag {
    pub(super) core: u32,
    pub(super) number: u64,
}

impl Tag {
    /// None comes before it.
    pub(super) const FIRST: Self = Self { core: 0, number: 0 };

    /// One for tests of other rooms.
    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self { core: 0, number }
    }

    /// The core that the connection belongs, or belonged, to.
    pub fn core(self) -> usize {
        self.core as usize
    }
}
