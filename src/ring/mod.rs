//! The only door to io_uring: one core's tokio-uring runtime, its slab arena, its sockets and files.
//!
//! Every `unsafe` block on the data path lives here, and nothing above this room names tokio-uring. What callers
//! get is safe because the kernel is only ever handed memory that the operation itself owns a share of: a
//! [`Lease`] (bytes of a slab that only this operation may write), a [`Slab`] (bytes that nobody writes any
//! more), a [`Window`] of a file (which only the kernel reads), or a buffer that moves into the operation and comes back with
//! its result. A dropped future leaves its operation, and with it that memory, to the driver until the kernel has answered.
//! What the page cache holds and is not mapped is sent by a system call beside the ring ([`FileRange`]).
//!
//! Sockets are driven by readiness: [`Socket::readable`] waits and holds no memory, then
//! [`Socket::recv`] and [`Socket::send`] move what there is at once and never wait. So an idle or slow peer pins
//! neither a buffer nor a slab, and no operation that points into a slab can linger behind a silent peer. Only sends
//! without a copy ([`ZeroCopy`]) hold slabs until the peer has acknowledged them; their number has a bound. They are io_uring's
//! (SENDMSG_ZC), on a second ring beside tokio-uring's.
#![allow(unsafe_code)]

mod arena;
mod blocking;
mod counters;
mod descriptors;
mod entries;
mod file;
mod flights;
mod gather;
mod histogram;
mod listener;
mod map;
mod mapping;
mod op;
mod panics;
mod registration;
mod runtime;
mod scatter;
mod send_ring;
mod sendfile;
mod socket;
mod stop;
mod support;
#[cfg(test)]
mod tests;
mod view;
mod zero_copy;

pub use arena::{Arena, BLOCKS_IN_SLAB, CHUNK_SLABS, FillingSlab, Lease, SLAB_LEN, Slab};
pub use counters::{DiskTimer, DiskTimes, FileSends, Kind, Operations, RingCounters, counters, worked};
pub use descriptors::{Descriptors, Place, Places, TooFewDescriptors, raise_limit};
pub use entries::cores_with_rings;
pub use file::File;
pub use gather::Gather;
pub use histogram::{Batches, Histogram};
pub use listener::{Listener, listen};
pub use map::{FileMap, MAX_PARTS, Parts};
pub use runtime::{Config, Core, next_cpus, run, spawn};
pub use scatter::{MAX_LEASES, Scatter};
pub use sendfile::FileRange;
pub use socket::{Deadline, LooseSocket, Socket};
pub use stop::end_at_second_signal;
pub use support::{CoreError, StartError, bug_of_ours};
pub use view::{Cached, VIEW_LEN, View, Window};
pub use zero_copy::{ZeroCopy, ZeroCopyCounts, ZeroCopySend};
