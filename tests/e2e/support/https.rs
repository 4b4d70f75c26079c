//! A tracker that speaks TLS, with a certificate of an authority that the test makes.

use super::Stage;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// An HTTPS server on loopback with one answer for all; it runs as long as the test binary.
pub(crate) struct HttpsStub {
    url: String,
    authority: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl HttpsStub {
    /// Answers every request with a document.
    pub(crate) fn document(stage: &Stage, body: &[u8]) -> Self {
        Self::posing(stage, body, ("127.0.0.1", 4000))
    }

    /// Likewise, with a certificate for this name, good until that year.
    pub(crate) fn posing(stage: &Stage, body: &[u8], (name, year): (&str, i32)) -> Self {
        let (config, pem) = identity(name, year);
        let authority = stage.path("authority.pem");
        fs::write(&authority, pem).expect("the stage takes files");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let answer = [head.as_bytes(), body].concat();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
        let url = format!("https://{}/announce", listener.local_addr().expect("a bound address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(Arc::clone(&config)).expect("a good configuration");
                let mut stream = StreamOwned::new(connection, stream);
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                seen.lock().expect("no holder panics").extend(head.lines().next().map(str::to_owned));
                // Whoever asked may have gone, or never trusted us.
                let _ = stream.write_all(&answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Self { url, authority, asked }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the authority that vouches for it.
    pub(crate) fn authority(&self) -> &str {
        self.authority.to_str().expect("a stage has a plain path")
    }

    /// The first lines of all requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no holder panics").clone()
    }
}

/// A server that an authority of its own vouches for, whose certificate comes in PEM.
fn identity(name: &str, year: i32) -> (Arc<ServerConfig>, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new([]).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.not_after = date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key in DER");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("key and certificate fit");
    (Arc::new(config), pem)
}
