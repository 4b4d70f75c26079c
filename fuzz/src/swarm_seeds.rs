//! Good input for what goes on for longer: a node of the DHT, an encrypted connection, extensions, whole sessions.

use seedring::wire::extended::{ExtendedHandshake, Extension, MetadataMessage, PexFlags, PexMessage};
use std::net::SocketAddr;

/// A node that is asked, is told of others, and asks them.
pub fn dht() -> Vec<Vec<u8>> {
    let id = "abcdefghij0123456789";
    let heard = |from: u8, text: &[u8]| {
        let units = text.len().div_ceil(8);
        let padded = [text, &vec![b' '; units * 8 - text.len()]].concat();
        [&[5, from, units as u8][..], &padded].concat()
    };
    let answered = |text: &[u8]| {
        let units = text.len().div_ceil(4);
        let padded = [text, &vec![b' '; units * 4 - text.len()]].concat();
        [&[3, 0, units as u8][..], &padded].concat()
    };
    let asks = [
        format!("d1:ad2:id20:{id}e1:q4:ping1:t2:aa1:y1:qe"),
        format!("d1:ad2:id20:{id}6:target20:{id}4:wantl2:n42:n6ee1:q9:find_node1:t2:ab1:y1:qe"),
        format!("d1:ad2:id20:{id}9:info_hash20:{id}e1:q9:get_peers1:t2:ac1:y1:qe"),
        format!(
            "d1:ad2:id20:{id}12:implied_porti1e9:info_hash20:{id}4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:ad1:y1:qe"
        ),
        format!("d1:ad2:id20:{id}6:target20:{id}e1:q8:brandnew1:t2:ae1:y1:qe"),
        "d1:eli201e5:worsee1:t2:aa1:y1:ee".to_owned(),
    ];
    let node = |n: u8| [&[n; 20][..], &[8, 8, n, n, 0x17, 0x70]].concat();
    let nodes: Vec<u8> = (1..=8).flat_map(node).collect();
    let with_nodes =
        [&b"d1:rd2:id20:"[..], id.as_bytes(), b"5:nodes208:", &nodes, b"e1:t4:TTTT1:y1:re"].concat();
    let values =
        b"5:token4:word6:valuesl6:\x09\x09\x09\x09\x1a\xe16:\x09\x09\x09\x0a\x1a\xe1ee1:t4:TTTT1:y1:re";
    let with_peers = [&b"d2:ip6:\x09\x09\x09\x09\x1a\xe11:rd2:id20:"[..], id.as_bytes(), values].concat();
    let served: Vec<u8> = asks.iter().flat_map(|ask| heard(5, ask.as_bytes())).collect();
    let looked =
        [&[0, 1, 5][..], &answered(&with_nodes).repeat(3), &answered(&with_peers).repeat(9)].concat();
    let state = [&b"d2:id20:"[..], id.as_bytes(), b"5:nodes208:", &nodes, b"e"].concat();
    let kept =
        [&[4][..], &(state.len() as u16).to_be_bytes(), &state, &[0, 100], &answered(&with_peers)].concat();
    vec![[&[0][..], &served].concat(), looked, kept]
}

/// All goes well; with the longest pads; each end alone with rubbish.
pub fn mse() -> Vec<Vec<u8>> {
    let head = |kind: u8, pads: [u16; 4], initial: u16| {
        let numbers = pads.into_iter().chain([initial]).flat_map(u16::to_be_bytes);
        std::iter::once(kind).chain(numbers).collect::<Vec<u8>>()
    };
    let cuts: Vec<u8> = (0..60u8).map(|n| n.wrapping_mul(37)).collect();
    let alone = |kind: u8| [head(kind, [3, 2, 1, 0], 70), vec![0x5a; 900]].concat();
    vec![
        [head(0b1111, [0; 4], 0), vec![0]].concat(),
        [head(0b1010, [512, 511, 512, 1], 68), vec![0], cuts.clone()].concat(),
        [head(0b0111, [7, 8, 9, 10], 1999), vec![2, 0, 0, 110, 1, 1, 2, 0, 255], cuts].concat(),
        alone(0x2f),
        alone(0x6f),
    ]
}

/// A handshake, and a message of each extension.
pub fn extended() -> Vec<Vec<u8>> {
    let mut hello = ExtendedHandshake {
        port: Some(6881),
        reqq: Some(2000),
        version: Some("somebody 1.0"),
        your_ip: Some([10, 0, 0, 1].into()),
        metadata_size: Some(40_000),
        upload_only: Some(true),
        ..ExtendedHandshake::default()
    };
    Extension::ALL.into_iter().for_each(|extension| hello.want(extension));
    let addr = |n: u8| SocketAddr::from(([10, 0, 0, n], 6881));
    let pex = PexMessage {
        added: vec![(addr(1), PexFlags(2)), (([7; 16], 1).into(), PexFlags(0))],
        dropped: vec![addr(2), ([8; 16], 1).into()],
        cut: false,
    };
    let metadata = [
        MetadataMessage::Request { block: 1 },
        MetadataMessage::Data { block: 0, total_size: Some(20_000), bytes: &[7; 300] },
        MetadataMessage::Reject { block: u32::MAX },
    ];
    let metadata = metadata.iter().map(MetadataMessage::encode);
    metadata.chain([hello.encode(), pex.encode(), vec![0, 0, 0, 7], vec![1]]).collect()
}

/// Honest peers alone, liars among them, and one that rejects.
pub fn metadata() -> Vec<Vec<u8>> {
    let len = 40_000u16.to_be_bytes();
    let honest = [&[0, 0, 1, 0][..], &[0, 1, 0, 5, 1, 1, 1, 5].repeat(6)].concat();
    let liars =
        [&[0, 0, 3, 0, 9, 4, 0, 5][..], &[3, 1, 3, 5, 1, 0, 0, 0, 0, 1, 0, 1, 0, 5].repeat(9)].concat();
    let rejects = [0, 0, 1, 0, 0, 1, 0, 3, 1, 1, 4, 4, 200, 1, 5].to_vec();
    [honest, liars, rejects].map(|steps| [&len[..], &steps].concat()).into()
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
    let extended = [
        &[0xc1][..],
        // A peer that speaks extensions comes, greets, and says something of each.
        &[0, 2, 0, 3, 0, 12, 0, 0, 9, 3, 0, 17, 3, 0, 0, 3, 0, 18, 1, 0, 1, 3, 0, 19, 0, 0, 0, 5, 0],
        &[
            3, 0, 20, 0, 1, 0, 3, 0, 21, 1, 1, 0, 3, 0, 22, 9, 9, 0, 3, 0, 13, 2, 0, 0, 3, 0, 16, 3, 1, 1, 5,
            0,
        ]
        .repeat(4),
    ];
    let crowd = [vec![2], crowd].concat();
    vec![download.concat(), upload.concat(), extended.concat(), crowd]
}
