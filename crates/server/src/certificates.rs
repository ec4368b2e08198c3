//! Certificates: the authority that `init` creates and what it issues for the server, devices and gateways.
//!
//! One URI name in a certificate says who shows it: `icecore:device:<name>` or `icecore:gateway:<name>`, the name
//! percent-encoded. What a gateway may write for is not in its certificate but in the server's registry.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use icecore_ingest::Renewal;
use icecore_wire::DeviceName;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKey, PublicKeyData, SanType, SignatureAlgorithm,
    SubjectPublicKeyInfo,
};

/// As long as certificates are valid unless told otherwise: they outlive the devices they are installed in, and who must not
/// connect any more is revoked in the registry.
pub(crate) const VALIDITY: Duration = Duration::from_hours(20 * 365 * 24);

/// Valid from a day ago, for devices whose clock is behind.
const BACKDATED: Duration = Duration::from_hours(24);

/// The names under which a server on this machine is always reached.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Kinds of keys that both ends can sign a handshake with, and the length of such a public key. The length counts because
/// a request names the curve by its signature, and P-384 may sign with the hash of P-256.
static KEY_ALGORITHMS: [(&SignatureAlgorithm, usize); 3] =
    [(&PKCS_ECDSA_P256_SHA256, 65), (&PKCS_ECDSA_P384_SHA384, 97), (&PKCS_ED25519, 32)];

/// What an identity is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Writes its own events.
    Device,
    /// Writes for the devices it was granted.
    Gateway,
}

/// A certificate and the private key it was made for, as PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// The certificate in DER, which is what fingerprints are taken of.
    pub(crate) der: Vec<u8>,
}

/// A certificate signing request whose maker has shown to hold the private key.
pub(crate) struct Request {
    key: PublicKey,
}

impl Request {
    /// Reads a request from a PEM file and checks its signature.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let pem = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&pem)
            .with_context(|| format!("{}: no usable certificate signing request", path.display()))
    }

    fn parse(pem: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            pem.contains("BEGIN CERTIFICATE REQUEST"),
            "expected PEM with BEGIN CERTIFICATE REQUEST, as `openssl req -new` and the SDKs write it"
        );
        let key = CertificateSigningRequestParams::from_pem(pem)?.public_key;
        anyhow::ensure!(
            KEY_ALGORITHMS.contains(&(key.algorithm(), key.der_bytes().len())),
            "the key must be ECDSA P-256 with SHA-256, ECDSA P-384 with SHA-384, or Ed25519"
        );
        Ok(Self { key })
    }
}

/// A certificate authority that can issue.
pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Creates a new authority; returns it with its certificate and key to be stored.
    pub(crate) fn create() -> anyhow::Result<(Self, Issued)> {
        let key = KeyPair::generate()?;
        // A name of its own, so that a certificate of another authority is told as that.
        let fingerprint = blake3::hash(key.public_key_raw()).to_hex();
        let mut params = leaf(&format!("Icecore certificate authority {}", &fingerprint[..8]), VALIDITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issued = issued(&params.self_signed(&key)?, &key);
        let authority = Self { certificate: issued.certificate.clone(), issuer: Issuer::new(params, key) };
        Ok((authority, issued))
    }

    /// Loads an authority from its PEM files.
    pub(crate) fn load(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read =
            |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        let pem = read(certificate)?;
        let key_pair = KeyPair::from_pem(&read(key)?)
            .with_context(|| format!("{} holds no private key in PEM", key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key_pair)
            .with_context(|| format!("{} holds no authority certificate in PEM", certificate.display()))?;
        Ok(Self { certificate: pem, issuer })
    }

    /// The authority's own certificate, which devices check the server against.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a server certificate for `hosts` (names or addresses) and the loopback names.
    pub(crate) fn issue_server(&self, hosts: &[String]) -> anyhow::Result<Issued> {
        let mut names: Vec<&str> = hosts.iter().map(String::as_str).chain(LOOPBACK_NAMES).collect();
        names.sort_unstable();
        names.dedup();
        let mut params = leaf("Icecore server", VALIDITY);
        for name in names {
            params.subject_alt_names.push(server_name(name)?);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// Issues a client certificate for a device or gateway.
    pub(crate) fn issue_client(
        &self,
        role: Role,
        name: &DeviceName,
        valid_for: Duration,
    ) -> anyhow::Result<Issued> {
        self.issue(&client(role, name, valid_for)?)
    }

    /// Issues a client certificate for a key that stays where it was made. Of the request only the key counts: what
    /// else it asks for is not what it gets.
    pub(crate) fn sign_client(
        &self,
        role: Role,
        name: &DeviceName,
        valid_for: Duration,
        request: &Request,
    ) -> anyhow::Result<Certificate> {
        Ok(client(role, name, valid_for)?.signed_by(&request.key, &self.issuer)?)
    }

    /// Issues the successor of a client certificate, for the same key and as long as that was valid.
    fn renew(&self, renewal: &Renewal) -> anyhow::Result<Vec<u8>> {
        let role = match renewal.role {
            icecore_ingest::Role::Device => Role::Device,
            icecore_ingest::Role::Gateway => Role::Gateway,
        };
        let key = SubjectPublicKeyInfo::from_der(&renewal.public_key)?;
        let valid_for = renewal.validity.checked_sub(BACKDATED).unwrap_or(renewal.validity);
        let params = client(role, &renewal.name, valid_for)?;
        Ok(params.signed_by(&key, &self.issuer)?.der().to_vec())
    }

    fn issue(&self, params: &CertificateParams) -> anyhow::Result<Issued> {
        let key = KeyPair::generate()?;
        Ok(issued(&params.signed_by(&key, &self.issuer)?, &key))
    }
}

impl icecore_ingest::Issuer for Authority {
    fn issue(&self, renewal: &Renewal) -> Result<Vec<u8>, String> {
        self.renew(renewal).map_err(|e| format!("{e:#}"))
    }
}

/// The key of an authority is nothing to print.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Writes a new file that only its owner can read; refuses to replace one.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    write_new(path, text, 0o600)
}

/// Writes a new file that everyone may read; refuses to replace one.
pub(crate) fn write_public(path: &Path, text: &str) -> anyhow::Result<()> {
    write_new(path, text, 0o644)
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| match error
            .kind()
        {
            ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{} exists already and is not replaced", path.display())
            }
            _ => anyhow::Error::new(error).context(format!("cannot create {}", path.display())),
        })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn client(role: Role, name: &DeviceName, valid_for: Duration) -> anyhow::Result<CertificateParams> {
    let role = match role {
        Role::Device => "device",
        Role::Gateway => "gateway",
    };
    let uri = format!("icecore:{role}:{}", name.percent_encoded());
    let mut params = leaf(&format!("Icecore {role}"), valid_for);
    params.subject_alt_names.push(SanType::URI(uri.try_into()?));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn leaf(common_name: &str, valid_for: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + valid_for).into();
    params
}

fn server_name(name: &str) -> anyhow::Result<SanType> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(&b));
    anyhow::ensure!(valid, "--host {name}: expected a host name or an IP address, without a port");
    Ok(SanType::DnsName(name.try_into()?))
}

fn issued(certificate: &Certificate, key: &KeyPair) -> Issued {
    Issued { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_loaded_authority_issues_what_the_created_one_did() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("ca.pem"), directory.path().join("ca-key.pem"));
        let (_, stored) = Authority::create().unwrap();
        write_public(&certificate, &stored.certificate).unwrap();
        write_secret(&key, &stored.key).unwrap();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

        let authority = Authority::load(&certificate, &key).unwrap();
        let issued = authority.issue_client(Role::Gateway, &"site/a b".parse().unwrap(), VALIDITY).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        assert!(format!("{:?}", names.value).contains("icecore:gateway:site%2Fa%20b"), "{:?}", names.value);
        let (_, ca) = x509_parser::pem::parse_x509_pem(stored.certificate.as_bytes()).unwrap();
        assert_eq!(parsed.issuer(), ca.parse_x509().unwrap().subject());
    }

    #[test]
    fn of_a_request_only_the_key_counts() {
        let (authority, _) = Authority::create().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut asked = CertificateParams::new(["victim.example".to_owned()]).unwrap();
        asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = Request::parse(&asked.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
        let issued =
            authority.sign_client(Role::Device, &"pump/1".parse().unwrap(), VALIDITY, &request).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(issued.der()).unwrap();
        assert_eq!(parsed.public_key().raw, key.subject_public_key_info());
        let names = format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value);
        assert!(names.contains("icecore:device:pump%2F1") && !names.contains("victim"), "{names}");
        assert!(!parsed.is_ca());
    }

    #[test]
    fn a_request_whose_signature_does_not_match_is_refused() {
        let params = CertificateParams::default();
        let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        let mut der = request.der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        let forged = CertificateSigningRequestParams::from_der(&der.as_slice().into());
        assert!(forged.is_err());
        let error = Request::parse(&params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).err();
        assert!(error.unwrap().to_string().contains("BEGIN CERTIFICATE REQUEST"));
    }

    #[test]
    fn a_renewed_certificate_says_what_the_old_one_did() {
        let (authority, _) = Authority::create().unwrap();
        let valid_for = Duration::from_hours(90 * 24);
        let old = authority.issue_client(Role::Device, &"pump/1".parse().unwrap(), valid_for).unwrap().der;
        let parsed = |der: &[u8]| {
            let (_, parsed) = x509_parser::parse_x509_certificate(der).unwrap();
            let names = format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value);
            let validity = parsed.validity();
            let seconds = (validity.not_after.timestamp() - validity.not_before.timestamp()).unsigned_abs();
            (names, parsed.public_key().raw.to_vec(), Duration::from_secs(seconds))
        };
        let (_, public_key, validity) = parsed(&old);
        assert_eq!(validity, valid_for + BACKDATED);
        let name = "pump/1".parse().unwrap();
        let renewal = Renewal { role: icecore_ingest::Role::Device, name, public_key, validity };
        assert_eq!(parsed(&authority.renew(&renewal).unwrap()), parsed(&old));
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write_secret(&path, "first").unwrap();
        let error = write_secret(&path, "second").unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let (authority, _) = Authority::create().unwrap();
        let hosts = ["telemetry.example.org", "10.0.0.7", "localhost"].map(str::to_owned);
        assert!(authority.issue_server(&hosts).is_ok());
        assert!(authority.issue_server(&["example.org:4433".to_owned()]).is_err());
    }
}
