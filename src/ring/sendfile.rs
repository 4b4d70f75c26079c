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
        if sent == 0 { Err(io::Error::from_raw_os_error(libc::EFAULT)) } else { Ok(sent) }
    }
}

/// Sends as much of `gather` as the socket, which does not block, takes at once.
///
/// # Errors
/// When nothing could be sent: what the kernel says.
pub(super) fn send(socket: &OwnedFd, gather: &mut Gather) -> io::Result<usize> {
    // Segments are filled across the steps. Fails only of a connection that has ended, and that is found out by sending.
    let _ = set_tcp_cork(socket, true);
    let (mut sent, mut calls, mut of_files, mut begin) = (0, 0, 0, 0);
    let mut result = Ok(());
    while let Some((step, end)) = gather.step(begin) {
        let (is_file, len, moved) = match step {
            Step::Memory(message) => (false, message.len(), message.send(socket)),
            Step::File(range) => (true, range.len(), range.send(socket)),
        };
        let moved = moved.unwrap_or_else(|error| {
            result = Err(error);
            0
        });
        sent += moved;
        calls += u64::from(moved > 0);
        of_files += if is_file { moved as u64 } else { 0 };
        if moved < len {
            break;
        }
        begin = end;
    }
    let _ = set_tcp_cork(socket, false);
    let result = if sent > 0 { Ok(sent) } else { result.map(|()| 0) };
    count_file_send(gather.len(), &result, calls, of_files);
    result
}
