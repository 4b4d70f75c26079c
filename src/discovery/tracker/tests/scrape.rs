use crate::discovery::tracker::scrape::{parse, target};
use crate::discovery::tracker::{ReplyError, Scrape};
use crate::metainfo::InfoHash;
use proptest::prelude::*;

const ONE: InfoHash = InfoHash([b'a'; 20]);
const TWO: InfoHash = InfoHash([0xff; 20]);

#[test]
fn a_target_names_each_torrent() {
    let [a, f] = ["a".repeat(20), "%FF".repeat(20)];
    assert_eq!(target("/scrape", &[ONE, TWO]), format!("/scrape?info_hash={a}&info_hash={f}"));
    assert_eq!(target("/scrape?passkey=1", &[ONE]), format!("/scrape?passkey=1&info_hash={a}"));
}

#[test]
fn counts_are_read_by_torrent() {
    // The example of BEP 48, with `downloaders` of BEP 21.
    let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei5e10:downloadedi50e11:downloadersi3e10:incompletei10eeee";
    let counts =
        Scrape { complete: Some(5), downloaded: Some(50), incomplete: Some(10), downloaders: Some(3) };
    assert_eq!(parse(body, &[TWO, ONE]), Ok(vec![None, Some(counts)]));
}

#[test]
fn fields_that_make_no_sense_are_absent() {
    for (body, expected) in [
        (&b"de"[..], None),
        (b"d5:filesi1ee", None),
        (b"d5:filesd20:aaaaaaaaaaaaaaaaaaaai1eee", None),
        (b"d5:filesd20:aaaaaaaaaaaaaaaaaaaadeee", Some(Scrape::default())),
        (b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei-1e10:incomplete1:xeee", Some(Scrape::default())),
    ] {
        assert_eq!(parse(body, &[ONE]), Ok(vec![expected]), "{}", body.escape_ascii());
    }
}

#[test]
fn refusals_and_rubbish_are_errors() {
    assert_eq!(
        parse(b"d14:failure reason4:no\x07oe", &[ONE]),
        Err(ReplyError::Refused { reason: "noo".into(), wait: None })
    );
    for body in [&b""[..], b"<html>", b"le", b"d5:files"] {
        assert_eq!(parse(body, &[ONE]), Err(ReplyError::NotBencode));
    }
}

proptest! {
    #[test]
    fn random_bodies_never_panic(body: Vec<u8>) {
        let _ = parse(&body, &[ONE]);
        let _ = parse(&[b"d5:filesd20:aaaaaaaaaaaaaaaaaaaa", &body[..]].concat(), &[ONE]);
    }
}
