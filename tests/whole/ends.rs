//! How commands end when something holds them up, or nobody reads any more what they print.

use crate::common::payload::{BLOCK, one_file, torrent_for};
use crate::common::peer::{connect, message};
use crate::common::program::{Program, client, seedring};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the program runs");
}

/// Until the thread that hears signals waits for a file that gives nothing, and has heard all signals so far.
fn wait_until_it_reads(child: &Child) {
    let look = |what| fs::read_to_string(format!("/proc/{}/{what}", child.id())).unwrap_or_default();
    crate::common::until(|| {
        let (status, call) = (look("status"), look("syscall"));
        let mut pending =
            status.lines().filter(|line| line.starts_with("SigPnd") || line.starts_with("ShdPnd"));
        let heard = pending.all(|line| line.ends_with(&"0".repeat(16)));
        let reads = call.split(' ').next() == Some(&libc::SYS_read.to_string());
        if heard && reads { Ok(()) } else { Err(format!("{status}{call}")) }
    });
}

#[test]
fn a_second_signal_ends_what_is_held_up() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("list");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .unwrap();
    let (_origin, torrent, _) = one_file(BLOCK as usize, BLOCK);
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command =
            client("download", &torrent, folder.path(), &["--ip-filter", pipe.to_str().unwrap()]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        // There is a writer, which writes nothing.
        let _writer = rustix::fs::open(&pipe, OFlags::WRONLY, Mode::empty()).unwrap();
        wait_until_it_reads(&child);
        signal(&child, Signal::INT);
        wait_until_it_reads(&child);
        assert!(child.try_wait().unwrap().is_none(), "the first lets it end in order, if it can");
        // Not at once: that would be the first said twice.
        crate::common::until(|| {
            signal(&child, second);
            child.try_wait().unwrap().ok_or_else(|| "it does not end".into())
        });
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

/// What it was found to be when it was checked it is no more.
#[test]
fn a_seed_ends_when_its_file_is_written_to() {
    let (origin, torrent, _) = one_file(40 * BLOCK as usize, BLOCK);
    let data = origin.path().join("payload");
    let mut seed = client("seed", &torrent, origin.path(), &["--cores", "2"]);
    let mut seeder = Program::start(seed.stderr(Stdio::null()));
    let peer = seeder.address().to_string();
    // There are programs that give a file the date of what it holds.
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(&data).unwrap().set_modified(before).unwrap();
    (0..3).for_each(|_| drop(seeder.until("progress")));
    let copy = origin.path().join("copy");
    let mut leech = Program::start(&mut client("download", &torrent, &copy, &["--peer", &peer]));
    assert!(leech.wait().success());
    fs::File::options().write(true).open(&data).unwrap().write_all(b"another word").unwrap();
    let error = seeder.until("error")["message"].to_string();
    assert!(error.contains("payload") && error.contains("written to after it was checked"), "{error}");
    assert_eq!(seeder.wait().code(), Some(1));
}

/// As `nohup` begins it, whose terminal may be closed.
#[test]
fn what_ignores_hanging_up_goes_on() {
    let (origin, torrent, parsed) = one_file(BLOCK as usize, BLOCK);
    let command = client("seed", &torrent, origin.path(), &[]);
    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    deaf.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut seeder = Program::start(&mut deaf);
    let addr = seeder.address();
    seeder.signal(Signal::HUP);
    seeder.until("progress");
    seeder.until("progress");
    connect(addr, &parsed, [1; 20]).unwrap();
    seeder.interrupt();
    assert!(seeder.wait().success());
}

/// As `timeout` does, which tells the process and then its group.
#[test]
fn a_signal_that_is_sent_twice_at_once_is_one() {
    let (origin, torrent, _) = one_file(BLOCK as usize, BLOCK);
    for _ in 0..8 {
        let mut seeder = Program::start(&mut client("seed", &torrent, origin.path(), &[]));
        seeder.address();
        (0..3).for_each(|_| seeder.interrupt());
        assert!(seeder.wait().success());
        seeder.until("stopped");
    }
}

#[test]
fn a_scrape_that_nobody_answers_can_be_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tracker = format!("udp://{}/announce", silent.local_addr().unwrap());
    fs::write(folder.path().join("payload"), "x").unwrap();
    let mut create = seedring();
    create.current_dir(folder.path()).args(["create", "payload", "-o", "t", "--announce", &tracker]);
    assert!(create.output().unwrap().status.success());
    let show = |more: &[&str]| {
        let mut show = seedring();
        show.current_dir(folder.path()).args(["show", "t", "--scrape"]).args(more).stdout(Stdio::null());
        show
    };
    let mut child = show(&[]).spawn().unwrap();
    silent.recv_from(&mut [0; 100]).unwrap();
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));

    // Nor is a tracker asked from elsewhere than from where we listen, or at all by who wants none to be asked.
    let mut child = show(&["--listen", "127.0.0.7:0"]).spawn().unwrap();
    let from = std::iter::repeat_with(|| silent.recv_from(&mut [0; 100]).unwrap().1);
    assert!(from.take(100).any(|from| from.ip().to_string() == "127.0.0.7"));
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let refused = show(&["--no-trackers"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no tracker is to be asked"));
}

/// Reads one line of what a command prints, and goes away; how that ends.
fn after_one_line(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn a_reader_that_goes_away_ends_what_it_has_read() {
    let (origin, torrent, parsed) = one_file(BLOCK as usize, BLOCK);
    let copy = origin.path().join("copy");
    let magnet = format!("magnet:?xt=urn:btih:{}", parsed.info_hash);
    for mut command in [
        client("seed", &torrent, origin.path(), &[]),
        client("download", &torrent, &copy, &[]),
        client("download", magnet.as_ref(), &copy, &[]),
    ] {
        assert_eq!(after_one_line(&mut command), (Some(141), String::new()), "{command:?}");
    }
}

#[test]
fn a_stdout_that_fails_is_told_of_by_who_is_ended_by_it() {
    let (origin, torrent, _) = one_file(BLOCK as usize, BLOCK);
    let copy = origin.path().join("copy");
    for mut command in
        [client("seed", &torrent, origin.path(), &[]), client("download", &torrent, &copy, &[])]
    {
        let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = command.stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("cannot write to standard output"), "{command:?}: {said}");
    }
}

/// Nobody reads what it says of the many that it drops.
#[test]
fn a_reader_that_stops_to_read_holds_up_no_goodbye() {
    let (origin, _, _) = one_file(BLOCK as usize, BLOCK);
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", tracker.local_addr().unwrap());
    let (path, torrent) = torrent_for(&origin.path().join("payload"), BLOCK, vec![vec![url]]);
    let mut child = client("seed", &path, origin.path(), &[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.find(|line| line.contains("\"listening\"")).expect("it listens");
    let listen: SocketAddr = listening.split('"').nth(7).unwrap().parse().unwrap();
    let hear = || {
        let (mut stream, _) = tracker.accept().unwrap();
        let mut line = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        reader.read_line(&mut line).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\nd8:intervali1800e5:peers0:e")
            .unwrap();
        line
    };
    assert!(hear().contains("event=started"));
    // Each is told of by a hundred bytes; a pipe holds 65,536.
    for number in 0..1500u32 {
        let id: Vec<u8> = number.to_be_bytes().into_iter().cycle().take(20).collect();
        let mut peer = connect(listen, &torrent, id.try_into().unwrap()).unwrap();
        peer.write_all(&message(4, &[99], &[])).unwrap();
        // Until it is closed.
        let _ = peer.read_to_end(&mut Vec::new());
    }
    signal(&child, Signal::TERM);
    assert!(hear().contains("event=stopped"));
    // All of it is there for who reads on.
    let kinds: Vec<String> =
        lines.map(|line| line.split('"').nth(3).unwrap_or_default().to_owned()).collect();
    let dropped = kinds.iter().filter(|kind| *kind == "peer_dropped").count();
    assert!(dropped > 1000, "{dropped} of 1500");
    assert_eq!(kinds.last().map(String::as_str), Some("stopped"));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
