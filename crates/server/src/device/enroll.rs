//! `icecore device enroll`: a certificate and a line in the registry.

use std::fs;
use std::io::Write;

use anyhow::{Context, bail};
use icecore_ingest::{Enrolment, Role, fingerprint};

use crate::certificates::{
    Authority, Request, Role as CertificateRole, VALIDITY, write_public, write_secret,
};
use crate::cli::EnrollArgs;
use crate::config::Config;
use crate::{identities, instant};

/// Issues the identity first and records it second: an identity without enrolment is harmless.
pub(super) fn run(args: &EnrollArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    fs::create_dir_all(&config.data.dir)
        .with_context(|| format!("cannot create {}", config.data.dir.display()))?;
    let registry = super::registry(config)?;
    if let Some(known) = registry.lookup(args.name.as_str()).filter(|known| known.revoked_time.is_none()) {
        let since = instant::display_seconds(known.enrolled_time);
        bail!("{} is enrolled already, as a {} since {since}", args.name, known.role.as_str());
    }

    let authority = Authority::load(&config.tls.ca, &config.tls.ca_key)?;
    let (role, certificate_role) = match args.gateway_for.as_slice() {
        [] => (Role::Device, CertificateRole::Device),
        _ => (Role::Gateway, CertificateRole::Gateway),
    };
    let valid_for = args.valid_for.unwrap_or(VALIDITY);
    let (certificate, der, key) = match &args.csr {
        Some(csr) => {
            let signed =
                authority.sign_client(certificate_role, &args.name, valid_for, &Request::load(csr)?)?;
            (signed.pem(), signed.der().to_vec(), None)
        }
        None => {
            let issued = authority.issue_client(certificate_role, &args.name, valid_for)?;
            (issued.certificate, issued.der, Some(issued.key))
        }
    };
    fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    write_public(&args.out.join("ca.pem"), authority.certificate())?;
    write_public(&args.out.join("cert.pem"), &certificate)?;
    if let Some(key) = &key {
        write_secret(&args.out.join("key.pem"), key)?;
    }

    registry.enrol(Enrolment {
        name: args.name.as_str().to_owned(),
        role,
        labels: args.labels.iter().cloned().collect(),
        grants: args.gateway_for.clone(),
        certificate: fingerprint(&der),
        enrolled_time: instant::now(),
        renewed_from: None,
        revoked_time: None,
    })?;
    identities::record(config);
    let grants = match args.gateway_for.as_slice() {
        [] => String::new(),
        globs => format!(" for {}", globs.join(", ")),
    };
    writeln!(
        out,
        "enrolled {} {}{grants}; its identity is in {}",
        role.as_str(),
        args.name,
        args.out.display()
    )?;
    Ok(())
}
