//! The parsers: bytes in, a value or an error out.

use seedring::bencode::{self, Trailing, Value};
use seedring::discovery::local::{GROUP_V4, MOST_INFO_HASHES, PACKET_LEN, Search};
use seedring::discovery::tracker::{
    AnnounceResponse, EmbeddedTrackerConfig, MAX_PEERS, PeerAddr, ReplyError, TrackerSwarms, TrackerUrl,
    label, parse_scrape,
};
use seedring::metainfo::{BLOCK_LEN, HostPort, InfoHash, MAX_MAGNET_LEN, Magnet, Torrent};
use seedring::swarm::IpFilter;
use seedring::wire::{
    GZIP_MAGIC, HANDSHAKE_HEAD_LEN, HANDSHAKE_LEN, Handshake, Item, Limits, MAX_MESSAGE_LEN, Reader, gunzip,
};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Bencoding: what is read is the bytes it was read of, and reads the same again by itself.
pub fn bencode(input: &[u8]) {
    let Ok(document) = bencode::parse(input) else {
        return assert!(bencode::validate(input, Trailing::Allow).is_err());
    };
    assert_eq!(bencode::validate(input, Trailing::Allow), Ok(document.root.raw().len()));
    assert_eq!(bencode::validate(input, Trailing::Refuse).is_ok(), document.rest.is_empty());
    assert_eq!([document.root.raw(), document.rest].concat(), input);
    let mut left = 300;
    walk(document.root, &mut left);
}

/// Goes down into a value, through so many values at most.
fn walk(value: Value<'_>, left: &mut u32) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    let raw = value.raw();
    let again = bencode::parse(raw).expect("a part of what is valid is valid");
    assert_eq!((again.root.raw(), again.rest), (raw, &[][..]));
    let kinds =
        [value.int().is_some(), value.bytes().is_some(), value.list().is_some(), value.dict().is_some()];
    assert_eq!(kinds.iter().filter(|is| **is).count(), 1, "a value is of one kind");
    if let Some(int) = value.int() {
        assert_eq!(raw, format!("i{int}e").as_bytes());
    }
    for item in value.list().into_iter().flatten() {
        walk(item, left);
    }
    for (key, item) in value.dict().iter().flat_map(|dict| dict.entries()) {
        let dict = value.dict().expect("it has entries");
        assert_eq!(dict.get(key).map(Value::raw), Some(item.raw()), "keys are there once");
        walk(item, left);
    }
}

/// Torrent files: paths stay below the folder, and pieces and files are the same bytes.
pub fn torrent(input: &[u8]) {
    let Ok(torrent) = Torrent::parse(input) else { return };
    let layout = &torrent.layout;
    assert_eq!(torrent.files.len(), layout.file_count());
    assert_eq!(layout.files().map(|file| layout.file_len(file)).sum::<u64>(), layout.total());
    for file in &torrent.files {
        assert!(!file.path.is_empty());
        for part in &file.path {
            assert!(!part.is_empty() && part != "." && part != ".." && part.len() <= 255, "{part:?}");
            assert!(!part.contains(['/', '\\']) && !part.chars().any(char::is_control), "{part:?}");
        }
    }
    let lengths: u64 = layout.pieces().map(|piece| u64::from(layout.piece_len(piece))).sum();
    assert_eq!(lengths, layout.total());
    // A look at both ends of the torrent; there may be millions of pieces in between.
    for piece in layout.pieces().take(20).chain(layout.pieces().rev().take(20)) {
        let _ = torrent.piece_hash(piece);
        let len = layout.piece_len(piece);
        let spans: u64 = layout.spans(piece, 0, len).map(|span| u64::from(span.len)).sum();
        assert_eq!(spans, u64::from(len));
        let last = layout.nth_block(piece, layout.blocks_in(piece) - 1);
        assert!((1..=BLOCK_LEN).contains(&last.len) && last.begin + last.len == len);
        assert_eq!(layout.block(piece.get(), last.begin, last.len), Some(last));
        assert_eq!(layout.block(piece.get(), last.begin, last.len + 1), None);
    }
    assert_eq!(layout.piece(layout.piece_count()), None);
}

/// Handshakes: what is read is what was sent.
pub fn handshake(input: &[u8]) {
    let mut bytes = [0; HANDSHAKE_LEN];
    let len = input.len().min(HANDSHAKE_LEN);
    bytes[..len].copy_from_slice(&input[..len]);
    let head = Handshake::parse_head(bytes.first_chunk::<HANDSHAKE_HEAD_LEN>().expect("it is shorter"));
    match Handshake::parse(&bytes) {
        Ok(handshake) => {
            assert_eq!(handshake.encode(), bytes);
            assert_eq!(head, Ok((handshake.reserved, handshake.info_hash)));
            assert!(handshake.peer_id.client().chars().all(|c| !c.is_control()));
        }
        Err(error) => assert_eq!(head, Err(error)),
    }
}

/// The stream of messages: however it is cut, the same comes out of it. The first two bytes say how many pieces there
/// are, the third where it is cut.
pub fn messages(input: &[u8]) {
    let [high, low, cuts, stream @ ..] = input else { return };
    let limits = Limits::for_pieces(u32::from(u16::from_be_bytes([*high, *low])) + 1);
    let whole = read(limits, [stream]);
    let mut random = fastrand::Rng::with_seed((*cuts).into());
    let mut rest = stream;
    let parts = std::iter::from_fn(|| {
        let (part, behind) = rest.split_at(random.usize(0..=20).min(rest.len()));
        let more = !rest.is_empty();
        rest = behind;
        more.then_some(part)
    });
    assert_eq!(read(limits, parts), whole);
}

/// The items of a stream, with payload that came in parts put together.
fn read<'a>(limits: Limits, parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut reader = Reader::new(limits);
    let mut items = Vec::new();
    let (mut open, mut had) = (0, 0);
    for part in parts {
        let mut input = part;
        loop {
            let before = input.len();
            let item = match reader.next(&mut input) {
                Ok(Some(item)) => item,
                Ok(None) => break assert!(input.is_empty(), "all is taken"),
                Err(error) => {
                    items.push(format!("{error}"));
                    return items;
                }
            };
            match item {
                Item::Payload { len } => {
                    assert!(len > 0 && len <= open && input.len() + len == before);
                    (open, had) = (open - len, had + len);
                    continue;
                }
                Item::PieceHead(head) => open = head.len as usize,
                Item::Message(_) => {}
            }
            if had > 0 {
                items.push(format!("{had} bytes"));
                had = 0;
            }
            items.push(format!("{item:?}"));
            assert!(open <= MAX_MESSAGE_LEN as usize);
        }
        assert_eq!(reader.payload_left() as usize, open);
    }
    items.push(format!("{had} bytes, then the end"));
    items
}

/// Answers of trackers: bounded, and fit to be shown.
pub fn tracker_reply(input: &[u8]) {
    let fit = |text: &str| assert!(!text.chars().any(char::is_control), "{text:?}");
    match parse_scrape(input, &[InfoHash([b'h'; 20]); 3]) {
        Ok(counts) => assert!(counts.len() == 3 && counts[0] == counts[2]),
        Err(error) => fit(&error.to_string()),
    }
    let reply = match AnnounceResponse::parse(input) {
        Ok(reply) => reply,
        Err(error) => return fit(&error.to_string()),
    };
    assert!(reply.peers.len() <= MAX_PEERS);
    reply.warning.iter().for_each(|warning| fit(warning));
    for peer in reply.peers {
        match peer {
            PeerAddr::Socket(addr) => {
                assert!(addr.port() != 0 && !addr.ip().is_multicast() && !addr.ip().is_unspecified());
            }
            PeerAddr::Host(host, port) => {
                assert!(port != 0 && !host.is_empty());
                fit(&host);
            }
        }
    }
}

/// A tracker's URL, and behind a line's end where it redirects to: what is asked, and what is shown.
pub fn tracker_url(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (url, location) = text.split_once('\n').unwrap_or((&text, ""));
    // No secret behind the host, nothing that a terminal obeys.
    let shown = label(url);
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    let (scheme, host) = shown.split_once("://").unwrap_or(("", &shown));
    assert!(!scheme.contains(['/', '?', '#', '@']) && !host.contains(['/', '?', '#', '@']), "{shown:?}");
    let Ok(url) = TrackerUrl::parse(url) else { return };
    is_fit(&url);
    let TrackerUrl::Http(own) = &url else { return };
    if let Ok(scrape) = own.scrape() {
        let scrape = TrackerUrl::Http(scrape);
        assert!(scrape.place() == url.place() && scrape.path().contains("/scrape"), "{scrape:?}");
    }
    let near = TrackerUrl::Http(own.join("/near?by").expect("it is on the same host"));
    assert!(near.place() == url.place() && near.path() == "/near?by", "{near:?}");
    let Ok(next) = own.join(location) else { return };
    // Credentials go nowhere else.
    assert!(next.authorization().is_none() || next.authorization() == own.authorization());
    let (secret, next) = (next.authorization(), TrackerUrl::Http(next));
    is_fit(&next);
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    let stays = same(next.place().0, url.place().0) && next.place().1 == url.place().1;
    assert!(stays || secret.is_none(), "{next:?}");
}

/// What is asked is a place and a path, and nothing in them ends a line of a request.
fn is_fit(url: &TrackerUrl) {
    let ((host, port), path) = (url.place(), url.path());
    assert!(!host.is_empty() && port != 0 && !host.contains(['/', '?', '#', '@']), "{url:?}");
    let plain = |text: &str| !text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
    assert!(plain(host) && plain(path) && !path.contains('#'), "{url:?}");
    match url {
        TrackerUrl::Http(_) => assert!(path.starts_with('/'), "{url:?}"),
        TrackerUrl::Udp(_) => assert!(path.is_empty() || path.starts_with('/') && path.len() <= 1000),
    }
}

/// Queries of announces to the tracker of the demo, a line each, of a few hosts: whatever they hold, the answer is one, and
/// names nobody who was not there.
pub fn tracker_query(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut swarms = TrackerSwarms::new(EmbeddedTrackerConfig::default());
    let (mut now, mut came) = (Instant::now(), HashSet::new());
    for (number, query) in (1..).zip(text.lines().take(100)) {
        let host = number % 7;
        let ip: IpAddr = match host % 2 {
            0 => [10, 0, 0, host].into(),
            _ => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()).into(),
        };
        let reply = match AnnounceResponse::parse(&swarms.announce(now, ip, query)) {
            Ok(reply) => reply,
            Err(ReplyError::Refused { reason, .. }) => {
                assert!(!reason.is_empty() && !reason.chars().any(char::is_control), "{reason:?}");
                continue;
            }
            Err(ReplyError::NotBencode) => panic!("the answer to {query:?} is none"),
        };
        let peers = reply.peers.len() as u64;
        let counted =
            reply.complete.zip(reply.incomplete).map(|(complete, incomplete)| complete + incomplete);
        assert!(
            reply.peers.len() <= MAX_PEERS && counted.is_some_and(|all| peers <= all && all <= number.into())
        );
        for peer in reply.peers {
            let PeerAddr::Socket(addr) = peer else { panic!("it knows no names: {peer:?}") };
            assert!(came.contains(&addr.ip()) && addr.port() != 0, "{addr} has never come");
        }
        came.insert(ip);
        now += Duration::from_secs(60);
    }
}

/// Datagrams of the local search: what is read can be written, fits, and reads the same again.
pub fn local_search(input: &[u8]) {
    let Ok(search) = Search::parse(input) else { return };
    assert!(input.len() <= PACKET_LEN && search.port != 0 && !search.info_hashes.is_empty());
    let packet = search.encode(GROUP_V4.into());
    assert!(packet.len() <= PACKET_LEN);
    let mut again = search;
    again.info_hashes.truncate(MOST_INFO_HASHES);
    assert_eq!(Search::parse(&packet), Ok(again));
}

/// Magnet links: what is read can be written, and reads the same again.
pub fn magnet(input: &[u8]) {
    let link = String::from_utf8_lossy(input);
    let Ok(magnet) = Magnet::parse(&link) else { return };
    assert!(Magnet::is_magnet(&link) && link.len() <= MAX_MAGNET_LEN);
    assert!(
        [magnet.trackers.len(), magnet.peers.len(), magnet.files.len()].iter().all(|count| *count <= 500)
    );
    let texts = magnet.trackers.iter().chain([&magnet.title()]).cloned().collect::<String>();
    assert!(!texts.chars().any(char::is_control), "{texts:?}");
    assert!(magnet.peers.iter().all(|peer| HostPort::parse(&peer.to_string()).as_ref() == Some(peer)));
    let again = magnet.to_string();
    // Written, a name may take three times as many bytes.
    if again.len() <= MAX_MAGNET_LEN {
        assert_eq!(Magnet::parse(&again), Ok(magnet));
    }
}

/// Lists of addresses: a list holds what its lines hold one by one. The first bytes are addresses to ask for.
pub fn ip_filter(input: &[u8]) {
    let (probes, text) = input.split_at(input.len().min(40));
    let Ok((filter, unread)) = IpFilter::parse_list(text) else { return };
    let split = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    // Not at the beginning of a file, where some words say that it is compressed.
    let alone = |line: &[u8]| IpFilter::parse(&[b"\n", line].concat()).ok();
    let lines: Vec<IpFilter> = split.clone().filter_map(alone).collect();
    assert_eq!(split.count() - lines.len(), unread.map_or(0, |unread| unread.count));
    assert!(filter.len() <= lines.iter().map(IpFilter::len).sum());
    let v4 = probes.as_chunks::<4>().0.iter().map(|raw| IpAddr::from(*raw));
    let v6 = probes.as_chunks::<16>().0.iter().map(|raw| IpAddr::from(*raw));
    // And those that the list names.
    let words = String::from_utf8_lossy(text);
    let named = words.split([' ', '-', ':', '/', '\n', '\r']).filter_map(|word| word.parse().ok());
    for addr in v4.chain(v6).chain(named) {
        assert_eq!(filter.contains(addr), lines.iter().any(|line| line.contains(addr)), "{addr}");
    }
}

/// What was packed: never longer than allowed, and the same whatever is allowed.
pub fn gzip(input: &[u8]) {
    let Ok(whole) = gunzip(input, 1 << 16) else { return };
    assert!(input.starts_with(&GZIP_MAGIC) && whole.len() <= 1 << 16);
    for most in [0, whole.len() / 2, whole.len()] {
        let Ok(within) = gunzip(input, most) else { continue };
        assert!(within == whole && whole.len() <= most);
    }
}
