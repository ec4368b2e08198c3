//! Who a client certificate names, and whether that identity may connect now.

use icecore_wire::{Code, DeviceName, Digest};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{Enrolment, Registry, Role};

/// Who a client is, as its certificate says. The TLS handshake has verified the certificate against our CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) role: Role,
    pub(crate) name: DeviceName,
    pub(crate) fingerprint: String,
    /// When the certificate stops being valid, in seconds since the Unix epoch.
    pub(crate) expires: i64,
}

/// Why somebody may not connect, or may not write for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// The fingerprint of a certificate as the registry records it: 32 hexadecimal digits.
#[must_use]
pub fn fingerprint(certificate_der: &[u8]) -> String {
    Digest::of(certificate_der).to_string()
}

impl Identity {
    /// Reads the one URI among the subject's alternative names that is ours.
    pub(crate) fn from_certificate(der: &CertificateDer<'_>) -> Result<Self, Denied> {
        let unusable = |reason: String| Denied {
            code: Code::NotEnrolled,
            message: format!("the certificate is unusable: {reason}; make one with `icecore device enroll`"),
        };
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| unusable(e.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|e| unusable(e.to_string()))?
            .map_or(&[][..], |extension| &extension.value.general_names);
        let mut ours = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => parse_uri(uri),
            _ => None,
        });
        let (Some((role, encoded)), None) = (ours.next(), ours.next()) else {
            return Err(unusable("it does not name exactly one device or gateway".to_owned()));
        };
        let name = DeviceName::from_percent_encoded(encoded).map_err(|e| unusable(e.to_string()))?;
        let expires = certificate.validity().not_after.timestamp();
        Ok(Self { role, name, fingerprint: fingerprint(der), expires })
    }

    /// Checks, at `now` (nanoseconds since the Unix epoch), what TLS does not: that the identity is enrolled with
    /// this very certificate, in this role, and was not revoked. Expiry is checked again, because TLS does not look
    /// at it when a session is resumed.
    pub(crate) fn enrolment(&self, registry: &Registry, now: i64) -> Result<Enrolment, Denied> {
        let Self { role, name, .. } = self;
        let kind = role.as_str();
        let denied = |code, message| Err(Denied { code, message });
        if self.has_expired(now) {
            return denied(
                Code::Expired,
                format!("the certificate of {kind} `{name}` has expired; enroll it again"),
            );
        }
        if let Err(e) = registry.refresh() {
            // Who was enrolled before the bad line still is; the operator reads the log.
            tracing::error!(error = %e, "cannot read the newest part of the registry");
        }
        let Some(enrolment) = registry.lookup(name.as_str()).filter(|enrolment| enrolment.role == *role)
        else {
            let message =
                format!("{kind} `{name}` is not enrolled here; run `icecore device enroll` on the server");
            return denied(Code::NotEnrolled, message);
        };
        if enrolment.revoked_time.is_some() {
            return denied(Code::Revoked, format!("{kind} `{name}` was revoked"));
        }
        if !enrolment.accepts(&self.fingerprint) {
            let message =
                format!("{kind} `{name}` was enrolled again: use the certificate that was issued last");
            return denied(Code::NotEnrolled, message);
        }
        Ok(enrolment)
    }

    /// Whether the identity may, at `now`, write events of `device`.
    pub(crate) fn may_write(&self, device: &DeviceName, registry: &Registry, now: i64) -> Result<(), Denied> {
        self.granted(&self.enrolment(registry, now)?, device)
    }

    /// Whether its enrolment lets it write events of `device`.
    pub(crate) fn granted(&self, enrolment: &Enrolment, device: &DeviceName) -> Result<(), Denied> {
        if enrolment.may_write_for(device.as_str()) {
            return Ok(());
        }
        let (role, name) = (self.role.as_str(), &self.name);
        let may = match self.role {
            Role::Device => "writes for itself only".to_owned(),
            Role::Gateway => format!("may write for {}", enrolment.grants.join(", ")),
        };
        let message = format!("{role} `{name}` {may}, not for `{device}`");
        Err(Denied { code: Code::NotGranted, message })
    }

    /// Whether the certificate has expired at `now` (nanoseconds since the Unix epoch).
    pub(crate) fn has_expired(&self, now: i64) -> bool {
        self.expires < now.div_euclid(1_000_000_000)
    }
}

/// `None` for URIs that are none of ours.
fn parse_uri(uri: &str) -> Option<(Role, &str)> {
    [Role::Device, Role::Gateway].into_iter().find_map(|role| {
        let rest = uri.strip_prefix("icecore:")?.strip_prefix(role.as_str())?;
        Some((role, rest.strip_prefix(':')?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_uris_name_a_role() {
        assert_eq!(parse_uri("icecore:device:pump%2F1"), Some((Role::Device, "pump%2F1")));
        assert_eq!(parse_uri("icecore:gateway:oslo"), Some((Role::Gateway, "oslo")));
        for other in ["icecore:devices:x", "icecore:device", "spiffe://x/device:y", ""] {
            assert_eq!(parse_uri(other), None, "{other}");
        }
    }
}
