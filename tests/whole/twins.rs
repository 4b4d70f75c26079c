//! Where peers find us again: what of two connections stays when each side has dialled the other, and from where they are dialled.

use super::magnets::Tracker;
use crate::common::payload::{BLOCK, one_file, torrent_for};
use crate::common::peer::{INTERESTED, accept, bitfield, connect, hear_kind};
use crate::common::program::{Program, client, seedring};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::path::Path;

/// Some clients close the connection that they have made if the other is there still, and are left with none.
#[test]
fn a_connection_that_has_to_go_goes_before_the_other_is_answered() {
    const GREATEST: [u8; 20] = [0xff; 20];
    let (folder, _, _) = one_file(BLOCK as usize, BLOCK);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tracker = Tracker::naming(listener.local_addr().unwrap());
    let url = format!("http://{}/announce", tracker.addr);
    let (path, torrent) = torrent_for(&folder.path().join("payload"), BLOCK, vec![vec![url]]);
    for cores in ["1", "2"] {
        let mut leech =
            Program::start(&mut client("download", &path, &folder.path().join(cores), &["--cores", cores]));
        let at = leech.address();
        let mut theirs = accept(&listener, &torrent, GREATEST).unwrap();
        theirs.write_all(&bitfield(&torrent, 1)).unwrap();
        hear_kind(&mut theirs, INTERESTED);
        let _ours = connect(at, &torrent, GREATEST).expect("its answer comes");
        theirs.set_nonblocking(true).unwrap();
        let end = loop {
            match theirs.read(&mut [0; 1024]) {
                Ok(1..) => {}
                end => break end,
            }
        };
        assert!(!matches!(&end, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{end:?}");
    }
}

/// They tell others of the address that they know.
#[test]
fn peers_are_dialled_from_where_we_listen() {
    let (folder, _, _) = one_file(BLOCK as usize, BLOCK);
    let (path, torrent) = torrent_for(&folder.path().join("payload"), BLOCK, Vec::new());
    for (at, listen, from) in [
        ("127.0.0.1:0", "127.0.0.9:0", "127.0.0.9"),
        ("[::1]:0", "[::1]:0", "::1"),
        ("127.0.0.1:0", "[::]:0", "127.0.0.1"),
    ] {
        let listener = TcpListener::bind(at).unwrap();
        let peer = listener.local_addr().unwrap().to_string();
        let link = format!("magnet:?xt=urn:btih:{}", torrent.info_hash);
        for what in [path.as_path(), Path::new(&link)] {
            let mut command = seedring();
            command.args([
                "download", "--json", "--listen", listen, "--peer", &peer, "--no-dht", "--no-lsd", "-d",
            ]);
            let _leech = Program::start(command.arg(folder.path().join("into")).arg(what));
            let (_, seen) = listener.accept().unwrap();
            assert_eq!(seen.ip().to_string(), from, "{listen} {what:?}");
        }
    }
}
