//! Good input of each kind, made here: what fuzzing begins with.

use seedring::discovery::local::{GROUP_V4, GROUP_V6, Search};
use seedring::metainfo::{Content, InfoHash, TorrentBuilder};
use seedring::wire::{Handshake, Message, PeerId, PieceHead, Reserved, bitfield_len};

/// Bencoded values of every kind, and of every kind in one another.
pub fn bencode() -> Vec<Vec<u8>> {
    let texts = [
        "i0e",
        "i-42e",
        "4:spam",
        "0:",
        "le",
        "de",
        "l4:spami7ee",
        "d3:cow3:moo4:spaml1:a1:bee",
        "lllleeee",
        "d0:d0:d0:deee1:ai9223372036854775807ee",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// A file, and folders of files.
pub fn torrent() -> Vec<Vec<u8>> {
    let path = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let contents = [
        Content::Single(100_000),
        Content::Multi(vec![(path(&["a"]), 16_384), (path(&["b", "c"]), 1), (path(&["b", "empty"]), 0)]),
    ];
    let build = |content: &Content, length: u32| {
        let total: u64 = match content {
            Content::Single(len) => *len,
            Content::Multi(files) => files.iter().map(|(_, len)| len).sum(),
        };
        let builder = TorrentBuilder {
            name: "name".into(),
            content: content.clone(),
            piece_length: length,
            pieces: (0..total.div_ceil(length.into())).map(|n| [n as u8; 20]).collect(),
            trackers: vec![
                vec!["http://tracker.example/announce".into()],
                vec!["udp://other.example:1".into()],
            ],
            private: length == 32_768,
            comment: Some("a word".into()),
            created_by: None,
            creation_date: Some(1),
        };
        builder.build().expect("it is a good torrent").0
    };
    contents.iter().flat_map(|content| [16_384, 32_768].map(|length| build(content, length))).collect()
}

/// One of each of several clients.
pub fn handshake() -> Vec<Vec<u8>> {
    let clients = [*b"-SR0001-abcdefghijkl", *b"-TR300Z-w4bd4mkebkbi", *b"M7-9-0--abcdefghijkl", [0; 20]];
    let with = |id| Handshake {
        reserved: Reserved([0, 0, 0, 0, 0, 0x10, 0, 5]),
        info_hash: InfoHash([7; 20]),
        peer_id: PeerId(id),
    };
    clients.map(|id| with(id).encode().to_vec()).into()
}

/// Streams of messages, with payload among them.
pub fn messages() -> Vec<Vec<u8>> {
    let pieces: u16 = 19;
    let bits = vec![0x50; bitfield_len(u32::from(pieces) + 1)];
    let mut stream = pieces.to_be_bytes().to_vec();
    stream.push(7);
    for message in [
        Message::Bitfield(&bits),
        Message::KeepAlive,
        Message::Interested,
        Message::Unchoke,
        Message::Have(3),
        Message::Request { index: 1, begin: 0, len: 16_384 },
        Message::Cancel { index: 1, begin: 0, len: 16_384 },
    ] {
        message.encode(&mut stream);
    }
    stream.extend(PieceHead { index: 2, begin: 0, len: 50 }.encode());
    stream.extend([9; 50]);
    Message::Port(6881).encode(&mut stream);
    stream.extend([0, 0, 0, 4, 99, 1, 2, 3]);
    Message::Choke.encode(&mut stream);
    let short = stream[..30].to_vec();
    vec![stream, short]
}

/// Both forms of peers, and a refusal.
pub fn tracker_reply() -> Vec<Vec<u8>> {
    vec![
        b"d8:completei1e10:incompletei2e8:intervali1800e5:peers12:\x7f\0\0\x01\x1a\xe1\x0a\0\0\x07\0\x50e".into(),
        b"d8:intervali60e5:peersld2:ip9:127.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti6881eed2:ip9:peer.test4:porti1eee\
          6:peers618:\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e"
            .into(),
        b"d14:failure reason9:not todaye".into(),
        b"d11:external ip4:\x01\x02\x03\x0410:tracker id3:abc15:warning message4:hey!12:min intervali5ee".into(),
    ]
}

/// Tracker URLs as they are in the wild, and redirects of each form.
pub fn tracker_url() -> Vec<Vec<u8>> {
    let urls = [
        "http://tracker.example/announce",
        "http://user:secret@tracker.example:6969/0123456789abcdef/announce?key=1#part",
        "udp://[::1]:1337",
        "tracker.example/announce?passkey=secret&back=http://else.example/",
        "udp://tracker.example:1337/announce?key=1",
        "https://me:p%40ss@tracker.example/a/announce.php\nhttps://me:you@TRACKER.example:443/b?c",
        "http://me:you@10.0.0.1/announce\n//else.example:8080/announce",
        "http://tracker.example/a/announce?x\n?key=1",
        "http://[2001:db8::1]:80/a/b/announce\nnext/announce#part",
        "http://tracker.example/announce\nfile:///etc/passwd",
    ];
    urls.map(|url| url.as_bytes().to_vec()).into()
}

/// Announces of one after the other: who comes, is told of, becomes complete and goes; and what is refused.
pub fn tracker_query() -> Vec<Vec<u8>> {
    let hash = "info_hash=%c3%C3aaaaaaaaaaaaaaaaaa";
    let peer = |n: u32, rest: &str| format!("{hash}&peer_id=-SR0001-abcdefghijk{n}&port={}&{rest}", 6880 + n);
    let swarm = [
        peer(1, "uploaded=0&downloaded=0&left=0&event=started&numwant=50&compact=1&key=00000abc"),
        peer(2, "left=100&event=started&compact=1"),
        peer(3, "left=100&numwant=200&compact=0"),
        peer(2, "left=0&event=completed&compact=1"),
        peer(4, "left=7&numwant=0"),
        peer(1, "event=stopped"),
        peer(5, "left=18446744073709551616&numwant=99999999999999999999999&port=1&port=2"),
    ];
    let refused = ["", "info_hash=%c", "info_hash=short&peer_id=short&port=0", "&&==&%41=%zz", "port=65536"];
    vec![swarm.join("\n").into(), refused.join("\n").into(), swarm[2].clone().into()]
}

/// Datagrams of one torrent and of as many as fit.
pub fn local_search() -> Vec<Vec<u8>> {
    let search = |count: u8, cookie: Option<&[u8]>| Search {
        port: 6881,
        info_hashes: (0..count).map(|n| InfoHash([n; 20])).collect(),
        cookie: cookie.map(<[u8]>::to_vec),
    };
    vec![
        search(1, None).encode(GROUP_V4.into()),
        search(2, Some(b"seedring-1")).encode(GROUP_V6.into()),
        search(40, Some(&[b'x'; 64])).encode(GROUP_V4.into()),
    ]
}

/// Links with everything in them, and with next to nothing.
pub fn magnet() -> Vec<Vec<u8>> {
    let links = [
        "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a",
        "MAGNET:?xt=urn:btih:YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK&dn=a%20name&tr=udp%3A%2F%2Ftracker.example%3A1\
         &tr.1=http://other.example/announce&x.pe=10.0.0.1:1&x.pe=[2001:db8::1]:6881&x.pe=host.example:2&so=0,2,4-6",
        "magnet:?xt=urn:btmh:1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e&xt.2=urn:btih:\
         631a31dd0a46257d5078c0dee4e66e26f73e42ac",
    ];
    links.map(|link| link.as_bytes().to_vec()).into()
}

/// Lists in each of the forms; addresses to ask for come first.
pub fn ip_filter() -> Vec<Vec<u8>> {
    let lists = [
        "# words\n001.002.003.000 - 001.002.003.255 , 000 , a name\n1.2.4.0-1.2.4.9,200,allowed\n",
        "some name:5.6.7.8-5.6.7.9\nother: name:5.6.7.10-5.6.8.0\r\n\n// words\n8.8.8.8\n10.0.0.0/8\n0.0.0.0/0",
        "2001:db8::/32\n::1\n2001:db9::1 - 2001:db9::ffff\n::ffff:1.2.3.4\n",
    ];
    lists.map(|list| [&[1, 2, 3, 4].repeat(10)[..], list.as_bytes()].concat()).into()
}

/// A reply that is packed: by a common program, stored as it is with everything in its head that there can be, and twice.
pub fn gzip() -> Vec<Vec<u8>> {
    let packed = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x4b\xb1\xb0\xca\xcc\x2b\x49\x2d\x2a\x4b\xcc\xc9\xb4\x34\x30\x48\
        \x35\xb5\x2a\x48\x4d\x2d\x2a\x36\xb3\x62\x64\x62\x66\x61\x65\x4b\x4d\xa1\x50\x1e\0\xc6\x2e\x09\xdf\x60\0\0\0";
    let stored = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03\x01\0xname\0word\0\x12\x34\x01\x02\0\xfd\xffde\x8b\x29\x90\x7d\x02\0\0\0";
    vec![packed.to_vec(), stored.to_vec(), packed.repeat(2)]
}

/// A connection id and then an answer, of each kind and family.
pub fn udp_tracker() -> Vec<Vec<u8>> {
    let datagram = |action: u8, body: &[u8]| {
        let len = (body.len() as u16).to_be_bytes();
        [&[9, 1, 1, action][..], &len, body].concat()
    };
    let connected = datagram(0, &[5; 8]);
    let counts = [[0, 0, 0x7, 8], [0, 0, 0, 3], [0, 0, 0, 4]].concat();
    let v4 = [&counts[..], &[10, 0, 0, 1, 0x1a, 0xe1], &[10, 0, 0, 2, 0x1a, 0xe1]].concat();
    let v6 = [&counts[..], &[0x20; 16], &[0x1a, 0xe1]].concat();
    let session = |kind: u8, answer: &[u8]| [&[kind, 1][..], &connected, &[2], answer].concat();
    vec![
        session(0, &datagram(1, &v4)),
        session(1, &datagram(1, &v6)),
        session(2, &datagram(2, &counts.repeat(3))),
        session(4, &datagram(3, b"not today")),
        // Others answer first.
        [&[0, 1, 9, 8, 1, 0, 0, 8, 6, 6, 6, 6, 6, 6, 6, 6][..], &connected, &[2, 3], &datagram(1, &v4)]
            .concat(),
    ]
}
