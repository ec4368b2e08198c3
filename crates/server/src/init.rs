//! `icecore init`: a configuration, a certificate authority and a server certificate.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};

use crate::certificates::{Authority, write_public, write_secret};
use crate::cli::InitArgs;
use crate::config::{COMMENTED, RETENTION, Tier, Tls};

/// Creates everything a server needs in `args.dir`, and nothing if any of it exists there.
pub(crate) fn run(args: &InitArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let at = |path: &Path| args.dir.join(path);
    let config = at(Path::new("icecore.toml"));
    let retention = at(&Tier::default().policies);
    let Tls { ca, ca_key, certificate, key } = Tls::default();
    for path in [&config, &retention, &at(&ca), &at(&ca_key), &at(&certificate), &at(&key)] {
        if path.exists() {
            bail!("{} exists already; nothing was changed", path.display());
        }
    }

    let (authority, stored) = Authority::create().context("cannot create the certificate authority")?;
    let server = authority.issue_server(&args.hosts).context("cannot issue the server's certificate")?;
    let tls_dir = at(ca.parent().unwrap_or(Path::new("")));
    fs::create_dir_all(&tls_dir).with_context(|| format!("cannot create {}", tls_dir.display()))?;
    write_public(&at(&ca), &stored.certificate)?;
    write_secret(&at(&ca_key), &stored.key)?;
    write_public(&at(&certificate), &server.certificate)?;
    write_secret(&at(&key), &server.key)?;
    write_public(&retention, RETENTION)?;
    write_public(&config, COMMENTED)?;

    writeln!(
        out,
        "created {} with a certificate authority and a server certificate in tls/",
        config.display()
    )?;
    writeln!(out, "next:  icecore --config {} serve", config.display())?;
    writeln!(out, "       icecore --config {} device enroll NAME --out DIR", config.display())?;
    Ok(())
}
