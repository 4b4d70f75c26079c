//! A narrow pipe between two peers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes passed on at a time.
const SIP: usize = 16 * 1024;

/// Starts passing connections on to `target`, `pace` for every 16 KiB that come back from it, for as long as the
/// test binary runs. Gives the address to dial.
pub(crate) fn narrow(target: SocketAddr, pace: Duration) -> SocketAddr {
    relay(any_port(), target, move |_| thread::sleep(pace))
}

/// Starts passing connections on to `target`; what comes back from it stops after about `count` bytes until the gate
/// is opened. Gives the address to dial, and the gate.
pub(crate) fn gated(target: SocketAddr, count: usize) -> (SocketAddr, Arc<AtomicBool>) {
    gated_at(any_port(), target, count)
}

/// [`gated`], twice, at two ports that follow each other: of two cores, each dials one.
pub(crate) fn gated_pair(targets: [SocketAddr; 2], count: usize) -> [(SocketAddr, Arc<AtomicBool>); 2] {
    loop {
        let first = any_port();
        let port = first.local_addr().expect("a bound address").port();
        let next = port.checked_add(1).map(|next| TcpListener::bind((Ipv4Addr::LOCALHOST, next)));
        if let Some(Ok(second)) = next {
            return [gated_at(first, targets[0], count), gated_at(second, targets[1], count)];
        }
    }
}

fn any_port() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound")
}

fn gated_at(listener: TcpListener, target: SocketAddr, count: usize) -> (SocketAddr, Arc<AtomicBool>) {
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&gate);
    let addr = relay(listener, target, move |passed| {
        while passed > count && !open.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
    });
    (addr, gate)
}

/// `wait` is called before bytes from the target are passed on, with the number of those that came before.
fn relay(
    listener: TcpListener,
    target: SocketAddr,
    wait: impl Fn(usize) + Clone + Send + 'static,
) -> SocketAddr {
    let addr = listener.local_addr().expect("a bound address");
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // While the target is away the connection closes at once.
            if let Ok(far) = TcpStream::connect(target) {
                pass(&near, &far, |_| {});
                pass(&far, &near, wait.clone());
            }
        }
    });
    addr
}

fn pass(from: &TcpStream, to: &TcpStream, wait: impl Fn(usize) + Send + 'static) {
    let both = from.try_clone().and_then(|from| to.try_clone().map(|to| (from, to)));
    let (mut from, mut to) = both.expect("a socket can be doubled");
    thread::spawn(move || {
        let (mut sip, mut passed) = ([0; SIP], 0);
        while let Ok(n @ 1..) = from.read(&mut sip) {
            wait(passed);
            passed += n;
            if to.write_all(&sip[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
