//! A new certificate for the same name and key.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pem::{EncodeConfig, LineEnding, Pem, encode_config};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{CERT_FILE, Identity, Parts, role_of};

/// Where a certificate is written before it takes the old one's place.
const NEW_CERT_FILE: &str = "cert.pem.new";

impl Identity {
    /// How long it is from `now`, seconds since the Unix epoch, until less than a third of the certificate's life is
    /// left. `None` for a certificate without end.
    pub(crate) fn until_renewal(&self, now: i64) -> Option<Duration> {
        let certificate = parse(&self.0.chain[0]).ok()?;
        let (begin, end) =
            (certificate.validity.not_before.timestamp(), certificate.validity.not_after.timestamp());
        let due = end.saturating_sub(end.saturating_sub(begin) / 3);
        Some(Duration::from_secs(u64::try_from(due.saturating_sub(now)).unwrap_or(0)))
    }

    /// This identity with another certificate, X.509 in DER. Anything but the same name and key for longer is refused.
    pub(crate) fn renewed(&self, certificate: Vec<u8>) -> Result<Self, String> {
        let certificate = CertificateDer::from(certificate);
        if role_of(&certificate)? != self.0.role {
            return Err("it is of another name".into());
        }
        let (new, old) = (parse(&certificate)?, parse(&self.0.chain[0])?);
        if new.public_key().raw != old.public_key().raw {
            return Err("it is of another key".into());
        }
        if new.validity.not_after.timestamp() <= old.validity.not_after.timestamp() {
            return Err("it does not last longer than the present one".into());
        }
        let chain = [certificate].into_iter().chain(self.0.chain[1..].iter().cloned()).collect();
        let Parts { role, ca, key, dir, .. } = &*self.0;
        let (role, ca, key, dir) = (role.clone(), ca.clone(), key.clone_key(), dir.clone());
        Ok(Self(Arc::new(Parts { role, ca, chain, key, dir })))
    }

    /// The certificate, and those that lead from it to the CA, as PEM.
    pub(crate) fn certificate_pem(&self) -> String {
        self.0.chain.iter().map(|certificate| pem(certificate)).collect()
    }

    /// Puts the certificate in the place of the one that the identity was loaded from, if it was: either the old or the
    /// new one is there, whatever happens. Blocks on the disk.
    pub(crate) fn store(&self) -> io::Result<()> {
        let Some(dir) = &self.0.dir else { return Ok(()) };
        let new = dir.join(NEW_CERT_FILE);
        let mut file = File::create(&new)?;
        file.write_all(self.certificate_pem().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, dir.join(CERT_FILE))?;
        File::open(dir)?.sync_all()
    }

    /// Where it was loaded from, if from files.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.0.dir.as_deref()
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("it is not an X.509 certificate: {error}"))?;
    Ok(certificate)
}

/// One certificate as PEM.
fn pem(der: &[u8]) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    encode_config(&Pem::new("CERTIFICATE", der), lines)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType, date_time_ymd};

    use super::*;

    struct Authority(Issuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let params = CertificateParams::new(Vec::<String>::new()).unwrap();
            Self(Issuer::new(params, KeyPair::generate().unwrap()))
        }

        fn certificate(&self, name: &str, key: &KeyPair, years: [i32; 2]) -> rcgen::Certificate {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
            params.not_before = date_time_ymd(years[0], 1, 1);
            params.not_after = date_time_ymd(years[1], 1, 1);
            params.signed_by(key, &self.0).unwrap()
        }

        fn identity(&self, dir: &Path, key: &KeyPair) -> Identity {
            let certificate = self.certificate("icecore:device:a", key, [2020, 2050]);
            fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
            fs::write(dir.join(CERT_FILE), certificate.pem()).unwrap();
            fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
            Identity::load(dir).unwrap()
        }
    }

    #[test]
    fn the_last_third_of_a_life_is_for_renewal() {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let identity = authority.identity(dir.path(), &KeyPair::generate().unwrap());
        let year = |year| date_time_ymd(year, 1, 1).unix_timestamp();
        let until = identity.until_renewal(year(2030)).unwrap().as_secs() / 86_400;
        assert!((3650..=3655).contains(&until), "{until} days");
        assert_eq!(identity.until_renewal(year(2041)), Some(Duration::ZERO));
        assert_eq!(identity.until_renewal(year(2099)), Some(Duration::ZERO));
    }

    #[test]
    fn a_new_certificate_is_for_the_same_name_and_key_and_lasts_longer() {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let identity = authority.identity(dir.path(), &key);
        let renewed = |name, key, years| {
            identity.renewed(authority.certificate(name, key, years).der().to_vec()).map(drop)
        };
        assert_eq!(renewed("icecore:device:a", &key, [2040, 2060]), Ok(()));
        assert!(renewed("icecore:device:b", &key, [2040, 2060]).unwrap_err().contains("name"));
        assert!(renewed("icecore:gateway:a", &key, [2040, 2060]).unwrap_err().contains("name"));
        assert!(renewed("icecore:device:a", &other, [2040, 2060]).unwrap_err().contains("key"));
        assert!(renewed("icecore:device:a", &key, [2040, 2045]).unwrap_err().contains("longer"));
        assert!(identity.renewed(vec![1, 2, 3]).is_err());
    }

    #[test]
    fn a_stored_certificate_is_loaded_again_with_the_old_key() {
        let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let key = KeyPair::generate().unwrap();
        let identity = authority.identity(dir.path(), &key);
        let new = authority.certificate("icecore:device:a", &key, [2040, 2060]);
        identity.renewed(new.der().to_vec()).unwrap().store().unwrap();
        let loaded = Identity::load(dir.path()).unwrap();
        assert_eq!(loaded.0.chain[0], *new.der());
        assert_eq!(loaded.0.key, identity.0.key);
        assert!(!dir.path().join(NEW_CERT_FILE).exists());
    }
}
