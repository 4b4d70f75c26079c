//! Whether this kernel can run us, and what to do when it cannot.

use std::fmt;
use std::io;
use std::sync::Once;

/// Oldest kernel with all that is used: `SINGLE_ISSUER` (6.0) is the youngest of it, 6.1 the first long-lived one.
const OLDEST_KERNEL: &str = "6.1";

/// What may fail at a start, as a [`StartError`] says it.
pub(super) const SET_UP: &str = "set up io_uring";
pub(super) const MAP: &str = "map payload memory";

/// Why a core could not begin, with the remedy.
#[derive(Debug)]
pub struct StartError {
    what: &'static str,
    cause: io::Error,
}

/// Why a core has come to no end of its own.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// It could not begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It, or one of its tasks, has panicked with these words.
    #[error("{}", bug_of_ours(format_args!("a core has failed: {_0}")))]
    Panicked(String),
}

/// What has happened, for people, where only a mistake in this program lets it happen.
pub fn bug_of_ours(what: impl fmt::Display) -> String {
    format!("{what}; this is a bug of seedring")
}

impl StartError {
    pub(super) fn new(what: &'static str, cause: io::Error) -> Self {
        Self { what, cause }
    }
}

impl std::error::Error for StartError {}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.what)?;
        let kernel = rustix::system::uname();
        let kernel = kernel.release().to_string_lossy();
        match self.cause.raw_os_error() {
            Some(libc::ENOSYS) => write!(
                f,
                "this kernel ({kernel}) has no io_uring; run Linux {OLDEST_KERNEL} or newer with CONFIG_IO_URING, or allow \
                 the io_uring system calls in the container's seccomp profile"
            ),
            Some(libc::EPERM | libc::EACCES) => write!(
                f,
                "io_uring is switched off for this process; set it free with `sysctl kernel.io_uring_disabled=0`{}, and in a \
                 container allow the io_uring system calls in the seccomp profile",
                disabled_now()
            ),
            Some(libc::EINVAL) => write!(
                f,
                "this kernel ({kernel}) lacks an io_uring feature that seedring needs; run Linux {OLDEST_KERNEL} or newer"
            ),
            // Address space, of which no more than is mapped is ever touched.
            Some(libc::ENOMEM) if self.what == MAP => {
                write!(
                    f,
                    "too little address space; raise it with `ulimit -v`, or take a lower --memory-limit"
                )
            }
            Some(libc::ENOMEM) => write!(
                f,
                "too little lockable memory ({}); raise it with `ulimit -l`, with `LimitMEMLOCK=infinity` in a systemd unit \
                 or with `--ulimit memlock=-1` for a container",
                lockable()
            ),
            Some(libc::EMFILE | libc::ENFILE) => {
                write!(f, "too few file descriptors; raise the limit with `ulimit -n`")
            }
            _ => write!(f, "{}", self.cause),
        }
    }
}

fn disabled_now() -> String {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    value.map_or_else(|_| String::new(), |value| format!(" (it is {})", value.trim()))
}

/// Says, once in the life of the process, that a core's payload memory is not registered, and what helps.
pub(super) fn warn_of_unregistered(bytes: usize, cause: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "running with unregistered buffers, at a higher CPU cost: cannot lock {} MiB of payload memory a core ({cause}; {}); \
             raise it with `ulimit -l`, `LimitMEMLOCK=` in a systemd unit or `--ulimit memlock=-1` for a container",
            bytes / (1024 * 1024),
            lockable()
        );
    });
}

/// How much memory this process may lock, as text.
pub(super) fn lockable() -> String {
    match rustix::process::getrlimit(rustix::process::Resource::Memlock).current {
        Some(bytes) => format!("the limit is {} KiB", bytes / 1024),
        None => "the limit is none".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_remedy() {
        for (what, errno, remedy) in [
            (SET_UP, libc::ENOSYS, "CONFIG_IO_URING"),
            (SET_UP, libc::EPERM, "kernel.io_uring_disabled=0"),
            (SET_UP, libc::EINVAL, "Linux 6.1 or newer"),
            (SET_UP, libc::ENOMEM, "ulimit -l"),
            (SET_UP, libc::EMFILE, "ulimit -n"),
            (MAP, libc::ENOMEM, "ulimit -v"),
        ] {
            let text = StartError::new(what, io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.starts_with(&format!("cannot {what}: ")) && text.contains(remedy), "{text}");
        }
    }
}
