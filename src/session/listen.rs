//! Where peers connect to.

use super::SessionError;
use crate::ring;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Ports tried, in order, when the user named none.
const DEFAULT_PORTS: std::ops::RangeInclusive<u16> = 6881..=6889;

/// How long a port that is taken is tried again, and how often.
const BIND_LIMIT: Duration = Duration::from_secs(2);
const BIND_WAIT: Duration = Duration::from_millis(50);

/// Where peers connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Port 6881 of every address, of both families where the machine has IPv6; or the next free one.
    Default,
    /// Here; port 0 is any.
    At(SocketAddr),
}

/// A listener for each core, and their address.
type Bound = Result<(Vec<TcpListener>, SocketAddr), SessionError>;

/// A listener for each core, all of the same address, and that address.
pub(super) async fn bind(listen: Listen, cores: usize) -> Bound {
    let Listen::At(addr) = listen else {
        let mut tried = DEFAULT_PORTS.map(|port| bind_everywhere(port, cores));
        return tried.find(Result::is_ok).unwrap_or_else(|| bind_everywhere(0, cores));
    };
    // The kernel takes a killed process's ring down, and its listener with it, some time after the process itself.
    let begun = Instant::now();
    loop {
        match bind_at(addr, cores) {
            Err(SessionError::Listen { cause, .. })
                if cause.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < BIND_LIMIT =>
            {
                tokio::time::sleep(BIND_WAIT).await;
            }
            other => return other,
        }
    }
}

/// Likewise, there where it was before if it was and still can be: others have been told.
pub(super) async fn bind_again(before: Option<SocketAddr>, listen: Listen, cores: usize) -> Bound {
    match before.map(|addr| bind_at(addr, cores)) {
        Some(Ok(bound)) => Ok(bound),
        Some(Err(_)) | None => bind(listen, cores).await,
    }
}

/// At a port of all addresses: trackers, the DHT and peers tell of us in both families.
fn bind_everywhere(port: u16, cores: usize) -> Bound {
    match bind_at((Ipv6Addr::UNSPECIFIED, port).into(), cores) {
        Err(SessionError::Listen { cause, .. }) if cause.kind() != io::ErrorKind::AddrInUse => {
            // The machine has no IPv6.
            bind_at((Ipv4Addr::UNSPECIFIED, port).into(), cores)
        }
        other => other,
    }
}

fn bind_at(addr: SocketAddr, cores: usize) -> Bound {
    let listeners = ring::listen(addr, cores).and_then(|all| Ok((all[0].local_addr()?, all)));
    listeners.map(|(addr, all)| (all, addr)).map_err(|cause| SessionError::Listen { addr, cause })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn by_default_both_families_are_heard() {
        let (listeners, addr) = bind_everywhere(0, 2).unwrap();
        assert_eq!(listeners.len(), 2);
        TcpStream::connect((Ipv4Addr::LOCALHOST, addr.port())).unwrap();
        // Only where the machine has it.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, addr.port())).unwrap();
        }
    }

    #[test]
    fn a_port_that_another_program_has_in_one_family_is_taken() {
        let other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        assert!(bind_everywhere(other.local_addr().unwrap().port(), 1).is_err());
    }
}
