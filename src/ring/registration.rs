//! Payload memory as the kernel knows it: a table of fixed buffers at the ring, filled in as the arena grows.
//!
//! The kernel pins what is registered, so all of it becomes resident at once: a GiB costs a tenth of a second at best, and
//! seconds where a hypervisor has to find the pages first. tokio-uring registers its buffers once and for all; so the table
//! is made with places that are empty, which is allowed, and those are filled in by the system call itself.

use super::mapping::Mapping;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_uring::buf::fixed::FixedBufRegistry;
use tokio_uring::buf::{IoBuf, IoBufMut};

/// Fills in places of a ring's table of buffers (`io_uring_register`, Linux 5.13).
const UPDATE_BUFFERS: libc::c_ulong = 16;

/// A part of the mapping as tokio-uring wants it for registration; an empty range is an empty place.
struct Place(Arc<Mapping>, Range<usize>);

impl Place {
    fn base(&self) -> *mut u8 {
        if self.1.is_empty() {
            return std::ptr::null_mut();
        }
        // SAFETY: the range lies inside the mapping.
        unsafe { self.0.base.add(self.1.start) }.as_ptr()
    }
}

// SAFETY: the mapping neither moves nor shrinks while `self.0` keeps it, and it is zero-filled by the kernel, so
// all of it is initialised. An empty place has no bytes.
unsafe impl IoBuf for Place {
    fn stable_ptr(&self) -> *const u8 {
        self.base()
    }
    fn bytes_init(&self) -> usize {
        self.1.len()
    }
    fn bytes_total(&self) -> usize {
        self.1.len()
    }
}

// SAFETY: as above. tokio-uring only reads the address for registration; it never writes through it itself.
unsafe impl IoBufMut for Place {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.base()
    }
    unsafe fn set_init(&mut self, _: usize) {}
}

/// The table of the current runtime's ring.
pub(super) struct Table {
    ring: Option<RawFd>,
}

impl Table {
    /// Registers `first` of the mapping as place 0 of a table with so many places. Without the ring's descriptor the others
    /// stay empty.
    ///
    /// # Errors
    /// What the kernel says; mostly that so much may not be locked.
    pub(super) fn register(
        mapping: &Arc<Mapping>,
        first: Range<usize>,
        places: usize,
        ring: Option<RawFd>,
    ) -> io::Result<Self> {
        let places = (0..places).map(|place| {
            let range = if place == 0 { first.clone() } else { 0..0 };
            Place(Arc::clone(mapping), range)
        });
        FixedBufRegistry::new(places).register()?;
        Ok(Self { ring })
    }

    /// Fills in a place that was empty.
    ///
    /// # Errors
    /// As for [`Self::register`].
    pub(super) fn fill(&self, place: u16, mapping: &Mapping, range: Range<usize>) -> io::Result<()> {
        let ring = self.ring.ok_or(io::ErrorKind::Unsupported)?;
        /// `io_uring_rsrc_update2`.
        #[repr(C)]
        struct Update {
            offset: u32,
            reserved: u32,
            data: u64,
            tags: u64,
            count: u32,
            reserved_too: u32,
        }
        // SAFETY: the range lies inside the mapping.
        let base = unsafe { mapping.base.add(range.start) };
        let buffer = libc::iovec { iov_base: base.as_ptr().cast(), iov_len: range.len() };
        let data = (&raw const buffer).expose_provenance() as u64;
        let update = Update { offset: place.into(), reserved: 0, data, tags: 0, count: 1, reserved_too: 0 };
        // SAFETY: the kernel reads `update` and `buffer`, which outlive the call, and pins pages of the mapping, which
        // `Table::register` gave to the ring for as long as it lives.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                ring,
                UPDATE_BUFFERS,
                &raw const update,
                size_of::<Update>(),
            )
        };
        if result == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Makes a ring while no other is made.
pub(super) fn alone<R>(make: impl FnOnce() -> R) -> R {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    make()
}

/// Makes a ring, and finds its descriptor, which tokio-uring keeps to itself; none when the process cannot see its own
/// descriptors.
pub(super) fn descriptor_of<R, E>(make: impl FnOnce() -> Result<R, E>) -> Result<(R, Option<RawFd>), E> {
    // One ring at a time: the one that is there afterwards, and was not before, is this one.
    alone(|| {
        let before = rings();
        let made = make()?;
        let mut new = rings().into_iter().filter(|ring| !before.contains(ring)).map(|(ring, _)| ring);
        let (ring, another) = (new.next(), new.next());
        Ok((made, if another.is_none() { ring } else { None }))
    })
}

/// The rings of this process: descriptors and inodes, for what a ring that has just ended had as a descriptor may be that of the
/// next one.
fn rings() -> BTreeSet<(RawFd, u64)> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let ring = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        if target.as_os_str() != "anon_inode:[io_uring]" {
            return None;
        }
        Some((entry.file_name().to_str()?.parse().ok()?, std::fs::metadata(entry.path()).ok()?.ino()))
    };
    entries.flatten().filter_map(ring).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_found_also_when_another_has_just_given_it_its_descriptor() {
        let make = || tokio_uring::Runtime::new(&tokio_uring::builder());
        let (old, first) = descriptor_of(make).unwrap();
        let again = || {
            drop(old);
            make()
        };
        let (_new, second) = descriptor_of(again).unwrap();
        assert!(first.is_some() && second.is_some(), "{first:?}, {second:?}");
    }
}
