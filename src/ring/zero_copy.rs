//! Sends that the kernel makes straight from slabs, without copying: when, how many at a time, and what comes of them.
//!
//! The kernel goes on reading the bytes of such a send until the peer has acknowledged them. What is under way belongs to the core
//! ([`Flights`]), not to its connection or task: these may be gone when the kernel says that it is done. It says so by the core's
//! second ring ([`SendRing`]).

use super::Gather;
use super::counters::count_send;
use super::flights::Flights;
use super::panics;
use super::send_ring::SendRing;
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Once;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Shortest payload (bytes) for which [`ZeroCopySend::Auto`] pays.
const WORTHWHILE: usize = 16 * 1024;
/// Most bytes under way without a copy on one connection; what goes beyond is copied.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Bytes in a row of which the kernel says "copied after all" before [`ZeroCopySend::Auto`] believes it. No number of sends: of
/// one that goes into the packet of an earlier one Linux says so whether it is true or not (`io_link_skb`, since 6.10), and
/// of short ones there are some in a packet.
const PATIENCE: u64 = 1024 * 1024;
/// For so long; then it is tried again. Somebody may have listened on the device: then the kernel copies what goes by.
const REST: Duration = Duration::from_secs(60);
/// How long the end of a core waits for what connections that were reset have under way.
const LAST_LANDINGS: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 1000 });

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
    /// Those of which it says that it copied after all (loopback, a device that cannot gather).
    pub copied: u64,
    /// Sends that were copied because too much was under way already, or the kernel would not lock the memory; and connections
    /// all of whose sends are, because it has none of the other kind.
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
    flights: RefCell<Flights>,
    /// Made for the first send; `None` when there can be none.
    ring: OnceCell<Option<Rc<SendRing>>>,
}

/// One core's zero-copy sending: its mode, its budget and its counts. Clones share them.
#[derive(Clone)]
pub struct ZeroCopy(Rc<Shared>);

impl ZeroCopy {
    /// For a core with so many slabs.
    pub(super) fn new(mode: ZeroCopySend, slabs: usize) -> Self {
        let flights = RefCell::new(Flights::new(slabs));
        Self(Rc::new(Shared { mode, flights, ring: OnceCell::new() }))
    }

    /// When payload is sent without a copy.
    pub fn mode(&self) -> ZeroCopySend {
        self.0.mode
    }

    /// What has happened so far.
    pub fn counts(&self) -> ZeroCopyCounts {
        self.0.flights.borrow().counts
    }

    /// As if so many slabs were held for sends under way.
    #[cfg(test)]
    pub(crate) fn pretend_in_flight(&self, slabs: u64) {
        self.0.flights.borrow_mut().counts.in_flight = slabs;
    }

    /// As if the kernel had no such sends.
    #[cfg(test)]
    pub(super) fn pretend_unsupported(&self) {
        assert!(self.0.ring.set(None).is_ok(), "before the first send");
    }

    /// Whether the kernel may still read something that was sent.
    pub fn is_under_way(&self) -> bool {
        !self.0.flights.borrow().are_over()
    }

    pub(super) fn count_abort(&self) {
        self.0.flights.borrow_mut().counts.aborted += 1;
    }

    fn count_fallback(&self) {
        self.0.flights.borrow_mut().counts.fallbacks += 1;
    }

    /// The ring for such sends, if there can be one.
    fn ring(&self) -> Option<&SendRing> {
        let ring = self.0.ring.get_or_init(|| self.make_ring().inspect_err(warn_of_copies).ok());
        ring.as_deref()
    }

    /// A ring, and a task that takes down what the kernel says: slabs come back though nothing more is sent.
    fn make_ring(&self) -> io::Result<Rc<SendRing>> {
        let ring = Rc::new(SendRing::new()?);
        let readiness = Rc::clone(&ring).readiness()?;
        let core = self.clone();
        // Counts as no task: it is a part of the core, as the one that tends tokio-uring's ring is, and ends with it.
        tokio_uring::spawn(async move {
            while let Ok(mut ready) = readiness.readable().await {
                if panics::caught(|| readiness.get_ref().reap(&core.0.flights)).is_err() {
                    return;
                }
                // What comes from here on makes it ready anew.
                ready.clear_ready();
            }
        });
        Ok(ring)
    }

    fn reap(&self) {
        if let Some(Some(ring)) = self.0.ring.get() {
            ring.reap(&self.0.flights);
        }
    }
}

/// Says, once in the life of the process, that nothing is sent without a copy.
fn warn_of_copies(cause: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!("all is sent with a copy: there can be no ring for sends without one ({cause})")
    });
}

/// The end of a core, to be dropped when its runtime has been: connections that were dropped with it are reset, so that the kernel
/// lets go of what they have under way. What it has not let go of in some time is leaked.
pub(super) struct LastLandings(pub(super) ZeroCopy);

impl Drop for LastLandings {
    fn drop(&mut self) {
        let Shared { flights, ring, .. } = &*self.0.0;
        let Some(Some(ring)) = ring.get() else { return };
        let begun = Instant::now();
        ring.reap(flights);
        while !flights.borrow().are_over()
            && let Some(left) = LAST_LANDINGS.checked_sub(begun.elapsed())
        {
            ring.wait(left);
            ring.reap(flights);
        }
        flights.borrow_mut().leak();
    }
}

/// What is known of one connection's sends without a copy.
pub(super) struct Sends {
    /// Those that the kernel has not let go of, and their bytes.
    under_way: Cell<usize>,
    bytes: Cell<usize>,
    /// They are of no use here.
    plain: Cell<bool>,
    /// The next one is copied.
    next_plain: Cell<bool>,
    /// Bytes in a row of which the kernel says "copied after all"; and until when that is believed, if it is at all.
    copied: Cell<u64>,
    rests_until: Cell<Option<Instant>>,
    believes: bool,
    /// Nothing is under way any more.
    over: Notify,
}

impl Sends {
    pub(super) fn new(mode: ZeroCopySend) -> Self {
        Self {
            under_way: Cell::new(0),
            bytes: Cell::new(0),
            plain: Cell::new(false),
            next_plain: Cell::new(false),
            copied: Cell::new(0),
            rests_until: Cell::new(None),
            believes: mode == ZeroCopySend::Auto,
            over: Notify::new(),
        }
    }

    /// So many bytes are given to the kernel.
    pub(super) fn begins(&self, bytes: usize) {
        self.under_way.set(self.under_way.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// The kernel has let go of them.
    pub(super) fn end(&self, bytes: usize) {
        self.under_way.set(self.under_way.get() - 1);
        self.bytes.set(self.bytes.get() - bytes);
        if self.under_way.get() == 0 {
            self.over.notify_waiters();
        }
    }

    /// It is done with so many bytes, and says whether it has copied them after all.
    pub(super) fn hear(&self, copied: bool, bytes: u64) {
        self.copied.set(if copied { self.copied.get() + bytes } else { 0 });
        if self.copied.get() >= PATIENCE && self.believes {
            self.copied.set(0);
            self.rests_until.set(Some(Instant::now() + REST));
        }
    }

    /// Whether the kernel copies all the same, as far as is known.
    fn rests(&self) -> bool {
        let rests = self.rests_until.get().is_some_and(|until| Instant::now() < until);
        if !rests {
            self.rests_until.set(None);
        }
        rests
    }

    /// The kernel has no memory for a send.
    fn find_no_room(&self) {
        tracing::debug!("the kernel has no room for a send without a copy");
        // It is not for want of landings: the limit of locked memory leaves no room.
        if self.under_way.get() == 0 {
            self.plain.set(true);
        }
    }
}

/// What has become of a send that was to be made without a copy.
pub(super) enum Sent {
    /// The kernel has answered; and a gather to go on with.
    Answered(io::Result<usize>, Gather),
    /// It makes no such send of this, and has let go of it.
    Refused(Gather),
}

/// One connection's way to send without a copy.
pub(super) struct Outgoing {
    core: ZeroCopy,
    sends: Rc<Sends>,
}

impl Outgoing {
    pub(super) fn new(core: &ZeroCopy) -> Self {
        Self { core: core.clone(), sends: Rc::new(Sends::new(core.mode())) }
    }

    pub(super) fn core(&self) -> &ZeroCopy {
        &self.core
    }

    /// Whether the kernel may still read something.
    pub(super) fn is_under_way(&self) -> bool {
        self.sends.under_way.get() > 0
    }

    /// Waits until it has let go of everything.
    pub(super) async fn landed(&self) {
        while self.is_under_way() {
            self.sends.over.notified().await;
        }
    }

    /// Whether this is to be sent without a copy.
    pub(super) fn wants(&self, gather: &Gather) -> bool {
        let Self { core, sends } = self;
        let least = if core.mode() == ZeroCopySend::On { 1 } else { WORTHWHILE };
        if sends.plain.get() || sends.next_plain.take() || sends.rests() || gather.payload_len() < least {
            return false;
        }
        core.reap();
        let have_room = core.0.flights.borrow().have_room(gather.slabs());
        let too_much = !have_room || sends.bytes.get() + gather.len() > MOST_BYTES;
        let cannot_be = !too_much && core.ring().is_none();
        sends.plain.set(cannot_be);
        if too_much || cannot_be {
            core.count_fallback();
        }
        !too_much && !cannot_be
    }

    /// Sends what is wanted without a copy, as much as the send buffer takes.
    pub(super) fn send<T: AsRawFd + 'static>(&self, connection: &Rc<T>, mut gather: Gather) -> Sent {
        let (core, sends) = (&self.core, &self.sends);
        let ring = core.ring().expect("who has none does not want this");
        let flights = &core.0.flights;
        let (len, header) = (gather.len(), gather.header());
        let held = Rc::clone(connection) as Rc<dyn Any>;
        let number = flights.borrow_mut().take_off(gather, sends, held);
        // SAFETY: the header points into the heap of the gather and into sealed slabs and views that it has shares of, none of which
        // moves with it. It is a flight from here on, which ends, or gives the gather back, only when the kernel has said that
        // it is done with the bytes, and leaks it otherwise. Meanwhile nobody reaches it but to let go of views, when the kernel has
        // answered: then it holds the pages themselves and looks at no address again. The connection, and so the descriptor, is held
        // until that answer.
        if !unsafe { ring.send(connection.as_raw_fd(), header, number) } {
            flights.borrow_mut().answered(number, -libc::ENOBUFS, false);
        }
        ring.reap(flights);
        let (result, gather) = flights.borrow_mut().tell(number);
        count_send(len, &result);
        let is_refused = match result.as_ref().err().and_then(io::Error::raw_os_error) {
            Some(libc::ENOBUFS | libc::ENOMEM) => {
                core.count_fallback();
                sends.find_no_room();
                true
            }
            Some(libc::EINVAL) => ring.stop_reports(),
            // A socket of a kind that has no such sends (MPTCP).
            Some(libc::EOPNOTSUPP) => {
                core.count_fallback();
                sends.plain.set(true);
                true
            }
            _ => false,
        };
        match (is_refused, gather) {
            (true, Some(gather)) => Sent::Refused(gather),
            // What is not given back yet cannot be sent in another way: it is laid out anew.
            (true, None) => {
                sends.next_plain.set(true);
                Sent::Answered(Err(io::ErrorKind::Interrupted.into()), flights.borrow_mut().spare())
            }
            (false, Some(gather)) => Sent::Answered(result, gather),
            (false, None) => Sent::Answered(result, flights.borrow_mut().spare()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Arena, SLAB_LEN};

    fn payload(arena: &Arena, len: usize) -> Gather {
        let mut gather = Gather::default();
        gather.push_payload(arena.take().unwrap().seal().ok().unwrap(), 0..len);
        gather
    }

    fn outgoing(mode: ZeroCopySend, arena: &Arena) -> Outgoing {
        let core = ZeroCopy::new(mode, arena.capacity());
        core.pretend_unsupported();
        Outgoing::new(&core)
    }

    #[test]
    fn what_the_kernel_copies_all_the_same_is_believed_for_a_while() {
        let sends = Sends::new(ZeroCopySend::Auto);
        let hear = |said: &[(bool, u64)]| said.iter().for_each(|(copied, bytes)| sends.hear(*copied, *bytes));
        hear(&[(true, PATIENCE - 1), (false, 1), (true, PATIENCE - 1)]);
        assert!(!sends.rests(), "never so much in a row");
        hear(&[(true, 1)]);
        assert!(sends.rests());
        sends.rests_until.set(Some(Instant::now()));
        assert!(!sends.rests(), "it may have been passing");
        let always = Sends::new(ZeroCopySend::On);
        always.hear(true, PATIENCE);
        assert!(!always.rests());
    }

    #[test]
    fn without_such_sends_a_connection_copies_and_counts_once() {
        let arena = Arena::new(4 * SLAB_LEN).unwrap();
        let outgoing = outgoing(ZeroCopySend::On, &arena);
        for _ in 0..3 {
            assert!(!outgoing.wants(&payload(&arena, 1)));
        }
        assert_eq!(outgoing.core().counts(), ZeroCopyCounts { fallbacks: 1, ..Default::default() });
    }

    #[test]
    fn little_too_much_or_what_follows_a_refusal_is_copied() {
        let arena = Arena::new(8 * crate::ring::arena::STRIDE).unwrap();
        let outgoing = outgoing(ZeroCopySend::Auto, &arena);
        let fallbacks = || outgoing.core().counts().fallbacks;
        assert!(!outgoing.wants(&payload(&arena, WORTHWHILE - 1)));
        outgoing.sends.next_plain.set(true);
        assert!(!outgoing.wants(&payload(&arena, WORTHWHILE)));
        assert_eq!(fallbacks(), 0, "neither was to go another way");
        outgoing.sends.begins(MOST_BYTES);
        assert!(!outgoing.wants(&payload(&arena, WORTHWHILE)));
        assert!(!outgoing.sends.plain.get(), "too much for now");
        outgoing.sends.end(MOST_BYTES);
        outgoing.core().pretend_in_flight(2);
        assert!(!outgoing.wants(&payload(&arena, WORTHWHILE)));
        assert_eq!((fallbacks(), outgoing.sends.plain.get()), (2, false));
        outgoing.core().pretend_in_flight(0);
    }

    #[test]
    fn for_want_of_locked_memory_a_connection_copies_for_good_if_nothing_of_it_is_to_land() {
        let sends = Sends::new(ZeroCopySend::On);
        sends.begins(1);
        sends.find_no_room();
        assert!(!sends.plain.get(), "there will be room when that has landed");
        sends.end(1);
        sends.find_no_room();
        assert!(sends.plain.get());
    }
}
