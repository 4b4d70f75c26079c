//! Which parts of a torrent's files are mapped, for all its cores: a process has one space of addresses, so what one core has mapped
//! the others send from, too. As many as there is room for in what the cores leave of their memory, all together.
//!
//! When there is none, one is given up for the next. Those that were mapped last, an eighth, leave in the order in which they came,
//! once they have been sent; every second time, and when there is none of these, one of the others leaves of which nothing was sent
//! since it was looked at last. So of a torrent that is longer than the room, and through which peers go in its order again and
//! again, most of what is mapped stays and is found the next time. (Were the oldest given up, or any, it would have gone before.)
//!
//! To map a part and to give it up costs more than to send a few blocks of it without ([`crate::ring::FileRange`]). So where those that
//! are given up have sent little (blocks from all over a torrent), few new ones are mapped: those that are there stay longer, and
//! send more. And where little of a part is wanted, and nothing tells that more will be, none is given up for it: each of the
//! others is as likely to be wanted next.

use super::file_id::FileId;
use crate::metainfo::FileIndex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Mappings at most: the kernel allows a process 65530, and the allocator needs some.
const MOST_PARTS: usize = 16 * 1024;
/// One in so many of those that are mapped is new, or as many as are not mapped, if those are fewer; and so many at the least.
const NEW_SHARE: usize = 8;
const LEAST_NEW: usize = 2;

/// What of its length a part has to send, on an average, before it is given up: as much as pays for it.
const LEAST_WORTH: f32 = 1.0 / 2.0;
/// Parts that are given up count for an average.
const REMEMBERED: f32 = 16.0;
/// What of a part is to be wanted at once for another to be given up for it, by those who do not go on in order.
const LEAST_WANTED: usize = 16;
/// While parts do not pay, one is mapped where so many could be: what is asked for may have changed.
const TRIES: u32 = 16;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) file: FileIndex,
    /// Which it is: the name may be another one's by now.
    pub(super) id: FileId,
    pub(super) number: u64,
}

/// A part that is mapped, as cores know it: they do not keep it.
pub(super) struct Known<T> {
    pub(super) mapped: Weak<T>,
    /// Bytes of it that were asked for.
    pub(super) sent: Arc<AtomicUsize>,
}

struct Part<T> {
    mapped: Arc<T>,
    len: usize,
    sent: Arc<AtomicUsize>,
    /// What had been sent when it was looked at last.
    seen: usize,
}

impl<T> Part<T> {
    fn known(&self) -> Known<T> {
        Known { mapped: Arc::downgrade(&self.mapped), sent: Arc::clone(&self.sent) }
    }

    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.mapped) == 1
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

/// See the module. `T` is what undoes a mapping when it is dropped; whoever sends from it holds a share.
pub(super) struct Mappings<T> {
    /// Bytes of the torrent.
    total: u64,
    parts: HashMap<Place, Part<T>>,
    /// Those that were mapped last, in this order.
    new: VecDeque<Place>,
    /// The others, and which of them is looked at next.
    old: Vec<Place>,
    hand: usize,
    /// How many were given up.
    given_up: u64,
    /// Bytes that are mapped, or about to be.
    bytes: usize,
    room: usize,
    /// What of their length parts have sent when they were given up, an average of the last ones; 1 if they sent more.
    worth: f32,
    /// Parts that were not mapped since the last one was.
    passed: u32,
}

impl<T> Mappings<T> {
    /// Of a torrent of `total` bytes nothing is mapped yet, and there is no room.
    pub(super) fn new(total: u64) -> Self {
        let (parts, new, old) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self { total, parts, new, old, hand: 0, given_up: 0, bytes: 0, room: 0, worth: 1.0, passed: 0 }
    }

    /// Bytes that are mapped, all of which may be resident.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many parts are mapped.
    pub(super) fn count(&self) -> usize {
        self.parts.len()
    }

    /// The files of which something is mapped.
    pub(super) fn files(&self) -> impl Iterator<Item = FileIndex> {
        self.parts.keys().map(|place| place.file)
    }

    /// What is mapped there.
    pub(super) fn find(&self, place: Place) -> Option<Known<T>> {
        self.parts.get(&place).map(Part::known)
    }

    /// A core leaves `now` bytes of its memory to mappings, where it left `before`. Gives up what has no room any more.
    pub(super) fn share(&mut self, before: usize, now: usize) -> Vec<T> {
        self.room = self.room.saturating_sub(before).saturating_add(now);
        self.shrink(0, MOST_PARTS)
    }

    /// Whether all that is mapped has room. What has none is being sent.
    pub(super) fn fits(&self) -> bool {
        self.bytes <= self.room
    }

    /// Whether a part of `len` bytes is to be mapped, of which so many are `wanted`, by somebody who goes on in order (`ahead`) or
    /// does not. Its room is taken then: [`Mappings::add`] it, or [`Mappings::fail`]. With what has made way for it.
    pub(super) fn reserve(&mut self, len: usize, wanted: usize, ahead: bool) -> (bool, Vec<T>) {
        if len > self.room {
            return (false, Vec::new());
        }
        let is_full = self.bytes > self.room - len || self.count() >= MOST_PARTS;
        let pays = self.worth >= LEAST_WORTH && (ahead || wanted >= len / LEAST_WANTED);
        if is_full && !pays && self.passed < TRIES {
            self.passed += 1;
            return (false, Vec::new());
        }
        let gone = self.shrink(len, MOST_PARTS - 1);
        let has_room = self.bytes <= self.room - len && self.count() < MOST_PARTS;
        if has_room {
            self.bytes += len;
            self.passed = 0;
        }
        (has_room, gone)
    }

    /// It could not be mapped.
    pub(super) fn fail(&mut self, len: usize) {
        self.bytes -= len;
    }

    /// It was. If another core was faster, that one's is what there is, and this is given back.
    pub(super) fn add(&mut self, place: Place, len: usize, mapped: T) -> (Known<T>, Option<T>) {
        if let Some(known) = self.find(place) {
            self.fail(len);
            return (known, Some(mapped));
        }
        let part = Part { mapped: Arc::new(mapped), len, sent: Arc::default(), seen: 0 };
        let known = part.known();
        self.parts.insert(place, part);
        self.new.push_back(place);
        while self.new.len() > self.most_new() {
            self.old.extend(self.new.pop_front());
        }
        (known, None)
    }

    /// How many of those that are mapped are new. They make way for each other, so where nearly all has room they are few.
    fn most_new(&self) -> usize {
        let mean_len = (self.bytes / self.count().max(1)).max(1);
        let unmapped = self.total.saturating_sub(self.bytes as u64) / mean_len as u64;
        (self.count() / NEW_SHARE).min(unmapped as usize).max(LEAST_NEW)
    }

    /// Gives up what is mapped of a file. What is being sent of it goes with the send.
    pub(super) fn forget_file(&mut self, index: FileIndex) -> Vec<Arc<T>> {
        let leaving = self.parts.extract_if(|place, _| place.file == index);
        let leaving: Vec<_> = leaving.map(|(_, part)| part).collect();
        self.new.retain(|place| place.file != index);
        self.old.retain(|place| place.file != index);
        self.bytes -= leaving.iter().map(|part| part.len).sum::<usize>();
        leaving.into_iter().map(|part| part.mapped).collect()
    }

    /// Gives up some until there is room for `len` bytes more, and there are no more than so many; or all that are left are being
    /// sent: to give those up would free nothing.
    fn shrink(&mut self, len: usize, most: usize) -> Vec<T> {
        let mut gone = Vec::new();
        while self.bytes > self.room.saturating_sub(len) || self.count() > most {
            let Some(mapped) = self.give_one_up() else { break };
            gone.push(mapped);
        }
        gone
    }

    fn give_one_up(&mut self) -> Option<T> {
        let in_turn = if self.given_up.is_multiple_of(2) { self.unused(1) } else { None };
        let leaves = in_turn.or_else(|| self.first_new(|part| part.sent() >= part.len));
        // Twice around, all that are not being sent have been looked at before.
        let leaves = leaves.or_else(|| self.unused(2 * self.old.len()));
        let leaves = leaves.or_else(|| self.first_new(|_| true))?;
        let Part { mapped, len, sent, seen } = self.parts.remove(&leaves).expect("each place has one");
        let mapped = match Arc::try_unwrap(mapped) {
            Ok(mapped) => mapped,
            Err(mapped) => {
                // Somebody has begun to send it in this moment.
                self.parts.insert(leaves, Part { mapped, len, sent, seen });
                self.old.push(leaves);
                return self.give_one_up();
            }
        };
        self.given_up += 1;
        self.bytes -= len;
        let worth = sent.load(Ordering::Relaxed).min(len) as f32 / len as f32;
        self.worth += (worth - self.worth) / REMEMBERED;
        Some(mapped)
    }

    /// Looks at so many of the old ones, and takes the first of which nothing was sent since the last look.
    fn unused(&mut self, looks: usize) -> Option<Place> {
        for _ in 0..looks {
            let at = self.hand.checked_rem(self.old.len())?;
            let part = self.parts.get_mut(&self.old[at]).expect("each place has one");
            if part.is_idle() && part.sent() == part.seen {
                self.hand = at;
                return Some(self.old.swap_remove(at));
            }
            part.seen = part.sent();
            self.hand = at + 1;
        }
        None
    }

    /// Takes the first of the new ones that is such a one, and is not being sent.
    fn first_new(&mut self, is_such: impl Fn(&Part<T>) -> bool) -> Option<Place> {
        let mut parts = self.new.iter().map(|place| &self.parts[place]);
        let at = parts.position(|part| part.is_idle() && is_such(part))?;
        self.new.remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    const LEN: usize = 800;

    fn file(number: u32) -> FileIndex {
        let layout = Layout::new(1, [1, 1]).unwrap();
        let piece = layout.piece(number).unwrap();
        layout.spans(piece, 0, 1).next().unwrap().file
    }

    fn place(number: u64) -> Place {
        Place { file: file(0), id: FileId::with_number(0), number }
    }

    /// Sends some bytes of a part for peers who go on in order, mapping it first if it has to be. Says whether it had.
    fn send(mappings: &mut Mappings<u64>, number: u64, bytes: usize) -> bool {
        let found = mappings.find(place(number));
        let is_new = found.is_none();
        let known = found.unwrap_or_else(|| {
            assert!(mappings.reserve(LEN, bytes, true).0);
            mappings.add(place(number), LEN, number).0
        });
        assert_eq!(known.mapped.upgrade().as_deref(), Some(&number));
        known.sent.fetch_add(bytes, Ordering::Relaxed);
        is_new
    }

    const TOTAL: u64 = 512 * LEN as u64;

    fn with_room_for(count: usize) -> Mappings<u64> {
        let mut mappings = Mappings::new(TOTAL);
        mappings.share(0, count * LEN);
        mappings
    }

    #[test]
    fn of_what_is_sent_round_and_round_most_stays() {
        let mut mappings = with_room_for(32);
        let mut round = || (0..64).filter(|number| send(&mut mappings, *number, LEN)).count();
        let rounds: Vec<usize> = (0..20).map(|_| round()).collect();
        let last = rounds[10..].iter().sum::<usize>();
        assert!(last <= 10 * 40, "{rounds:?}: to map half of it is the least");
        assert_eq!((mappings.bytes(), mappings.count()), (32 * LEN, 32));
    }

    #[test]
    fn where_nearly_all_has_room_nearly_all_stays() {
        let mut mappings = with_room_for(500);
        let mut round = || (0..512).filter(|number| send(&mut mappings, *number, LEN)).count();
        let last = (0..20).map(|_| round()).skip(10).sum::<usize>();
        assert!(last <= 10 * 3 * 12, "{last}: to map 12 in a round is the least");
    }

    #[test]
    fn what_nobody_wants_any_more_leaves() {
        let mut mappings = with_room_for(32);
        (0..10).for_each(|_| (0..32).for_each(|number| _ = send(&mut mappings, number, LEN)));
        let mut round = || (100..132).filter(|number| send(&mut mappings, *number, LEN)).count();
        let rounds: Vec<usize> = (0..20).map(|_| round()).collect();
        assert_eq!((rounds[0], rounds[19]), (32, 0), "{rounds:?}");
    }

    #[test]
    fn peers_that_are_many_beside_the_room_do_not_take_each_others_parts() {
        let mut mappings = with_room_for(24);
        let mut random = fastrand::Rng::with_seed(1);
        let mut peers: Vec<u64> = (0..16).map(|_| random.u64(..512 * 8)).collect();
        let mut mapped = 0;
        for _ in 0..40_000 {
            let peer = random.usize(..peers.len());
            mapped += usize::from(send(&mut mappings, peers[peer] / 8, LEN / 8));
            peers[peer] = (peers[peer] + 1) % (512 * 8);
        }
        assert!(mapped < 40_000 / 8 * 13 / 10, "{mapped} for 5000 parts that were sent");
    }

    #[test]
    fn cores_have_room_together_and_what_is_being_sent_keeps_it() {
        let mut mappings = Mappings::new(TOTAL);
        mappings.share(0, 2 * LEN);
        mappings.share(0, 3 * LEN);
        (0..5).for_each(|number| assert!(send(&mut mappings, number, LEN)));
        let held: Vec<_> = [1, 4].map(|number| mappings.find(place(number)).unwrap().mapped).into();
        let held: Vec<_> = held.iter().map(|mapped| mapped.upgrade().unwrap()).collect();
        let mut gone = mappings.share(3 * LEN, 0);
        gone.sort_unstable();
        assert_eq!((gone.as_slice(), mappings.fits()), (&[0, 2, 3][..], true));
        assert!(mappings.share(2 * LEN, LEN).is_empty() && !mappings.fits());
        assert_eq!(mappings.reserve(LEN, LEN, true), (false, vec![]), "nothing would be freed");
        drop(held);
        assert_eq!((mappings.share(LEN, LEN).len(), mappings.fits(), mappings.bytes()), (1, true, LEN));
        assert!(!mappings.reserve(LEN + 1, 1, true).0);
    }

    #[test]
    fn two_cores_that_map_the_same_have_one_of_them() {
        let mut mappings = with_room_for(4);
        assert!(mappings.reserve(LEN, 1, false).0 && mappings.reserve(LEN, 1, false).0);
        let (first, none) = mappings.add(place(7), LEN, 1);
        let (second, gone) = mappings.add(place(7), LEN, 2);
        assert!(none.is_none() && gone == Some(2) && first.mapped.ptr_eq(&second.mapped));
        assert_eq!((mappings.bytes(), mappings.count()), (LEN, 1));
        assert!(mappings.reserve(LEN, 1, false).0);
        mappings.fail(LEN);
        assert_eq!(mappings.bytes(), LEN);
    }

    #[test]
    fn of_another_file_nothing_is_found() {
        let mut mappings = with_room_for(4);
        (0..3).for_each(|number| assert!(send(&mut mappings, number, 1)));
        let (other_file, other_name) =
            (Place { id: FileId::with_number(9), ..place(1) }, Place { file: file(1), ..place(1) });
        assert!(mappings.find(other_file).is_none() && mappings.find(other_name).is_none());
        assert!(mappings.forget_file(file(1)).is_empty());
        assert!(mappings.reserve(LEN, 1, false).0 && mappings.add(other_name, LEN, 9).1.is_none());
        assert_eq!(mappings.forget_file(file(0)).len(), 3);
        assert_eq!((mappings.bytes(), mappings.count()), (LEN, 1));
        assert!(mappings.files().eq([file(1)]) && send(&mut mappings, 1, 1));
    }
}
