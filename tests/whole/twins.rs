//! One peer by two connections: each side has dialled the other.

use super::magnets::Tracker;
use crate::common::payload::{BLOCK, one_file, torrent_for};
use crate::common::peer::{INTERESTED, accept, bitfield, connect, hear_kind};
use crate::common::program::{Program, client};
use std::io::{self, Read, Write};
use std::net::TcpListener;

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
