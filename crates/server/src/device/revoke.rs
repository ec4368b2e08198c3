//! `icecore device revoke`: a line in the registry, which a running server acts on.

use std::io::Write;

use icecore_wire::DeviceName;

use crate::config::Config;
use crate::{identities, instant};

pub(super) fn run(name: &DeviceName, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    super::registry(config)?.revoke(name.as_str(), instant::now())?;
    identities::record(config);
    writeln!(out, "revoked {name}; what it has sent stays, and `icecore device enroll` lets it in again")?;
    Ok(())
}
