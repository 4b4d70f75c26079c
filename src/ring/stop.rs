//! Signals that end the program in their handler: no thread need be free to hear them.

use signal_hook::low_level;
use std::ffi::c_int;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When the first of these signals came, on the monotonic clock in nanoseconds.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// From now on one of these signals ends the program at once, with the exit code beside it, when it is not the first of them.
/// Those that come within `grace` of the first are the same word said twice: there are programs that tell a process and then its
/// whole group.
///
/// # Errors
/// When the kernel refuses.
pub fn end_at_second_signal(signals: &[(c_int, u8)], grace: Duration) -> io::Result<()> {
    let grace = grace.as_nanos() as u64;
    // Finding out how to ask for the time takes memory, the first time: not in the handler.
    monotonic();
    for (signal, code) in signals.iter().copied() {
        let heard = move || {
            let now = monotonic();
            let first = FIRST.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            if first.is_err_and(|first| now.saturating_sub(first) >= grace) {
                low_level::exit(code.into());
            }
        };
        // SAFETY: what it calls may be called in a handler: atomics, clock_gettime, _exit.
        unsafe { low_level::register(signal, heard) }?;
    }
    Ok(())
}

fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
