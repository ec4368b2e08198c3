//! `icecore device label`: a line in the registry, which holds for what is received from now on.

use std::io::Write;

use anyhow::ensure;
use icecore_ingest::Labels;

use super::registry;
use crate::cli::LabelArgs;
use crate::config::Config;
use crate::{identities, instant};

pub(super) fn run(args: &LabelArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let LabelArgs { name, labels: set, remove } = args;
    let registry = registry(config)?;
    let before = registry.labels().now(name.as_str()).cloned().unwrap_or_default();
    let mut labels = before.clone();
    for key in remove {
        ensure!(labels.remove(key).is_some(), "{name} has no label {key}; it has: {}", display(&before));
    }
    labels.extend(set.iter().cloned());
    if labels == before {
        writeln!(out, "{name} has these labels already: {}", display(&labels))?;
        return Ok(());
    }
    registry.label(name.as_str(), labels.clone(), instant::now())?;
    identities::record(config);
    writeln!(out, "{name}: {}; what was received before keeps: {}", display(&labels), display(&before))?;
    Ok(())
}

/// Labels as they are written on the command line.
pub(super) fn display(labels: &Labels) -> String {
    match labels.is_empty() {
        true => "no labels".to_owned(),
        false => labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "),
    }
}
