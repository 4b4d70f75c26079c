//! Files: positional reads into leases and writes from sealed slabs.

use super::arena::{Lease, Slab};
use super::counters::Kind;
use super::op::submit;
use io_uring::{opcode, types};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// The arena is the ring's only registered buffer.
const ARENA: u16 = 0;

/// An open file; clones share the descriptor, which is closed with the last of them or of its operations.
#[derive(Clone)]
pub struct File(Rc<OwnedFd>);

impl File {
    /// Takes over an open descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        Self(Rc::new(fd))
    }

    fn fd(&self) -> types::Fd {
        types::Fd(self.0.as_raw_fd())
    }

    /// Reads from `offset` of the file until the lease is full.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; else what the kernel says.
    pub async fn read_exact(&self, mut lease: Lease, mut offset: u64) -> io::Result<()> {
        while lease.len() > 0 {
            let (at, len) = (lease.address(), u32::try_from(lease.len()).expect("at most a slab"));
            let entry = if lease.is_registered() {
                opcode::ReadFixed::new(self.fd(), at, len, ARENA).offset(offset).build()
            } else {
                opcode::Read::new(self.fd(), at, len).offset(offset).build()
            };
            // SAFETY: the lease owns the bytes written, the file the descriptor; both travel with the operation.
            let (result, (_, back)) =
                unsafe { submit(Kind::Read, len as usize, entry, (self.clone(), lease)) }.await;
            lease = back;
            match result {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    lease.advance(count);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a range of a slab at `offset` of the file, all of it.
    ///
    /// # Errors
    /// What the kernel says; part of the bytes may have been written then.
    pub async fn write_all(&self, slab: &Slab, mut range: Range<usize>, mut offset: u64) -> io::Result<()> {
        while !range.is_empty() {
            let (at, len) = (slab.address(range.start), u32::try_from(range.len()).expect("at most a slab"));
            let entry = if slab.is_registered() {
                opcode::WriteFixed::new(self.fd(), at, len, ARENA).offset(offset).build()
            } else {
                opcode::Write::new(self.fd(), at, len).offset(offset).build()
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
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Brings the file's bytes and its size to stable storage.
    ///
    /// # Errors
    /// What the kernel says. Bytes written before may then be lost, whatever a second call says.
    pub async fn sync_data(&self) -> io::Result<()> {
        let entry = opcode::Fsync::new(self.fd()).flags(types::FsyncFlags::DATASYNC).build();
        // SAFETY: the operation names no memory; the descriptor travels with it.
        unsafe { submit(Kind::Sync, 0, entry, self.clone()) }.await.0.map(drop)
    }
}
