//! A tracker that says what the test wants it to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

/// An HTTP server on loopback with one answer for all; it runs as long as the test binary.
pub(crate) struct Stub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// Answers every request with these bytes, head and all, and closes.
    pub(crate) fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
        let url = format!("http://{}/announce", listener.local_addr().expect("a bound address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                seen.lock().expect("no holder panics").extend(head.lines().next().map(str::to_owned));
                // Whoever asked may have gone.
                let _ = stream.write_all(&answer);
            }
        });
        Self { url, asked }
    }

    /// Answers every request with a document.
    pub(crate) fn document(body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        Self::start([head.as_bytes(), body].concat())
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The first lines of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no holder panics").clone()
    }
}
