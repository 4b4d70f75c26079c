//! The ring against the plain system calls: the same bytes at the end.

mod cached;
mod files;
mod listener;
mod panics;
mod zero_copy;

use super::arena::STRIDE;
use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

const BLOCK: usize = 16 * 1024;

fn on_a_ring<T>(main: impl AsyncFnOnce(Core) -> T) -> T {
    run(Config::new(4 * STRIDE), main).unwrap()
}

#[test]
fn what_an_arena_grows_by_is_registered_too() {
    run(Config::new(16 * STRIDE), async |core| {
        assert!(core.arena.untouched() > 0, "it begins small");
        let slabs: Vec<FillingSlab> = std::iter::from_fn(|| core.arena.take()).collect();
        assert!(core.arena.is_registered(), "run the tests with enough lockable memory");
        let places: Vec<Option<u16>> =
            slabs.iter().map(|slab| slab.lease(0..1).unwrap().registered_at()).collect();
        assert!(places.iter().all(Option::is_some) && places.first() != places.last(), "{places:?}");
    })
    .unwrap();
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

/// A connection to a plain socket.
async fn pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let plain = std::thread::spawn(move || listener.accept().unwrap().0);
    let socket = Socket::connect(addr, None, Duration::from_secs(5)).await.unwrap();
    (socket, plain.join().unwrap())
}

/// A connection to a plain socket that takes in little before somebody reads.
async fn narrow_pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 16 * 1024).unwrap();
    let socket = Socket::connect(listener.local_addr().unwrap(), None, Duration::from_secs(5)).await.unwrap();
    (socket, listener.accept().unwrap().0)
}

/// Whoever asks and does not read holds a connection, and what waits for it, no longer than that.
#[test]
fn who_takes_nothing_for_long_is_given_up() {
    let limit = Duration::from_secs(2);
    let (kept, given_up) = on_a_ring(async |_| {
        let (reader, silent) = (narrow_pair().await, narrow_pair().await);
        for (socket, _) in [&reader, &silent] {
            socket.give_up_after(limit);
            assert_eq!(fill(socket).await, libc::EAGAIN);
        }
        let reading = std::thread::spawn({
            let mut plain = reader.1.try_clone().unwrap();
            move || {
                for _ in 0..100 {
                    std::thread::sleep(limit / 50);
                    let _ = plain.read(&mut [0; 8192]).unwrap();
                }
            }
        });
        while !reading.is_finished() {
            tokio::time::sleep(limit / 10).await;
        }
        (fill(&reader.0).await, fill(&silent.0).await)
    });
    assert_eq!((kept, given_up), (libc::EAGAIN, libc::ETIMEDOUT));
}

/// Sends until the kernel takes no more, and gives what it says then.
async fn fill(socket: &Socket) -> i32 {
    loop {
        let mut gather = Gather::default();
        gather.push_small(&[0; 65_536]);
        if let Err(error) = socket.send(gather).await.0 {
            return error.raw_os_error().unwrap();
        }
    }
}

#[test]
fn the_arena_is_registered() {
    assert!(on_a_ring(async |core| core.arena.is_registered()), "run the tests with enough lockable memory");
}

#[test]
fn huge_pages_are_asked_for() {
    let flags = run(Config::new(4 << 20), async |core| {
        let filling = core.arena.take().unwrap();
        let at = filling.lease(0..1).unwrap().address() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let flags = maps.lines().find_map(|line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            if let Some((start, end)) = range {
                let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
                inside = (start..end).contains(&at);
            }
            line.strip_prefix("VmFlags:").filter(|_| inside).map(str::to_owned)
        });
        flags.expect("the arena is mapped")
    });
    let flags = flags.unwrap();
    assert!(flags.split(' ').any(|flag| flag == "hg"), "{flags}");
}

#[test]
fn operations_are_counted_one_by_one_and_batches_as_batches() {
    let file = || File::new(OwnedFd::from(tempfile::tempfile().unwrap()));
    on_a_ring(async |core| {
        let begun = counters();
        assert!(begun.busy > 0, "a thread that runs uses time");
        assert_eq!(RingCounters { busy: 0, ..begun }, RingCounters::default(), "a new ring begins at none");
        let (first, second) = (file(), file());
        let slab = core.arena.take().unwrap().seal().ok().unwrap();
        // Two in one turn, then one in a turn of its own.
        let write = first.write_direct(&slab, 0..BLOCK, 0);
        let (written, synced) = tokio::join!(write, second.sync_data());
        written.and(synced).unwrap();
        assert_eq!(counters().submissions, 1);
        let lease = core.arena.take().unwrap().lease(0..BLOCK + 1).unwrap();
        let end = first.read_exact(lease, BLOCK + 1, 0).await;
        assert_eq!(end.err().unwrap().kind(), std::io::ErrorKind::UnexpectedEof);
        let counted = counters();
        // The end of the file was found by a second read.
        assert_eq!(counted.submissions, 3);
        let of = |kind: Kind| counted.operations[kind as usize];
        assert_eq!(of(Kind::Write), Operations { queued: 1, completed: 1, short: 0, failed: 0 });
        assert_eq!(of(Kind::Sync), Operations { queued: 1, completed: 1, short: 0, failed: 0 });
        assert_eq!(of(Kind::Read), Operations { queued: 2, completed: 2, short: 2, failed: 0 });
        let times = |kind: Kind| counted.disk[kind as usize].times.count();
        assert_eq!((times(Kind::Write), times(Kind::Sync), times(Kind::Read)), (1, 1, 2));
        assert_eq!(counted.disk[Kind::Read as usize].sizes.sum(), BLOCK as u64);
        // Beside the ring: timed all the same, and no operations of it.
        first.write_cached(&slab, [(0..BLOCK, 0)], true).await.unwrap();
        first.write_now(slab.bytes(0..5), 0).unwrap();
        first.read_now(core.arena.take().unwrap().lease(0..7).unwrap(), 7, 0).unwrap();
        let beside = counters();
        assert_eq!(beside.operations, counted.operations);
        let added = |kind: Kind| {
            let [before, after] = [counted, beside].map(|counters| counters.disk[kind as usize]);
            (after.times.count() - before.times.count(), after.sizes.sum() - before.sizes.sum())
        };
        assert_eq!((added(Kind::Write), added(Kind::Read)), ((2, BLOCK as u64 + 5), (1, 7)));
    });
}

#[test]
fn a_batch_that_outgrows_the_queue_is_counted() {
    on_a_ring(async |_| {
        let (socket, _stream) = pair().await;
        let before = counters();
        let most = super::entries::ENTRIES as usize;
        // All in one turn, by one task.
        let mut polls: Vec<_> = (0..2 * most + 1).map(|_| Box::pin(socket.writable())).collect();
        std::future::poll_fn(|context| {
            polls.retain_mut(|poll| poll.as_mut().poll(context).is_pending());
            if polls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let after = counters();
        assert_eq!(after.queue_full - before.queue_full, 2);
        assert!(after.busy > before.busy);
    });
}

#[test]
fn bytes_of_handshakes_are_counted() {
    on_a_ring(async |_| {
        let (socket, mut stream) = pair().await;
        let before = counters();
        socket.send_all(&[1; 68]).await.unwrap();
        stream.write_all(&[2; 20]).unwrap();
        socket.recv_exact(&mut [0; 20]).await.unwrap();
        let after = counters();
        assert_eq!(after.handshakes_sent - before.handshakes_sent, 68);
        assert_eq!(after.handshakes_received - before.handshakes_received, 20);
    });
}

#[test]
fn files_are_written_and_read_at_any_offset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let content = bytes(SLAB_LEN, 1);
    on_a_ring(async |core| {
        let options = || std::fs::File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = File::new(OwnedFd::from(options().open(&path).unwrap()));
        let mut slab = core.arena.take().unwrap();
        slab.write(0, &content);
        let slab = slab.seal().ok().unwrap();
        file.write_cached(&slab, [(0..SLAB_LEN, 12_345)], true).await.unwrap();
        file.write_now(slab.bytes(100..200), 3).unwrap();
        file.sync_data().await.unwrap();
        let back = core.arena.take().unwrap();
        file.read_exact(back.lease(7..50_007).unwrap(), 50_000, 12_345 + 1_000).await.unwrap();
        assert!(back.read(7..50_007) == &content[1_000..51_000]);
        let lease = back.lease(100_000..100_010).unwrap();
        let lease = file.read_now(lease, 4, 3).unwrap();
        assert_eq!(lease.len(), 6);
        assert_eq!(file.read_exact(lease, 6, 7).await.unwrap().len(), 0);
        assert_eq!(back.read(100_000..100_010), &content[100..110]);
        let end = 12_345 + SLAB_LEN as u64 - 10;
        let short = file.read_exact(back.lease(0..11).unwrap(), 11, end).await.err().unwrap();
        assert_eq!(short.kind(), std::io::ErrorKind::UnexpectedEof);
        let short = file.read_now(back.lease(0..11).unwrap(), 11, end).err().unwrap();
        assert_eq!(short.kind(), std::io::ErrorKind::UnexpectedEof);
        // Whether it is cached is the kernel's business; no kernel has more pages in its cache than there are.
        assert!(file.cached(12_345, 100).map_or(true, |pages| pages <= 1));
    });
    let written = std::fs::read(&path).unwrap();
    assert!(written[12_345..] == content && written[3..103] == content[100..200]);
}

#[test]
fn receives_scatter_over_scratch_and_slabs() {
    on_a_ring(async |core| {
        let (socket, mut plain) = pair().await;
        let sent = bytes(13 + BLOCK + 13 + 1000, 2);
        plain.write_all(&sent).unwrap();
        let slab = core.arena.take().unwrap();
        let mut got = Vec::new();
        while got.len() < sent.len() {
            socket.readable().await.unwrap();
            let mut scatter = Scatter::default();
            let ranges = [
                scatter.push_scratch(13),
                {
                    scatter.push_lease(slab.lease(BLOCK..2 * BLOCK).unwrap());
                    0..BLOCK
                },
                scatter.push_rest(),
            ];
            assert!(slab.is_leased(&(BLOCK..BLOCK + 1)));
            let (result, mut scatter) = socket.recv(scatter).await;
            scatter.clear();
            let mut left = result.unwrap();
            for (at, range) in ranges.into_iter().enumerate() {
                let len = range.len().min(left);
                left -= len;
                let part = if at == 1 {
                    slab.read(BLOCK..BLOCK + len)
                } else {
                    scatter.scratch(range.start..range.start + len)
                };
                got.extend_from_slice(part);
            }
        }
        assert!(got == sent);
        let (nothing, _) = socket
            .recv({
                let mut s = Scatter::default();
                s.push_rest();
                s
            })
            .await;
        assert_eq!(nothing.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        drop(plain);
        socket.readable().await.unwrap();
        let (end, _) = socket
            .recv({
                let mut s = Scatter::default();
                s.push_rest();
                s
            })
            .await;
        assert_eq!(end.unwrap(), 0);
    });
}

#[test]
fn sends_gather_and_never_wait() {
    on_a_ring(async |core| {
        let (socket, mut plain) = pair().await;
        let content = bytes(SLAB_LEN, 3);
        let mut slab = core.arena.take().unwrap();
        slab.write(0, &content);
        let slab = slab.seal().ok().unwrap();
        let mut sent = 0;
        let mut gather = Gather::default();
        // Nobody reads: sooner or later the send buffer is full.
        loop {
            gather.clear();
            gather.push_small(b"head");
            gather.push_payload(slab.clone(), 0..SLAB_LEN);
            let (result, back) = socket.send(gather).await;
            gather = back;
            match result {
                Ok(count) => sent += count,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        drop(gather);
        drop(slab);
        assert_eq!(core.arena.free(), core.arena.capacity(), "what waits in the kernel pins no slab");
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; sent];
            plain.read_exact(&mut got).unwrap();
            got
        });
        socket.writable().await.unwrap();
        let got = reader.join().unwrap();
        assert!(got[..4] == *b"head" && got[4..1004] == content[..1000]);
    });
}

#[test]
fn shutting_down_ends_whoever_waits() {
    on_a_ring(async |_| {
        let (socket, _plain) = pair().await;
        let waiting = spawn(socket.readable());
        let deadline = socket.deadline(Duration::from_millis(10));
        waiting.await.unwrap().unwrap();
        assert!(deadline.has_passed());
        let mut byte = [0];
        assert_eq!(socket.recv_exact(&mut byte).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn nobody_listening_and_nobody_answering() {
    on_a_ring(async |_| {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = Socket::connect(free, None, Duration::from_secs(5)).await.err().unwrap();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // A full backlog answers no further dial.
        let full =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .unwrap();
        rustix::net::bind(&full, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let addr = rustix::net::getsockname(&full).unwrap().try_into().unwrap();
        let _first = TcpStream::connect(addr).unwrap();
        let late = Socket::connect(addr, None, Duration::from_millis(50)).await.err().unwrap();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_dropped_operation_keeps_its_memory_until_the_kernel_has_answered() {
    on_a_ring(async |core| {
        let (socket, _plain) = pair().await;
        let slab = Rc::new(core.arena.take().unwrap());
        let file = File::new(OwnedFd::from(std::fs::File::open("/dev/zero").unwrap()));
        let reading = file.read_exact(slab.lease(0..BLOCK).unwrap(), BLOCK, 0);
        begin_and_drop(reading).await;
        assert!(slab.is_leased(&(0..1)), "the kernel may still write there");
        while slab.is_leased(&(0..1)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(slab.read(0..BLOCK), [0; BLOCK]);
        socket.shutdown();
    });
}

/// Looks at an operation once, so that it is submitted, and drops it before the answer.
async fn begin_and_drop(operation: impl Future) {
    let mut operation = Box::pin(operation);
    let polled = std::future::poll_fn(|cx| Poll::Ready(operation.as_mut().poll(cx).is_pending())).await;
    assert!(polled, "the kernel has not answered yet");
}

#[test]
fn a_receive_that_is_dropped_keeps_its_leases_until_the_kernel_has_answered() {
    on_a_ring(async |core| {
        let (socket, mut plain) = pair().await;
        let content = bytes(BLOCK, 5);
        plain.write_all(&content).unwrap();
        while socket.unread() < BLOCK as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let slab = core.arena.take().unwrap();
        let mut scatter = Scatter::default();
        scatter.push_lease(slab.lease(0..BLOCK).unwrap());
        begin_and_drop(socket.recv(scatter)).await;
        assert!(slab.is_leased(&(0..1)), "the kernel may still write there");
        while slab.is_leased(&(0..1)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(slab.read(0..BLOCK) == content, "and it has");
    });
}

#[test]
fn a_send_that_is_dropped_keeps_its_slabs_until_the_kernel_has_answered() {
    on_a_ring(async |core| {
        let (socket, mut plain) = pair().await;
        let content = bytes(BLOCK, 6);
        let mut slab = core.arena.take().unwrap();
        slab.write(0, &content);
        let mut gather = Gather::default();
        gather.push_small(b"head");
        gather.push_payload(slab.seal().ok().unwrap(), 0..BLOCK);
        begin_and_drop(socket.send(gather)).await;
        assert!(core.arena.free() < core.arena.capacity(), "the kernel may still read it");
        while core.arena.free() < core.arena.capacity() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut got = vec![0; 4 + BLOCK];
        plain.read_exact(&mut got).unwrap();
        assert!(got[..4] == *b"head" && got[4..] == content);
    });
}

#[test]
fn a_write_that_nobody_waits_for_is_done_all_the_same_and_holds_its_slab() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let content = bytes(SLAB_LEN, 4);
    on_a_ring(async |core| {
        let file = File::new(OwnedFd::from(std::fs::File::create(&path).unwrap()));
        let mut slab = core.arena.take().unwrap();
        slab.write(0, &content);
        let slab = slab.seal().ok().unwrap();
        let mut writing = Box::pin(file.write_cached(&slab, [(0..SLAB_LEN, 0)], false));
        std::future::poll_fn(|cx| std::task::Poll::Ready(_ = writing.as_mut().poll(cx))).await;
        drop(writing);
        drop(slab);
        assert!(core.arena.free() < core.arena.capacity(), "the thread may still read it");
        while core.arena.free() < core.arena.capacity() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(std::fs::read(&path).unwrap() == content);
}
