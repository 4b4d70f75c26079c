//! Whom of the DHT the program asks, beside those that it is told to begin with.

use super::magnets::link;
use crate::common::DEADLINE;
use crate::common::payload::{BLOCK, one_file};
use crate::common::peer::{handshake, message};
use crate::common::program::{Program, seedring};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Where a node might be.
fn node(ip: &str) -> (UdpSocket, u16) {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Waits for a query.
fn hear_query(node: &UdpSocket) {
    let mut datagram = [0; 2048];
    let (len, _) = node.recv_from(&mut datagram).expect("it is asked");
    assert!(datagram[..len].windows(6).any(|word| word == b"1:y1:q"), "{:?}", &datagram[..len]);
}

fn with_dht(what: &str, folder: &Path, bootstrap: &[String]) -> Command {
    let mut command = seedring();
    command.env_remove("SEEDRING_NO_DHT").args([what, "--json", "--listen", "127.0.0.1:0", "--state"]);
    command.arg(folder.join("state"));
    bootstrap.iter().for_each(|host| _ = command.args(["--dht-bootstrap", host]));
    command
}

#[test]
fn nodes_that_the_torrent_names_and_those_of_peers_are_asked() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let ((named, named_port), (of_peer, port)) = (node("127.0.0.1"), node("127.0.0.1"));
    let mut bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.pop(), Some(b'e'));
    bytes.extend(format!("5:nodesll9:127.0.0.1i{named_port}eeee").into_bytes());
    fs::write(&path, bytes).unwrap();
    let nowhere = ["127.0.0.1:1".to_owned()];
    let mut seed = with_dht("seed", folder.path(), &nowhere);
    let mut seed = Program::start(seed.arg(&path).arg("-d").arg(folder.path()));
    hear_query(&named);
    let mut peer = TcpStream::connect(seed.address()).unwrap();
    let mut shake = handshake(&torrent, [1; 20]);
    shake[27] |= 1;
    peer.write_all(&[shake, message(9, &[], &port.to_be_bytes())].concat()).unwrap();
    peer.read_exact(&mut [0; 68]).unwrap();
    hear_query(&of_peer);
}

#[test]
fn nodes_in_the_filter_are_not_asked() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let filter = folder.path().join("filter");
    fs::write(&filter, "127.0.0.9/32\n").unwrap();
    for what in ["seed", "show"] {
        let ((shunned, shunned_port), (other, port)) = (node("127.0.0.9"), node("127.0.0.1"));
        let hosts = [format!("127.0.0.9:{shunned_port}"), format!("127.0.0.1:{port}")];
        let mut command = with_dht(what, folder.path(), &hosts);
        command.arg("--ip-filter").arg(&filter);
        match what {
            "seed" => command.arg(&path).arg("-d").arg(folder.path()),
            _ => command.arg(link(&torrent, "")),
        };
        let mut program = Program::start(&mut command);
        program.until("dht_started");
        hear_query(&other);
        // All are asked at once.
        thread::sleep(Duration::from_millis(300));
        shunned.set_nonblocking(true).unwrap();
        let heard = shunned.recv_from(&mut [0; 2048]).map_err(|error| error.kind());
        assert_eq!(heard.err(), Some(io::ErrorKind::WouldBlock), "{what}");
    }
}
