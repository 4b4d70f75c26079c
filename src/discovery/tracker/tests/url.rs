use crate::discovery::tracker::url::{HttpUrl, TrackerUrl, UdpUrl, UrlError, label};
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
        ("https://t.example/a", "t.example", 443, "t.example", "/a"),
        ("http://me:pw@t.example:8/a", "t.example", 8, "t.example:8", "/a"),
        ("http://me:pw@[::1]:8/a", "::1", 8, "[::1]:8", "/a"),
        ("http://t.example:/a", "t.example", 80, "t.example:", "/a"),
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
    for (url, scheme) in
        [("ftp://t.example/announce", "ftp"), ("wss://t.example", "wss"), ("file:///etc/passwd", "file")]
    {
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
        "http://[::1]6969/announce",
        "http://[t.example]/announce",
        "http://[2001:db8:@1]tracker.example:1337/announce",
        "http://[2001:db8::1@t.example/announce",
        "http://t.example]/announce",
        "http://t.example:80:81/announce",
        "http://t.example:+80/announce",
        "http://2001:db8::1/announce",
    ] {
        let refused = HttpUrl::parse(url);
        assert!(matches!(refused, Err(UrlError::Malformed(_))), "{url:?}: {refused:?}");
    }
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
    for (location, scheme) in
        [("udp://t.example:1/", "udp"), ("file:///etc/passwd", "file"), ("javascript:alert(1)", "javascript")]
    {
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

proptest! {
    #[test]
    fn random_urls_never_panic(url: String, location: String) {
        let _ = HttpUrl::parse(&url);
        let _ = HttpUrl::parse(&format!("http://{url}"));
        let _ = HttpUrl::parse("http://t.example/a").unwrap().join(&location);
        prop_assert!(!label(&url).contains(char::is_control));
    }
}

#[test]
fn udp_urls_are_taken_apart() {
    for (url, host, port, url_data) in [
        ("udp://t.example:6969/announce", "t.example", 6969, "/announce"),
        ("UDP://t.example:6969", "t.example", 6969, ""),
        ("udp://t.example:6969/", "t.example", 6969, ""),
        ("udp://[::1]:1/a?passkey=2", "::1", 1, "/a?passkey=2"),
        ("udp://t.example:1?passkey=2", "t.example", 1, "/?passkey=2"),
    ] {
        let expected = UdpUrl { host: host.into(), port, url_data: url_data.into() };
        assert_eq!(TrackerUrl::parse(url), Ok(TrackerUrl::Udp(expected)));
    }
    for url in ["udp://t.example/announce", "udp://t.example:0/", "udp://:1/", "udp://t.example:99999/"] {
        assert!(matches!(TrackerUrl::parse(url), Err(UrlError::Malformed(_))), "{url}");
    }
    let long = format!("udp://t.example:1/{}", "x".repeat(1000));
    assert_eq!(TrackerUrl::parse(&long), Err(UrlError::TooLong));
}

#[test]
fn torrents_do_not_write_our_part_of_the_query() {
    for url in
        ["http://127.0.0.1:9091/?a&info_hash=x", "udp://t.example:1/?port=1", "https://t.example/?event=x"]
    {
        assert!(matches!(TrackerUrl::parse(url), Err(UrlError::OwnKey(_))), "{url}");
    }
    TrackerUrl::parse("http://t.example/?passkey=info_hash&ported=1").unwrap();
}

#[test]
fn credentials_go_to_their_own_host_only() {
    let url = HttpUrl::parse("https://Aladdin:open%20sesame@t.example/a").unwrap();
    // The example of RFC 7617.
    assert_eq!(url.authorization().as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    for (location, kept) in [
        ("/b", true),
        ("?x", true),
        ("https://T.example/b", true),
        ("https://t.example:443/b", true),
        ("http://t.example/b", false),
        ("https://t.example:444/b", false),
        ("https://other.example/b", false),
        ("//other.example/b", false),
        ("https://me:pw@other.example/b", false),
    ] {
        let next = url.join(location).unwrap();
        assert_eq!(next.authorization().is_some(), kept, "{location}");
    }
    for (user, expected) in [("a:", "Basic YTo="), ("ab:", "Basic YWI6"), ("a:bc", "Basic YTpiYw==")] {
        let url = HttpUrl::parse(&format!("http://{user}@t.example/")).unwrap();
        assert_eq!(url.authorization().as_deref(), Some(expected));
    }
    assert_eq!(HttpUrl::parse("http://t.example/").unwrap().authorization(), None);
}

#[test]
fn scrape_urls_follow_from_announce_urls() {
    // The examples of the convention behind BEP 48; a slash in the query does not count here.
    for (announce, scrape) in [
        ("/announce", Some("/scrape")),
        ("/x/announce", Some("/x/scrape")),
        ("/announce.php", Some("/scrape.php")),
        ("/a", None),
        ("/announce?x2%0644", Some("/scrape?x2%0644")),
        ("/announce?x=2/4", Some("/scrape?x=2/4")),
        ("/x%064announce", None),
        ("/announce/x", None),
    ] {
        let url = HttpUrl::parse(&format!("http://t.example{announce}")).unwrap();
        let found = url.scrape().map(|url| url.path_and_query);
        assert_eq!(found, scrape.map(str::to_owned).ok_or(UrlError::NoScrape), "{announce}");
    }
}
