//! New certificates for identities whose old ones will expire, over the session that asks.
//!
//! Ingest holds no CA: whoever assembles the server gives it an [`Issuer`], or none where the CA's key is kept elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use icecore_wire::{Code, DeviceName, NotRenewed};
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Denied, Identity};
use crate::writer::wall_time;
use crate::{Registry, Role, fingerprint};

/// Renewals that an identity may ask for: one in this time.
const INTERVAL: Duration = Duration::from_secs(60);

/// Identities remembered for [`INTERVAL`]. When more than these ask in a minute, the others are asked to wait.
const MAX_REMEMBERED: usize = 65_536;

/// When a client may ask again after something failed here that a person has to look at.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(600);

/// What a new certificate is to say: what the old one does, from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// What the identity is.
    pub role: Role,
    /// Its name.
    pub name: DeviceName,
    /// Its public key, as a `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
    /// From the beginning to the end of the old certificate's validity.
    pub validity: Duration,
}

/// Whoever can sign client certificates.
pub trait Issuer: fmt::Debug + Send + Sync {
    /// Issues a certificate, X.509 in DER.
    ///
    /// # Errors
    /// What went wrong, for the operator's log.
    fn issue(&self, renewal: &Renewal) -> Result<Vec<u8>, String>;
}

/// Renews certificates, a few a minute and one at a time: each costs a signature and an fsync.
#[derive(Debug)]
pub(crate) struct Renewals {
    issuer: Option<Arc<dyn Issuer>>,
    registry: Arc<Registry>,
    asked: Mutex<HashMap<DeviceName, Instant>>,
    turn: Semaphore,
}

impl Renewals {
    pub(crate) fn new(issuer: Option<Arc<dyn Issuer>>, registry: Arc<Registry>) -> Self {
        Self { issuer, registry, asked: Mutex::default(), turn: Semaphore::new(1) }
    }

    /// Whether an identity may ask at `now`.
    pub(crate) fn admit(&self, name: &DeviceName, now: Instant) -> Result<(), NotRenewed> {
        if self.issuer.is_none() {
            let message = "the key of the certificate authority is not on this server: have the certificate renewed \
                           where it was issued";
            return Err(refused(Code::Internal, message, None));
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |at: &Instant| INTERVAL.saturating_sub(now.saturating_duration_since(*at));
        if let Some(left) = asked.get(name).map(left).filter(|left| !left.is_zero()) {
            return Err(refused(
                Code::RateLimited,
                "a certificate is renewed once a minute at most",
                Some(left),
            ));
        }
        if asked.len() >= MAX_REMEMBERED {
            asked.retain(|_, at| !left(at).is_zero());
        }
        if asked.len() >= MAX_REMEMBERED {
            return Err(refused(Code::Overloaded, "too many certificates are being renewed", Some(INTERVAL)));
        }
        asked.insert(name.clone(), now);
        Ok(())
    }

    /// Issues and records the successor of `certificate`; returns it in DER.
    pub(crate) async fn renew(
        self: Arc<Self>,
        certificate: CertificateDer<'static>,
    ) -> Result<Vec<u8>, NotRenewed> {
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let this = Arc::clone(&self);
        let done = tokio::task::spawn_blocking(move || this.issue(&certificate)).await;
        done.unwrap_or_else(|panic| Err(failed(&panic.to_string())))
    }

    fn issue(&self, certificate: &CertificateDer<'_>) -> Result<Vec<u8>, NotRenewed> {
        let identity = Identity::from_certificate(certificate).map_err(denied)?;
        let now = wall_time();
        identity.enrolment(&self.registry, now).map_err(denied)?;
        let renewal = renewal(&identity, certificate).map_err(|e| failed(&e))?;
        let issuer = self.issuer.as_ref().ok_or_else(|| failed("there is no issuer"))?;
        let new = issuer.issue(&renewal).map_err(|e| failed(&e))?;
        // Recorded first: a certificate that nobody accepts must not reach a device.
        self.registry
            .renew(identity.name.as_str(), &identity.fingerprint, &fingerprint(&new), now)
            .map_err(|e| failed(&e.to_string()))?;
        // It may have been enrolled anew or revoked meanwhile.
        Identity::from_certificate(&CertificateDer::from(new.as_slice()))
            .and_then(|identity| identity.enrolment(&self.registry, now))
            .map_err(denied)?;
        tracing::info!(name = %identity.name, role = identity.role.as_str(), "renewed a certificate");
        Ok(new)
    }
}

fn renewal(identity: &Identity, certificate: &CertificateDer<'_>) -> Result<Renewal, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| e.to_string())?;
    let validity = parsed.validity();
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    Ok(Renewal {
        role: identity.role,
        name: identity.name.clone(),
        public_key: parsed.public_key().raw.to_vec(),
        validity: Duration::from_secs(seconds.max(0).unsigned_abs()),
    })
}

fn refused(code: Code, message: &str, retry_after: Option<Duration>) -> NotRenewed {
    NotRenewed { code, message: message.to_owned(), retry_after }
}

fn denied(denied: Denied) -> NotRenewed {
    NotRenewed { code: denied.code, message: denied.message, retry_after: None }
}

fn failed(reason: &str) -> NotRenewed {
    tracing::error!(reason, "cannot renew a certificate");
    refused(
        Code::Internal,
        "the server could not make the certificate; its log says why",
        Some(RETRY_AFTER_FAILURE),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Issuer for Nobody {
        fn issue(&self, _: &Renewal) -> Result<Vec<u8>, String> {
            Err("nobody".to_owned())
        }
    }

    #[test]
    fn an_identity_may_ask_once_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Arc::new(Registry::open(dir.path().join("registry.jsonl")).unwrap());
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let start = Instant::now();
        let none = Renewals::new(None, Arc::clone(&registry)).admit(&a, start).unwrap_err();
        assert_eq!(none.retry_after, None);
        let renewals = Renewals::new(Some(Arc::new(Nobody)), registry);
        renewals.admit(&a, start).unwrap();
        renewals.admit(&b, start).unwrap();
        let early = renewals.admit(&a, start + Duration::from_secs(20)).unwrap_err();
        assert_eq!((early.code, early.retry_after), (Code::RateLimited, Some(Duration::from_secs(40))));
        renewals.admit(&a, start + INTERVAL).unwrap();
    }
}
