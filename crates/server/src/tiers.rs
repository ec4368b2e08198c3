//! What the commands about sealed segments look at: the catalog, the policies that apply, and the labels of devices.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use icecore_ingest::{LabelHistory, Labels};
use icecore_tier::catalog::{Catalog, CatalogError, View};
use icecore_tier::policy::{Changes, PolicySet, Remark};
use icecore_tier::segment::{Content, Segment, Share};

use crate::config::{Config, RETENTION};

/// Of a device that never had any.
static NO_LABELS: Labels = BTreeMap::new();

/// The catalog as it is now, with or without a server; `None` before a server made it.
pub(crate) fn catalog(config: &Config) -> anyhow::Result<Option<View>> {
    match Catalog::read(&config.data.dir) {
        Ok(reader) => Ok(Some(reader.view()?)),
        Err(CatalogError::Absent { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Policies, and the version under which they apply; 0 are those that apply before any were applied.
pub(crate) struct InForce {
    pub(crate) version: u64,
    pub(crate) policies: PolicySet,
}

impl InForce {
    pub(crate) fn of(view: &View) -> anyhow::Result<Self> {
        let (version, text) = match view.policies()? {
            Some(applied) => (applied.version, applied.text),
            None => (0, RETENTION.to_owned()),
        };
        let name = format!("policies of version {version}");
        Ok(Self { version, policies: PolicySet::parse(&name, &text)? })
    }
}

/// A policy file: its text, and what it says.
pub(crate) fn read_policies(file: &Path) -> anyhow::Result<(String, PolicySet)> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let policies = PolicySet::parse(&file.display().to_string(), &text)?;
    Ok((text, policies))
}

/// The labels that the device of some events had when they were received.
pub(crate) fn at_receipt<'l>(labels: &'l LabelHistory, content: &Content) -> &'l Labels {
    at(labels, &content.device, content.received.last)
}

/// The labels that a device had at a time, in nanoseconds since the Unix epoch.
pub(crate) fn at<'l>(labels: &'l LabelHistory, device: &str, time: i64) -> &'l Labels {
    labels.at(device, time).unwrap_or(&NO_LABELS)
}

/// The labels that a device has now.
pub(crate) fn now<'l>(labels: &'l LabelHistory, device: &str) -> &'l Labels {
    labels.now(device).unwrap_or(&NO_LABELS)
}

/// Which part of a segment of so many bytes belongs to which of `policies`.
pub(crate) fn shares(
    policies: &PolicySet,
    labels: &LabelHistory,
    bytes: u64,
    contents: &[Content],
) -> Vec<Share> {
    policies.shares(bytes, contents, |content| at_receipt(labels, content))
}

/// Every live segment with what it contains.
pub(crate) fn with_contents(view: &View) -> anyhow::Result<Vec<(Segment, Vec<Content>)>> {
    let entries = view.segments()?;
    let with = entries.map(|entry| {
        let segment = entry?.segment;
        let contents = view.contents(segment.id)?;
        Ok((segment, contents))
    });
    with.collect()
}

/// What `new` would delete sooner than `old`.
pub(crate) fn changes(
    view: &View,
    old: &PolicySet,
    new: &PolicySet,
    labels: &LabelHistory,
    now: i64,
) -> anyhow::Result<Changes> {
    let segments = with_contents(view)?;
    let segments = segments.iter().map(|(segment, contents)| (segment, &**contents));
    Ok(old.changes(new, now, segments, |content| at_receipt(labels, content)))
}

/// Data cannot go where nobody knows the way.
pub(crate) fn stores_exist(policies: &PolicySet, config: &Config) -> anyhow::Result<()> {
    let stores: Vec<&str> = config.store.keys().map(String::as_str).collect();
    let check = policies.check(&stores, &[]);
    match check.remarks.iter().find(|remark| matches!(remark, Remark::UnknownStore { .. })) {
        Some(remark) => bail!("nothing was applied: {remark}"),
        None => Ok(()),
    }
}
