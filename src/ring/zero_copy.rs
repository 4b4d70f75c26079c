//! Sends that the kernel makes straight from slabs, without copying (MSG_ZEROCOPY).
//!
//! After such a send the kernel goes on reading the bytes, for as long as it may have to transmit them again: until the
//! peer has acknowledged them. It then says so through the socket's error queue. Until that moment the whole
//! [`Gather`] (small bytes and shares of slabs) is a [`Flight`] of its connection: nothing of it is written or given back,
//! also when the peer, the connection or the task that sent it is gone. What cannot be known to have landed is
//! leaked rather than used again.
//!
//! Not io_uring's own zero-copy send: tokio-uring panics when one fails (a peer that resets the connection), and its
//! future ends with the acknowledgement only, so one send a round trip would be all.

use super::Gather;
use super::error_queue::{Notification, abort, enable, next_notification};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Shortest payload (bytes) for which [`ZeroCopySend::Auto`] pays.
const WORTHWHILE: usize = 16 * 1024;
/// Most bytes under way without a copy on one connection; what goes beyond is copied.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Notifications in a row of a connection that say "copied after all" before [`ZeroCopySend::Auto`] believes them.
const PATIENCE: u32 = 4;
/// For so long; then it is tried again. Somebody may have listened on the device: then the kernel copies what goes by.
const REST: Duration = Duration::from_secs(60);
/// Gathers that a connection keeps for use again.
const MOST_SPARE: usize = 4;

/// When payload is sent without copying it into the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopySend {
    /// To peers on other hosts, from 16 KiB a send; not where the kernel says that it copies all the same.
    #[default]
    Auto,
    /// Always, when there is payload to send.
    On,
    /// Never.
    Off,
}

/// What zero-copy sending has done on one core. Sums since its start, except `in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroCopyCounts {
    /// Sends made without a copy.
    pub sends: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Sends among them that the kernel has let go of.
    pub landed: u64,
    /// Notifications that say that the kernel copied after all (loopback, a device that cannot gather). One may be for
    /// many sends.
    pub copied: u64,
    /// Sends that were copied because too much was under way already, or the kernel would not lock the memory.
    pub fallbacks: u64,
    /// Connections that were reset because their peer did not acknowledge for too long after the end.
    pub aborted: u64,
    /// Sends whose memory is never used again, because it is unknown whether the kernel still reads it.
    pub leaked: u64,
    /// Slabs held for sends under way (one may be counted several times).
    pub in_flight: u64,
}

struct Shared {
    mode: ZeroCopySend,
    /// Most slabs that may be held for sends under way: peers that do not acknowledge must not take all memory.
    most_slabs: u64,
    counts: Cell<ZeroCopyCounts>,
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut ZeroCopyCounts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }
}

/// One core's zero-copy sending: its mode, its budget and its counts. Clones share them.
#[derive(Clone)]
pub struct ZeroCopy(Rc<Shared>);

impl ZeroCopy {
    /// For a core with so many slabs: at most a quarter of them are held for sends under way.
    pub(super) fn new(mode: ZeroCopySend, slabs: usize) -> Self {
        let most_slabs = (slabs as u64 / 4).max(1);
        Self(Rc::new(Shared { mode, most_slabs, counts: Cell::default() }))
    }

    /// When payload is sent without a copy.
    pub fn mode(&self) -> ZeroCopySend {
        self.0.mode
    }

    /// What has happened so far.
    pub fn counts(&self) -> ZeroCopyCounts {
        self.0.counts.get()
    }

    /// As if so many slabs were held for sends under way.
    #[cfg(test)]
    pub(crate) fn pretend_in_flight(&self, slabs: u64) {
        self.0.counts.set(ZeroCopyCounts { in_flight: slabs, ..self.counts() });
    }

    /// Whether the kernel may still read something that was sent.
    pub fn is_under_way(&self) -> bool {
        let counts = self.counts();
        counts.sends > counts.landed + counts.leaked
    }

    pub(super) fn count_abort(&self) {
        self.0.count(|counts| counts.aborted += 1);
    }
}

/// Slabs counted against the core's budget.
struct Reserved {
    core: Rc<Shared>,
    slabs: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.core.count(|counts| counts.in_flight -= self.slabs);
    }
}

/// A send that the kernel may still read.
struct Flight {
    gather: Gather,
    _reserved: Reserved,
}

/// The zero-copy sends of one connection.
pub(super) struct Flights {
    core: ZeroCopy,
    /// The kernel numbers the sends that took at least a byte, from 0 on. This is the number of the first in `flights`.
    first: Cell<u32>,
    /// By number; those that have landed out of order are `None`.
    flights: RefCell<VecDeque<Option<Flight>>>,
    bytes: Cell<usize>,
    /// A send is with the kernel, and its result not known; whether its notification came already.
    sending: Cell<bool>,
    early: Cell<bool>,
    /// Whether the socket has been told, and whether it is of no use here.
    enabled: Cell<bool>,
    plain: Cell<bool>,
    /// Notifications in a row that say "copied after all"; and until when that is believed.
    copied: Cell<u32>,
    rests_until: Cell<Option<Instant>>,
    /// Notifications that were taken.
    heard: Cell<u64>,
    spare: RefCell<Vec<Gather>>,
    /// Whether a task sees to what is under way after the end.
    pub(super) lingers: Cell<bool>,
}

impl Flights {
    pub(super) fn new(core: &ZeroCopy) -> Self {
        Self {
            core: core.clone(),
            first: Cell::new(0),
            flights: RefCell::default(),
            bytes: Cell::new(0),
            sending: Cell::new(false),
            early: Cell::new(false),
            enabled: Cell::new(false),
            plain: Cell::new(false),
            copied: Cell::new(0),
            rests_until: Cell::new(None),
            heard: Cell::new(0),
            spare: RefCell::default(),
            lingers: Cell::new(false),
        }
    }

    pub(super) fn core(&self) -> &ZeroCopy {
        &self.core
    }

    /// Whether the kernel may still read something.
    pub(super) fn are_under_way(&self) -> bool {
        self.sending.get() || !self.flights.borrow().is_empty()
    }

    /// Whether this is to be sent without a copy.
    pub(super) fn wants(&self, fd: &OwnedFd, gather: &Gather) -> bool {
        let shared = &self.core.0;
        let least = if shared.mode == ZeroCopySend::On { 1 } else { WORTHWHILE };
        if self.plain.get() || self.rests() || self.sending.get() || gather.payload_len() < least {
            return false;
        }
        let too_many = shared.counts.get().in_flight + gather.slabs() as u64 > shared.most_slabs;
        if too_many || self.bytes.get() + gather.len() > MOST_BYTES {
            shared.count(|counts| counts.fallbacks += 1);
            return false;
        }
        if !self.enabled.replace(true) && enable(fd).is_err() {
            self.plain.set(true);
            return false;
        }
        true
    }

    /// Whether the kernel copies all the same, as far as is known.
    fn rests(&self) -> bool {
        let rests = self.rests_until.get().is_some_and(|until| Instant::now() < until);
        if !rests {
            self.rests_until.set(None);
        }
        rests
    }

    /// To be called before the send, with what is sent.
    fn take_off(&self, gather: &Gather) -> Reserved {
        debug_assert!(!self.sending.get());
        self.sending.set(true);
        let core = Rc::clone(&self.core.0);
        let slabs = gather.slabs() as u64;
        core.count(|counts| counts.in_flight += slabs);
        Reserved { core, slabs }
    }

    /// The kernel has taken `count` bytes. Gives a gather to go on with.
    fn flies(&self, mut flight: Flight, count: usize) -> Gather {
        self.sending.set(false);
        flight.gather.leave_views();
        self.core.0.count(|counts| {
            counts.sends += 1;
            counts.bytes += count as u64;
        });
        self.bytes.set(self.bytes.get() + flight.gather.len());
        self.flights.borrow_mut().push_back(Some(flight));
        if self.early.take() {
            let number = self.first.get().wrapping_add(self.flights.borrow().len() as u32 - 1);
            self.lands(number);
        }
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// The kernel has taken nothing.
    fn stays(&self, error: &io::Error) {
        self.sending.set(false);
        if error.raw_os_error() == Some(libc::ENOBUFS) {
            tracing::debug!("the kernel has no room for a send without a copy");
            self.core.0.count(|counts| counts.fallbacks += 1);
            // It is not for want of landings: the limit of locked memory leaves no room.
            if self.flights.borrow().is_empty() {
                self.plain.set(true);
            }
        }
    }

    /// The kernel has let go of a send.
    fn lands(&self, number: u32) {
        let mut flights = self.flights.borrow_mut();
        let at = number.wrapping_sub(self.first.get()) as usize;
        if at == flights.len() && self.sending.get() {
            self.early.set(true);
        }
        if let Some(Flight { mut gather, _reserved }) = flights.get_mut(at).and_then(Option::take) {
            self.core.0.count(|counts| counts.landed += 1);
            self.bytes.set(self.bytes.get() - gather.len());
            gather.clear();
            let mut spare = self.spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.push(gather);
            }
        }
        while let Some(None) = flights.front() {
            flights.pop_front();
            self.first.set(self.first.get().wrapping_add(1));
        }
    }

    /// Reads what the kernel has let go of. Gives the number of notifications.
    pub(super) fn land(&self, fd: &OwnedFd) -> usize {
        let mut seen = 0;
        while self.are_under_way() {
            let Some(Notification { first, last, copied }) = next_notification(fd) else { break };
            seen += 1;
            self.hear(copied);
            let many = last.wrapping_sub(first) as usize;
            // Never more than are under way, whatever the range says.
            let most = self.flights.borrow().len();
            (0..=many.min(most)).for_each(|step| self.lands(first.wrapping_add(step as u32)));
        }
        seen
    }

    /// The kernel has said of sends that it is done with them, and whether it copied them after all.
    pub(super) fn hear(&self, copied: bool) {
        self.heard.set(self.heard.get() + 1);
        self.core.0.count(|counts| counts.copied += u64::from(copied));
        self.copied.set(if copied { self.copied.get() + 1 } else { 0 });
        if self.copied.get() >= PATIENCE && self.core.0.mode == ZeroCopySend::Auto {
            self.copied.set(0);
            self.rests_until.set(Some(Instant::now() + REST));
        }
    }

    /// As if the time had passed.
    #[cfg(test)]
    pub(super) fn end_rest(&self) {
        self.rests_until.set(None);
    }

    /// How many notifications have been taken.
    pub(super) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// The connection's last user is gone. The kernel is made to let go of what is under way; what it does not let go
    /// of is leaked.
    pub(super) fn end(&mut self, fd: &OwnedFd) {
        if self.flights.get_mut().is_empty() {
            return;
        }
        abort(fd);
        self.land(fd);
        for flight in self.flights.get_mut().drain(..).flatten() {
            self.core.0.count(|counts| counts.leaked += 1);
            mem::forget(flight.gather);
        }
    }
}

/// What an operation that sends without a copy owns: its descriptor's owner, and the bytes.
pub(super) struct Parcel<T: AsRef<Flights>> {
    connection: T,
    load: Option<(Gather, Reserved)>,
}

impl<T: AsRef<Flights>> Parcel<T> {
    pub(super) fn new(connection: T, gather: Gather) -> Self {
        let reserved = connection.as_ref().take_off(&gather);
        Self { connection, load: Some((gather, reserved)) }
    }

    /// Takes the kernel's answer. Gives a gather to go on with: another one when the bytes are under way, this one when
    /// nothing was sent.
    pub(super) fn answered(mut self, result: &io::Result<usize>) -> Gather {
        let (gather, reserved) = self.load.take().expect("answered once");
        let flights = self.connection.as_ref();
        match result {
            Ok(count) => flights.flies(Flight { gather, _reserved: reserved }, *count),
            Err(error) => {
                flights.stays(error);
                gather
            }
        }
    }
}

impl<T: AsRef<Flights>> Drop for Parcel<T> {
    /// Without an answer (the runtime has ended) nobody knows whether the kernel reads the bytes.
    fn drop(&mut self) {
        if let Some((gather, _reserved)) = self.load.take() {
            let flights = self.connection.as_ref();
            flights.sending.set(false);
            flights.core.0.count(|counts| counts.leaked += 1);
            mem::forget(gather);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Arena, SLAB_LEN};

    struct Owner(Flights);

    impl AsRef<Flights> for Rc<Owner> {
        fn as_ref(&self) -> &Flights {
            &self.0
        }
    }

    fn owner(arena: &Arena) -> Rc<Owner> {
        Rc::new(Owner(Flights::new(&ZeroCopy::new(ZeroCopySend::On, arena.capacity()))))
    }

    fn parcel(owner: &Rc<Owner>, arena: &Arena) -> Parcel<Rc<Owner>> {
        let mut gather = Gather::default();
        gather.push_small(b"head");
        gather.push_payload(arena.take().unwrap().seal().ok().unwrap(), 0..100);
        Parcel::new(Rc::clone(owner), gather)
    }

    fn send(owner: &Rc<Owner>, arena: &Arena) {
        let gather = parcel(owner, arena).answered(&Ok(50));
        assert!(gather.is_empty(), "another one, or one that has landed");
    }

    #[test]
    fn sends_land_in_any_order_and_numbers_go_round() {
        let arena = Arena::new(8 * crate::ring::arena::STRIDE).unwrap();
        let owner = owner(&arena);
        owner.0.first.set(u32::MAX - 1);
        (0..4).for_each(|_| send(&owner, &arena));
        assert_eq!((arena.free(), owner.0.bytes.get()), (4, 4 * 104));
        for (number, free) in [(1, 5), (1, 5), (u32::MAX, 6), (u32::MAX - 1, 7), (7, 7), (0, 8)] {
            owner.0.lands(number);
            assert_eq!(arena.free(), free, "{number}");
        }
        assert!(!owner.0.are_under_way());
        assert_eq!((owner.0.first.get(), owner.0.bytes.get()), (2, 0));
        let counts = owner.0.core().counts();
        assert_eq!((counts.sends, counts.bytes, counts.landed, counts.in_flight), (4, 200, 4, 0));
        assert_eq!(owner.0.spare.borrow().len(), MOST_SPARE);
    }

    #[test]
    fn a_send_may_land_before_its_answer_is_heard() {
        let arena = Arena::new(2 * SLAB_LEN).unwrap();
        let owner = owner(&arena);
        let parcel = parcel(&owner, &arena);
        owner.0.lands(0);
        assert_eq!(arena.free(), 1, "it cannot be known to be this one before the answer");
        drop(parcel.answered(&Ok(1)));
        assert_eq!((arena.free(), owner.0.are_under_way()), (2, false));
    }

    #[test]
    fn a_refused_send_takes_no_number_and_gives_all_back() {
        let arena = Arena::new(2 * SLAB_LEN).unwrap();
        let owner = owner(&arena);
        let refused = |errno| Err(io::Error::from_raw_os_error(errno));
        let back = parcel(&owner, &arena).answered(&refused(libc::EAGAIN));
        assert_eq!((back.len(), arena.free(), owner.0.are_under_way()), (104, 1, false));
        drop(back);
        send(&owner, &arena);
        drop(parcel(&owner, &arena).answered(&refused(libc::ENOBUFS)));
        assert!(!owner.0.plain.get(), "there will be room when the other one has landed");
        owner.0.lands(0);
        assert_eq!(arena.free(), 2);
        drop(parcel(&owner, &arena).answered(&refused(libc::ENOBUFS)));
        assert!(owner.0.plain.get());
        let counts = owner.0.core().counts();
        assert_eq!((counts.sends, counts.fallbacks, counts.in_flight), (1, 2, 0));
    }

    #[test]
    fn what_nobody_knows_of_is_leaked() {
        let arena = Arena::new(2 * SLAB_LEN).unwrap();
        let owner = owner(&arena);
        let lost = parcel(&owner, &arena);
        let slab = arena.take().unwrap();
        drop(lost);
        drop(slab);
        assert_eq!(arena.free(), 1);
        let counts = owner.0.core().counts();
        assert_eq!((counts.leaked, counts.in_flight), (1, 0));
    }
}
