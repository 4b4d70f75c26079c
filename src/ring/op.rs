//! One operation: an entry for the submission queue, and the memory it points into.

use super::counters::{Begun, Kind};
use io_uring::{cqueue, opcode, squeue};
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

/// Hands back the kernel's answer and the memory, untouched.
struct Answer<D>(PhantomData<D>);

impl<D> OneshotOutputTransform for Answer<D> {
    type Output = (io::Result<usize>, D);
    type StoredData = (D, Begun);

    fn transform_oneshot_output(self, (data, begun): (D, Begun), cqe: cqueue::Entry) -> Self::Output {
        let result = cqe.result();
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        begun.end(&result);
        (result, data)
    }
}

/// Submits `entry`; the future gives the kernel's answer and `data` back. When the future is dropped before, the
/// driver keeps `data` until the kernel has answered. Counted as one operation of that kind, to move `asked` bytes (0:
/// it moves none).
///
/// # Safety
/// Every address and descriptor in `entry` must stay valid for as long as `data` is not dropped, wherever `data`
/// is moved to; and while `data` lives, memory that the operation writes must not be read or written by anyone
/// else, and memory that it reads must not be written. The entry must complete exactly once (no multishot, no
/// zero-copy send).
pub(super) unsafe fn submit<D: Unpin + 'static>(
    kind: Kind,
    asked: usize,
    entry: squeue::Entry,
    data: D,
) -> impl Future<Output = (io::Result<usize>, D)> {
    UnsubmittedOneshot::new((data, Begun::new(kind, asked)), Answer(PhantomData), entry).submit()
}

/// Waits for an answer of the kernel that comes at once. What was queued before goes with the question, and what the kernel
/// has to say comes with the answer; a task that only lets others have a turn (`yield_now`) hands nothing over while there are such.
pub(super) async fn turn() {
    // SAFETY: the entry names no memory and no descriptor, and is answered once.
    let (answered, ()) = unsafe { submit(Kind::Other, 0, opcode::Nop::new().build(), ()) }.await;
    debug_assert!(answered.is_ok(), "{answered:?}");
}
