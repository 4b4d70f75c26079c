//! Room for blocks that are put aside until they are whole: memory that no slab is taken for, so it has a bound of its own.

use std::rc::Rc;

/// Blocks that all cores together may put aside at a time, of 16 KiB each.
const MOST: usize = 1024;

/// One core's share. Each block that is put aside holds a [`Room`].
pub(super) struct Asides {
    most: usize,
    rooms: Rc<()>,
}

/// The room of one block, until it is dropped.
pub(super) struct Room(#[expect(dead_code, reason = "it counts")] Rc<()>);

impl Asides {
    /// For one of so many cores.
    pub(super) fn new(cores: usize) -> Self {
        Self { most: (MOST / cores).max(16), rooms: Rc::default() }
    }

    /// Room for one more block, if there is any.
    pub(super) fn take(&self) -> Option<Room> {
        // One share is our own.
        (Rc::strong_count(&self.rooms) <= self.most).then(|| Room(Rc::clone(&self.rooms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_blocks_are_put_aside_and_no_more() {
        let asides = Asides::new(2);
        let mut rooms: Vec<Room> = std::iter::from_fn(|| asides.take()).collect();
        assert_eq!(rooms.len(), MOST / 2);
        rooms.pop();
        assert!(asides.take().is_some());
    }
}
