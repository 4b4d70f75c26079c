//! Bytes of files to be sent from where the page cache holds them, without mapping them: by sendfile(2), a system call for
//! each stretch of a file, and one for what stands between two of them.
//!
//! The pages of the cache go into the socket as they are. The kernel keeps them for as long as it transmits, so whoever changes
//! the file meanwhile changes what arrives. Per byte this is dearer than to send from a view that is mapped already, and much
//! cheaper than to map one for a block or two, or to read it first; but not of a few KiB.

use super::Gather;
use super::counters::count_file_send;
use super::gather::Step;
use rustix::fs::sendfile;
use rustix::net::sockopt::set_tcp_cork;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// Bytes of a file.
#[derive(Clone)]
pub struct FileRange {
    file: Rc<dyn AsFd>,
    range: Range<u64>,
}

impl FileRange {
    /// These bytes of it.
    pub fn new(file: Rc<dyn AsFd>, range: Range<u64>) -> Self {
        Self { file, range }
    }

    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    /// Some of the bytes.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} is not in {:?}", self.range);
        let start = self.range.start;
        Self { file: Rc::clone(&self.file), range: start + range.start as u64..start + range.end as u64 }
    }

    /// Sends as much as the socket takes.
    ///
    /// # Errors
    /// `EFAULT` behind the end of the file, as of a view; else what the kernel says.
    fn send(&self, socket: &OwnedFd) -> io::Result<usize> {
        let mut at = self.range.start;
        let sent = sendfile(socket, &*self.file, Some(&mut at), self.len())?;
        count_file_send(sent as u64);
        if sent == 0 { Err(io::Error::from_raw_os_error(libc::EFAULT)) } else { Ok(sent) }
    }
}

/// Sends as much of `gather` as the socket, which does not block, takes at once.
///
/// # Errors
/// When nothing could be sent: what the kernel says.
pub(super) fn send(socket: &OwnedFd, gather: &Gather) -> io::Result<usize> {
    // Segments are filled across the steps. Fails only of a connection that has ended, and that is found out by sending.
    let _ = set_tcp_cork(socket, true);
    let mut sent = 0;
    let mut result = Ok(());
    for step in gather.steps() {
        let (len, step) = match step {
            Step::Memory(parts) => (parts.offered(), parts.send(socket)),
            Step::File(range) => (range.len(), range.send(socket)),
        };
        sent += *step.as_ref().unwrap_or(&0);
        match step {
            Ok(count) if count == len => {}
            Ok(_) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    let _ = set_tcp_cork(socket, false);
    if sent > 0 { Ok(sent) } else { result.map(|()| 0) }
}
