use super::{request, response};
use crate::discovery::tracker::tls::roots;
use crate::discovery::tracker::{
    Authorities, AuthorityError, Count, TrackerClient, TrackerError, TrackerOptions,
};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// An authority of the tests, and its certificate in PEM.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// An HTTPS tracker on loopback with a certificate for this name. Returns its URL.
async fn tracker(issuer: &Issuer<'static, KeyPair>, name: &str, body: &'static [u8]) -> String {
    tracker_until(issuer, name, 4000, body).await
}

/// Likewise, whose certificate is good until that year.
async fn tracker_until(
    issuer: &Issuer<'static, KeyPair>,
    name: &str,
    year: i32,
    body: &'static [u8],
) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = params.signed_by(&key, issuer).unwrap();
    tracker_showing(&certificate, &key, body).await
}

/// Likewise, which shows this certificate.
async fn tracker_showing(certificate: &Certificate, key: &KeyPair, body: &'static [u8]) -> String {
    server_showing(certificate, key, response("200 OK", body), false).await
}

/// Likewise, which says all of this, and then hangs up, without a farewell of TLS, or waits for the client to do so.
async fn server_showing(certificate: &Certificate, key: &KeyPair, answer: Vec<u8>, hangs_up: bool) -> String {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Who does not trust us breaks off.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if hangs_up {
                // To close with the request unread would reset the connection.
                let request = stream.read(&mut [0; 4096]).await.unwrap();
                assert_ne!(request, 0);
            }
            let sent = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &answer)).await;
            assert_eq!(sent.unwrap(), answer.len());
            std::future::poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx)).await.unwrap();
            // Else the client closes when it has the body.
            if !hangs_up {
                stream.get_ref().0.readable().await.unwrap();
            }
        }
    });
    format!("https://127.0.0.1:{port}/announce")
}

fn trusting(folder: &Path, pem: &str) -> TrackerClient {
    let file = folder.join("authority.pem");
    fs::write(&file, pem).unwrap();
    let authorities = Authorities::read(&file).unwrap();
    TrackerClient::new(TrackerOptions { authorities, ..TrackerOptions::default() })
}

#[tokio::test]
async fn a_tracker_with_a_certificate_of_a_known_authority_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (issuer, pem) = authority();
    let url = tracker(&issuer, "127.0.0.1", b"d8:intervali900ee").await;
    let client = trusting(folder.path(), &pem);
    let reply = client.announce(&url, &request()).await.unwrap();
    assert_eq!(reply.interval.map(|interval| interval.as_secs()), Some(900));
    assert_eq!(client.counts().get(Count::Untrusted), 0);
}

/// The end of TCP is the end of an answer that names no other, and of no other answer.
#[tokio::test]
async fn a_tracker_that_hangs_up_without_a_farewell_of_tls_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let (issuer, pem) = authority();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    for (head, body, understood) in [
        ("", "d8:intervali900ee", true),
        ("", "d8:intervali9", false),
        ("Content-Length: 18\r\n", "d8:intervali900ee", false),
        ("Transfer-Encoding: chunked\r\n", "11\r\nd8:intervali900ee\r\n", false),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}").into_bytes();
        let url = server_showing(&certificate, &key, answer, true).await;
        let reply = trusting(folder.path(), &pem).announce(&url, &request()).await;
        assert_eq!(reply.is_ok(), understood, "{head}{body}: {reply:?}");
    }
}

#[tokio::test]
async fn others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (issuer, pem) = authority();
    let (stranger, _) = authority();
    for (issuer, name, year, client, why) in [
        (
            &issuer,
            "127.0.0.1",
            4000,
            TrackerClient::new(TrackerOptions::default()),
            "not of an authority that is trusted here",
        ),
        (
            &stranger,
            "127.0.0.1",
            4000,
            trusting(folder.path(), &pem),
            "not signed by the authority that it names",
        ),
        (&issuer, "t.example", 4000, trusting(folder.path(), &pem), "not valid for name"),
        (&issuer, "127.0.0.1", 2020, trusting(folder.path(), &pem), "expired"),
    ] {
        let url = tracker_until(issuer, name, year, b"d8:intervali900ee").await;
        let error = client.announce(&url, &request()).await.unwrap_err();
        assert!(matches!(error, TrackerError::Tls { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains("127.0.0.1") && error.to_string().contains(why), "{error}");
        assert_eq!(client.counts().get(Count::Untrusted), 1);
    }
}

/// Who has made a certificate with a line or two shows it as his server's, and has it trusted.
#[tokio::test]
async fn an_authority_that_shows_its_own_certificate_is_refused_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let url = tracker_showing(&certificate, &key, b"de").await;
    let client = trusting(folder.path(), &certificate.pem());
    let error = client.announce(&url, &request()).await.unwrap_err();
    assert!(matches!(error, TrackerError::Tls { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "cannot speak to the tracker 127.0.0.1 in confidence: it shows the certificate of an authority, not one of \
         a server that an authority has signed"
    );
    assert_eq!(client.counts().get(Count::Untrusted), 1);
}

#[tokio::test]
async fn who_speaks_no_tls_or_an_old_one_is_refused_in_plain_words() {
    let alert = |what: u8| vec![21, 3, 1, 0, 2, 2, what];
    // The hello of a server of TLS 1.1: its random bytes, no session, a cipher, no compression.
    let hello = [vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2], vec![7; 32], vec![0, 0, 47, 0]].concat();
    for (answer, why) in [
        (
            response("200 OK", b"d8:intervali900ee"),
            "what it answers is not TLS; perhaps it speaks plain HTTP",
        ),
        (alert(70), "it speaks only versions of TLS that are too old"),
        (hello, "it speaks only versions of TLS that are too old"),
        (alert(40), "it knows only ways to encrypt that are too old"),
    ] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("https://{}/announce", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            stream.writable().await.unwrap();
            stream.try_write(&answer).unwrap();
            stream.readable().await.unwrap();
        });
        let client = TrackerClient::new(TrackerOptions::default());
        let error = client.announce(&url, &request()).await.unwrap_err();
        assert!(matches!(error, TrackerError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn authorities_that_are_built_in_are_trusted_beside_those_of_the_system() {
    let (all, built_in) = (roots(Authorities::default()).roots, webpki_roots::TLS_SERVER_ROOTS);
    assert!(built_in.iter().all(|root| all.contains(root)));
    // The system may have the very same.
    let mut system = RootCertStore::empty();
    system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    assert_eq!(all.len(), built_in.len() + system.len());
}

#[test]
fn files_without_an_authority_are_of_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authority.pem");
    assert!(matches!(Authorities::read(&file), Err(AuthorityError::Read { .. })));
    fs::write(&file, "nothing").unwrap();
    assert!(matches!(Authorities::read(&file), Err(AuthorityError::Empty(_))));
    let endless = Authorities::read(std::path::Path::new("/dev/zero")).unwrap_err().to_string();
    assert!(endless.contains("longer than"), "{endless}");
    fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(Authorities::read(&file), Err(AuthorityError::Read { .. })));
}
