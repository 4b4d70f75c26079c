use super::*;
use Reason::{
    DuplicateKey, Integer, IntegerRange, Key, Length, MissingValue, TooDeep, TooManyTokens, Truncated,
    Unexpected,
};
use proptest::prelude::*;

fn reason(input: impl AsRef<[u8]>) -> Reason {
    parse(input.as_ref()).expect_err("bytes that are not bencoding").reason
}

#[test]
fn broken_integers_are_refused() {
    for malformed in
        ["ie", "i-e", "i--1e", "i4-4e", "i+3e", "i03e", "i-03e", "i00e", "i-0e", "i12a3e", "i 1e"]
    {
        assert_eq!(reason(malformed), Integer, "{malformed}");
    }
    for large in ["i9223372036854775808e", "i-9223372036854775809e", "i99999999999999999999999e"] {
        assert_eq!(reason(large), IntegerRange, "{large}");
    }
    for cut in ["i", "i-", "i12", "i0"] {
        assert_eq!(reason(cut), Truncated, "{cut}");
    }
}

#[test]
fn all_64_bit_integers_are_read() {
    for number in [0, 1, -1, 10, i64::MAX, i64::MIN] {
        let text = format!("i{number}e");
        assert_eq!(parse(text.as_bytes()).unwrap().root.int(), Some(number));
    }
}

#[test]
fn broken_strings_are_refused() {
    for malformed in ["1", "4spam", "1x:a", "00:", "01:a", "0000000000000001:a", "1-:a"] {
        let reason = reason(malformed);
        assert!(matches!(reason, Length | Truncated), "{malformed}: {reason}");
    }
    for long in
        ["5:spam", "1:", "99999999:x", "100000000:x", "18446744073709551615:x", "18446744073709551617:x"]
    {
        assert_eq!(reason(long), Truncated, "{long}");
    }
    assert_eq!(reason("01:a"), Length);
    assert_eq!(reason("4spam"), Length);
    assert_eq!(reason("-1:a"), Unexpected(b'-'));
}

#[test]
fn a_long_run_of_digits_ends_early() {
    let error = parse(&[b'9'; 1 << 20]).unwrap_err();
    assert_eq!((error.reason, error.at), (Truncated, 0));
}

#[test]
fn broken_dictionaries_are_refused() {
    assert_eq!(reason("di1ei2ee"), Key);
    assert_eq!(reason("dlee"), Key);
    assert_eq!(reason("d1:ae"), MissingValue);
    assert_eq!(reason("d1:a"), Truncated);
    assert_eq!(reason("d1:ai1e1:ai2ee"), DuplicateKey);
    assert_eq!(reason("d"), Truncated);
    assert_eq!(reason("d1"), Truncated);
}

#[test]
fn duplicate_keys_are_found_in_any_order_and_depth() {
    let input = b"d1:bi1e1:ad1:ci1e1:bi2e1:ci3ee1:bi2ee";
    let error = parse(input).unwrap_err();
    assert_eq!(error.reason, DuplicateKey);
    assert_eq!(error.to_string(), "a dictionary holds the same key twice, at byte 25");
    let (document, duplicate) = parse_with_duplicates(input).unwrap();
    assert_eq!((document.root.raw(), duplicate), (&input[..], Some(error)));
}

#[test]
fn the_same_key_in_different_dictionaries_is_fine() {
    assert!(parse(b"d1:ad1:ai1ee1:bd1:ai1eee").unwrap().sorted);
}

#[test]
fn unsorted_keys_are_reported() {
    let document = parse(b"d1:bi1e1:ai2ee").unwrap();
    assert!(!document.sorted);
    assert_eq!(document.root.dict().unwrap().get(b"a").unwrap().int(), Some(2));
    assert!(!parse(b"d1:ad1:bi1e1:ai2eee").unwrap().sorted);
    assert!(parse(b"d1:ai1e1:bi2ee").unwrap().sorted);
}

#[test]
fn other_bytes_are_refused() {
    assert_eq!(reason("e"), Unexpected(b'e'));
    assert_eq!(reason("lxe"), Unexpected(b'x'));
    assert_eq!(reason(""), Truncated);
}

#[test]
fn depth_is_limited() {
    let nested = |depth| ["l".repeat(depth), "e".repeat(depth)].concat();
    assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(reason(nested(MAX_DEPTH + 1)), TooDeep);
    assert_eq!(reason("d0:".repeat(1_000_000)), TooDeep);
}

#[test]
fn the_number_of_values_is_limited() {
    let list = |elements| ["l", &"0:".repeat(elements), "e"].concat();
    assert!(parse(list(MAX_TOKENS - 1).as_bytes()).is_ok());
    assert_eq!(reason(list(MAX_TOKENS)), TooManyTokens(MAX_TOKENS));
    // Keys count, and lists and dictionaries; and a caller may allow less.
    let values = b"d1:ali1ei2ee1:b0:e";
    assert_eq!(validate_within(values, Trailing::Refuse, 7), Ok(values.len()));
    let error = validate_within(values, Trailing::Refuse, 6).unwrap_err();
    assert_eq!(error.reason, TooManyTokens(6));
    assert_eq!(error.to_string(), "there are more than 6 values, at byte 15");
}

#[test]
fn what_trails_is_handed_back_or_refused() {
    assert_eq!(parse(b"i1e\n").unwrap().rest, b"\n");
    assert_eq!(validate(b"i1e\n", Trailing::Allow), Ok(3));
    assert_eq!(validate(b"i1e", Trailing::Refuse), Ok(3));
    assert_eq!(validate(b"i1e\n", Trailing::Refuse), Err(Error { reason: Reason::Trailing, at: 3 }));
}

#[test]
fn getters_of_the_wrong_type_answer_none() {
    let number = parse(b"i1e").unwrap().root;
    assert!(number.bytes().is_none() && number.list().is_none() && number.dict().is_none());
    let string = parse(b"3:\xff\xfe!").unwrap().root;
    assert!(string.int().is_none() && string.text().is_none());
    assert_eq!(string.bytes(), Some(&b"\xff\xfe!"[..]));
    let list = parse(b"le").unwrap().root;
    assert!(list.dict().is_none() && list.bytes().is_none());
}

#[test]
fn raw_is_the_exact_span() {
    let document = parse(b"d4:infod1:bi1e1:ali1e3:abceee").unwrap();
    let info = document.root.dict().unwrap().get(b"info").unwrap();
    assert_eq!(info.raw(), b"d1:bi1e1:ali1e3:abcee");
    let list = info.dict().unwrap().get(b"a").unwrap().list().unwrap();
    assert_eq!(list.map(Value::raw).collect::<Vec<_>>(), [&b"i1e"[..], b"3:abc"]);
}

#[test]
#[should_panic(expected = "comes too late")]
fn the_writer_refuses_unsorted_keys() {
    write_dict(|d| {
        d.int(b"b", 1);
        d.int(b"a", 2);
    });
}

/// A tree of values to write and find again.
#[derive(Clone, Debug)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(std::collections::BTreeMap<Vec<u8>, Tree>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..12);
    let leaf = prop_oneof![any::<i64>().prop_map(Tree::Int), bytes().prop_map(Tree::Bytes)];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::btree_map(bytes(), inner, 0..6).prop_map(Tree::Dict),
        ]
    })
}

fn write_entry(out: &mut DictWriter<'_>, key: &[u8], value: &Tree) {
    match value {
        Tree::Int(n) => out.int(key, *n),
        Tree::Bytes(bytes) => out.bytes(key, bytes),
        Tree::List(list) => out.list(key, |out| list.iter().for_each(|value| write_element(out, value))),
        Tree::Dict(dict) => out.dict(key, |out| dict.iter().for_each(|(k, v)| write_entry(out, k, v))),
    }
}

fn write_element(out: &mut ListWriter<'_>, value: &Tree) {
    match value {
        Tree::Int(n) => out.int(*n),
        Tree::Bytes(bytes) => out.bytes(bytes),
        Tree::List(list) => out.list(|out| list.iter().for_each(|value| write_element(out, value))),
        Tree::Dict(dict) => out.dict(|out| dict.iter().for_each(|(k, v)| write_entry(out, k, v))),
    }
}

fn assert_holds(value: Value<'_>, tree: &Tree) {
    match tree {
        Tree::Int(n) => assert_eq!(value.int(), Some(*n)),
        Tree::Bytes(bytes) => assert_eq!(value.bytes(), Some(bytes.as_slice())),
        Tree::List(list) => {
            let values: Vec<_> = value.list().unwrap().collect();
            assert_eq!(values.len(), list.len());
            values.into_iter().zip(list).for_each(|(value, tree)| assert_holds(value, tree));
        }
        Tree::Dict(dict) => {
            assert_eq!(value.dict().unwrap().entries().count(), dict.len());
            for (key, tree) in dict {
                assert_holds(value.dict().unwrap().get(key).unwrap(), tree);
            }
        }
    }
}

/// Bytes that look like bencoding often enough to get far.
fn almost_bencoding() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "d", "l", "e", "i1e", "i-5e", "1:a", "0:", "3:abc", "i", "9", ":", "-", "x",
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

fn walk(value: Value<'_>) {
    let _ = (value.int(), value.bytes(), value.text());
    value.list().into_iter().flatten().for_each(walk);
    value.dict().into_iter().flat_map(Dict::entries).for_each(|(_, value)| walk(value));
}

proptest! {
    #[test]
    fn what_is_written_is_read(tree in tree(), tail in prop::collection::vec(any::<u8>(), 0..4)) {
        let written = write_dict(|out| write_entry(out, b"key", &tree));
        let input = [written.as_slice(), &tail].concat();
        let document = parse(&input).unwrap();
        prop_assert_eq!(document.root.raw(), &written);
        prop_assert_eq!(document.rest, &tail);
        prop_assert!(document.sorted);
        assert_holds(document.root.dict().unwrap().get(b"key").unwrap(), &tree);
    }

    #[test]
    fn no_truncation_passes(tree in tree()) {
        let written = write_dict(|out| write_entry(out, b"key", &tree));
        for end in 0..written.len() {
            prop_assert!(parse(&written[..end]).is_err());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), close in almost_bencoding()) {
        for input in [bytes, close] {
            if let Ok(document) = parse(&input) {
                walk(document.root);
                prop_assert_eq!(document.root.raw().len() + document.rest.len(), input.len());
            }
        }
    }
}
