use super::*;
use proptest::prelude::*;

const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
const BYTES: [u8; 20] = [
    0xc1, 0x2f, 0xe1, 0xc0, 0x6b, 0xba, 0x25, 0x4a, 0x9d, 0xc9, 0xf5, 0x19, 0xb3, 0x35, 0xaa, 0x7c, 0x13,
    0x67, 0xa8, 0x8a,
];

fn parse(query: &str) -> Result<Magnet, MagnetError> {
    Magnet::parse(&format!("magnet:?{query}"))
}

fn with(query: &str) -> Magnet {
    parse(&format!("xt=urn:btih:{HEX}&{query}")).unwrap()
}

#[test]
fn info_hashes_are_hexadecimal_or_base_32_of_any_case() {
    for digits in
        [HEX, &HEX.to_uppercase(), "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK", "yex6dqdlxisuvhoj6um3gnnkpqjwpkek"]
    {
        assert_eq!(parse(&format!("xt=urn:btih:{digits}")).unwrap().info_hash, InfoHash(BYTES), "{digits}");
    }
    let escaped = format!("MAGNET:?dn=x&XT=urn%3Abtih%3A{HEX}");
    assert_eq!(Magnet::parse(&escaped).unwrap().info_hash, InfoHash(BYTES));
    for digits in ["", "00", &HEX[1..], &format!("{HEX}0"), &"g".repeat(40), &"1".repeat(32), &"8".repeat(32)]
    {
        assert_eq!(parse(&format!("xt=urn:btih:{digits}")), Err(MagnetError::InfoHash), "{digits}");
    }
}

#[test]
fn a_link_with_everything() {
    let magnet = with(
        "dn=Big%20Buck%20%42unny&tr=http%3A%2F%2Ft.example%3A80%2Fa%3Fk%3D1%262&tr.2=udp://u.example:6969\
         &x.pe=10.0.0.1:6881&x.pe=%5B2001:db8::1%5D:51413&x.pe=peer-1.example:1&so=0,2,4,6-8&xl=5&ws=http://w",
    );
    assert_eq!(magnet.name.as_deref(), Some("Big Buck Bunny"));
    assert_eq!(magnet.trackers, ["http://t.example:80/a?k=1&2", "udp://u.example:6969"]);
    let peers: Vec<String> = magnet.peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["10.0.0.1:6881", "[2001:db8::1]:51413", "peer-1.example:1"]);
    assert_eq!(magnet.peers[1].host, "2001:db8::1");
    assert_eq!(magnet.files, [0..=0, 2..=2, 4..=4, 6..=8]);
    assert_eq!(magnet.tiers().len(), 2);
    let text = magnet.to_string();
    assert_eq!(Magnet::parse(&text), Ok(magnet), "{text}");
}

#[test]
fn links_of_the_second_version_are_told_apart() {
    let v2 = format!("xt=urn:btmh:1220{}", "ab".repeat(32));
    assert_eq!(parse(&v2), Err(MagnetError::V2Only));
    let hybrid = parse(&format!("{v2}&xt=urn:btih:{HEX}")).unwrap();
    assert_eq!(hybrid.info_hash, InfoHash(BYTES));
    assert_eq!(parse(&format!("xt=urn:btmh:1320{}", "ab".repeat(32))), Err(MagnetError::NoTopic));
}

#[test]
fn a_topic_that_makes_no_sense_is_passed_over_where_there_is_another() {
    let (good, bad) = (format!("urn:btih:{HEX}"), "urn:btih:123");
    for query in [format!("xt.1={bad}&xt.2={good}"), format!("xt={good}&dn=a&xt={bad}")] {
        assert_eq!(parse(&query).unwrap().info_hash, InfoHash(BYTES), "{query}");
    }
    let v2 = format!("urn:btmh:1220{}", "ab".repeat(32));
    for query in [format!("xt={bad}"), format!("xt.1={bad}&xt.2={v2}"), format!("xt={bad}&xt=urn:sha1:1")] {
        assert_eq!(parse(&query), Err(MagnetError::InfoHash), "{query}");
    }
}

#[test]
fn what_names_no_torrent_is_refused_with_a_reason() {
    for link in ["", "magnet", "magnet:", "http://x/?xt=1", "magnet:xt=urn:btih:"] {
        assert_eq!(Magnet::parse(link), Err(MagnetError::NotMagnet), "{link}");
    }
    for query in ["", "dn=x", "xt=urn:sha1:YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK", "xt"] {
        assert_eq!(parse(query), Err(MagnetError::NoTopic), "{query}");
    }
    let two = format!("xt=urn:btih:{HEX}&xt=urn:btih:{}", "0".repeat(40));
    assert_eq!(parse(&two), Err(MagnetError::TwoTopics));
    assert_eq!(with(&format!("xt=urn:btih:{HEX}")).info_hash, InfoHash(BYTES), "the same twice");
    assert!(Magnet::is_magnet("Magnet:?xt=") && !Magnet::is_magnet("a.torrent") && !Magnet::is_magnet("ü"));
}

#[test]
fn peers_and_trackers_that_make_no_sense_are_passed_over() {
    for peer in
        ["", ":1", "host", "host:", "host:0", "host:65536", "[::1:5", "::1:5", "a b:1", "[host]:1", "[]:1"]
    {
        assert_eq!(with(&format!("x.pe={peer}")).peers, [], "{peer}");
    }
    for v6 in [
        "2001:db8::1%25eth0",
        "fe80::1%25",
        "fe80::1%25a/b",
        "fe80::1%25eth0%25eth1",
        "fe80::1%25sixteen-or-more-",
    ] {
        assert_eq!(with(&format!("x.pe=[{v6}]:1")).peers, [], "{v6}");
    }
    for tracker in ["", "%20", "http://a/%0ab", "%ff"] {
        assert_eq!(with(&format!("tr={tracker}")).trackers, [""; 0], "{tracker}");
    }
    assert_eq!(with("tr=http://a/x+y%zz%").trackers, ["http://a/x+y%zz%"]);
    assert_eq!(with("dn=a%1b[2J%00").name.as_deref(), Some("a [2J"));
}

#[test]
fn addresses_of_a_network_link_keep_it() {
    for (written, link) in [("%25eth0", "eth0"), ("%eth0", "eth0"), ("%2", "2"), ("%2512", "12")] {
        let magnet = with(&format!("x.pe=[fe80::1{written}]:5"));
        assert_eq!(magnet.peers, [HostPort { host: format!("fe80::1%{link}"), port: 5 }], "{written}");
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet), "{written}");
    }
}

#[test]
fn links_that_were_copied_carelessly_are_read_whole() {
    let clean = with("dn=a&tr=http://a/x&x.pe=10.0.0.1:1");
    let xt = format!("xt=urn:btih:{HEX}");
    for link in [
        format!("magnet:?{xt}&dn=a&tr=http://a/x&x.pe=10.0.0.1:1#fragment&tr=udp://b:1"),
        format!("magnet:?{xt}&amp;dn=a&amp;tr=http://a/x&AMP;x.pe=10.0.0.1:1"),
        format!("Magnet:/?{xt}&dn=a&tr=http://a/x&x.pe=10.0.0.1:1#"),
        format!(" magnet:?{xt}&dn=a&tr=http://a/x&x.pe=10.0.0.1:1\n"),
    ] {
        assert!(Magnet::is_magnet(&link), "{link:?}");
        assert_eq!(Magnet::parse(&link).as_ref(), Ok(&clean), "{link}");
    }
    // A plus is a space in a name, unless it is encoded.
    assert_eq!(with("dn=a+b%20c%2Bd&tr=http://a/x+y").name.as_deref(), Some("a b c+d"));
    assert_eq!(with("dn=a+b&tr=http://a/x+y%23z").trackers, ["http://a/x+y#z"]);
}

#[test]
fn selections_are_numbers_and_ranges() {
    assert_eq!(with("so=").files, []);
    assert_eq!(with("so=3&so=5-7,").files, [3..=3, 5..=7]);
    for so in ["a", "1-", "-1", "2-1", "1-2-3", "+1", "4294967296", "1;2"] {
        assert_eq!(parse(&format!("xt=urn:btih:{HEX}&so={so}")), Err(MagnetError::Selection), "{so}");
    }
}

#[test]
fn everything_has_a_limit() {
    for (item, what) in [("&tr=http://a", "trackers"), ("&x.pe=a:1", "peers"), ("&so=1", "ranges of files")] {
        let link = |count| format!("xt=urn:btih:{HEX}{}", item.repeat(count));
        assert!(parse(&link(MOST_ITEMS)).is_ok());
        assert_eq!(parse(&link(MOST_ITEMS + 1)), Err(MagnetError::TooMany(what)));
    }
    let many = format!("xt=urn:btih:{HEX}&so={}", "1,".repeat(10_000));
    assert_eq!(parse(&many), Err(MagnetError::TooMany("ranges of files")));
    assert_eq!(parse(&"x".repeat(MAX_MAGNET_LEN)), Err(MagnetError::TooLong));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        hash: [u8; 20],
        name in prop::option::of("[a-zä][a-zA-Z0-9äöü &=+%#?]{0,20}[a-z]"),
        trackers in prop::collection::vec("[a-z]{1,5}://[a-zA-Z0-9ä&=+%#?/:.]{1,30}", 0..5),
        peers in prop::collection::vec(("[a-z0-9.-]{1,20}", 1u16..), 0..5),
        v6: u128,
        files in prop::collection::vec((0u32..1000, 0u32..1000), 0..5),
    ) {
        let mut peers: Vec<HostPort> =
            peers.into_iter().map(|(host, port)| HostPort { host, port }).collect();
        peers.push(HostPort { host: Ipv6Addr::from(v6).to_string(), port: 1 });
        let files = files.into_iter().map(|(first, more)| first..=first + more).collect();
        let magnet = Magnet { info_hash: InfoHash(hash), name, trackers, peers, files };
        prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }

    #[test]
    fn no_text_is_too_strange(text: String, query in "[a-z0-9%&=:.,-]{0,200}") {
        let _ = Magnet::parse(&text);
        if let Ok(magnet) = parse(&format!("xt=urn:btih:{HEX}&{query}")) {
            prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }
    }
}
