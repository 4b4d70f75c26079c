//! A narrow pipe between two peers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Bytes passed on at a time.
const SIP: usize = 16 * 1024;

/// Starts passing connections on to `target`, `pace` for every 16 KiB that come back from it, for as long as the
/// test binary runs. Gives the address to dial.
pub(crate) fn narrow(target: SocketAddr, pace: Duration) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
    let addr = listener.local_addr().expect("a bound address");
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // While the target is away the connection closes at once.
            if let Ok(far) = TcpStream::connect(target) {
                pass(&near, &far, Duration::ZERO);
                pass(&far, &near, pace);
            }
        }
    });
    addr
}

fn pass(from: &TcpStream, to: &TcpStream, pace: Duration) {
    let both = from.try_clone().and_then(|from| to.try_clone().map(|to| (from, to)));
    let (mut from, mut to) = both.expect("a socket can be doubled");
    thread::spawn(move || {
        let mut sip = [0; SIP];
        while let Ok(n @ 1..) = from.read(&mut sip) {
            thread::sleep(pace);
            if to.write_all(&sip[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
