//! One operation: an entry for the submission queue, and the memory it points into.

use super::counters::{Begun, Kind};
use io_uring::{cqueue, squeue};
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

/// Hands back the kernel's answer and the memory, untouched.
struct Answer<D>(PhantomData<D>);

impl<D> OneshotOutputTransform for Answer<D> {
    type Output = (io::Result<usize>, D);
    type StoredData = D;

    fn transform_oneshot_output(self, data: D, cqe: cqueue::Entry) -> Self::Output {
        let result = cqe.result();
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
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
    let begun = Begun::new(kind, asked);
    let answer = UnsubmittedOneshot::new(data, Answer(PhantomData), entry).submit();
    async move {
        let answer = answer.await;
        begun.end(&answer.0);
        answer
    }
}
