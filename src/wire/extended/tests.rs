use super::*;
use crate::wire::MAX_EXTENDED_LEN;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The example of BEP 10, with its name of `ut_pex` spelled right.
#[test]
fn the_handshake_of_bep_10() {
    let said =
        ExtendedHandshake::parse(b"d1:md11:LT_metadatai1e6:ut_pexi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e");
    let said = said.unwrap();
    assert_eq!(said.port, Some(6881));
    assert_eq!(said.ids, [None, Some(2), None, None]);
}

#[test]
fn our_own_handshake_as_bytes() {
    let mut ours = ExtendedHandshake {
        port: Some(6881),
        reqq: Some(2000),
        version: Some("seedring 0.1"),
        your_ip: Some(IpAddr::from([10, 0, 0, 1])),
        metadata_size: Some(31235),
        upload_only: Some(true),
        ..ExtendedHandshake::default()
    };
    Extension::ALL.into_iter().for_each(|extension| ours.want(extension));
    let bytes =
        b"d1:md11:lt_donthavei3e11:upload_onlyi4e11:ut_metadatai1e6:ut_pexi2ee13:metadata_sizei31235e\
        1:pi6881e4:reqqi2000e11:upload_onlyi1e1:v12:seedring 0.16:yourip4:\x0a\0\0\x01e";
    assert_eq!(ours.encode().escape_ascii().to_string(), bytes.escape_ascii().to_string());
    assert_eq!(ExtendedHandshake::parse(bytes), Some(ExtendedHandshake { version: None, ..ours }));
}

#[test]
fn what_is_odd_in_a_handshake_is_left_out_and_the_rest_taken() {
    let odd: &[&[u8]] = &[
        b"d1:pi0ee",
        b"d1:pi65536ee",
        b"d1:p4:6881e",
        b"d4:reqqi-1ee",
        b"d4:reqqi99999999999ee",
        b"d6:yourip3:abce",
        b"d12:complete_agoi7e4:ipv44:abcd4:ipv616:0123456789abcdefe",
        b"d1:m1:xe",
        b"d1:md6:ut_pex1:xee",
        b"d1:v12:a\x1b[2Jb\xe2\x80\xae c\ne",
        b"de",
    ];
    for bytes in odd {
        assert_eq!(
            ExtendedHandshake::parse(bytes),
            Some(ExtendedHandshake::default()),
            "{}",
            bytes.escape_ascii()
        );
    }
    for bytes in [&b"le"[..], b"", b"d", b"i1e", b"d1:pi1e1:pi2ee"] {
        assert_eq!(ExtendedHandshake::parse(bytes), None, "{}", bytes.escape_ascii());
    }
    let long = [b"d1:v65537:", &vec![b'x'; 65537][..], b"e"].concat();
    assert_eq!(ExtendedHandshake::parse(&long), None);
}

#[test]
fn later_handshakes_add_and_zero_takes_away() {
    let mut ids = ExtensionIds::default();
    let mut hear = |bytes: &[u8]| {
        ids.update(&ExtendedHandshake::parse(bytes).unwrap());
        Extension::ALL.map(|extension| ids.get(extension))
    };
    assert_eq!(hear(b"d1:md11:ut_metadatai3e6:ut_pexi1eee"), [Some(3), Some(1), None, None]);
    assert_eq!(hear(b"d1:md11:lt_donthavei7eee"), [Some(3), Some(1), Some(7), None]);
    assert_eq!(hear(b"d1:md6:ut_pexi0eee"), [Some(3), None, Some(7), None]);
    assert_eq!(hear(b"de"), [Some(3), None, Some(7), None]);
    assert_eq!(hear(b"d1:md11:ut_metadatai300eee"), [None, None, Some(7), None], "no such number");
}

#[test]
fn numbers_name_extensions_both_ways() {
    for extension in Extension::ALL {
        assert_eq!(Extension::from_id(extension.id()), Some(extension));
    }
    assert_eq!(Extension::from_id(HANDSHAKE_ID), None);
    assert_eq!(Extension::from_id(5), None);
}

/// The examples of BEP 9; its text has a wrong letter in the second and a wrong type in the third.
#[test]
fn the_metadata_messages_of_bep_9() {
    let vectors: &[(&[u8], MetadataMessage<'_>)] = &[
        (b"d8:msg_typei0e5:piecei0ee", MetadataMessage::Request { block: 0 }),
        (
            b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexxxx",
            MetadataMessage::Data { block: 0, total_size: Some(3425), bytes: b"xxxx" },
        ),
        (b"d8:msg_typei2e5:piecei0ee", MetadataMessage::Reject { block: 0 }),
    ];
    for (bytes, message) in vectors {
        assert_eq!(MetadataMessage::parse(bytes), Some(*message));
        assert_eq!(message.encode(), *bytes);
    }
}

#[test]
fn the_block_begins_where_the_dictionary_ends_whatever_lies_in_it() {
    // "ee" stands in a string of the dictionary, and at the start of the block.
    let parsed = MetadataMessage::parse(b"d8:msg_typei1e5:piecei2e1:x4:eeeeeee");
    assert_eq!(parsed, Some(MetadataMessage::Data { block: 2, total_size: None, bytes: b"ee" }));
}

#[test]
fn metadata_messages_that_say_nothing_are_refused_and_future_ones_passed_over() {
    for bytes in [
        &b""[..],
        b"de",
        b"i1e",
        b"d8:msg_typei0ee",
        b"d8:msg_typei0e5:piecei-1ee",
        b"d8:msg_typei0e5:piecei4294967296ee",
        b"d8:msg_type1:05:piecei0ee",
    ] {
        assert_eq!(MetadataMessage::parse(bytes), None, "{}", bytes.escape_ascii());
    }
    let long = |len: usize| {
        [format!("d1:a{len}:").as_bytes(), &vec![b'x'; len], b"8:msg_typei0e5:piecei2ee"].concat()
    };
    assert_eq!(MetadataMessage::parse(&long(64_000)), Some(MetadataMessage::Request { block: 2 }));
    assert_eq!(MetadataMessage::parse(&long(65_536)), None, "no dictionary is so long");
    for bytes in [&b"d8:msg_typei3ee"[..], b"d8:msg_typei-1ee"] {
        assert_eq!(MetadataMessage::parse(bytes), Some(MetadataMessage::Unknown));
    }
}

#[test]
fn pex_of_both_families_as_bytes() {
    let message = PexMessage {
        added: vec![
            (addr("1.2.3.4:258"), PexFlags(PexFlags::SEED | PexFlags::REACHABLE)),
            (addr("5.6.7.8:1"), PexFlags(0)),
            (addr("[2001:db8::1]:6881"), PexFlags(PexFlags::UTP)),
        ],
        dropped: vec![addr("9.9.9.9:9"), addr("[2001:db8::2]:6881")],
        cut: false,
    };
    let bytes = b"d5:added12:\x01\x02\x03\x04\x01\x02\x05\x06\x07\x08\0\x017:added.f2:\x12\0\
        6:added618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe18:added6.f1:\x04\
        7:dropped6:\x09\x09\x09\x09\0\x098:dropped618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x1a\xe1e";
    assert_eq!(message.encode().escape_ascii().to_string(), bytes.escape_ascii().to_string());
    assert_eq!(PexMessage::parse(bytes), Some(message));
    let nothing = PexMessage::default();
    assert!(nothing.is_empty());
    assert_eq!(nothing.encode(), b"d5:added0:7:added.f0:7:dropped0:e");
    assert_eq!(PexMessage::parse(b"de"), Some(nothing));
}

#[test]
fn pex_of_broken_lists_is_refused() {
    for bytes in [
        &b"d5:added5:abcdee"[..],
        b"d5:added6:abcdef7:added.f2:xye",
        b"d6:added617:0123456789abcdefge",
        b"d7:dropped7:abcdefge",
        b"le",
        b"d5:added",
    ] {
        assert_eq!(PexMessage::parse(bytes), None, "{}", bytes.escape_ascii());
    }
    let flagless = PexMessage::parse(b"d5:added6:\x01\x02\x03\x04\0\x09e").unwrap();
    assert_eq!(flagless.added, [(addr("1.2.3.4:9"), PexFlags(0))]);
}

#[test]
fn of_a_flood_of_addresses_only_the_first_are_taken() {
    let flood: Vec<u8> = (0..10_000u32).flat_map(|n| [&n.to_be_bytes()[..], &[1, 1]].concat()).collect();
    let bytes = [b"d5:added60000:", &flood[..], b"e"].concat();
    let taken = PexMessage::parse(&bytes).unwrap();
    assert_eq!((taken.added.len(), taken.cut), (MAX_PEX_PEERS, true));
    let longer = [b"d5:added66000:", &flood.repeat(2)[..66000], b"e"].concat();
    assert_eq!(PexMessage::parse(&longer), None, "longer than anybody needs");
}

#[test]
fn small_messages_have_one_length() {
    assert_eq!(parse_dont_have(&encode_dont_have(0x0102_0304)), Some(0x0102_0304));
    assert_eq!(encode_dont_have(7), [0, 0, 0, 7]);
    assert_eq!([parse_dont_have(b"abc"), parse_dont_have(b"abcde")], [None, None]);
    assert_eq!(
        [
            parse_upload_only(b"\x01"),
            parse_upload_only(b"\0"),
            parse_upload_only(b""),
            parse_upload_only(b"ab")
        ],
        [Some(true), Some(false), None, None]
    );
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

/// Addresses in the order in which messages hold them: IPv4 first.
fn any_list() -> impl Strategy<Value = Vec<SocketAddr>> {
    prop::collection::vec(any_addr(), 0..MAX_PEX_PEERS).prop_map(|mut list| {
        list.sort_by_key(SocketAddr::is_ipv6);
        list
    })
}

proptest! {
    #[test]
    fn pex_is_read_as_it_was_written(added in any_list(), dropped in any_list(), flags: u8) {
        let added = added.into_iter().map(|addr| (addr, PexFlags(flags))).collect();
        let message = PexMessage { added, dropped, cut: false };
        prop_assert_eq!(PexMessage::parse(&message.encode()), Some(message));
    }

    #[test]
    fn metadata_is_read_as_it_was_written(
        block: u32,
        total_size: Option<i64>,
        bytes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let messages = [
            MetadataMessage::Request { block },
            MetadataMessage::Data { block, total_size, bytes: &bytes },
            MetadataMessage::Reject { block },
        ];
        for message in messages {
            let encoded = message.encode();
            prop_assert_eq!(MetadataMessage::parse(&encoded), Some(message));
        }
    }

    #[test]
    fn a_handshake_is_read_as_it_was_written(
        ids: [Option<u8>; 4],
        port in prop::option::of(1u16..),
        reqq: Option<u32>,
        your_ip: Option<IpAddr>,
        metadata_size: Option<i64>,
        upload_only: Option<bool>,
    ) {
        let said = ExtendedHandshake {
            ids,
            port,
            reqq,
            your_ip: your_ip.map(|ip| ip.to_canonical()),
            metadata_size,
            upload_only,
            ..ExtendedHandshake::default()
        };
        prop_assert_eq!(ExtendedHandshake::parse(&said.encode()), Some(said));
    }

    /// Whatever the bytes: no panic, and nothing longer than the limits comes out.
    #[test]
    fn hostile_payloads_are_read_within_limits(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'e'), Just(b'd'), b'0'..=b'9'], 0..300),
    ) {
        let _ = ExtendedHandshake::parse(&bytes);
        let pex = PexMessage::parse(&bytes).unwrap_or_default();
        prop_assert!(pex.added.len().max(pex.dropped.len()) <= 2 * MAX_PEX_PEERS);
        if let Some(MetadataMessage::Data { bytes, .. }) = MetadataMessage::parse(&bytes) {
            prop_assert!(bytes.len() <= MAX_EXTENDED_LEN as usize);
        }
    }
}
