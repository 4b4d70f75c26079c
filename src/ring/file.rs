//! Files: positional reads into leases and writes from sealed slabs.
//!
//! Reads, and direct (`O_DIRECT`) writes, are operations of the ring. Writes through the page cache are not, nor is anything
//! that the kernel has no thread for: see `blocking.rs`.

use super::arena::{Lease, Slab};
use super::blocking;
use super::counters::{DiskTimer, Kind};
use super::op::submit;
use io_uring::{opcode, types};
use rustix::fs::FallocateFlags;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The number of the system call, the same on all processors but Alpha.
const CACHESTAT: libc::c_long = 451;

/// An open file; clones share the descriptor, which is closed with the last of them or of its operations.
#[derive(Clone)]
pub struct File(Arc<OwnedFd>);

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl File {
    /// Takes over an open descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.0.as_raw_fd())
    }

    /// Reads from `offset` of the file into the first `len` bytes of the lease, all of them, and gives what remains
    /// of the lease.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; else what the kernel says.
    pub async fn read_exact(&self, mut lease: Lease, len: usize, mut offset: u64) -> io::Result<Lease> {
        let rest = lease.len() - len;
        while lease.len() > rest {
            let missing = lease.len() - rest;
            let (result, back) = self.read_once(lease, missing, offset).await;
            lease = back;
            match result {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => offset += count as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lease)
    }

    /// How many pages of `len` bytes at `offset` are in the page cache. It is asked, and not tried: a read that may not wait
    /// starts to read ahead all the same.
    ///
    /// # Errors
    /// `PermissionDenied` when that is told only to those who own the file or may write it (Linux 6.13); else the kernel (before
    /// 6.5) cannot tell.
    pub fn cached(&self, offset: u64, len: usize) -> io::Result<u64> {
        /// `cachestat` and its operands, of which neither libc nor rustix knows more than the number.
        #[repr(C)]
        struct Range {
            offset: u64,
            len: u64,
        }
        let range = Range { offset, len: len as u64 };
        // Pages that are cached, dirty, being written, evicted, and evicted not long ago.
        let mut counts = [0u64; 5];
        // SAFETY: the kernel reads `range` and writes five numbers to `counts`; both outlive the call, and `self` keeps the
        // descriptor open.
        let result =
            unsafe { libc::syscall(CACHESTAT, self.0.as_raw_fd(), &raw const range, counts.as_mut_ptr(), 0) };
        if result == 0 { Ok(counts[0]) } else { Err(io::Error::last_os_error()) }
    }

    /// Reads once from `offset` of a file that is open for direct reads, into the first `len` bytes of the lease: offset,
    /// length and place in the slab must be aligned as the file system wants. Gives what remains of the lease.
    pub async fn read_direct(&self, lease: Lease, len: usize, offset: u64) -> (io::Result<usize>, Lease) {
        self.read_once(lease, len, offset).await
    }

    async fn read_once(&self, lease: Lease, len: usize, offset: u64) -> (io::Result<usize>, Lease) {
        assert!(len <= lease.len());
        let (at, len) = (lease.address(), u32::try_from(len).expect("at most a slab"));
        let entry = match lease.registered_at() {
            Some(place) => opcode::ReadFixed::new(self.fd(), at, len, place).offset(offset).build(),
            None => opcode::Read::new(self.fd(), at, len).offset(offset).build(),
        };
        // SAFETY: the lease owns the bytes written, the file the descriptor; both travel with the operation.
        let (mut result, (_, mut lease)) =
            unsafe { submit(Kind::Read, len as usize, entry, (self.clone(), lease)) }.await;
        if result.as_ref().is_err_and(had_no_worker) {
            // Rare, and short beside a write: the core waits for it.
            result =
                rustix::io::pread(&self.0, &mut lease.bytes()[..len as usize], offset).map_err(Into::into);
        }
        if let Ok(count) = result {
            lease.advance(count);
        }
        (result, lease)
    }

    /// Reads at once, in this thread, and not by the ring: for files that are memory, where io_uring would send each
    /// read to a worker thread. Otherwise as [`File::read_exact`].
    ///
    /// # Errors
    /// As [`File::read_exact`].
    pub fn read_now(&self, mut lease: Lease, len: usize, mut offset: u64) -> io::Result<Lease> {
        let rest = lease.len() - len;
        let timer = DiskTimer::start(Kind::Read);
        while lease.len() > rest {
            let missing = lease.len() - rest;
            match rustix::io::pread(&self.0, &mut lease.bytes()[..missing], offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    lease.advance(count);
                    offset += count as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        timer.stop(&Ok(len));
        Ok(lease)
    }

    /// Writes a range of a slab at `offset` of a file that is open for direct writes, all of it: offset, length and place
    /// in the slab must be aligned as the file system wants.
    ///
    /// # Errors
    /// What the kernel says; part of the bytes may have been written then.
    pub async fn write_direct(
        &self,
        slab: &Slab,
        mut range: Range<usize>,
        mut offset: u64,
    ) -> io::Result<()> {
        while !range.is_empty() {
            let (at, len) = (slab.address(range.start), u32::try_from(range.len()).expect("at most a slab"));
            let entry = match slab.registered_at() {
                Some(place) => opcode::WriteFixed::new(self.fd(), at, len, place).offset(offset).build(),
                None => opcode::Write::new(self.fd(), at, len).offset(offset).build(),
            };
            // SAFETY: a sealed slab is not written while a handle exists; handle and file travel with the operation.
            let (result, _) =
                unsafe { submit(Kind::Write, len as usize, entry, (self.clone(), slab.clone())) }.await;
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    range.start += count;
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if had_no_worker(&error) => {
                    return self.write_cached(slab, [(range, offset)], false).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes ranges of a slab, each at its offset of the file, through the page cache, all of them, on a thread beside the
    /// core's. With `drop_behind` the kernel is asked not to keep whole pages in the cache.
    ///
    /// # Errors
    /// What the kernel says; part of the bytes may have been written then.
    pub async fn write_cached(
        &self,
        slab: &Slab,
        parts: impl IntoIterator<Item = (Range<usize>, u64)>,
        drop_behind: bool,
    ) -> io::Result<()> {
        blocking::write_all(Arc::clone(&self.0), slab, parts, drop_behind).await
    }

    /// Writes at once, in this thread: for files that are memory.
    ///
    /// # Errors
    /// As [`File::write_cached`].
    pub fn write_now(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let timer = DiskTimer::start(Kind::Write);
        blocking::write_now(&self.0, bytes, offset, rustix::io::ReadWriteFlags::empty())?;
        timer.stop(&Ok(bytes.len()));
        Ok(())
    }

    /// Copies a range of this file to `offset` of another, on a thread beside the core's.
    ///
    /// # Errors
    /// What the kernel says; part of the bytes may have been written then. `UnexpectedEof` when this file ends before.
    pub async fn copy(&self, range: Range<u64>, to: &Self, offset: u64) -> io::Result<()> {
        let to = Arc::clone(&to.0);
        blocking::call(Arc::clone(&self.0), move |from| blocking::copy(from, range, &to, offset)).await
    }

    /// Reserves the disk space of the first `len` bytes; the file is at least so long then. What was not written reads as
    /// zeros.
    ///
    /// # Errors
    /// When there is no room; or the file system cannot do it.
    pub async fn allocate(&self, len: u64) -> io::Result<()> {
        let entry = opcode::Fallocate::new(self.fd(), len).build();
        // SAFETY: the operation names no memory; the descriptor travels with it.
        match unsafe { submit(Kind::Other, 0, entry, self.clone()) }.await.0 {
            Err(error) if had_no_worker(&error) => {
                let work = move |file: &OwnedFd| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len);
                blocking::call(Arc::clone(&self.0), work).await
            }
            result => result.map(drop),
        }
    }

    /// Brings the file's bytes and its size to stable storage.
    ///
    /// # Errors
    /// What the kernel says. Bytes written before may then be lost, whatever a second call says.
    pub async fn sync_data(&self) -> io::Result<()> {
        let entry = opcode::Fsync::new(self.fd()).flags(types::FsyncFlags::DATASYNC).build();
        // SAFETY: the operation names no memory; the descriptor travels with it.
        match unsafe { submit(Kind::Sync, 0, entry, self.clone()) }.await.0 {
            Err(error) if had_no_worker(&error) => {
                blocking::call(Arc::clone(&self.0), |file| rustix::fs::fdatasync(file)).await
            }
            result => result.map(drop),
        }
    }
}

/// Whether an operation was not begun because the kernel had no thread for it. It cancels what it cannot hand to a worker when a
/// limit on threads (`pids.max`, `RLIMIT_NPROC`) lets it start none; we cancel no operation on a file.
fn had_no_worker(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECANCELED)
}
