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

/// Tracker URLs as they are in the wild.
pub fn tracker_url() -> Vec<Vec<u8>> {
    let urls = [
        "http://tracker.example/announce",
        "http://user:secret@tracker.example:6969/0123456789abcdef/announce?key=1#part",
        "udp://[::1]:1337",
        "tracker.example/announce?passkey=secret&back=http://else.example/",
    ];
    urls.map(|url| url.as_bytes().to_vec()).into()
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

/// Sessions: bytes that `session` reads as what peers, disk and clock do. Each has a good start; chance does the rest.
pub fn session() -> Vec<Vec<u8>> {
    let download = [
        &[0][..],
        // A peer is dialled, has everything, unchokes, is asked, and answers.
        &[0, 0, 1, 3, 0, 9, 0, 0, 3, 0, 1, 0, 0, 5, 0],
        &[2, 0, 255, 2, 0, 255, 6, 255, 6, 255, 4, 1].repeat(12),
    ];
    let upload = [
        &[1][..],
        // A peer comes, is interested, and asks.
        &[0, 0, 0, 3, 0, 2, 0, 0, 5, 0, 3, 0, 6, 0, 0, 7, 0, 1, 5, 0],
        &[3, 0, 6, 1, 0, 7, 0, 1].repeat(5),
    ];
    let crowd: Vec<u8> = (0..40u8).flat_map(|n| [n % 8, n % 3, n, n.wrapping_mul(37)]).collect();
    vec![download.concat(), upload.concat(), [vec![2], crowd].concat()]
}
