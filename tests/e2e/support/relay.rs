//! A narrow pipe between two peers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Bytes passed on at a time.
const SIP: usize = 16 * 1024;

/// Starts passing connections on to `target`, `pace` for every 16 KiB that come back from it, for as long as the
/// test binary runs. Gives the address to dial.
pub(crate) fn narrow(target: SocketAddr, pace: Duration) -> SocketAddr {
    relay(any_port(), target, |_| {}, move |_, _| thread::sleep(pace))
}

/// Starts passing connections on to `target`; what comes back from it stops after about `count` bytes until the gate
/// is opened. Gives the address to dial, and the gate.
pub(crate) fn gated(target: SocketAddr, count: usize) -> (SocketAddr, Arc<AtomicBool>) {
    gated_at(any_port(), target, count)
}

/// What a tap has heard, by the direction that it went.
#[derive(Default)]
pub(crate) struct Heard {
    /// From who dialled.
    pub(crate) forth: Vec<u8>,
    /// From the target.
    pub(crate) back: Vec<u8>,
}

/// Starts passing connections on to `target`, and keeps all that is said. Gives the address to dial.
pub(crate) fn tapped(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Heard>>) {
    let heard = Arc::<Mutex<Heard>>::default();
    let (forth, back) = (Arc::clone(&heard), Arc::clone(&heard));
    let lock = |heard: &Mutex<Heard>, hear: &dyn Fn(&mut Heard)| {
        hear(&mut heard.lock().expect("no relay panics with the bytes in hand"));
    };
    let hear_forth = move |sip: &[u8]| lock(&forth, &|heard| heard.forth.extend_from_slice(sip));
    let hear_back = move |_, sip: &[u8]| lock(&back, &|heard| heard.back.extend_from_slice(sip));
    (relay(any_port(), target, hear_forth, hear_back), heard)
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
    let addr = relay(
        listener,
        target,
        |_| {},
        move |passed, _| {
            while passed > count && !open.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
            }
        },
    );
    (addr, gate)
}

/// `forth` is called before bytes are passed on to the target; `back` before bytes from the target are, with the number
/// of those that came before.
fn relay(
    listener: TcpListener,
    target: SocketAddr,
    forth: impl Fn(&[u8]) + Clone + Send + 'static,
    back: impl Fn(usize, &[u8]) + Clone + Send + 'static,
) -> SocketAddr {
    let addr = listener.local_addr().expect("a bound address");
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // While the target is away the connection closes at once.
            if let Ok(far) = TcpStream::connect(target) {
                let forth = forth.clone();
                pass(&near, &far, move |_, sip| forth(sip));
                pass(&far, &near, back.clone());
            }
        }
    });
    addr
}

fn pass(from: &TcpStream, to: &TcpStream, before: impl Fn(usize, &[u8]) + Send + 'static) {
    let both = from.try_clone().and_then(|from| to.try_clone().map(|to| (from, to)));
    let (mut from, mut to) = both.expect("a socket can be doubled");
    thread::spawn(move || {
        let (mut sip, mut passed) = ([0; SIP], 0);
        while let Ok(n @ 1..) = from.read(&mut sip) {
            before(passed, &sip[..n]);
            passed += n;
            if to.write_all(&sip[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
