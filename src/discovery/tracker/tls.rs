//! Confidence in HTTPS trackers: whom to trust, and never anybody else.

use super::error::TrackerError;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, PeerIncompatible, RootCertStore,
};

/// Longest file of authorities, in bytes: those that systems come with have a few hundred KiB.
const MOST_AUTHORITIES: u64 = 16 << 20;

/// Certificates of authorities to trust beside those of the system and the built-in ones.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// Why a file of authorities is of no use.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be read, or is not PEM.
    #[error("cannot read authorities from {path}: {cause}")]
    Read {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// There is none in it.
    #[error("there is no certificate in {0}")]
    Empty(String),
}

impl Authorities {
    /// Reads a file of certificates in PEM.
    ///
    /// # Errors
    /// When it cannot be read, or holds no certificate of an authority.
    pub fn read(path: &Path) -> Result<Self, AuthorityError> {
        let unread = |cause: String| AuthorityError::Read { path: path.display().to_string(), cause };
        let mut pem = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MOST_AUTHORITIES + 1).read_to_end(&mut pem));
        read.map_err(|cause| unread(cause.to_string()))?;
        if pem.len() as u64 > MOST_AUTHORITIES {
            return Err(unread("it is longer than any list of authorities".into()));
        }
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let found = found.map_err(|cause| unread(cause.to_string()))?;
        if found.is_empty() {
            return Err(AuthorityError::Empty(path.display().to_string()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &found {
            roots.add(certificate.clone()).map_err(|cause| unread(cause.to_string()))?;
        }
        Ok(Self(found))
    }
}

/// What makes a stream confidential. Reads the system's authorities when the first HTTPS tracker is asked.
#[derive(Debug)]
pub(super) struct Tls {
    authorities: Authorities,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    pub(super) fn new(authorities: Authorities) -> Self {
        Self { authorities, config: OnceCell::new() }
    }

    /// Shakes hands with the host on the other side, whose certificate must be for this name or address.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TrackerError> {
        let failed = |source| TrackerError::Tls { host: host.to_owned(), source };
        let config = self.config.get_or_init(|| load(self.authorities.clone())).await;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|cause| failed(io::Error::new(io::ErrorKind::InvalidInput, cause)))?;
        TlsConnector::from(Arc::clone(config))
            .connect(name, stream)
            .await
            .map_err(|cause| failed(plain(cause)))
    }
}

/// The same in plain words, where those of the library are names of its own.
fn plain(cause: io::Error) -> io::Error {
    let wrong = cause.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(wrong) = wrong else { return cause };
    let text = match wrong {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what it answers is not TLS; perhaps it speaks plain HTTP at this port"
        }
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            "it speaks only versions of TLS that are too old to be safe, none from 1.2 on"
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "it refused: most likely it knows only ways to encrypt that are too old to be safe"
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is not of an authority that is trusted here (--tracker-ca names others to trust)"
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            "its certificate was not signed by the authority that it names"
        }
        // Their list of errors is not shown to us: only how it calls this one.
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            "it shows the certificate of an authority, not one of a server that an authority has signed"
        }
        _ => return cause,
    };
    io::Error::new(cause.kind(), text)
}

async fn load(authorities: Authorities) -> Arc<ClientConfig> {
    // Some hundred files: not on the thread that all else waits for.
    let loaded = tokio::task::spawn_blocking(move || Arc::new(config(authorities))).await;
    loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// All who are trusted: those that are built in, the system's, and the user's.
pub(super) fn roots(authorities: Authorities) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // Where the system has none, or some that cannot be read, the others do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(authorities.0);
    roots
}

fn config(authorities: Authorities) -> ClientConfig {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots(authorities))
        .with_no_client_auth()
}
