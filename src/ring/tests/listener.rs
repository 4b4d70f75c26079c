//! One port for many cores, and for nobody else.

use super::super::runtime::cpus;
use super::super::*;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn many_sockets_share_a_port_and_each_gets_connections() {
    let all = listen(loopback(0), 3).unwrap();
    let addr = all[0].local_addr().unwrap();
    assert!(all.len() == 3 && all.iter().all(|one| one.local_addr().unwrap() == addr));
    let mut open = Vec::new();
    let mut accepted = [0; 3];
    all.iter().for_each(|one| one.set_nonblocking(true).unwrap());
    // Spread by a hash: 200 connections miss none of the three.
    for _ in 0..200 {
        open.push(TcpStream::connect(addr).unwrap());
        let mut found = None;
        while found.is_none() {
            found = all.iter().position(|one| one.accept().map(|(socket, _)| open.push(socket)).is_ok());
        }
        accepted[found.unwrap()] += 1;
    }
    assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
}

#[test]
fn a_port_that_is_listened_on_is_refused() {
    // Our own, that others could share; and one of somebody who shares nothing.
    let ours = listen(loopback(0), 2).unwrap();
    let others = TcpListener::bind(loopback(0)).unwrap();
    for taken in [ours[0].local_addr().unwrap(), others.local_addr().unwrap()] {
        for count in [1, 2] {
            assert_eq!(listen(taken, count).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        }
        assert_eq!(TcpListener::bind(taken).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    }
}

#[test]
fn a_port_is_free_again_after_connections_on_it() {
    let first = listen(loopback(0), 2).unwrap();
    let addr = first[0].local_addr().unwrap();
    let client = TcpStream::connect(addr).unwrap();
    let mut server = None;
    first.iter().for_each(|one| one.set_nonblocking(true).unwrap());
    while server.is_none() {
        server = first.iter().find_map(|one| one.accept().ok());
    }
    // We close first: our side of the connection lingers in TIME_WAIT.
    drop((server, first));
    drop(client);
    assert_eq!(listen(addr, 2).unwrap().len(), 2);
}

#[test]
fn threads_of_a_program_get_one_cpu_after_the_other() {
    let (given, allowed) = (next_cpus(5).collect::<Vec<_>>(), cpus());
    let place = |cpu| allowed.iter().position(|allowed| *allowed == cpu).unwrap();
    assert!(given.windows(2).all(|two| place(two[1]) == (place(two[0]) + 1) % allowed.len()), "{given:?}");
}

#[test]
fn shared_sockets_work_on_a_pinned_ring() {
    let config = Config { cpu: next_cpus(1).next(), ..Config::new(1024 * 1024) };
    run(config, async |_| {
        assert_eq!(cpus().len(), 1, "pinned");
        let all = listen(loopback(0), 2).unwrap();
        let addr = all[0].local_addr().unwrap();
        let mut waiting: Vec<_> = Vec::new();
        for one in all {
            let listener = Listener::from_std(one).unwrap();
            waiting.push(spawn(async move {
                assert!(listener.waiting().await.unwrap(), "nobody was there");
                assert!(!listener.waiting().await.unwrap(), "somebody is");
                let place = || Descriptors::of_process().sockets.try_take().unwrap();
                let (_, addr) = listener.accept(place()).unwrap().unwrap();
                assert!(listener.accept(place()).unwrap().is_none());
                addr
            }));
        }
        // All of them are waiting by then.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let dialled = Socket::connect(addr, None, Duration::from_secs(5)).await.unwrap();
        while !waiting.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waiting.retain(|one| !one.is_finished());
        assert_eq!(waiting.len(), 1);
        waiting[0].abort();
        dialled.shutdown();
    })
    .unwrap();
}
