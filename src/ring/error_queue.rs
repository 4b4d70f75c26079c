//! What the kernel says of sends without a copy (`super::zero_copy`): it puts a notification into the socket's error queue when it
//! has let go of some.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

/// The kernel's marks in `sock_extended_err` (linux/errqueue.h).
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

/// Lets the socket take MSG_ZEROCOPY.
pub(super) fn enable(fd: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option's value is an int, which lives until the call returns.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ZEROCOPY, (&raw const on).cast(), len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Resets the connection: what was not acknowledged is thrown away, and let go of. The descriptor stays open, so that the
/// kernel can say so (it says nothing through a closed one).
pub(super) fn abort(fd: &OwnedFd) {
    // Connecting to nowhere is how a TCP socket is disconnected. Fails only when it is so already.
    let _ = rustix::net::connect_unspec(fd);
}

/// The kernel has let go of the sends with these numbers, both ends included.
pub(super) struct Notification {
    pub(super) first: u32,
    pub(super) last: u32,
    /// After all.
    pub(super) copied: bool,
}

/// Room for the control messages of one entry of an error queue: `sock_extended_err` and an address.
#[repr(C, align(8))]
struct Control([u8; 256]);

/// The next notification in the socket's error queue, if there is one.
pub(super) fn next_notification(fd: &OwnedFd) -> Option<Notification> {
    loop {
        let mut control = Control([0; 256]);
        // SAFETY: all zeros is a valid `msghdr`.
        let mut header = unsafe { mem::zeroed::<libc::msghdr>() };
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header names no data and a control buffer of the given length; both live through the call.
        if unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) } < 0 {
            return None;
        }
        // Another kind of entry (nobody asks for one) is skipped.
        if let Some(notification) = parse(&header) {
            return Some(notification);
        }
    }
}

/// The notification among the control messages of `header`, which `recvmsg` has filled.
fn parse(header: &libc::msghdr) -> Option<Notification> {
    // SAFETY: `header` names the control messages that the kernel wrote, so the macros walk inside that buffer.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: as above; the header of the message is whole.
        let head = unsafe { &*message };
        let errors = matches!(
            (head.cmsg_level, head.cmsg_type),
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
        );
        if errors {
            // SAFETY: messages of this type begin with this structure.
            let error =
                unsafe { libc::CMSG_DATA(message).cast::<libc::sock_extended_err>().read_unaligned() };
            if error.ee_errno == 0 && error.ee_origin == SO_EE_ORIGIN_ZEROCOPY {
                let copied = error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED != 0;
                return Some(Notification { first: error.ee_info, last: error.ee_data, copied });
            }
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}
