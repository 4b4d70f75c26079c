//! What this core's ring has done, in plain numbers of its own thread. Whoever wants them asks on that thread.

use super::Histogram;
use std::cell::{Cell, RefCell};
use std::io;
use std::thread::LocalKey;
use std::time::Instant;
use tokio::runtime::{Handle, RuntimeMetrics};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads a file.
    Read,
    /// Writes a file.
    Write,
    /// Brings a file to stable storage.
    Sync,
    /// Receives on a connection.
    Recv,
    /// Sends on a connection.
    Send,
    /// Waits for a descriptor to be ready.
    Poll,
    /// Anything else.
    Other,
}

/// Number of kinds.
const KINDS: usize = 7;
/// How many of them are of the disk; they come first.
const DISK_KINDS: usize = 3;

impl Kind {
    /// All of them, in the order of [`RingCounters::operations`].
    pub const ALL: [Self; KINDS] =
        [Self::Read, Self::Write, Self::Sync, Self::Recv, Self::Send, Self::Poll, Self::Other];
    /// Those of the disk, in the order of [`RingCounters::disk`].
    pub const DISK: [Self; DISK_KINDS] = [Self::Read, Self::Write, Self::Sync];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Recv => "recv",
            Self::Send => "send",
            Self::Poll => "poll",
            Self::Other => "other",
        }
    }

    fn is_disk(self) -> bool {
        Self::DISK.contains(&self)
    }
}

/// Operations of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Put into the submission queue.
    pub queued: u64,
    /// Answered by the kernel, whether or not somebody still waited.
    pub completed: u64,
    /// Of those that somebody waited for: moved fewer bytes than were asked for, or none because nothing was ready.
    pub short: u64,
    /// Likewise: failed otherwise.
    pub failed: u64,
}

impl Operations {
    /// One has been answered that was to move so many bytes; 0: it moves none.
    fn answer(&mut self, asked: usize, result: &io::Result<usize>) {
        use io::ErrorKind::{Interrupted, WouldBlock};
        self.completed += 1;
        match result {
            Ok(moved) if asked > 0 => self.short += u64::from(*moved < asked),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => self.short += 1,
            Err(_) => self.failed += 1,
        }
    }
}

/// Times and sizes of one kind of disk operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskTimes {
    /// From the start to the answer, in nanoseconds.
    pub times: Histogram,
    /// Bytes moved by each.
    pub sizes: Histogram,
}

impl DiskTimes {
    const NONE: Self = Self { times: Histogram::of_times(), sizes: Histogram::of_sizes() };
}

/// Sends from files without mapping them, which are made beside the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSends {
    /// Each of as much as one SENDMSG would take if all of it were in memory. Nothing is queued for them: they are answered at once.
    pub sends: Operations,
    /// System calls for them that moved bytes: one for each stretch of a file, and one for what stands between two.
    pub calls: u64,
    /// Bytes that came from files.
    pub bytes: u64,
}

/// What the ring of a core has done since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingCounters {
    /// One a kind, as in [`Kind::ALL`].
    pub operations: [Operations; KINDS],
    /// Batches handed to the kernel. tokio-uring submits what is queued when the core runs out of work, by one
    /// `io_uring_enter`; counted are those that had something to hand over. When a batch is longer than the queue
    /// there are more calls than are counted here: [`queue_full`](Self::queue_full). A send without a copy, which has a ring of its
    /// own, is a batch of one.
    pub submissions: u64,
    /// How often a batch outgrew the submission queue, so that the kernel was handed a part of it at once.
    pub queue_full: u64,
    /// Processor time of this thread, in nanoseconds: what it has been busy for.
    pub busy: u64,
    /// Bytes of handshakes, sent by [`super::Socket::send_all`] and received by [`super::Socket::recv_some`].
    pub handshakes_sent: u64,
    /// See `handshakes_sent`.
    pub handshakes_received: u64,
    /// One a kind of disk operation, as in [`Kind::DISK`]: those of the ring, and those timed by [`DiskTimer`].
    pub disk: [DiskTimes; DISK_KINDS],
    /// Payload bytes copied in user space to be sent: those for peers that insist on encryption.
    pub copied: u64,
    /// Sends from files without mapping them.
    pub file_sends: FileSends,
    /// Tasks that have been started ([`super::spawn`]) and have not ended: now, not since the start.
    pub tasks: u64,
    /// Connections whose descriptor is open: now, not since the start.
    pub sockets: u64,
}

impl Default for RingCounters {
    fn default() -> Self {
        Self {
            operations: [Operations::default(); KINDS],
            submissions: 0,
            queue_full: 0,
            busy: 0,
            handshakes_sent: 0,
            handshakes_received: 0,
            disk: [DiskTimes::NONE; DISK_KINDS],
            copied: 0,
            file_sends: FileSends::default(),
            tasks: 0,
            sockets: 0,
        }
    }
}

/// Tells the turns of this thread's event loop apart.
struct Turns {
    runtime: RuntimeMetrics,
    last: Option<u64>,
    /// Operations queued in this turn.
    queued: u32,
    /// Room in the queue.
    entries: u32,
}

impl Turns {
    /// An operation is queued: whether it is the first since the loop last went to sleep (it submits just before it does),
    /// and whether it has found the queue full.
    fn queue(&mut self) -> (bool, bool) {
        let turn = Some(self.runtime.worker_park_count(0));
        let is_new = std::mem::replace(&mut self.last, turn) != turn;
        let before = if is_new { 0 } else { self.queued };
        self.queued = before + 1;
        (is_new, before > 0 && before.is_multiple_of(self.entries))
    }
}

thread_local! {
    static COUNTERS: RefCell<RingCounters> = RefCell::default();
    static TURNS: RefCell<Option<Turns>> = const { RefCell::new(None) };
    static TASKS: Cell<u64> = const { Cell::new(0) };
    static SOCKETS: Cell<u64> = const { Cell::new(0) };
}

/// What this thread's ring has done so far.
pub fn counters() -> RingCounters {
    RingCounters {
        tasks: TASKS.get(),
        sockets: SOCKETS.get(),
        busy: worked(),
        ..COUNTERS.with_borrow(|counters| *counters)
    }
}

/// Processor time of this thread, in nanoseconds. Miri has no such clock.
pub fn worked() -> u64 {
    if cfg!(miri) {
        return 0;
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// So many bytes of a handshake have been sent, and received.
pub(super) fn count_handshake(sent: usize, received: usize) {
    COUNTERS.with_borrow_mut(|counters| {
        counters.handshakes_sent += sent as u64;
        counters.handshakes_received += received as u64;
    });
}

/// `asked` bytes were sent without a copy, by a ring of its own that is handed each such send at once, with this result.
pub(super) fn count_send(asked: usize, result: &io::Result<usize>) {
    COUNTERS.with_borrow_mut(|counters| {
        let sends = &mut counters.operations[Kind::Send as usize];
        sends.queued += 1;
        sends.answer(asked, result);
        counters.submissions += 1;
    });
}

/// So many payload bytes have been copied to be sent.
pub(super) fn count_copied(bytes: u64) {
    COUNTERS.with_borrow_mut(|counters| counters.copied += bytes);
}

/// `asked` bytes were sent by so many `calls`, `bytes` of them from files, with this result.
pub(super) fn count_file_send(asked: usize, result: &io::Result<usize>, calls: u64, bytes: u64) {
    COUNTERS.with_borrow_mut(|RingCounters { file_sends, .. }| {
        file_sends.sends.queued += 1;
        file_sends.sends.answer(asked, result);
        file_sends.calls += calls;
        file_sends.bytes += bytes;
    });
}

/// Something of this thread that counts while it is there.
pub(super) struct Alive(&'static LocalKey<Cell<u64>>);

impl Alive {
    /// A task.
    pub(super) fn task() -> Self {
        Self::count(&TASKS)
    }

    /// A connection.
    pub(super) fn socket() -> Self {
        Self::count(&SOCKETS)
    }

    fn count(gauge: &'static LocalKey<Cell<u64>>) -> Self {
        gauge.set(gauge.get() + 1);
        Self(gauge)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Begins to count for a new ring of so many entries on this thread; its loop is the current one.
pub(super) fn reset(entries: u32) {
    COUNTERS.set(RingCounters::default());
    TURNS.set(Some(Turns { runtime: Handle::current().metrics(), last: None, queued: 0, entries }));
}

/// An operation under way.
pub(super) struct Begun {
    kind: Kind,
    asked: usize,
    timer: Option<DiskTimer>,
}

impl Begun {
    /// An operation is put into the queue; `asked`: bytes it is to move, 0 when it moves none.
    pub(super) fn new(kind: Kind, asked: usize) -> Self {
        let queue = |turns: &mut Option<Turns>| turns.as_mut().map_or((false, false), Turns::queue);
        let (is_new, is_full) = TURNS.with_borrow_mut(queue);
        COUNTERS.with_borrow_mut(|counters| {
            counters.operations[kind as usize].queued += 1;
            counters.submissions += u64::from(is_new);
            counters.queue_full += u64::from(is_full);
        });
        Self { kind, asked, timer: kind.is_disk().then(|| DiskTimer::start(kind)) }
    }

    /// The kernel has answered, and somebody waited for it.
    pub(super) fn end(mut self, result: &io::Result<usize>) {
        self.timer.take().into_iter().for_each(|timer| timer.stop(result));
        self.answer(result);
        std::mem::forget(self);
    }

    fn answer(&self, result: &io::Result<usize>) {
        let count = |counters: &RefCell<RingCounters>| {
            counters.borrow_mut().operations[self.kind as usize].answer(self.asked, result);
        };
        // Of what is left when a core has ended nothing is counted.
        let _ = COUNTERS.try_with(count);
    }
}

/// Nobody waits any more: it counts as done, whatever the answer. The driver keeps what belongs to an operation until the kernel has
/// given it, and this with it.
impl Drop for Begun {
    fn drop(&mut self) {
        self.answer(&Ok(self.asked));
    }
}

/// Takes the time of one disk operation. Those of the ring have theirs taken anyway; this is for work beside it.
#[derive(Debug)]
pub struct DiskTimer {
    kind: Kind,
    since: Instant,
}

impl DiskTimer {
    /// The operation begins.
    ///
    /// # Panics
    /// When it is none of the disk.
    pub fn start(kind: Kind) -> Self {
        assert!(kind.is_disk(), "{kind:?} is no disk operation");
        Self { kind, since: Instant::now() }
    }

    /// It is done, with so many bytes moved, and counts on this thread; nothing counts when it has failed.
    pub fn stop(self, result: &io::Result<usize>) {
        let Ok(moved) = result else { return };
        let time = self.since.elapsed();
        COUNTERS.with_borrow_mut(|counters| {
            let disk = &mut counters.disk[self.kind as usize];
            disk.times.observe_time(time);
            disk.sizes.observe(*moved as u64);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_in_the_order_of_their_counters() {
        assert!(Kind::ALL.iter().enumerate().all(|(at, kind)| *kind as usize == at));
        assert_eq!(Kind::DISK, Kind::ALL[..DISK_KINDS]);
    }

    #[test]
    fn answers_are_told_apart() {
        let before = counters();
        let answers: [io::Result<usize>; 5] = [
            Ok(10),
            Ok(9),
            Err(io::ErrorKind::WouldBlock.into()),
            Err(io::ErrorKind::BrokenPipe.into()),
            Ok(10),
        ];
        for answer in &answers {
            Begun::new(Kind::Send, 10).end(answer);
        }
        // One that nobody waits for any more.
        drop(Begun::new(Kind::Send, 10));
        Begun::new(Kind::Poll, 0).end(&Ok(1));
        let after = counters();
        let sends = after.operations[Kind::Send as usize];
        assert_eq!(sends, Operations { queued: 6, completed: 6, short: 2, failed: 1 });
        assert_eq!(after.operations[Kind::Poll as usize].short, 0);
        assert_eq!((after.disk, after.submissions), (before.disk, 0), "no disk, and no loop");
    }

    #[test]
    fn what_is_there_counts_until_it_has_gone() {
        let count = || (counters().tasks, counters().sockets);
        let before = count();
        let (one, two, socket) = (Alive::task(), Alive::task(), Alive::socket());
        assert_eq!(count(), (before.0 + 2, before.1 + 1));
        drop((one, socket));
        assert_eq!(count(), (before.0 + 1, before.1));
        drop(two);
        assert_eq!(count(), before);
    }

    #[test]
    fn disk_work_beside_the_ring_can_be_timed() {
        DiskTimer::start(Kind::Write).stop(&Ok(1 << 20));
        DiskTimer::start(Kind::Write).stop(&Err(io::ErrorKind::StorageFull.into()));
        let disk = counters().disk[Kind::Write as usize];
        assert_eq!((disk.times.count(), disk.sizes.sum()), (1, 1 << 20));
    }
}
