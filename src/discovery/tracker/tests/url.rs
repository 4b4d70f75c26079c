use crate::discovery::tracker::url::{HttpUrl, UrlError, is_local, label};
use proptest::prelude::*;

#[test]
fn http_urls_are_taken_apart() {
    for (url, host, port, authority, path) in [
        ("http://t.example/announce", "t.example", 80, "t.example", "/announce"),
        ("HTTP://t.example:6969/a?passkey=1", "t.example", 6969, "t.example:6969", "/a?passkey=1"),
        ("http://t.example", "t.example", 80, "t.example", "/"),
        ("http://t.example?x=1", "t.example", 80, "t.example", "/?x=1"),
        ("http://[2001:db8::1]:81/announce#top", "2001:db8::1", 81, "[2001:db8::1]:81", "/announce"),
        ("http://[::1]/announce", "::1", 80, "[::1]", "/announce"),
        ("http://127.0.0.1:9/", "127.0.0.1", 9, "127.0.0.1:9", "/"),
    ] {
        let parsed = HttpUrl::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(parsed.host, host);
        assert_eq!(parsed.port, port, "{url}");
        assert_eq!(parsed.authority, authority);
        assert_eq!(parsed.path_and_query, path);
    }
}

#[test]
fn other_urls_are_refused() {
    for (url, scheme) in [
        ("https://t.example/announce", "https"),
        ("udp://t.example:6969", "udp"),
        ("wss://t.example", "wss"),
        ("file:///etc/passwd", "file"),
    ] {
        assert_eq!(HttpUrl::parse(url), Err(UrlError::UnsupportedScheme(scheme.into())));
    }
    for url in [
        "",
        "t.example/announce",
        "http://",
        "http:///announce",
        "http://:80/announce",
        "http://t.example:0/",
        "http://t.example:99999/",
        "http://t.example:x/",
        "http://t .example/",
        "http://t.example/a\r\nHost: other",
        "http://[::1/announce",
    ] {
        let refused = HttpUrl::parse(url);
        assert!(matches!(refused, Err(UrlError::Malformed(_))), "{url:?}: {refused:?}");
    }
    assert_eq!(HttpUrl::parse("http://me:secret@t.example/"), Err(UrlError::Credentials));
}

#[test]
fn redirects_lead_where_they_say() {
    let base = HttpUrl::parse("http://t.example:81/a/announce?x=1").unwrap();
    for (location, expected) in [
        ("http://other.example/b?y", "http://other.example/b?y"),
        ("//other.example/b", "http://other.example/b"),
        ("/b?y=2", "http://t.example:81/b?y=2"),
        ("b?y=http://2", "http://t.example:81/a/b?y=http://2"),
        ("?y=2", "http://t.example:81/a/announce?y=2"),
    ] {
        assert_eq!(base.join(location), HttpUrl::parse(expected), "{location}");
    }
    for (location, scheme) in [
        ("https://t.example/", "https"),
        ("file:///etc/passwd", "file"),
        ("javascript:alert(1)", "javascript"),
    ] {
        assert_eq!(base.join(location), Err(UrlError::UnsupportedScheme(scheme.into())));
    }
}

#[test]
fn labels_hide_what_may_be_secret() {
    for (url, expected) in [
        ("http://t.example:81/passkey/announce?x", "http://t.example:81"),
        ("http://me:secret@t.example/", "http://t.example"),
        ("udp://t.example:6969?x", "udp://t.example:6969"),
        ("no\x1b scheme", "no scheme"),
    ] {
        assert_eq!(label(url), expected);
    }
}

#[test]
fn own_networks_are_told_from_the_internet() {
    for (ip, local) in [
        ("127.0.0.1", true),
        ("10.1.2.3", true),
        ("192.168.0.1", true),
        ("169.254.169.254", true),
        ("0.0.0.0", true),
        ("::1", true),
        ("fe80::1", true),
        ("fd00::1", true),
        ("::ffff:127.0.0.1", true),
        ("192.0.2.1", false),
        ("8.8.8.8", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(is_local(ip.parse().unwrap()), local, "{ip}");
    }
}

proptest! {
    #[test]
    fn random_urls_never_panic(url: String, location: String) {
        let _ = HttpUrl::parse(&url);
        let _ = HttpUrl::parse(&format!("http://{url}"));
        let _ = HttpUrl::parse("http://t.example/a").unwrap().join(&location);
        prop_assert!(!label(&url).contains(char::is_control));
    }
}
