//! Sends without a copy: the right bytes, and no memory used again too early.

use super::super::arena::STRIDE;
use super::super::zero_copy::Outgoing;
use super::super::*;
use super::{BLOCK, bytes, pair};
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::task::Poll;
use std::time::Duration;

const SLABS: usize = 64;

fn flying<T>(main: impl AsyncFnOnce(Core) -> T) -> T {
    let config = Config { zero_copy_send: ZeroCopySend::On, ..Config::new(SLABS * STRIDE) };
    run(config, main).unwrap()
}

async fn flying_pair(core: &Core) -> (Socket, TcpStream) {
    let (socket, plain) = pair().await;
    // Little fits into its receive buffer, whatever this machine's defaults are.
    rustix::net::sockopt::set_socket_recv_buffer_size(plain.as_fd(), 64 * 1024).unwrap();
    socket.use_zero_copy(&core.zero_copy);
    (socket, plain)
}

fn sealed(core: &Core, content: &[u8]) -> Slab {
    let mut slab = core.arena.take().expect("a free slab");
    slab.write(0, content);
    slab.seal().ok().unwrap()
}

/// Waits for it, for as long as it takes: the test's own limit is the runner's.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Sends slab after slab until the send buffer is full; gives the bytes sent.
async fn fill(core: &Core, socket: &Socket, seed: u64) -> Vec<u8> {
    let mut sent = Vec::new();
    for seed in seed.. {
        let content = bytes(SLAB_LEN, seed);
        let mut gather = Gather::default();
        gather.push_small(b"head");
        gather.push_payload(sealed(core, &content), 0..SLAB_LEN);
        match socket.send(gather).await.0 {
            Ok(count) => sent.extend([b"head".as_slice(), &content].concat().drain(..count)),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    sent
}

/// Waits until all slabs are back: every send has landed, and nothing was given up.
async fn all_land(core: &Core) {
    until(|| core.arena.free() == SLABS).await;
    let counts = core.zero_copy.counts();
    assert!(counts.sends > 0 && counts.sends == counts.landed, "{counts:?}");
    assert_eq!((counts.in_flight, counts.leaked, counts.aborted), (0, 0, 0), "{counts:?}");
}

/// Closes with a reset.
fn reset(plain: TcpStream) {
    rustix::net::sockopt::set_socket_linger(plain.as_fd(), Some(Duration::ZERO)).unwrap();
    drop(plain);
}

#[test]
fn by_choice_of_the_program_only_runs_of_16_kib_or_more_are_not_copied() {
    for (mode, least) in [(ZeroCopySend::Auto, BLOCK), (ZeroCopySend::On, 1)] {
        let config = Config { zero_copy_send: mode, ..Config::new(SLABS * STRIDE) };
        run(config, async |core| {
            let outgoing = Outgoing::new(&core.zero_copy);
            let wants = |len: usize| {
                let mut gather = Gather::default();
                gather.push_payload(sealed(&core, &bytes(BLOCK, 1)), 0..len);
                outgoing.wants(&gather)
            };
            assert!(wants(least) && (least == 1 || !wants(least - 1)), "{mode:?}");
        })
        .unwrap();
    }
}

/// The kernel reads on from the slabs though the socket was never allowed MSG_ZEROCOPY, which sends of another kind need for that.
#[test]
fn it_is_by_a_ring_of_its_own_that_nothing_is_copied() {
    flying(async |core| {
        let (socket, plain) = flying_pair(&core).await;
        let before = counters();
        fill(&core, &socket, 1).await;
        let counts = core.zero_copy.counts();
        assert!(counts.sends > 0 && counts.in_flight > 0, "{counts:?}");
        let (mut allowed, mut len) = (-1, size_of::<libc::c_int>() as libc::socklen_t);
        let fd = socket.descriptor();
        // SAFETY: the kernel writes an int, which is as long as it is told.
        let asked = unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, (&raw mut allowed).cast(), &raw mut len)
        };
        assert_eq!((asked, allowed), (0, 0));
        let sends = counters().operations[Kind::Send as usize];
        let since = sends.queued - before.operations[Kind::Send as usize].queued;
        assert!(since >= counts.sends && sends.queued == sends.completed, "{sends:?}, {counts:?}");
        reset(plain);
        until(|| core.arena.free() == SLABS).await;
    });
}

#[test]
fn who_sends_at_the_same_time_as_others_counts_what_they_hold() {
    flying(async |core| {
        let mut pairs = Vec::new();
        for _ in 0..SLABS / 2 {
            pairs.push(flying_pair(&core).await);
        }
        let mut sends: Vec<_> = pairs
            .iter()
            .map(|(socket, _)| {
                let mut gather = Gather::default();
                gather.push_payload(sealed(&core, &bytes(SLAB_LEN, 1)), 0..SLAB_LEN);
                Box::pin(socket.send(gather))
            })
            .collect();
        // All begin before anybody has taken anything.
        std::future::poll_fn(|context| {
            sends.iter_mut().for_each(|send| assert!(send.as_mut().poll(context).is_pending()));
            Poll::Ready(())
        })
        .await;
        let counts = core.zero_copy.counts();
        assert_eq!((counts.in_flight, counts.fallbacks), (SLABS as u64 / 4, SLABS as u64 / 4));
        for send in sends {
            assert!(send.await.0.is_ok());
        }
    });
}

#[test]
fn all_bytes_arrive_with_many_sends_under_way() {
    const SENDS: usize = 300;
    flying(async |core| {
        let (socket, mut plain) = flying_pair(&core).await;
        let content = bytes(SLAB_LEN, 1);
        let slab = sealed(&core, &content);
        // Lengths and places that have no order.
        let mut rng = fastrand::Rng::with_seed(2);
        let parts: Vec<_> = (0..SENDS)
            .map(|_| {
                let begin = rng.usize(..SLAB_LEN - 1);
                (rng.u32(..), begin..rng.usize(begin + 1..SLAB_LEN.min(begin + 4 * BLOCK) + 1))
            })
            .collect();
        let expected: Vec<u8> = parts
            .iter()
            .flat_map(|(head, range)| [&head.to_be_bytes(), &content[range.clone()]].concat())
            .collect();
        let reading = std::thread::spawn(move || {
            let mut got = Vec::new();
            plain.read_to_end(&mut got).unwrap();
            got
        });
        let mut sent = 0;
        let mut gather = Gather::default();
        for (head, range) in parts {
            let mut skip = 0;
            while skip < 4 + range.len() {
                gather.clear();
                gather.push_small(&head.to_be_bytes()[skip.min(4)..]);
                gather.push_payload(slab.clone(), range.start + skip.saturating_sub(4)..range.end);
                let (result, back) = socket.send(gather).await;
                gather = back;
                match result {
                    Ok(count) => skip += count,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        gather.clear();
                        socket.writable().await.unwrap();
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            sent += skip;
        }
        assert_eq!(sent, expected.len());
        socket.shutdown();
        drop((socket, gather, slab));
        assert!(reading.join().unwrap() == expected);
        all_land(&core).await;
    });
}

#[test]
fn slabs_are_held_until_the_peer_has_taken_the_bytes() {
    flying(async |core| {
        let (socket, mut plain) = flying_pair(&core).await;
        let sent = fill(&core, &socket, 10).await;
        let held = SLABS - core.arena.free();
        assert!(held > 0, "nobody has acknowledged what the receive buffer has no room for");
        // Whoever overwrites every free slab changes nothing of what is still to be sent.
        let mut others: Vec<_> = std::iter::from_fn(|| core.arena.take()).collect();
        assert_eq!(others.len(), SLABS - held);
        others.iter_mut().for_each(|slab| slab.write(0, &[0xee; SLAB_LEN]));
        drop(others);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(core.arena.free() < SLABS && core.zero_copy.counts().in_flight > 0);
        let reading = std::thread::spawn(move || {
            let mut got = vec![0; sent.len()];
            plain.read_exact(&mut got).unwrap();
            assert!(got == sent);
            plain
        });
        // Whoever waits for the peer's next word is not woken by landings.
        let waiting = spawn(socket.readable());
        until(|| core.arena.free() == SLABS).await;
        assert!(!waiting.is_finished(), "landings are nothing to receive");
        drop(reading.join().unwrap());
        waiting.await.unwrap().unwrap();
        assert_eq!(core.zero_copy.counts().in_flight, 0);
    });
}

#[test]
fn a_peer_that_resets_in_the_middle_frees_the_slabs() {
    flying(async |core| {
        for round in 0..20 {
            let (socket, plain) = flying_pair(&core).await;
            let sent = fill(&core, &socket, 100 * round).await;
            assert!(!sent.is_empty());
            reset(plain);
            socket.readable().await.unwrap();
            let mut gather = Gather::default();
            gather.push_payload(sealed(&core, b"late"), 0..4);
            let error = socket.send(gather).await.0.unwrap_err();
            assert!(
                matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe),
                "{error}"
            );
            socket.shutdown();
        }
        until(|| core.arena.free() == SLABS).await;
        let counts = core.zero_copy.counts();
        assert_eq!((counts.in_flight, counts.leaked, counts.aborted), (0, 0, 0), "{counts:?}");
    });
}

/// Whoever sends meanwhile may be told of the reset by a send that the kernel has begun with.
#[test]
fn a_peer_that_resets_while_sends_are_made_frees_the_slabs() {
    flying(async |core| {
        for round in 0..20 {
            let (socket, mut plain) = flying_pair(&core).await;
            let reading = std::thread::spawn(move || {
                plain.read_exact(&mut vec![0; SLAB_LEN / 4 + (round as usize) * BLOCK]).unwrap();
                reset(plain);
            });
            let error = loop {
                let mut gather = Gather::default();
                let Some(slab) = core.arena.take() else {
                    socket.writable().await.unwrap();
                    continue;
                };
                gather.push_payload(slab.seal().ok().unwrap(), 0..SLAB_LEN);
                match socket.send(gather).await.0 {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        socket.writable().await.unwrap();
                    }
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe),
                "{error}"
            );
            reading.join().unwrap();
            socket.shutdown();
        }
        all_land(&core).await;
    });
}

/// Nobody sends, receives or waits any more.
#[test]
fn what_lands_after_its_connection_has_gone_comes_back() {
    flying(async |core| {
        let (socket, plain) = flying_pair(&core).await;
        fill(&core, &socket, 60).await;
        assert!(core.arena.free() < SLABS);
        drop(socket);
        until(|| core.arena.free() == SLABS).await;
        let counts = core.zero_copy.counts();
        assert_eq!((counts.in_flight, counts.leaked), (0, 0), "{counts:?}");
        drop(plain);
    });
}

#[test]
fn without_a_ring_for_it_all_is_copied() {
    flying(async |core| {
        core.zero_copy.pretend_unsupported();
        let (socket, mut plain) = flying_pair(&core).await;
        let sent = fill(&core, &socket, 70).await;
        assert_eq!(core.arena.free(), SLABS);
        assert_eq!(core.zero_copy.counts(), ZeroCopyCounts { fallbacks: 1, ..Default::default() });
        let reading = std::thread::spawn(move || {
            let mut got = vec![0; sent.len()];
            plain.read_exact(&mut got).unwrap();
            got == sent
        });
        assert!(reading.join().unwrap());
        socket.shutdown();
    });
}

#[test]
fn a_peer_that_never_acknowledges_is_reset_after_the_end() {
    flying(async |core| {
        let (socket, mut plain) = flying_pair(&core).await;
        let sent = fill(&core, &socket, 20).await;
        socket.shutdown();
        socket.shutdown();
        drop(socket);
        assert!(core.arena.free() < SLABS, "the kernel still has to send from them");
        until(|| core.arena.free() == SLABS).await;
        let counts = core.zero_copy.counts();
        assert_eq!((counts.in_flight, counts.leaked, counts.aborted), (0, 0, 1), "{counts:?}");
        let mut got = Vec::new();
        let error = plain.read_to_end(&mut got).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(sent.starts_with(&got));
    });
}

#[test]
fn a_send_whose_task_is_gone_is_held_all_the_same() {
    flying(async |core| {
        let (socket, mut plain) = flying_pair(&core).await;
        let content = bytes(SLAB_LEN, 30);
        let slab = sealed(&core, &content);
        let outgoing = socket.clone();
        let sending = spawn(async move {
            let mut gather = Gather::default();
            gather.push_payload(slab, 0..SLAB_LEN);
            outgoing.send(gather).await.0.unwrap()
        });
        until(|| core.zero_copy.counts().in_flight > 0).await;
        sending.abort();
        let _ = sending.await;
        socket.shutdown();
        drop(socket);
        let mut got = Vec::new();
        let reading = std::thread::spawn(move || {
            plain.read_to_end(&mut got).unwrap();
            got
        });
        until(|| core.arena.free() == SLABS).await;
        let got = reading.join().unwrap();
        assert!(!got.is_empty() && content.starts_with(&got));
        let counts = core.zero_copy.counts();
        assert_eq!((counts.sends, counts.landed, counts.leaked), (1, 1, 0), "{counts:?}");
    });
}

#[test]
fn peers_that_do_not_acknowledge_hold_a_quarter_of_the_slabs_at_most() {
    flying(async |core| {
        let mut pairs = Vec::new();
        for seed in 0..SLABS as u64 {
            let (socket, plain) = flying_pair(&core).await;
            let sent = fill(&core, &socket, 1000 * seed).await;
            pairs.push((socket, plain, sent));
            assert!(SLABS - core.arena.free() <= SLABS / 4);
        }
        assert!(core.zero_copy.counts().fallbacks > 0);
        for (socket, mut plain, sent) in pairs {
            let reading = std::thread::spawn(move || {
                let mut got = vec![0; sent.len()];
                plain.read_exact(&mut got).unwrap();
                got == sent
            });
            assert!(reading.join().unwrap());
            socket.shutdown();
        }
        until(|| core.arena.free() == SLABS).await;
    });
}

#[test]
fn the_end_of_a_core_leaves_nothing_with_the_kernel() {
    let counts = flying(async |core| {
        let (socket, plain) = flying_pair(&core).await;
        fill(&core, &socket, 40).await;
        assert!(core.zero_copy.counts().in_flight > 0);
        // With a task that waits, and without having shut down.
        spawn(async move {
            socket.readable().await.unwrap();
            drop(plain);
        });
        core.zero_copy
    });
    let counts = counts.counts();
    assert_eq!((counts.in_flight, counts.leaked), (0, 0), "{counts:?}");
}

/// A connection that somebody has kept is not reset, and nobody hears of what it has under way.
#[test]
fn what_nobody_knows_of_is_leaked_when_a_core_ends() {
    let (core, _kept, _plain) = flying(async |core| {
        let (socket, plain) = flying_pair(&core).await;
        fill(&core, &socket, 80).await;
        assert!(core.zero_copy.counts().in_flight > 0);
        (core, socket, plain)
    });
    let counts = core.zero_copy.counts();
    assert!(counts.leaked > 0 && counts.sends == counts.landed + counts.leaked, "{counts:?}");
    assert!(counts.in_flight == 0 && !core.zero_copy.is_under_way());
    assert!(core.arena.free() < SLABS, "its memory is not used again");
}

#[test]
fn only_peers_elsewhere_are_sent_to_without_a_copy_when_it_is_automatic() {
    for mode in [ZeroCopySend::Auto, ZeroCopySend::Off] {
        let config = Config { zero_copy_send: mode, ..Config::new(SLABS * STRIDE) };
        run(config, async |core| {
            let (socket, mut plain) = flying_pair(&core).await;
            let sent = fill(&core, &socket, 50).await;
            assert_eq!(core.arena.free(), SLABS);
            assert_eq!(core.zero_copy.counts(), ZeroCopyCounts::default());
            let mut got = vec![0; sent.len()];
            let reading = std::thread::spawn(move || {
                plain.read_exact(&mut got).unwrap();
                got
            });
            assert!(reading.join().unwrap() == sent);
            socket.shutdown();
        })
        .unwrap();
    }
}
