//! Why handshakes come to nothing, in kinds that can be counted.

use crate::wire::HandshakeError;
use crate::wire::mse::MseError;
use std::error::Error;
use std::io;

/// A kind of reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody listens there, or there is no way to the host.
    Unreachable,
    /// No answer, or no whole handshake, in time.
    Timeout,
    /// The peer has closed the connection before.
    HungUp,
    /// Of too many accepted connections, this one had to give way.
    Crowded,
    /// The peer did not encrypt although it must, or not as it should, or has begun to do so too often.
    Encryption,
    /// What was said is no handshake.
    Malformed,
    /// It was about another torrent.
    Torrent,
    /// Anything else.
    Other,
}

/// Number of kinds.
const KINDS: usize = 8;

impl Failure {
    /// All of them, in the order of the counts, with the words for them.
    const ALL: [(Self, &'static str); KINDS] = [
        (Self::Unreachable, "unreachable"),
        (Self::Timeout, "timeout"),
        (Self::HungUp, "hung_up"),
        (Self::Crowded, "crowded"),
        (Self::Encryption, "encryption"),
        (Self::Malformed, "malformed"),
        (Self::Torrent, "torrent"),
        (Self::Other, "other"),
    ];

    /// The kind of an error.
    pub(super) fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        if let Some(cause) = error.get_ref() {
            return Self::of_cause(cause);
        }
        match error.kind() {
            Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown => Self::Unreachable,
            Kind::TimedOut => Self::Timeout,
            Kind::BrokenPipe | Kind::ConnectionReset | Kind::ConnectionAborted | Kind::UnexpectedEof => {
                Self::HungUp
            }
            _ => Self::Other,
        }
    }

    fn of_cause(cause: &(dyn Error + Send + Sync + 'static)) -> Self {
        match cause.downcast_ref::<Refusal>() {
            Some(Refusal::OtherTorrent) => Self::Torrent,
            Some(Refusal::Plain | Refusal::TooMany) => Self::Encryption,
            None if cause.is::<MseError>() => Self::Encryption,
            None if cause.is::<HandshakeError>() => Self::Malformed,
            None => Self::Other,
        }
    }
}

/// Why we want nothing of a peer that has begun a handshake in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("is about another torrent")]
    OtherTorrent,
    #[error("did not encrypt its handshake")]
    Plain,
    #[error("began too many encrypted handshakes")]
    TooMany,
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}

/// Handshakes that have failed, dialled and accepted ones, by the reason. Of two tries with one peer the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeFailures([u64; KINDS]);

impl HandshakeFailures {
    /// One more.
    pub(super) fn count(&mut self, failure: Failure) {
        self.0[failure as usize] += 1;
    }

    /// Each reason, and how often it was the reason.
    pub fn by_reason(&self) -> [(&'static str, u64); KINDS] {
        std::array::from_fn(|at| (Failure::ALL[at].1, self.0[at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Handshake;

    #[test]
    fn reasons_are_told_apart() {
        assert!(Failure::ALL.iter().enumerate().all(|(at, (kind, _))| *kind as usize == at));
        let malformed = Handshake::parse(&[0; crate::wire::HANDSHAKE_LEN]).unwrap_err();
        let errors: [(io::Error, &str); 8] = [
            (io::ErrorKind::ConnectionRefused.into(), "unreachable"),
            (io::Error::from_raw_os_error(libc::EHOSTUNREACH), "unreachable"),
            (io::ErrorKind::TimedOut.into(), "timeout"),
            (io::Error::from_raw_os_error(libc::ECONNRESET), "hung_up"),
            (Refusal::Plain.into(), "encryption"),
            (Refusal::OtherTorrent.into(), "torrent"),
            (io::Error::other(malformed), "malformed"),
            (io::Error::other("something"), "other"),
        ];
        for (error, reason) in errors {
            let mut failures = HandshakeFailures::default();
            failures.count(Failure::of(&error));
            let counted: Vec<&str> = failures
                .by_reason()
                .into_iter()
                .filter(|(_, count)| *count == 1)
                .map(|(name, _)| name)
                .collect();
            assert_eq!(counted, [reason], "{error:?}");
        }
    }
}
