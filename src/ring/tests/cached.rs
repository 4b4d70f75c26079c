//! What the page cache holds, on its way to a socket.

use super::*;
use crate::ring::sendfile;
use rustix::net::{Shutdown, sockopt::tcp_cork};
use std::sync::Arc;

#[test]
fn sends_from_a_mapped_file_until_it_is_cut_short() {
    on_a_ring(async |_| {
        let (socket, mut plain) = pair().await;
        let content = bytes(VIEW_LEN + 5000, 4);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&content, 0).unwrap();
        let mapped = File::new(file.try_clone().unwrap().into());
        let views = [(0, VIEW_LEN), (VIEW_LEN, 5000)]
            .map(|(offset, len)| Arc::new(View::new(&mapped, offset as u64, len).unwrap()));
        drop(mapped);
        let mut gather = Gather::default();
        gather.push_small(b"head");
        let all = |view: usize, len| Cached::Mapped(Window::new(Arc::clone(&views[view]), 0..len));
        gather.push_cached(all(0, VIEW_LEN).part(VIEW_LEN - 1000..VIEW_LEN));
        gather.push_cached(all(1, 5000));
        assert_eq!((gather.len(), gather.payload_len(), gather.slabs()), (6004, 6000, 1));
        let (result, mut gather) = socket.send(gather).await;
        assert_eq!(result.unwrap(), 6004);
        let mut got = vec![0; 6004];
        plain.read_exact(&mut got).unwrap();
        assert!(got[..4] == *b"head" && got[4..] == content[VIEW_LEN - 1000..]);

        gather.leave_views();
        assert_eq!(views.each_ref().map(Arc::strong_count), [1, 1]);
        // A page that is gone is an error of the send, and not the end of the process.
        file.set_len(VIEW_LEN as u64).unwrap();
        gather.clear();
        gather.push_cached(all(1, 5000));
        let (result, _) = socket.send(gather).await;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EFAULT));
    });
}

/// What is resident of a view, in bytes.
fn resident(view: &Arc<View>) -> usize {
    let address = Window::new(Arc::clone(view), 0..0).address() as usize;
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let begins = format!("{address:x}-");
    let lines = maps.lines().skip_while(|line| !line.starts_with(&begins));
    let rss = lines.filter_map(|line| line.strip_prefix("Rss:")).next().unwrap();
    rss.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn a_view_is_mapped_page_by_page_or_at_once() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&bytes(VIEW_LEN, 1), 0).unwrap();
    let file = File::new(file.into());
    assert_eq!(resident(&Arc::new(View::new(&file, 0, VIEW_LEN).unwrap())), 0);
    assert_eq!(resident(&Arc::new(View::populated(&file, 0, VIEW_LEN).unwrap())), VIEW_LEN);
}

/// A file with content, and the same as a range of it.
fn stored(content: &[u8]) -> (std::fs::File, Cached) {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(content, 0).unwrap();
    let same: OwnedFd = file.try_clone().unwrap().into();
    (file, Cached::File(FileRange::new(Rc::new(same), 0..content.len() as u64)))
}

/// What they send needs no operation of the ring, and those that wait for one are not forgotten over them.
#[test]
fn sends_from_files_let_the_ring_have_its_turn() {
    on_a_ring(async |core| {
        let (socket, _plain) = pair().await;
        let (_, range) = stored(&bytes(100, 3));
        // On a disk: reads of memory go to a thread, and take as long as that likes.
        let program = std::env::current_exe().unwrap();
        let file = tempfile::tempfile_in(program.parent().unwrap()).unwrap();
        file.write_all_at(&bytes(100, 3), 0).unwrap();
        let lease = core.arena.take().unwrap().lease(0..100).unwrap();
        let read = spawn(async move { File::new(file.into()).read_exact(lease, 100, 0).await.is_ok() });
        let mut sends = 0;
        while !read.is_finished() {
            let mut gather = Gather::default();
            gather.push_cached(range.part(0..1));
            assert_eq!(socket.send(gather).await.0.unwrap(), 1);
            sends += 1;
            assert!(sends < 1000, "nothing is read meanwhile");
        }
        assert!(read.await.unwrap());
    });
}

#[test]
fn small_bytes_slabs_views_and_files_go_out_in_order() {
    on_a_ring(async |core| {
        let (socket, mut plain) = pair().await;
        let content = bytes(100_000, 2);
        let (file, range) = stored(&content);
        let view = Arc::new(View::new(&File::new(file.into()), 0, 100_000).unwrap());
        let mut filling = core.arena.take().unwrap();
        filling.write(0, &content[..BLOCK]);
        let slab = filling.seal().ok().unwrap();
        let mut gather = Gather::default();
        gather.push_cached(range.part(0..1));
        gather.push_small(b"head");
        gather.push_payload(slab, 5..BLOCK);
        gather.push_cached(range.part(30_000..70_000));
        gather.push_cached(range.part(7..8));
        gather.push_cached(Cached::Mapped(Window::new(view, 9..20_000)));
        gather.push_small(b"tail");
        let expected = [
            &content[..1],
            b"head",
            &content[5..BLOCK],
            &content[30_000..70_000],
            &content[7..8],
            &content[9..20_000],
            b"tail",
        ]
        .concat();
        assert_eq!((gather.len(), gather.payload_len()), (expected.len(), expected.len() - 8));
        let before = counters();
        let (result, _) = socket.send(gather).await;
        assert_eq!(result.unwrap(), expected.len());
        let mut got = vec![0; expected.len()];
        plain.read_exact(&mut got).unwrap();
        assert!(got == expected);
        let after = counters();
        let whole = Operations { queued: 1, completed: 1, short: 0, failed: 0 };
        assert_eq!(after.file_sends, FileSends { sends: whole, calls: 5, bytes: 40_002 });
        let mut operations = before.operations;
        let turn = &mut operations[Kind::Other as usize];
        (turn.queued, turn.completed) = (turn.queued + 1, turn.completed + 1);
        assert_eq!(after.operations, operations, "one turn of the ring, and nothing else");
    });
}

#[test]
fn what_the_socket_does_not_take_is_not_sent() {
    let content = bytes(64 * BLOCK, 3);
    let (_file, range) = stored(&content);
    let (listener, plain) = listener_and_plain();
    let (mut other, _) = listener.accept().unwrap();
    plain.set_nonblocking(true).unwrap();
    let socket = OwnedFd::from(plain);
    let (mut sent, mut small, mut steps, mut refused) = (0, 0, 0, 0);
    let mut got = Vec::new();
    while sent < content.len() {
        let mut gather = Gather::default();
        gather.push_small(&content[sent..(sent + 13).min(content.len())]);
        let (start, end) = ((sent + 13).min(content.len()), content.len());
        for at in (start..end).step_by(BLOCK) {
            gather.push_cached(range.part(at..(at + BLOCK).min(end)));
        }
        match sendfile::send(&socket, &mut gather) {
            Ok(count) => {
                assert!(count > 0);
                small += (start - sent).min(count) as u64;
                sent += count;
                steps += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                refused += 1;
                let mut some = vec![0; 100_000];
                let count = other.read(&mut some).unwrap();
                got.extend_from_slice(&some[..count]);
            }
        }
        assert!(!tcp_cork(&socket).unwrap(), "nothing is held back");
    }
    rustix::net::shutdown(&socket, Shutdown::Write).unwrap();
    other.read_to_end(&mut got).unwrap();
    assert!(got == content && steps > 1, "{} bytes in {steps} steps", got.len());
    let mut gather = Gather::default();
    gather.push_cached(range);
    assert_eq!(sendfile::send(&socket, &mut gather).unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    let FileSends { sends: counted, bytes, .. } = counters().file_sends;
    // The last one took what was left; all before it ended where there was no room.
    let expected = Operations {
        queued: steps + refused + 1,
        completed: steps + refused + 1,
        short: steps - 1 + refused,
        failed: 1,
    };
    assert_eq!((counted, bytes), (expected, content.len() as u64 - small));
}

/// A listener, and a connection to it with little room.
fn listener_and_plain() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 64 * 1024).unwrap();
    let plain = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&plain, 64 * 1024).unwrap();
    (listener, plain)
}

#[test]
fn a_file_that_is_cut_short_is_sent_to_its_end_and_no_further() {
    on_a_ring(async |_| {
        let (socket, mut plain) = pair().await;
        let content = bytes(50_000, 4);
        let (file, range) = stored(&content);
        file.set_len(30_000).unwrap();
        let send = async |from: usize| {
            let mut gather = Gather::default();
            gather.push_cached(range.part(from..40_000));
            gather.push_small(b"never");
            socket.send(gather).await.0
        };
        assert_eq!(send(0).await.unwrap(), 30_000);
        assert_eq!(send(30_000).await.unwrap_err().raw_os_error(), Some(libc::EFAULT));
        let mut got = vec![0; 30_000];
        plain.read_exact(&mut got).unwrap();
        socket.shutdown();
        assert!(got == content[..30_000] && plain.read(&mut got).unwrap() == 0);
        assert!(send(0).await.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe));
    });
}
