//! A core's second ring, for sends without a copy (SENDMSG_ZC) and nothing else.
//!
//! tokio-uring has no place for them: it panics when a completion that promises another one is an error (a peer that resets the
//! connection), and its future ends with the second one only, so one send a round trip would be all. This ring is made at the core's
//! first such send. Each is handed over at once; its answer is there when that call returns, for it waits for nothing. What
//! the kernel says later makes the ring's descriptor readable, which the reactor of the core's tasks waits for.

use super::flights::Flights;
use super::registration::alone;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for submissions: each is handed over at once, so that there is more than one only when the kernel has refused to take it.
const SUBMISSIONS: u32 = 4;
/// Room for what the kernel says. What finds none waits in the kernel.
const COMPLETIONS: u32 = 128;

/// The kernel is to say whether it has copied all the same (IORING_SEND_ZC_REPORT_USAGE, Linux 6.2), and this is how it does
/// (IORING_NOTIF_USAGE_ZC_COPIED).
const REPORT: u16 = 1 << 3;
const COPIED: u32 = 1 << 31;
/// What is said is that the kernel is done with the bytes (IORING_CQE_F_NOTIF).
const DONE: u32 = 1 << 3;

/// See the module.
pub(super) struct SendRing {
    ring: RefCell<IoUring>,
    /// Whether the kernel is asked to report; the oldest that we run on refuses that.
    reports: Cell<bool>,
}

impl AsRawFd for SendRing {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.borrow().as_raw_fd()
    }
}

impl SendRing {
    /// For this thread.
    ///
    /// # Errors
    /// What the kernel says; `Unsupported` when it has no sends of this kind.
    pub(super) fn new() -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_coop_taskrun().setup_single_issuer().setup_submit_all().setup_cqsize(COMPLETIONS);
        let ring: IoUring = alone(|| builder.build(SUBMISSIONS))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::SendMsgZc::CODE) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel has no SENDMSG_ZC"));
        }
        Ok(Self { ring: RefCell::new(ring), reports: Cell::new(true) })
    }

    /// Tells when the kernel has said something.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn readiness(self: Rc<Self>) -> io::Result<AsyncFd<Rc<Self>>> {
        // SAFETY: the ring has one descriptor as long as it lives, and what is returned has a share of it.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// Asks for no report from now on; whether it has been asked for.
    pub(super) fn stop_reports(&self) -> bool {
        self.reports.replace(false)
    }

    /// Hands a send to the kernel, which says by this `number` what becomes of it. `false`: it cannot be, and nothing is sent.
    ///
    /// The answer comes before this returns. The kernel neither queues a send that is not to wait (MSG_DONTWAIT) nor gives it to a
    /// thread, and puts down what has become of it before it leaves the call. Where the call itself fails, for want of the
    /// kernel's memory, there is no answer, and the entry may go out with the next one. To wait for that here would hold up
    /// the core; so it is left under way, and the connection, of which nobody knows what was sent, has to end.
    ///
    /// # Safety
    /// The header and all that it names stay as they are until the kernel is done with the bytes, and the descriptor stays open until
    /// it has answered.
    #[must_use]
    pub(super) unsafe fn send(&self, socket: RawFd, header: *const libc::msghdr, number: u64) -> bool {
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
        let report = if self.reports.get() { REPORT } else { 0 };
        let entry = opcode::SendMsgZc::new(Fd(socket), header).ioprio(report).flags(flags).build();
        let mut ring = self.ring.borrow_mut();
        // SAFETY: the caller keeps what the entry names, also when it goes out later.
        if unsafe { ring.submission().push(&entry.user_data(number)) }.is_err() {
            return false;
        }
        if let Err(cause) = ring.submit() {
            tracing::debug!("a send without a copy is not taken: {cause}");
        }
        true
    }

    /// Takes down what the kernel has said.
    pub(super) fn reap(&self, flights: &RefCell<Flights>) {
        let mut ring = self.ring.borrow_mut();
        loop {
            let mut flights = flights.borrow_mut();
            for said in ring.completion() {
                let (number, result, flags) = (said.user_data(), said.result(), said.flags());
                match flags & DONE != 0 {
                    true => flights.done(number, result as u32 & COPIED != 0),
                    false => flights.answered(number, result, cqueue::more(flags)),
                }
            }
            // What waits in the kernel for room comes when it is called.
            if !ring.submission().cq_overflow() || ring.submit().is_err() {
                return;
            }
        }
    }

    /// Waits until the kernel says something, but no longer than that.
    pub(super) fn wait(&self, limit: Duration) {
        let limit = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
        // An error is that the time is over; else the caller's clock ends it.
        let _ = self.ring.borrow().submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit));
    }
}
