//! The ways by which a link finds peers: each is gone by unless it is switched off, and what they name is dialled.

use super::{EXTENDED, Tracker, link};
use crate::common::payload::{BLOCK, one_file};
use crate::common::peer::{handshake, hear_kind, message, try_hear_kind};
use crate::common::program::{Program, client, seedring};
use crate::common::{DEADLINE, until};
use seedring::metainfo::Torrent;
use seedring::wire::extended::{Extension, PexFlags, PexMessage};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[test]
fn peers_are_told_the_port_where_the_dht_listens_and_not_that_of_another_program() {
    let (folder, torrent, parsed) = one_file(1000, BLOCK);
    // Another program has the port for datagrams; for connections it is free.
    let other = taken_for_datagrams();
    let taken = other.local_addr().unwrap();
    let mut command = seedring();
    command.env_remove("SEEDRING_NO_DHT").args(["seed", "--json", "--listen", &taken.to_string()]);
    command.args(["--dht-bootstrap", "127.0.0.1:1", "--state"]).arg(folder.path().join("state"));
    let mut seeder = Program::start(command.arg(&torrent).arg("-d").arg(folder.path()));
    let listens = until_port(&mut seeder);
    let mut peer = TcpStream::connect(taken).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut shake = handshake(&parsed, [1; 20]);
    shake[27] |= 1;
    peer.write_all(&shake).unwrap();
    peer.read_exact(&mut [0; 68]).unwrap();
    let said = hear_kind(&mut peer, 9);
    assert_eq!(said, listens.to_be_bytes());
    assert_ne!(listens, taken.port());
}

/// A peer that has no metadata, and tells of `other` by peer exchange and of a node of the DHT at `node`; it hands on whether
/// it was asked whom it knows.
fn teller(torrent: &Torrent, other: SocketAddr, node: u16) -> (SocketAddr, mpsc::Receiver<bool>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (addr, (tell, asked)) = (listener.local_addr().unwrap(), mpsc::channel());
    let mut shake = handshake(torrent, [3; 20]);
    (shake[25], shake[27]) = (0x10, 1);
    let pex = PexMessage { added: vec![(other, PexFlags::default())], ..PexMessage::default() }.encode();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut talk = || {
                stream.read_exact(&mut [0; 68])?;
                stream.write_all(&shake)?;
                stream.write_all(&message(EXTENDED, &[], b"\0d1:md6:ut_pexi1eee"))?;
                let hello = try_hear_kind(&mut stream, EXTENDED)?;
                let _ = tell.send(hello.windows(6).any(|word| word == b"ut_pex"));
                stream.write_all(&message(EXTENDED, &[], &[&[Extension::Pex.id()], &pex[..]].concat()))?;
                stream.write_all(&message(9, &[], &node.to_be_bytes()))?;
                // Who closes before all is read takes back what was said.
                io::copy(&mut stream, &mut io::sink())
            };
            let _ = talk();
        }
    });
    (addr, asked)
}

#[test]
fn a_peer_that_has_no_metadata_leads_to_others_and_to_nodes_of_the_dht() {
    let (folder, torrent, parsed) = one_file(1000, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &[]));
    let shunned = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    shunned.set_nonblocking(true).unwrap();
    for (off, other) in [(None, seeder.address()), (Some("--no-pex"), shunned.local_addr().unwrap())] {
        let node = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        node.set_read_timeout(Some(DEADLINE)).unwrap();
        let (peer, asked) = teller(&parsed, other, node.local_addr().unwrap().port());
        let mut show = seedring();
        show.env_remove("SEEDRING_NO_DHT").args(["show", "--json", "--listen", "127.0.0.1:0"]).args(off);
        show.args(["--dht-bootstrap", "127.0.0.1:1", "--state"]).arg(folder.path().join("state"));
        show.arg(link(&parsed, &format!("&x.pe={peer}")));
        let mut show = Program::start(&mut show);
        assert_eq!(asked.recv_timeout(DEADLINE).unwrap(), off.is_none());
        if off.is_none() {
            show.until("torrent");
            assert!(show.wait().success());
        } else {
            assert!(node.recv(&mut [0; 2048]).unwrap() > 0, "nobody has asked the node");
            // Who is told of is dialled at once.
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(shunned.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "it was dialled");
        }
    }
}

/// Somebody who hears what is said on this machine to the group of local discovery.
fn ear() -> UdpSocket {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let group = Ipv4Addr::new(239, 192, 152, 143);
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let fd = fd.unwrap();
    // Those of programs that run meanwhile are there, too.
    sockopt::set_socket_reuseaddr(&fd, true).unwrap();
    sockopt::set_socket_reuseport(&fd, true).unwrap();
    rustix::net::bind(&fd, &SocketAddr::from((group, 6771))).unwrap();
    sockopt::set_ip_add_membership(&fd, &group, &Ipv4Addr::LOCALHOST).unwrap();
    fd.into()
}

/// What has come to a socket that does not wait.
fn come(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = [0; 2048];
    socket.set_nonblocking(true).unwrap();
    socket.recv(&mut datagram).map_or_else(|_| Vec::new(), |len| datagram[..len].to_vec())
}

#[test]
fn a_link_leads_to_nobody_who_is_not_to_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    // One that nobody else looks for, at this time on this machine, either.
    let named: String = (0..40).map(|_| fastrand::digit(16)).collect();
    for off in [None, Some("--no-trackers"), Some("--no-dht"), Some("--no-lsd")] {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tracker = Tracker::naming(nobody.local_addr().unwrap());
        let (door, ear) = (UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), ear());
        let mut show = seedring();
        show.env_remove("SEEDRING_NO_DHT").env_remove("SEEDRING_NO_LSD").args(["show", "--json"]).args(off);
        show.args(["--listen", "127.0.0.1:0", "--dht-bootstrap", &door.local_addr().unwrap().to_string()]);
        let link = format!("magnet:?xt=urn:btih:{named}{}", tracker.url());
        show.arg("--state").arg(folder.path().join("state")).arg(link);
        let _program = Program::start(&mut show);
        let mut heard = [false; 3];
        let mut listen = || {
            let said = String::from_utf8_lossy(&come(&ear)).to_lowercase();
            let now = [tracker.heard("event=started") > 0, !come(&door).is_empty(), said.contains(&named)];
            heard.iter_mut().zip(now).for_each(|(heard, now)| *heard |= now);
            heard
        };
        let asked = [Some("--no-trackers"), Some("--no-dht"), Some("--no-lsd")].map(|way| way != off);
        let mut look = || {
            let heard = listen();
            let wrong = heard.iter().zip(asked).any(|(heard, asked)| *heard && !asked);
            assert!(!wrong, "{off:?}, but of trackers, the DHT and the network {heard:?}");
            if heard == asked { Ok(()) } else { Err(format!("{off:?}: {heard:?} have heard of it")) }
        };
        until(&mut look);
        // A node of the DHT may first look for its doors.
        let silent = Instant::now();
        while off.is_some() && silent.elapsed() < Duration::from_millis(2500) {
            std::thread::sleep(Duration::from_millis(50));
            look().unwrap();
        }
    }
}

/// A socket for datagrams whose port nobody has for connections. Not one of those that the system gives to connections that
/// are made: another test could get it meanwhile.
fn taken_for_datagrams() -> UdpSocket {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..30_000)).take(100);
    let take = |port| {
        let addr = (Ipv4Addr::LOCALHOST, port);
        TcpListener::bind(addr).and_then(|_| UdpSocket::bind(addr)).ok()
    };
    ports.find_map(take).expect("a free port")
}

/// The port of the DHT node of the program, once it answers there.
fn until_port(seeder: &mut Program) -> u16 {
    let started = seeder.until("dht_started");
    let addr: SocketAddr = started["addrs"][0].as_str().unwrap().parse().unwrap();
    // The node answers: it is there.
    let asker = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    asker.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    until(|| {
        asker.send_to(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", addr).unwrap();
        asker.recv_from(&mut [0; 1500]).map_err(|error| error.to_string())
    });
    addr.port()
}
