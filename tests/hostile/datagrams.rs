//! What attackers do to a node of the DHT.

use crate::scene::{Fate, Scene};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

const ID: &str = "abcdefghij0123456789";

/// Sends datagrams of each kind until the scene is over, from one address or from many, and counts what comes back.
fn pour(scene: &Scene, from: &[UdpSocket], datagrams: &[Vec<u8>]) -> io::Result<Fate> {
    let (mut sent, mut heard) = (0, 0);
    let mut buffer = [0; 2048];
    while !scene.is_over() {
        for socket in from {
            for datagram in datagrams {
                // Without room it is lost.
                sent += socket.send_to(datagram, scene.addr).unwrap_or(0);
            }
            while let Ok(len) = socket.recv(&mut buffer) {
                heard += len;
            }
        }
        if sent > 1_000_000 {
            scene.begun();
        }
        // A flood, but not all of a processor.
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(heard <= 2 * sent, "{heard} bytes for {sent}");
    Ok(Fate::Kept)
}

fn socket(ip: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn queries() -> Vec<Vec<u8>> {
    [
        format!("d1:ad2:id20:{ID}e1:q4:ping1:t2:aa1:y1:qe"),
        format!("d1:ad2:id20:{ID}6:target20:{ID}4:wantl2:n42:n6ee1:q9:find_node1:t2:ab1:y1:qe"),
        format!("d1:ad2:id20:{ID}9:info_hash20:{ID}e1:q9:get_peers1:t2:ac1:y1:qe"),
        format!(
            "d1:ad2:id20:{ID}9:info_hash20:{ID}4:porti1e5:token8:aoeusnthe1:q13:announce_peer1:t2:ad1:y1:qe"
        ),
        format!("d1:ad2:id20:{ID}e1:q9:no_such_q1:t2:ae1:y1:qe"),
    ]
    .map(String::into_bytes)
    .into()
}

/// Asks far more than it may.
pub(crate) fn dht_queries(scene: &Scene, number: usize) -> io::Result<Fate> {
    pour(scene, &[socket(Ipv4Addr::new(127, 3, 0, number as u8 + 1))?], &queries())
}

/// Asks from many addresses, as somebody does who forges them.
pub(crate) fn dht_queries_of_many(scene: &Scene, number: usize) -> io::Result<Fate> {
    let sockets = (0..250).map(|n| socket(Ipv4Addr::new(127, 4, number as u8, n + 1)));
    pour(scene, &sockets.collect::<io::Result<Vec<_>>>()?, &queries())
}

/// Answers that nobody asked for, with nodes and peers in them.
pub(crate) fn dht_answers(scene: &Scene, number: usize) -> io::Result<Fate> {
    let nodes = [7; 26 * 30];
    let answer = |id: &[u8]| {
        [
            format!("d1:rd2:id20:{ID}5:nodes{}:", nodes.len()).as_bytes(),
            &nodes,
            format!("6:valuesl6:abcdefee1:t{}:", id.len()).as_bytes(),
            id,
            b"1:y1:re",
        ]
        .concat()
    };
    let answers: Vec<Vec<u8>> = (0..200u32).map(|n| answer(&n.to_be_bytes())).collect();
    pour(scene, &[socket(Ipv4Addr::new(127, 5, 0, number as u8 + 1))?], &answers)
}

/// Rubbish: of no length, too deep, too long, of wrong types.
pub(crate) fn dht_rubbish(scene: &Scene, number: usize) -> io::Result<Fate> {
    let mut rubbish: Vec<Vec<u8>> = [
        "",
        "d",
        "de",
        "d1:y1:qe",
        "d1:q4:ping1:t2:aa1:y1:qe",
        "d1:ad2:id19:abcdefghij012345678ee",
        "d1:ai7e1:q4:ping1:t2:aa1:y1:qe",
        "d1:ad2:idi7ee1:q4:ping1:t2:aa1:y1:qe",
        "d1:eli201e1:xe1:t2:aa1:y1:ee",
        "d1:rd2:id20:abcdefghij01234567895:nodes5:short6:valuesi3ee1:t2:aa1:y1:re",
        "99999999999999999999:",
        "i-0e",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    rubbish.push(vec![b'l'; 1400]);
    rubbish.push(vec![b'd'; 60_000]);
    rubbish.push(vec![0; 65_000]);
    pour(scene, &[socket(Ipv4Addr::new(127, 6, 0, number as u8 + 1))?], &rubbish)
}
