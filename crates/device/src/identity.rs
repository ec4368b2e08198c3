//! Who this process is to the server: a certificate, its key, and the CA it trusts.

mod renewal;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_wire::DeviceName;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const CA_FILE: &str = "ca.pem";
const CERT_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";

/// The URI names that `icecore device enroll` writes into certificates.
const DEVICE_URI: &str = "icecore:device:";
const GATEWAY_URI: &str = "icecore:gateway:";

/// What a certificate says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// One device, which writes for itself.
    Device(DeviceName),
    /// A gateway of this name, which writes for the devices the server's registry grants it.
    Gateway(DeviceName),
}

/// A certificate with its key, and the CA whose servers are trusted: what `icecore device enroll` puts in a directory.
///
/// Cheap to clone. The key never appears in `Debug` output.
#[derive(Clone)]
pub struct Identity(Arc<Parts>);

struct Parts {
    role: Role,
    ca: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Where a new certificate goes.
    dir: Option<PathBuf>,
}

impl Identity {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` from `dir`. When the certificate is renewed, the new `cert.pem` is written
    /// there, in the place of the old one.
    ///
    /// # Errors
    /// A file is missing or is not PEM, or the certificate names neither a device nor a gateway.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let dir = dir.as_ref();
        let read = |name| {
            let path = dir.join(name);
            fs::read(&path).map_err(|source| IdentityError::Read { path, source })
        };
        let (ca, cert, key) = (read(CA_FILE)?, read(CERT_FILE)?, read(KEY_FILE)?);
        Self::parse(&ca, &cert, &key, Some(dir))
    }

    /// The same from PEM text in memory, for devices that keep their secrets elsewhere than in files. They have to keep
    /// a new certificate as well: [`Event::Renewed`](crate::Event::Renewed) brings it.
    ///
    /// # Errors
    /// As for [`Identity::load`].
    pub fn from_pem(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        Self::parse(ca, certificate, key, None)
    }

    fn parse(ca: &[u8], certificate: &[u8], key: &[u8], dir: Option<&Path>) -> Result<Self, IdentityError> {
        let loaded_from = dir.map(Path::to_owned);
        let dir = dir.unwrap_or(Path::new(""));
        let ca = certificates(ca, dir.join(CA_FILE))?;
        let chain = certificates(certificate, dir.join(CERT_FILE))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|source| IdentityError::Pem { path: dir.join(KEY_FILE), reason: source.to_string() })?;
        let role =
            role_of(&chain[0]).map_err(|reason| IdentityError::Name { path: dir.join(CERT_FILE), reason })?;
        Ok(Self(Arc::new(Parts { role, ca, chain, key, dir: loaded_from })))
    }

    /// What the certificate names.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.0.role
    }

    /// The name of the device or gateway.
    #[must_use]
    pub fn name(&self) -> &DeviceName {
        let (Role::Device(name) | Role::Gateway(name)) = &self.0.role;
        name
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.chain.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.0.key.clone_key()
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.0.ca {
            roots.add(certificate.clone())?;
        }
        Ok(roots)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.role).finish()
    }
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file of the identity directory cannot be read.
    #[error("cannot read {}: {source}; an identity is a directory with {CA_FILE}, {CERT_FILE} and {KEY_FILE}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate does not name a device or gateway of Icecore.
    #[error("{}: {reason}; make one with `icecore device enroll`", path.display())]
    Name {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with its name.
        reason: String,
    },
}

fn certificates(pem: &[u8], path: PathBuf) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match parsed {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(IdentityError::Pem { path, reason: "holds no certificate".into() }),
        Err(error) => Err(IdentityError::Pem { path, reason: error.to_string() }),
    }
}

fn role_of(certificate: &CertificateDer<'_>) -> Result<Role, String> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("not an X.509 certificate: {error}"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| format!("the certificate's alternative names are malformed: {error}"))?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let mut roles = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => parse_uri(uri),
        _ => None,
    });
    match (roles.next(), roles.next()) {
        (Some(role), None) => role,
        (Some(_), Some(_)) => Err("the certificate names more than one device or gateway".into()),
        (None, _) => Err(format!("the certificate has no URI name {DEVICE_URI}… or {GATEWAY_URI}…")),
    }
}

/// `None` for URIs that are none of ours.
fn parse_uri(uri: &str) -> Option<Result<Role, String>> {
    let (encoded, role): (&str, fn(DeviceName) -> Role) = if let Some(rest) = uri.strip_prefix(DEVICE_URI) {
        (rest, Role::Device)
    } else {
        (uri.strip_prefix(GATEWAY_URI)?, Role::Gateway)
    };
    Some(DeviceName::from_percent_encoded(encoded).map(role).map_err(|error| format!("{uri}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_uri_names_a_device_or_a_gateway() {
        let device = parse_uri("icecore:device:plant%2Fpump%207").unwrap().unwrap();
        assert_eq!(device, Role::Device("plant/pump 7".parse().unwrap()));
        let gateway = parse_uri("icecore:gateway:oslo").unwrap().unwrap();
        assert_eq!(gateway, Role::Gateway("oslo".parse().unwrap()));
    }

    #[test]
    fn foreign_uris_are_passed_over_and_bad_ones_reported() {
        assert!(parse_uri("spiffe://example/x").is_none());
        assert!(parse_uri("icecore:device:%zz").unwrap().is_err());
        assert!(parse_uri("icecore:device:%C3").unwrap().is_err(), "not UTF-8");
        assert!(parse_uri("icecore:device:").unwrap().is_err(), "empty name");
    }
}
