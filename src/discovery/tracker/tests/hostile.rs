//! Answers of a hostile tracker, as a table: what comes of each, and that nothing worse does. Those of UDP trackers are
//! with `client`, those that have to do with time with `http`.

use super::{announce, canned, gzip, request};
use crate::discovery::tracker::{
    AnnounceResponse, HttpLimits, MAX_PEERS, ReplyError, TrackerError, UrlError,
};
use std::time::Duration;

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Not HTTP, or broken off.
    NoHttp,
    NoBencode,
    Refused,
    TooLarge,
    Compressed,
    /// Compressed, and not as it was.
    Damaged,
    Status,
    /// A redirect that is not followed.
    NoWay,
    /// So many peers, and an interval in seconds.
    Reply(usize, Option<u64>),
}
use End::*;

fn end(result: Result<AnnounceResponse, TrackerError>) -> End {
    match result {
        Ok(reply) => {
            assert!(reply.warning.is_none_or(|text| text.chars().count() <= 200 && !text.contains('\x1b')));
            Reply(reply.peers.len(), reply.interval.as_ref().map(Duration::as_secs))
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 1000 && !text.contains(['\x1b', '\n']), "{text:?}");
            match error {
                TrackerError::Http(_) => NoHttp,
                TrackerError::Reply(ReplyError::NotBencode) => NoBencode,
                TrackerError::Reply(ReplyError::Refused { .. }) => Refused,
                TrackerError::TooLarge(_) | TrackerError::HeadTooLarge => TooLarge,
                TrackerError::Compressed => Compressed,
                TrackerError::Packed(_) => Damaged,
                TrackerError::Status(..) => Status,
                TrackerError::NoLocation | TrackerError::TooManyRedirects(_) => NoWay,
                TrackerError::Url(UrlError::UnsupportedScheme(_) | UrlError::Malformed(_)) => NoWay,
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn heard(bytes: Vec<u8>) -> End {
    end(announce(&format!("{}/announce", canned(bytes).await), &request(), &HttpLimits::default()).await)
}

fn with_head(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
}

#[tokio::test]
async fn bodies() {
    let deep = [b"d5:peers".as_slice(), &b"l".repeat(500_000), &b"e".repeat(500_000), b"e"].concat();
    let million =
        [b"d5:peers6000000:".as_slice(), &b"\x01\x02\x03\x04\x05\x06".repeat(1_000_000), b"e"].concat();
    let many: Vec<u8> = (0..150_000u32).flat_map(|n| [&n.to_be_bytes()[..], &[1, 1]].concat()).collect();
    let many = [b"d5:peers900000:".as_slice(), &many, b"e"].concat();
    let reason = [b"d14:failure reason100000:".as_slice(), &b"\x1b[2J\n".repeat(20_000), b"e"].concat();
    let warning = [b"d15:warning message100000:".as_slice(), &b"\x1b[2J\n".repeat(20_000), b"e"].concat();
    let cases: Vec<(&str, Vec<u8>, End)> = vec![
        ("nothing", b"".to_vec(), NoBencode),
        ("a page", b"<html><script>alert(1)</script>".to_vec(), NoBencode),
        ("half a dictionary", b"d8:intervali900e5:peers".to_vec(), NoBencode),
        ("a list", b"le".to_vec(), NoBencode),
        ("a number", b"i1e".to_vec(), NoBencode),
        ("deep nesting", deep, NoBencode),
        ("a length beyond the end", b"d5:peers99999999999:xe".to_vec(), NoBencode),
        ("a length beyond all numbers", b"d5:peers99999999999999999999999:xe".to_vec(), NoBencode),
        ("a million peers", million, TooLarge),
        ("many peers", many, Reply(MAX_PEERS, None)),
        ("a huge reason with escapes", reason, Refused),
        ("a reason of the wrong type", b"d14:failure reasonli1eee".to_vec(), Refused),
        ("a huge warning with escapes", warning, Reply(0, None)),
        ("interval zero", b"d8:intervali0ee".to_vec(), Reply(0, None)),
        ("interval negative", b"d8:intervali-900ee".to_vec(), Reply(0, None)),
        ("interval 2^62", b"d8:intervali4611686018427387904ee".to_vec(), Reply(0, Some(86_400))),
        ("interval 2^63", b"d8:intervali9223372036854775808ee".to_vec(), NoBencode),
        ("interval as text", b"d8:interval3:900e".to_vec(), Reply(0, None)),
        ("peers as a number", b"d5:peersi1ee".to_vec(), Reply(0, None)),
        ("peers as a dictionary", b"d5:peersd1:xi1eee".to_vec(), Reply(0, None)),
        ("peers cut off", b"d5:peers5:\x01\x02\x03\x04\x05e".to_vec(), Reply(0, None)),
        (
            "peers nobody can dial",
            b"d5:peers18:\0\0\0\0\0\x01\x01\x02\x03\x04\0\0\xff\xff\xff\xff\0\x01e".to_vec(),
            Reply(0, None),
        ),
        (
            "peers of wrong types",
            b"d5:peersli1e1:xled2:ipi1e4:porti1eed2:ip7:1.2.3.44:port1:1eee".to_vec(),
            Reply(0, None),
        ),
        ("a port too high", b"d5:peersld2:ip7:1.2.3.44:porti65536eeee".to_vec(), Reply(0, None)),
        ("a port below zero", b"d5:peersld2:ip7:1.2.3.44:porti-1eeee".to_vec(), Reply(0, None)),
        ("a name with a path", b"d5:peersld2:ip7:../../x4:porti1eeee".to_vec(), Reply(0, None)),
        ("a name with a line break", b"d5:peersld2:ip5:a\r\n.b4:porti1eeee".to_vec(), Reply(0, None)),
        ("peers6 cut off", b"d6:peers617:aaaaaaaaaaaaaaaaae".to_vec(), Reply(0, None)),
        ("an id of the wrong type", b"d11:external ip3:abc10:tracker idi1ee".to_vec(), Reply(0, None)),
    ];
    for (what, body, expected) in cases {
        let found = heard(with_head("200 OK", &body)).await;
        assert_eq!(found, expected, "{what}");
    }
}

#[tokio::test]
async fn heads_and_framing() {
    let redirect = |to: &str| format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0");
    let cases: Vec<(&str, Vec<u8>, End)> = vec![
        ("silence", vec![], NoHttp),
        ("another protocol", b"SSH-2.0-x\r\n".to_vec(), NoHttp),
        (
            "a head without end",
            [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &b"x".repeat(1 << 20)].concat(),
            TooLarge,
        ),
        ("a thousand heads", format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(1000)).into(), TooLarge),
        ("a body without end", with_head("200 OK", &vec![b'1'; 2 << 20]), TooLarge),
        ("a length of 2^64", with_head("200 OK\r\nContent-Length: 18446744073709551616", b"de"), NoHttp),
        ("two lengths", with_head("200 OK\r\nContent-Length: 2\r\nContent-Length: 3", b"dee"), NoHttp),
        (
            "a chunk of 2^64",
            with_head("200 OK\r\nTransfer-Encoding: chunked", b"10000000000000000\r\nde"),
            NoHttp,
        ),
        (
            "a chunk that lies",
            with_head("200 OK\r\nTransfer-Encoding: chunked", b"2\r\ndexx\r\n0\r\n\r\n"),
            NoHttp,
        ),
        ("a chunk without a number", with_head("200 OK\r\nTransfer-Encoding: chunked", b"zz\r\nde"), NoHttp),
        (
            "chunks that add up",
            {
                let chunk = [b"80000\r\n".as_slice(), &vec![b'1'; 0x80000], b"\r\n"].concat();
                with_head("200 OK\r\nTransfer-Encoding: chunked", &chunk.repeat(3))
            },
            TooLarge,
        ),
        ("gzip that does not say so", with_head("200 OK", &gzip(b"de")), NoBencode),
        ("an error", with_head("500 Oops", b"<html>"), Status),
        ("a redirect to a file", with_head(&redirect("file:///etc/passwd"), b""), NoWay),
        ("a redirect to FTP", with_head(&redirect("ftp://192.0.2.1/"), b""), NoWay),
        ("a redirect to UDP", with_head(&redirect("udp://192.0.2.1:1/"), b""), NoWay),
        ("a redirect to no URL", with_head(&redirect("http://[/"), b""), NoWay),
        ("a redirect to nowhere", with_head("302 Found\r\nContent-Length: 0", b""), NoWay),
        ("a redirect in circles", with_head(&redirect("/announce"), b""), NoWay),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(heard(bytes).await, expected, "{what}");
    }
}

#[tokio::test]
async fn compressed_bodies() {
    let reply = gzip(b"d8:intervali900e5:peers6:\x01\x02\x03\x04\x05\x06e");
    let (whole, zeros) = (reply.len(), gzip(&vec![b'0'; 16 << 20]));
    let mut wrong_sum = reply.clone();
    wrong_sum[whole - 8] ^= 1;
    let two = [gzip(b"d8:intervali900e5:peers6:\x01\x02"), gzip(b"\x03\x04\x05\x06e")];
    let cases: Vec<(&str, &str, Vec<u8>, End)> = vec![
        ("a good one", "gzip", reply.clone(), Reply(1, Some(900))),
        ("by its old name", "X-GZip", reply.clone(), Reply(1, Some(900))),
        ("two members", "gzip", two.concat(), Reply(1, Some(900))),
        ("garbage behind it", "gzip", [&reply, &b"\0\0garbage"[..]].concat(), Reply(1, Some(900))),
        ("half a member behind it", "gzip", [&reply, &reply[..9]].concat(), Damaged),
        ("cut off", "gzip", reply[..whole - 9].to_vec(), Damaged),
        ("without its sum", "gzip", reply[..whole - 8].to_vec(), Damaged),
        ("a wrong sum", "gzip", wrong_sum, Damaged),
        ("not compressed at all", "gzip", b"d8:intervali900ee".to_vec(), Damaged),
        ("garbage", "gzip", [&reply[..10], &[0xed; 1000]].concat(), Damaged),
        ("nothing", "gzip", vec![], NoBencode),
        ("a bomb", "gzip", zeros.clone(), TooLarge),
        ("a bomb in a bomb", "gzip", gzip(&zeros), NoBencode),
        ("many empty members", "gzip", gzip(b"").repeat(40_000), TooLarge),
        ("more than a plain body may have", "gzip", vec![0x1f; 2 << 20], TooLarge),
        ("another way", "br", reply.clone(), Compressed),
        ("twice", "gzip, gzip", gzip(&reply), Compressed),
        ("not compressed, and says so", "identity", b"d8:intervali900ee".to_vec(), Reply(0, Some(900))),
    ];
    for (what, encoding, body, expected) in cases {
        let found = heard(with_head(&format!("200 OK\r\nContent-Encoding: {encoding}"), &body)).await;
        assert_eq!(found, expected, "{what}");
    }
}
