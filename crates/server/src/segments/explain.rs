//! `icecore segments explain`: why a segment is where it is.

use std::io::Write;

use icecore_log::SegmentId;
use icecore_tier::catalog::Catalog;

use crate::config::Config;

pub(super) fn run(id: SegmentId, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let view = Catalog::read(&config.data.dir)?.view()?;
    Ok(write!(out, "{}", view.explain(id)?)?)
}
