use super::request;
use crate::discovery::tracker::announce::{percent_decode, percent_encode};
use crate::discovery::tracker::{AnnounceRequest, Event};
use crate::wire::mse::Encryption;
use proptest::prelude::*;

#[test]
fn a_target_carries_every_field() {
    let request = AnnounceRequest { tracker_id: Some(b"a&b".to_vec()), ..request() };
    let hash = "%C3".repeat(20);
    assert_eq!(
        request.target("/announce"),
        format!(
            "/announce?info_hash={hash}&peer_id=-SR0001-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3\
             &numwant=50&key=00000ABC&compact=1&no_peer_id=1&event=started&trackerid=a%26b"
        )
    );
}

#[test]
fn a_regular_announce_names_no_event() {
    let target = AnnounceRequest { event: None, ..request() }.target("/announce");
    assert!(!target.contains("event"), "{target}");
    for (event, word) in [(Event::Completed, "&event=completed"), (Event::Stopped, "&event=stopped")] {
        assert!(AnnounceRequest { event: Some(event), ..request() }.target("/a").contains(word));
    }
}

#[test]
fn how_peers_are_encrypted_is_told() {
    let target = |encryption| AnnounceRequest { encryption, ..request() }.target("/a");
    let [off, allowed, required] = [Encryption::Off, Encryption::Allowed, Encryption::Required].map(target);
    assert!(!off.contains("crypto"), "{off}");
    assert!(allowed.contains("&supportcrypto=1") && !allowed.contains("requirecrypto"), "{allowed}");
    assert!(required.contains("&supportcrypto=1&requirecrypto=1"), "{required}");
}

#[test]
fn the_query_of_the_url_stays() {
    for (path, start) in [
        ("", "/?info_hash="),
        ("/", "/?info_hash="),
        ("/announce?", "/announce?info_hash="),
        ("/announce?passkey=1f", "/announce?passkey=1f&info_hash="),
        ("/announce?passkey=1f&", "/announce?passkey=1f&info_hash="),
        ("/1f/announce.php?a=b?c", "/1f/announce.php?a=b?c&info_hash="),
    ] {
        let target = request().target(path);
        assert!(target.starts_with(start), "{path}: {target}");
    }
}

#[test]
fn all_bytes_survive_percent_encoding() {
    for byte in 0..=255u8 {
        let mut text = String::new();
        percent_encode(&[byte], &mut text);
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let expected = if unreserved { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        assert_eq!(text, expected);
        assert_eq!(percent_decode(&text), Some(vec![byte]));
    }
}

#[test]
fn half_an_escape_is_refused() {
    for text in ["%", "%1", "abc%f", "%zz", "%+1", "%1g"] {
        assert_eq!(percent_decode(text), None, "{text}");
    }
    assert_eq!(percent_decode("%aF+x"), Some(b"\xaf+x".to_vec()));
}

proptest! {
    #[test]
    fn encoded_bytes_are_safe_in_a_query_and_come_back(bytes: Vec<u8>) {
        let mut text = String::new();
        percent_encode(&bytes, &mut text);
        prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b)));
        prop_assert_eq!(percent_decode(&text), Some(bytes));
    }

    #[test]
    fn decoding_never_panics(text: String) {
        let _ = percent_decode(&text);
    }
}
