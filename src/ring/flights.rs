//! The sends without a copy of one core that the kernel may still read: what each of them holds, and for how long.
//!
//! The kernel says two things of each: what has become of the send, and later that it is done with the bytes, which it may
//! have to transmit again until the peer has acknowledged them. The second comes of a send that has failed as well, and
//! whatever has happened to the connection and the task meanwhile. Until then the whole [`Gather`] (small bytes, the lists that
//! name them, shares of slabs) is a [`Flight`]: nothing of it is written or given back. What is not known to have landed when the
//! core ends is leaked rather than used again.

use super::Gather;
use super::zero_copy::{Sends, ZeroCopyCounts};
use std::any::Any;
use std::io;
use std::mem;
use std::rc::Rc;

/// Gathers that are kept for use again.
const MOST_SPARE: usize = 16;

/// A send that the kernel has been given.
struct Flight {
    gather: Gather,
    /// Slabs of it, as they count against the budget.
    slabs: u64,
    /// Of the same connection.
    sends: Rc<Sends>,
    /// Keeps the descriptor open until the kernel has answered; after that it needs none.
    connection: Option<Rc<dyn Any>>,
    /// What has become of the send, as the kernel says it.
    answer: Option<i32>,
    /// Whoever has made the send was told of that.
    is_told: bool,
    /// The kernel is done with the bytes.
    has_landed: bool,
}

#[derive(Default)]
struct Place {
    /// Raised with every flight that has had the place: what is said of an earlier one must not be taken for the next one's.
    generation: u32,
    flight: Option<Flight>,
}

impl Place {
    /// It is free for the next one.
    fn leave(&mut self) -> Option<Flight> {
        let flight = self.flight.take()?;
        self.generation = self.generation.wrapping_add(1);
        Some(flight)
    }
}

/// See the module.
pub(super) struct Flights {
    /// Most slabs that may be held for sends under way: peers that do not acknowledge must not take all memory.
    most_slabs: u64,
    places: Vec<Place>,
    vacant: Vec<u32>,
    spare: Vec<Gather>,
    pub(super) counts: ZeroCopyCounts,
}

impl Flights {
    /// For a core with so many slabs: at most a quarter of them are held for sends under way.
    pub(super) fn new(slabs: usize) -> Self {
        Self {
            most_slabs: (slabs as u64 / 4).max(1),
            places: Vec::new(),
            vacant: Vec::new(),
            spare: Vec::new(),
            counts: ZeroCopyCounts::default(),
        }
    }

    /// Whether there is none.
    pub(super) fn are_over(&self) -> bool {
        self.vacant.len() == self.places.len()
    }

    /// Whether so many more slabs may be held.
    pub(super) fn have_room(&self, slabs: usize) -> bool {
        self.counts.in_flight + slabs as u64 <= self.most_slabs
    }

    /// To be called before the send. Gives the number that the kernel is to name it by.
    pub(super) fn take_off(&mut self, gather: Gather, sends: &Rc<Sends>, connection: Rc<dyn Any>) -> u64 {
        let slabs = gather.slabs() as u64;
        self.counts.in_flight += slabs;
        sends.begins(gather.len());
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.flight = Some(Flight {
            gather,
            slabs,
            sends: Rc::clone(sends),
            connection: Some(connection),
            answer: None,
            is_told: false,
            has_landed: false,
        });
        u64::from(place.generation) << 32 | u64::from(index)
    }

    fn flight(&mut self, number: u64) -> Option<&mut Flight> {
        let place = self.places.get_mut(number as u32 as usize)?;
        place.flight.as_mut().filter(|_| u64::from(place.generation) == number >> 32)
    }

    /// The kernel says what has become of a send, and whether it will say one `more` word, when it is done with the bytes.
    pub(super) fn answered(&mut self, number: u64, answer: i32, more: bool) {
        let Some(flight) = self.flight(number) else { return };
        flight.answer = Some(answer);
        // Should this be its end, it is reset, and no flight is touched.
        drop(flight.connection.take());
        if let Ok(count) = u64::try_from(answer) {
            flight.gather.leave_views();
            self.counts.sends += 1;
            self.counts.bytes += count;
        }
        if !more {
            self.landed(number);
        }
    }

    /// The kernel is done with the bytes, and says whether it has `copied` them all the same.
    pub(super) fn done(&mut self, number: u64, copied: bool) {
        let Some(flight) = self.flight(number) else { return };
        // Of a send that took nothing it says so too.
        if let Some(Ok(count)) = flight.answer.map(u64::try_from) {
            flight.sends.hear(copied, count);
            self.counts.copied += u64::from(copied);
        }
        self.landed(number);
    }

    fn landed(&mut self, number: u64) {
        let Some(flight) = self.flight(number) else { return };
        flight.has_landed = true;
        if flight.is_told {
            let mut gather = self.remove(number);
            gather.clear();
            if self.spare.len() < MOST_SPARE {
                self.spare.push(gather);
            }
        }
    }

    /// What has become of a send, to be asked once, when the kernel was given it; and its gather, if the kernel is done with
    /// that. While nothing is known, the connection cannot go on.
    pub(super) fn tell(&mut self, number: u64) -> (io::Result<usize>, Option<Gather>) {
        let flight = self.flight(number).expect("a flight lasts until it is told of");
        flight.is_told = true;
        let (answer, has_landed) = (flight.answer, flight.has_landed);
        let result = match answer {
            None => Err(io::Error::other("the kernel has not answered a send")),
            Some(answer) => usize::try_from(answer).map_err(|_| io::Error::from_raw_os_error(-answer)),
        };
        (result, has_landed.then(|| self.remove(number)))
    }

    /// A gather to go on with.
    pub(super) fn spare(&mut self) -> Gather {
        self.spare.pop().unwrap_or_default()
    }

    /// It holds nothing any more.
    fn remove(&mut self, number: u64) -> Gather {
        let index = number as u32;
        let flight = self.places[index as usize].leave().expect("looked up before");
        self.vacant.push(index);
        self.counts.in_flight -= flight.slabs;
        self.counts.landed += u64::from(flight.answer.is_some_and(|answer| answer >= 0));
        flight.sends.end(flight.gather.len());
        flight.gather
    }

    /// Nobody will hear any more what the kernel is done with.
    pub(super) fn leak(&mut self) {
        for (index, place) in self.places.iter_mut().enumerate() {
            let Some(flight) = place.leave() else { continue };
            self.vacant.push(index as u32);
            self.counts.leaked += 1;
            self.counts.in_flight -= flight.slabs;
            mem::forget(flight.gather);
        }
    }
}

impl Drop for Flights {
    fn drop(&mut self) {
        self.leak();
    }
}

#[cfg(test)]
mod tests {
    use super::super::zero_copy::ZeroCopySend;
    use super::*;
    use crate::ring::Arena;

    struct Core {
        arena: Arena,
        flights: Flights,
        sends: Rc<Sends>,
    }

    impl Core {
        fn new(slabs: usize) -> Self {
            let arena = Arena::new(slabs * crate::ring::arena::STRIDE).unwrap();
            let sends = Rc::new(Sends::new(ZeroCopySend::On));
            Self { flights: Flights::new(arena.capacity()), arena, sends }
        }

        fn take_off(&mut self) -> u64 {
            let mut gather = Gather::default();
            gather.push_small(b"head");
            gather.push_payload(self.arena.take().unwrap().seal().ok().unwrap(), 0..100);
            self.flights.take_off(gather, &self.sends, Rc::new(()))
        }

        fn send(&mut self) -> u64 {
            let number = self.take_off();
            self.flights.answered(number, 50, true);
            let (result, gather) = self.flights.tell(number);
            assert!(result.unwrap() == 50 && gather.is_none());
            number
        }

        fn free(&self) -> usize {
            self.arena.free()
        }
    }

    #[test]
    fn sends_land_in_any_order_and_what_is_said_of_earlier_ones_is_not_said_of_later_ones() {
        let mut core = Core::new(8);
        let mut numbers: Vec<u64> = (0..4).map(|_| core.send()).collect();
        assert_eq!((core.free(), core.flights.counts.in_flight), (4, 4));
        for (at, free) in [(2, 5), (2, 5), (0, 6), (3, 7)] {
            core.flights.done(numbers[at], false);
            assert_eq!(core.free(), free, "{at}");
        }
        // In places of those that have landed.
        numbers.extend([core.send(), core.send()]);
        assert_eq!(core.flights.places.len(), 4);
        for number in [numbers[0], numbers[2], numbers[3], 1 << 40, u64::MAX] {
            core.flights.done(number, false);
            core.flights.answered(number, 1, false);
            assert_eq!(core.free(), 5, "{number}");
        }
        for number in [numbers[5], numbers[1], numbers[4]] {
            assert!(!core.flights.are_over());
            core.flights.done(number, true);
        }
        assert!(core.flights.are_over() && core.free() == 8);
        let counts = core.flights.counts;
        assert_eq!((counts.sends, counts.bytes, counts.landed, counts.in_flight), (6, 300, 6, 0));
        assert_eq!((counts.copied, counts.leaked), (3, 0));
        assert!(core.flights.spare().is_empty());
    }

    #[test]
    fn a_send_may_land_before_it_is_answered_or_told_of() {
        let mut core = Core::new(2);
        let early = core.take_off();
        core.flights.done(early, false);
        assert_eq!(core.free(), 1, "whoever sends has yet to be told");
        core.flights.answered(early, 104, true);
        let (result, gather) = core.flights.tell(early);
        assert_eq!((result.unwrap(), gather.unwrap().len(), core.flights.are_over()), (104, 104, true));
        assert_eq!((core.flights.counts.landed, core.free()), (1, 2));
    }

    #[test]
    fn a_refused_send_is_held_until_the_kernel_is_done_with_it() {
        let mut core = Core::new(4);
        // Refused before it was looked at; then looked at, and let go of at once; then later.
        let number = core.take_off();
        core.flights.answered(number, -libc::ENOMEM, false);
        let (result, gather) = core.flights.tell(number);
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENOMEM));
        assert_eq!((gather.unwrap().len(), core.flights.are_over()), (104, true));
        assert_eq!(core.free(), 4);

        let number = core.take_off();
        core.flights.answered(number, -libc::EAGAIN, true);
        core.flights.done(number, true);
        let (result, gather) = core.flights.tell(number);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(gather.unwrap().len(), 104);

        let number = core.take_off();
        core.flights.answered(number, -libc::ECONNRESET, true);
        let (result, gather) = core.flights.tell(number);
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(gather.is_none() && core.free() == 3 && !core.flights.are_over());
        core.flights.done(number, true);
        assert!(core.free() == 4 && core.flights.are_over());
        assert_eq!(core.flights.counts, ZeroCopyCounts::default(), "nothing was sent, nor copied");
    }

    #[test]
    fn an_unanswered_send_keeps_its_connection_and_ends_it() {
        let mut core = Core::new(2);
        let connection = Rc::new(());
        let mut gather = Gather::default();
        gather.push_small(b"head");
        let number = core.flights.take_off(gather, &core.sends, Rc::clone(&connection) as Rc<dyn Any>);
        let (result, gather) = core.flights.tell(number);
        assert!(result.is_err() && gather.is_none());
        assert_eq!(Rc::strong_count(&connection), 2);
        core.flights.answered(number, 4, true);
        assert_eq!(Rc::strong_count(&connection), 1);
        core.flights.done(number, false);
        assert!(core.flights.are_over());
    }

    #[test]
    fn a_quarter_of_the_slabs_may_be_held() {
        let mut core = Core::new(8);
        let first = core.send();
        assert!(core.flights.have_room(1) && !core.flights.have_room(2));
        let second = core.send();
        assert!(!core.flights.have_room(1));
        core.flights.done(first, false);
        assert!(core.flights.have_room(1));
        core.flights.done(second, false);
        assert!(Flights::new(1).have_room(1) && !Flights::new(1).have_room(2));
    }

    #[test]
    fn what_nobody_knows_of_is_leaked() {
        let mut core = Core::new(4);
        let answered = core.send();
        core.take_off();
        core.flights.leak();
        assert_eq!((core.free(), core.flights.counts.leaked, core.flights.counts.in_flight), (2, 2, 0));
        core.send();
        core.flights.done(answered, false);
        assert_eq!((core.free(), core.flights.counts.landed), (1, 0), "not the one that has its place");
        drop(core.flights);
        assert_eq!(core.arena.free(), 1);
    }
}
