//! TLS: which clients get as far as a session, and how they resume one.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::crypto::rustls::QuicServerConfig;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::tickets::Tickets;
use super::{IngestError, IngestOptions};
use crate::fingerprint;

/// The application protocol of version 1.
const ALPN: &[u8] = b"icecore/1";

/// Certificates that may be remembered as verified: more handshakes than ever are on their way at once. What is
/// forgotten beyond that is a handshake counted as resumed that was not.
const MAX_VERIFIED: usize = 65_536;

/// TLS as clients meet it: they show a certificate of our CA, or resume a session in which they did.
pub(super) fn config(
    options: &IngestOptions,
    verified: &Arc<Verified>,
    tickets: Arc<Tickets>,
) -> Result<Arc<QuicServerConfig>, IngestError> {
    let tls = |e: &dyn std::fmt::Display| IngestError::Tls(e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&options.ca)? {
        roots.add(certificate).map_err(|e| tls(&e))?;
    }
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| tls(&e))?;
    let verifier = Arc::new(Verifier { inner, verified: Arc::clone(verified) });
    let key = PrivateKeyDer::from_pem_file(&options.key).map_err(|e| pem(&options.key, &e))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| tls(&e))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&options.certificate)?, key)
        .map_err(|e| tls(&e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Not a ticketer, which would turn 0-RTT off: a ticket that the server keeps can be used once.
    config.session_storage = tickets;
    config.send_tls13_tickets = 1;
    // QUIC allows this or none; how much may really be sent ahead is the windows' business.
    config.max_early_data_size = u32::MAX;
    Ok(Arc::new(QuicServerConfig::try_from(config).map_err(|e| tls(&e))?))
}

/// The clients whose certificates were verified in handshakes that have just ended, by [`fingerprint`]: full handshakes.
/// rustls verifies nothing when a session is resumed, and quinn does not say which of the two it was.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashMap<String, usize>>);

impl Verified {
    fn add(&self, certificate: &[u8]) {
        let mut counts = self.counts();
        if counts.len() >= MAX_VERIFIED {
            counts.clear();
        }
        *counts.entry(fingerprint(certificate)).or_default() += 1;
    }

    /// Whether a handshake with this certificate was a full one; asked once for each.
    pub(crate) fn take(&self, fingerprint: &str) -> bool {
        let mut counts = self.counts();
        let Some(count) = counts.get_mut(fingerprint) else { return false };
        *count -= 1;
        if *count == 0 {
            counts.remove(fingerprint);
        }
        true
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // A count is changed in one step, so a panic elsewhere cannot have spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The verifier of rustls, which also takes note of whom it has verified.
#[derive(Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    verified: Arc<Verified>,
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    /// The last step in which a client's certificate plays a part.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = self.inner.verify_tls13_signature(message, certificate, signature)?;
        self.verified.add(certificate);
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IngestError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match read {
        Ok(list) if list.is_empty() => Err(pem(path, &"it holds no certificate")),
        Ok(list) => Ok(list),
        Err(e) => Err(pem(path, &e)),
    }
}

fn pem(path: &Path, reason: &dyn std::fmt::Display) -> IngestError {
    IngestError::Pem { path: path.to_owned(), reason: reason.to_string() }
}
