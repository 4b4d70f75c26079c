//! Tests of this room, a file for each file.

mod announce;
mod announcer;
mod client;
mod driver;
mod embedded;
mod goodbyes;
mod home;
mod hostile;
mod http;
mod names;
mod reach;
mod reply;
mod scrape;
mod tls;
mod udp_exchange;
mod udp_packet;
mod url;

use super::{
    AnnounceRequest, AnnounceResponse, Event, HttpLimits, TrackerClient, TrackerError, TrackerOptions,
};
use crate::metainfo::InfoHash;
use crate::wire::mse::Encryption;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::time::Duration;
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([0xc3; 20]),
        peer_id: *b"-SR0001-abcdefghijkl",
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Some(Event::Started),
        num_want: 50,
        key: 0xabc,
        tracker_id: None,
        hostname: None,
        encryption: Encryption::Off,
    }
}

/// One announce by a client of its own.
async fn announce(
    url: &str,
    request: &AnnounceRequest,
    limits: &HttpLimits,
) -> Result<AnnounceResponse, TrackerError> {
    let options = TrackerOptions { limits: *limits, ..TrackerOptions::default() };
    TrackerClient::new(options).announce(url, request).await
}

/// A bare connection.
struct Conn(TcpStream);

impl Conn {
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.writable().await?;
            match self.0.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next byte, an error at the end.
    async fn read_u8(&mut self) -> io::Result<u8> {
        loop {
            self.0.readable().await?;
            let mut byte = [0];
            match self.0.try_read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.0).poll_shutdown(cx)).await
    }
}

/// A server that reads one request head a connection, and then does what `answer` says. Returns `http://host:port`.
async fn stub<F>(answer: impl Fn(String, Conn) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    stub_at("127.0.0.1", answer).await
}

/// A server as [`stub`], at this address.
async fn stub_at<F>(ip: &str, answer: impl Fn(String, Conn) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = Conn(stream);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            tokio::spawn(answer(String::from_utf8(head).unwrap(), stream));
        }
    });
    base
}

/// A server that answers every request with the same bytes and closes.
async fn canned(bytes: impl Into<Vec<u8>>) -> String {
    let bytes = bytes.into();
    stub(move |_, mut stream| {
        let bytes = bytes.clone();
        async move {
            // The client may well hang up before it has read all.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // Closing with unread bytes in the socket would reset the connection.
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await;
        }
    })
    .await
}

/// These bytes, packed with gzip.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A whole HTTP response.
fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
