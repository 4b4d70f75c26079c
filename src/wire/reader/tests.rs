use super::*;
use crate::metainfo::BLOCK_LEN;
use proptest::prelude::*;

/// 17 pieces: a bitfield of 3 bytes.
const PIECES: u32 = 17;

/// What a caller learns from a stream: like [`Item`], with bytes of its own and the payload joined.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    Bitfield(Vec<u8>),
    Request(u32, u32, u32),
    Cancel(u32, u32, u32),
    Port(u16),
    Suggest(u32),
    HaveAll,
    HaveNone,
    Reject(u32, u32, u32),
    AllowedFast(u32),
    Extended(u8, Vec<u8>),
    Unknown(u8, u32),
    Piece(PieceHead, Vec<u8>),
}

impl Seen {
    fn of(message: Message<'_>) -> Self {
        match message {
            Message::KeepAlive => Self::KeepAlive,
            Message::Choke => Self::Choke,
            Message::Unchoke => Self::Unchoke,
            Message::Interested => Self::Interested,
            Message::NotInterested => Self::NotInterested,
            Message::Have(index) => Self::Have(index),
            Message::Bitfield(bytes) => Self::Bitfield(bytes.to_vec()),
            Message::Request { index, begin, len } => Self::Request(index, begin, len),
            Message::Cancel { index, begin, len } => Self::Cancel(index, begin, len),
            Message::Port(port) => Self::Port(port),
            Message::Suggest(index) => Self::Suggest(index),
            Message::HaveAll => Self::HaveAll,
            Message::HaveNone => Self::HaveNone,
            Message::Reject { index, begin, len } => Self::Reject(index, begin, len),
            Message::AllowedFast(index) => Self::AllowedFast(index),
            Message::Extended { id, payload } => Self::Extended(id, payload.to_vec()),
            Message::Unknown { id, len } => Self::Unknown(id, len),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => Message::KeepAlive.encode(out),
            Self::Choke => Message::Choke.encode(out),
            Self::Unchoke => Message::Unchoke.encode(out),
            Self::Interested => Message::Interested.encode(out),
            Self::NotInterested => Message::NotInterested.encode(out),
            Self::Have(index) => Message::Have(index).encode(out),
            Self::Bitfield(ref bytes) => Message::Bitfield(bytes).encode(out),
            Self::Request(index, begin, len) => Message::Request { index, begin, len }.encode(out),
            Self::Cancel(index, begin, len) => Message::Cancel { index, begin, len }.encode(out),
            Self::Port(port) => Message::Port(port).encode(out),
            Self::Suggest(index) => Message::Suggest(index).encode(out),
            Self::HaveAll => Message::HaveAll.encode(out),
            Self::HaveNone => Message::HaveNone.encode(out),
            Self::Reject(index, begin, len) => Message::Reject { index, begin, len }.encode(out),
            Self::AllowedFast(index) => Message::AllowedFast(index).encode(out),
            Self::Extended(id, ref payload) => Message::Extended { id, payload }.encode(out),
            Self::Unknown(id, len) => {
                Message::Unknown { id, len }.encode(out);
                out.resize(out.len() + len as usize, id);
            }
            Self::Piece(head, ref payload) => {
                out.extend(head.encode());
                out.extend(payload);
            }
        }
    }
}

fn piece(index: u32, begin: u32, payload: Vec<u8>) -> Seen {
    Seen::Piece(PieceHead { index, begin, len: payload.len() as u32 }, payload)
}

/// Bytes the reader holds of what it was given.
fn memory(reader: &Reader) -> usize {
    reader.held + reader.held_body.capacity()
}

/// Feeds the parts one behind the other, as a caller would, and checks on the way what holds at every moment.
fn read<'i>(reader: &mut Reader, parts: impl IntoIterator<Item = &'i [u8]>) -> Result<Vec<Seen>, WireError> {
    let mut seen = Vec::new();
    for part in parts {
        let mut input = part;
        while let Some(item) = reader.next(&mut input)? {
            match item {
                Item::Message(message) => seen.push(Seen::of(message)),
                Item::PieceHead(head) => {
                    assert_eq!(reader.payload_left(), head.len);
                    seen.push(Seen::Piece(head, Vec::new()));
                }
                Item::Payload { len } => {
                    assert!(len > 0);
                    let end = part.len() - input.len();
                    let Some(Seen::Piece(head, payload)) = seen.last_mut() else {
                        panic!("payload of nothing")
                    };
                    payload.extend(&part[end - len..end]);
                    assert_eq!(payload.len() as u32 + reader.payload_left(), head.len);
                }
            }
        }
        assert!(input.is_empty(), "None means that all was taken");
        let longest = reader.limits.bitfield_len.max(MAX_EXTENDED_LEN) as usize;
        assert!(memory(reader) <= MAX_HEAD_LEN + longest);
    }
    Ok(seen)
}

fn new_reader() -> Reader {
    Reader::new(Limits::for_pieces(PIECES))
}

/// One of every kind, the long ones short enough to be cut everywhere.
fn one_of_each() -> Vec<Seen> {
    vec![
        Seen::Bitfield(vec![0xff, 0x01, 0x80]),
        Seen::KeepAlive,
        Seen::Unchoke,
        piece(3, 0x4000, (0..40).collect()),
        Seen::Interested,
        Seen::Have(0x0102_0304),
        Seen::Extended(3, (0..30).collect()),
        Seen::Extended(0, vec![]),
        Seen::HaveAll,
        Seen::Unknown(18, 30),
        Seen::Unknown(19, 0),
        Seen::Suggest(9),
        Seen::Reject(4, 5, 6),
        Seen::Request(1, 2, 3),
        Seen::Bitfield(vec![1, 2, 3]),
        Seen::Bitfield(vec![4, 5, 6]),
        piece(u32::MAX, u32::MAX, vec![9]),
        Seen::Choke,
        Seen::Cancel(u32::MAX, 0, 0x4000),
        Seen::HaveNone,
        Seen::AllowedFast(8),
        Seen::NotInterested,
        Seen::Port(6881),
        Seen::Unknown(255, 1),
        Seen::KeepAlive,
    ]
}

fn encode(messages: &[Seen]) -> Vec<u8> {
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut bytes));
    bytes
}

#[test]
fn every_message_as_written_by_hand() {
    let vectors: &[(&[u8], Seen)] = &[
        (b"\0\0\0\0", Seen::KeepAlive),
        (b"\0\0\0\x01\x00", Seen::Choke),
        (b"\0\0\0\x01\x01", Seen::Unchoke),
        (b"\0\0\0\x01\x02", Seen::Interested),
        (b"\0\0\0\x01\x03", Seen::NotInterested),
        (b"\0\0\0\x05\x04\x01\x02\x03\x04", Seen::Have(0x0102_0304)),
        (b"\0\0\0\x04\x05\xff\xfe\x80", Seen::Bitfield(vec![0xff, 0xfe, 0x80])),
        (b"\0\0\0\x0d\x06\0\0\0\x07\0\0\x40\0\0\0\x20\0", Seen::Request(7, 0x4000, 0x2000)),
        (b"\0\0\0\x0c\x07\0\0\0\x07\0\0\x40\0abc", piece(7, 0x4000, b"abc".to_vec())),
        (
            b"\0\0\0\x0d\x08\x80\0\0\x01\xff\xff\xff\xff\0\0\x40\0",
            Seen::Cancel(0x8000_0001, u32::MAX, 0x4000),
        ),
        (b"\0\0\0\x03\x09\x1a\xe1", Seen::Port(6881)),
        (b"\0\0\0\x05\x0d\0\0\0\x07", Seen::Suggest(7)),
        (b"\0\0\0\x01\x0e", Seen::HaveAll),
        (b"\0\0\0\x01\x0f", Seen::HaveNone),
        (b"\0\0\0\x0d\x10\0\0\0\x07\0\0\x40\0\0\0\x20\0", Seen::Reject(7, 0x4000, 0x2000)),
        (b"\0\0\0\x05\x11\x01\x02\x03\x04", Seen::AllowedFast(0x0102_0304)),
        (b"\0\0\0\x04\x14\0de", Seen::Extended(0, b"de".to_vec())),
        (b"\0\0\0\x02\x14\x03", Seen::Extended(3, vec![])),
        (b"\0\0\0\x01\x14", Seen::Unknown(20, 0)),
        (b"\0\0\0\x04\x15\x15\x15\x15", Seen::Unknown(21, 3)),
    ];
    for (bytes, message) in vectors {
        assert_eq!(read(&mut new_reader(), [*bytes]), Ok(vec![message.clone()]));
        assert_eq!(encode(std::slice::from_ref(message)), *bytes);
    }
}

#[test]
fn every_one_or_two_cuts_give_the_same() {
    let messages = one_of_each();
    let bytes = encode(&messages);
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let mut reader = new_reader();
            let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(read(&mut reader, parts).as_ref(), Ok(&messages), "cut at {first} and {second}");
            assert!(reader.at_boundary());
            assert_eq!(memory(&reader), 0);
        }
    }
}

#[test]
fn the_reader_is_at_a_boundary_between_messages_and_nowhere_else() {
    let messages = one_of_each();
    let ends: Vec<usize> = (0..=messages.len()).map(|count| encode(&messages[..count]).len()).collect();
    let bytes = encode(&messages);
    for end in 0..=bytes.len() {
        let mut reader = new_reader();
        read(&mut reader, [&bytes[..end]]).unwrap();
        assert_eq!(reader.at_boundary(), ends.contains(&end), "behind byte {end}");
    }
}

#[test]
fn messages_whole_in_the_input_are_not_copied() {
    let mut reader = new_reader();
    let bytes = b"\0\0\0\x04\x05\xff\xfe\x80";
    let mut input = &bytes[..];
    let Ok(Some(Item::Message(Message::Bitfield(bits)))) = reader.next(&mut input) else {
        panic!("a bitfield")
    };
    assert!(std::ptr::eq(bits, &bytes[5..]));
}

/// Feeds the head of a message with this length and kind, whole and cut at each place.
fn verdict(len: u32, id: u8) -> Result<(), WireError> {
    let head = [&len.to_be_bytes()[..], &[id]].concat();
    let whole = read(&mut new_reader(), [&head[..]]).map(|_| ());
    for cut in 0..=head.len() {
        let parts = [&head[..cut], &head[cut..]];
        assert_eq!(
            read(&mut new_reader(), parts).map(|_| ()),
            whole,
            "length {len}, kind {id}, cut at {cut}"
        );
    }
    whole
}

#[test]
fn a_wrong_length_is_refused_as_soon_as_it_is_seen() {
    let base = [(0, 1), (1, 1), (2, 1), (3, 1), (4, 5), (5, 4), (6, 13), (8, 13), (9, 3)];
    let fixed = [&base[..], &[(13, 5), (14, 1), (15, 1), (16, 13), (17, 5)]].concat();
    for (id, expected) in fixed {
        assert_eq!(verdict(expected, id), Ok(()));
        for len in [1, 2, expected - 1, expected + 1, MAX_MESSAGE_LEN] {
            if len != expected && len != 0 {
                assert_eq!(verdict(len, id), Err(WireError::WrongLength { id, len, expected }));
            }
        }
    }
    for len in [1, 8, 9, BLOCK_LEN + 10, BLOCK_LEN + 11, MAX_MESSAGE_LEN] {
        assert_eq!(verdict(len, 7), Err(WireError::PieceLength { len }));
    }
    for len in [10, BLOCK_LEN + 9] {
        assert_eq!(verdict(len, 7), Ok(()));
    }
    for id in 0..=255 {
        for len in [MAX_MESSAGE_LEN + 1, 1 << 31, u32::MAX] {
            assert_eq!(verdict(len, id), Err(WireError::TooLong { len, max: MAX_MESSAGE_LEN }));
        }
    }
    for id in (10..=12).chain(18..=255) {
        assert_eq!(verdict(1, id), Ok(()));
        assert_eq!(verdict(MAX_MESSAGE_LEN, id), Ok(()));
    }
}

#[test]
fn a_length_that_is_too_long_is_refused_before_the_kind_is_known() {
    let error = WireError::TooLong { len: u32::MAX, max: MAX_MESSAGE_LEN };
    assert_eq!(read(&mut new_reader(), [&[0xff; 4][..]]), Err(error));
}

#[test]
fn after_an_error_nothing_is_read_any_more() {
    let mut reader = new_reader();
    let error = read(&mut reader, [&b"\0\0\0\x02\0\0"[..]]).unwrap_err();
    assert_eq!(error, WireError::WrongLength { id: 0, len: 2, expected: 1 });
    let mut input = &b"\0\0\0\0"[..];
    assert_eq!(reader.next(&mut input), Err(error));
    assert_eq!(input.len(), 4);
    assert!(!reader.at_boundary());
}

#[test]
fn the_longest_unknown_message_is_passed_over_without_being_held() {
    let mut reader = new_reader();
    let message = Seen::Unknown(20, MAX_MESSAGE_LEN - 1);
    let bytes = encode(&[message.clone(), Seen::Choke]);
    assert_eq!(read(&mut reader, bytes.chunks(1000)), Ok(vec![message, Seen::Choke]));
}

#[test]
fn messages_of_extensions_are_handed_over_up_to_a_length_and_held_only_as_they_come() {
    for over in [0, 1] {
        let payload = vec![7; MAX_EXTENDED_LEN as usize + over];
        let bytes = encode(&[Seen::Extended(7, payload.clone()), Seen::Choke]);
        let message = match over {
            0 => Seen::Extended(7, payload),
            _ => Seen::Unknown(20, MAX_EXTENDED_LEN + 2),
        };
        let mut reader = new_reader();
        assert_eq!(read(&mut reader, bytes.chunks(1000)), Ok(vec![message, Seen::Choke]));
        assert_eq!(memory(&reader), 0);
    }
    let claim = Seen::Extended(7, vec![7; MAX_EXTENDED_LEN as usize]);
    let mut reader = new_reader();
    read(&mut reader, [&encode(&[claim])[..1000]]).unwrap();
    assert!(memory(&reader) <= 2000, "{} bytes for 1000", memory(&reader));
}

#[test]
fn before_the_torrent_is_known_a_bitfield_of_any_length_is_passed_over() {
    for len in [0, 3, 300_000] {
        let bytes = encode(&[Seen::Bitfield(vec![0xff; len]), Seen::Unchoke]);
        for part in [1 << 20, 1000, 7] {
            let mut reader = Reader::new(Limits::without_metadata());
            let seen = read(&mut reader, bytes.chunks(part));
            assert_eq!(seen, Ok(vec![Seen::Unknown(5, len as u32), Seen::Unchoke]));
            assert_eq!(memory(&reader), 0);
        }
    }
}

#[test]
fn a_large_bitfield_in_parts_is_held_once_and_freed_behind_it() {
    let limits = Limits::for_pieces(crate::metainfo::MAX_PIECES);
    let mut reader = Reader::new(limits);
    let bytes = encode(&[Seen::Bitfield((0..limits.bitfield_len).map(|i| i as u8).collect())]);
    for part in bytes.chunks(4000) {
        let mut input = part;
        let item = reader.next(&mut input).unwrap();
        assert_eq!(item.is_some(), part.as_ptr_range().end == bytes.as_ptr_range().end);
        if let Some(item) = item {
            assert_eq!(item, Item::Message(Message::Bitfield(&bytes[5..])));
            assert!(reader.at_boundary());
        }
        assert!(memory(&reader) <= MAX_HEAD_LEN + limits.bitfield_len as usize);
    }
    assert_eq!(reader.next(&mut &[][..]), Ok(None));
    assert_eq!(memory(&reader), 0);
}

#[test]
fn a_cut_head_tells_how_much_of_it_is_held() {
    let head = PieceHead { index: 1, begin: 2, len: 3 }.encode();
    for cut in 0..head.len() {
        let mut reader = new_reader();
        read(&mut reader, [&head[..cut]]).unwrap();
        assert_eq!((reader.head_held(), reader.payload_left()), (cut, 0));
        read(&mut reader, [&head[cut..]]).unwrap();
        assert_eq!((reader.head_held(), reader.payload_left()), (0, 3));
    }
}

fn any_message() -> impl Strategy<Value = Seen> {
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..50),
        1 => any::<u8>().prop_map(|byte| vec![byte; BLOCK_LEN as usize]),
    ];
    prop_oneof![
        Just(Seen::KeepAlive),
        Just(Seen::Choke),
        Just(Seen::Unchoke),
        Just(Seen::Interested),
        Just(Seen::NotInterested),
        any::<u32>().prop_map(Seen::Have),
        any::<[u8; 3]>().prop_map(|bytes| Seen::Bitfield(bytes.to_vec())),
        any::<(u32, u32, u32)>().prop_map(|(index, begin, len)| Seen::Request(index, begin, len)),
        any::<(u32, u32, u32)>().prop_map(|(index, begin, len)| Seen::Cancel(index, begin, len)),
        any::<u16>().prop_map(Seen::Port),
        any::<u32>().prop_map(Seen::Suggest),
        Just(Seen::HaveAll),
        Just(Seen::HaveNone),
        any::<(u32, u32, u32)>().prop_map(|(index, begin, len)| Seen::Reject(index, begin, len)),
        any::<u32>().prop_map(Seen::AllowedFast),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..2000))
            .prop_map(|(id, payload)| Seen::Extended(id, payload)),
        (21u8.., 0u32..2000).prop_map(|(id, len)| Seen::Unknown(id, len)),
        (any::<u32>(), any::<u32>(), payload)
            .prop_map(|(index, begin, payload)| piece(index, begin, payload)),
    ]
}

/// Cuts the bytes into parts of these lengths, again and again; no length at all: not cut.
fn cut<'i>(mut bytes: &'i [u8], lengths: &[usize]) -> Vec<&'i [u8]> {
    let mut parts = Vec::new();
    for len in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (part, rest) = bytes.split_at((*len).min(bytes.len()));
        parts.push(part);
        bytes = rest;
    }
    parts.push(bytes);
    parts
}

proptest! {
    #[test]
    fn any_messages_cut_anywhere_are_read_as_they_were_written(
        messages in prop::collection::vec(any_message(), 0..30),
        lengths in prop::collection::vec(prop_oneof![1..20usize, 1..40_000usize], 0..20),
    ) {
        let bytes = encode(&messages);
        let mut reader = new_reader();
        prop_assert_eq!(read(&mut reader, cut(&bytes, &lengths)), Ok(messages));
        prop_assert!(reader.at_boundary());
    }

    /// Random bytes with lengths and kinds that are often nearly right: whatever they are, cuts change nothing, and
    /// the checks in [`read`] hold.
    #[test]
    fn hostile_bytes_are_read_the_same_however_they_are_cut(
        chunks in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            (0u32..20, 0u8..24).prop_map(|(len, id)| [&len.to_be_bytes()[..], &[id]].concat()),
            any_message().prop_map(|message| encode(&[message])),
        ], 0..20),
        lengths in prop::collection::vec(1..60usize, 1..20),
    ) {
        let bytes = chunks.concat();
        let (mut whole, mut parts) = (new_reader(), new_reader());
        prop_assert_eq!(read(&mut whole, [&bytes[..]]), read(&mut parts, cut(&bytes, &lengths)));
        prop_assert_eq!(whole.payload_left(), parts.payload_left());
    }
}
