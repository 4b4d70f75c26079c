//! The server among clients that ask as they should, and others.

use super::*;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use tokio::sync::oneshot;

/// Only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(60);
/// For limits that a test waits out.
const SOON: Duration = Duration::from_millis(100);
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs a test beside a server that has two pages.
fn with_server(limits: impl FnOnce(&mut Limits) + Send, test: impl FnOnce(SocketAddr)) {
    let (tell, addr) = oneshot::channel();
    // The server ends with the test, also with one that fails.
    let (running, ended) = oneshot::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| {
            block_on(async {
                let mut server = Server::bind(ANY).await.unwrap();
                limits(&mut server.limits);
                tell.send(server.addr()).unwrap();
                let page = |path: &str| match path {
                    "/metrics" => Some("all is well\n".to_owned()),
                    "/huge" => Some("x".repeat(64 << 20)),
                    _ => None,
                };
                tokio::select! {
                    () = server.run(page) => unreachable!("a server never ends"),
                    _ = ended => {}
                }
            });
        });
        let _running = running;
        test(addr.blocking_recv().unwrap());
    });
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Sends text, reads to the end: the head and the body of the answer.
fn ask(addr: SocketAddr, request: &str) -> (String, String) {
    let mut stream = connect(addr);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {answer:?}"));
    (head.to_ascii_lowercase(), body.to_owned())
}

const GET: &str = "GET /metrics?x=y HTTP/1.1\r\nHost: here\r\n\r\n";

#[test]
fn pages_are_given_and_nothing_else() {
    with_server(
        |_| {},
        |addr| {
            let (head, body) = ask(addr, GET);
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
            assert_eq!(body, "all is well\n");
            let (head, body) = ask(addr, "HEAD /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
            assert!(head.starts_with("http/1.1 200 ") && head.contains("content-length: 12"), "{head}");
            assert_eq!(body, "");
            for path in ["/", "/metrics/", "/metrics/peers/x", "/../metrics", "//metrics"] {
                let (head, _) = ask(addr, &format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"));
                assert!(head.starts_with("http/1.1 404 "), "{path}: {head}");
            }
            for method in ["POST", "DELETE", "OPTIONS"] {
                let (head, _) = ask(addr, &format!("{method} /metrics HTTP/1.1\r\nHost: here\r\n\r\n"));
                assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: get, head"), "{head}");
            }
        },
    );
}

#[test]
fn nonsense_and_endless_heads_end_the_connection() {
    with_server(
        |_| {},
        |addr| {
            for request in ["\0\x01\x02 what?\r\n\r\n", "GET\r\n\r\n"] {
                let (head, _) = ask(addr, request);
                assert!(head.starts_with("http/1.1 400 "), "{head}");
            }
            let mut stream = connect(addr);
            // It may be cut while it still speaks: then neither all is taken nor an answer read.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
            let endless = vec![b'y'; 64 * 1024];
            while stream.write_all(&endless).is_ok() {}
            assert_eq!(ask(addr, GET).1, "all is well\n");
        },
    );
}

#[test]
fn who_is_silent_or_slow_is_sent_away() {
    with_server(
        |limits| limits.head_time = SOON,
        |addr| {
            for begin in ["", "GET /metr", "GET /metrics HTTP/1.1\r\nHost: here\r\n"] {
                let mut stream = connect(addr);
                stream.write_all(begin.as_bytes()).unwrap();
                // Nothing more is said: the server ends it.
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
            }
        },
    );
}

#[test]
fn who_does_not_read_gives_way_in_the_end() {
    with_server(
        |limits| limits.connection_time = Duration::from_secs(1),
        |addr| {
            let mut lazy = connect(addr);
            lazy.write_all(b"GET /huge HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
            // It has begun to answer.
            lazy.read_exact(&mut [0]).unwrap();
            thread::sleep(Duration::from_secs(2));
            let mut rest = Vec::new();
            let _ = lazy.read_to_end(&mut rest);
            assert!(rest.len() < 64 << 20, "it is cut off, and what is in flight is not all");
        },
    );
}

#[test]
fn who_connects_and_is_silent_keeps_nobody_out() {
    with_server(
        |limits| (limits.connections, limits.head_time) = (4, DEADLINE),
        |addr| {
            let silent: Vec<_> = (0..20).map(|_| connect(addr)).collect();
            for _ in 0..10 {
                assert_eq!(ask(addr, GET).1, "all is well\n");
            }
            // The newest are still there; of the others each has seen its end.
            let ended = |mut stream: &TcpStream| matches!(stream.read(&mut [0]), Ok(0) | Err(_));
            assert!(silent[..16].iter().all(ended));
        },
    );
}
