//! What the commands about sealed segments look at: the catalog, the policies that apply, and the labels of devices.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use icecore_ingest::{LabelHistory, Labels};
use icecore_log::{LogReader, OnAbsent, OnDamage, RealDisk, Record, Scan};
use icecore_tier::catalog::{Catalog, CatalogError, View};
use icecore_tier::policy::{Changes, Comparison, PolicySet, Remark};
use icecore_tier::segment::{Content, Segment, SegmentId, Share, Span};

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
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        anyhow!("{}:{line}: this is no text; is it the right file, and whole?", file.display())
    })?;
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

/// What `new` would delete sooner than `old`, of all that is stored in the data directory `data`.
pub(crate) fn changes(
    view: &View,
    data: &Path,
    old: &PolicySet,
    new: &PolicySet,
    labels: &LabelHistory,
    now: i64,
) -> anyhow::Result<Changes> {
    let mut comparison = old.compare(new);
    for row in view.segments_with_contents()? {
        let (entry, contents) = row?;
        comparison.add(&entry.segment, &contents, |content| at_receipt(labels, content));
    }
    compare_unregistered(view, data, labels, &mut comparison)?;
    Ok(comparison.changes(now))
}

/// Adds what is stored in the data directory `data` and not registered in the catalog yet.
pub(crate) fn compare_unregistered(
    view: &View,
    data: &Path,
    labels: &LabelHistory,
    comparison: &mut Comparison<'_>,
) -> anyhow::Result<()> {
    for (segment, contents) in unregistered(data, view.sealed_to())? {
        comparison.add(&segment, &contents, |content| at_receipt(labels, content));
    }
    Ok(())
}

/// What the catalog does not know yet, from position `from` on, of each schema and device: as segments that are not there, of the
/// batches as they came.
fn unregistered(data: &Path, from: u64) -> anyhow::Result<Vec<(Segment, Vec<Content>)>> {
    let reader = LogReader::open(Arc::new(RealDisk), data)?;
    let positions = Some(from..u64::MAX);
    let around = Scan { positions, on_damage: OnDamage::Skip, on_absent: OnAbsent::Skip, ..Scan::default() };
    let mut found: BTreeMap<(String, String), (u64, Content)> = BTreeMap::new();
    for record in reader.scan(around) {
        let Record::Batch(batch) = record? else { continue };
        let (schema, device) = (batch.schema.name().to_owned(), batch.source.device.as_str().to_owned());
        let received = Span { first: batch.received, last: batch.received };
        let (bytes, content) = found
            .entry((schema.clone(), device.clone()))
            .or_insert_with(|| (0, Content { schema, device, received, rows: 0 }));
        *bytes += batch.payload.len() as u64;
        content.rows += u64::from(batch.count);
        content.received.last = batch.received;
    }
    let segment = |(bytes, content): (u64, Content)| {
        let segment = Segment {
            id: SegmentId { manifest: u64::MAX, child: 0 },
            bytes,
            rows: content.rows,
            root: [0; 32],
            positions: from..u64::MAX,
            received: content.received,
            // When it happened is not looked at: what came late may be due sooner than it is said here.
            events: content.received,
            shares: Vec::new(),
            local: true,
            copies: Vec::new(),
            deletion: None,
        };
        (segment, vec![content])
    };
    Ok(found.into_values().map(segment).collect())
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
