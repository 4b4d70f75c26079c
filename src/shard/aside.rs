//! Room for blocks that are put aside until they are whole: memory that no slab is taken for, so it has a bound of its own.

use crate::swarm::Place;
use std::rc::Rc;

/// Blocks that all cores together may put aside at a time, of 16 KiB each; and each core in any case.
const MOST: usize = 1024;
const LEAST: usize = 16;

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
        Self { most: (MOST / cores).max(LEAST), rooms: Rc::default() }
    }

    /// Where a block goes that belongs there, and its room; nowhere when that is aside and there is none: then another peer, or
    /// another time, has to do.
    pub(super) fn find(&self, place: Place) -> (Place, Option<Room>) {
        // One share is our own.
        match place {
            Place::Aside if Rc::strong_count(&self.rooms) > self.most => (Place::Nowhere, None),
            Place::Aside => (place, Some(Room(Rc::clone(&self.rooms)))),
            Place::Home | Place::Nowhere => (place, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_blocks_are_put_aside_and_no_more() {
        let asides = Asides::new(2);
        let mut rooms: Vec<Room> = std::iter::from_fn(|| asides.find(Place::Aside).1).collect();
        assert_eq!(rooms.len(), MOST / 2);
        assert_eq!(asides.find(Place::Aside).0, Place::Nowhere);
        assert_eq!(asides.find(Place::Home).0, Place::Home);
        rooms.pop();
        assert_eq!(asides.find(Place::Aside).0, Place::Aside);
    }
}
