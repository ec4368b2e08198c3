//! `coverage`: what there is of everything that was ever sent, and why the rest is not there.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Schema, SchemaRef};
use icecore_replay::{Place, Placed, ReplayError};

use super::gaps::{DROPPED, NOT_ARRIVED, REFUSED};
use super::{nullable, record_batch, required, segments};
use crate::SqlError;
use crate::view::View;

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        required("kind", DataType::Utf8),
        nullable("segment", DataType::Utf8),
        nullable("schema", DataType::Utf8),
        nullable("device", DataType::Utf8),
        required("events", DataType::UInt64),
        nullable("why", DataType::Utf8),
    ]))
}

/// Some events of one fate.
#[derive(Default)]
struct Part {
    kind: &'static str,
    segment: Option<String>,
    schema: Option<String>,
    device: Option<String>,
    events: u64,
    why: Option<String>,
}

pub(super) fn rows(view: &View) -> Result<RecordBatch, SqlError> {
    let mut parts = Vec::new();
    view.opened.replay.segments()?.into_iter().for_each(|placed| add_segment(&mut parts, placed));
    let hot = segments::hot(view);
    if !hot.is_empty() {
        let why = Some("hot".to_owned());
        parts.push(Part { kind: "present", events: hot.end - hot.start, why, ..Part::default() });
    }
    for manifest in view.opened.replay.reader().manifests() {
        for lost in &manifest.lost {
            let events = lost.positions.end.saturating_sub(lost.positions.start);
            parts.push(Part { kind: "lost", events, why: Some(lost.what.clone()), ..Part::default() });
        }
    }
    add_unstored(&mut parts, view)?;
    let texts = |of: fn(&Part) -> Option<&str>| Arc::new(parts.iter().map(of).collect::<StringArray>());
    record_batch(
        schema(),
        vec![
            texts(|part| Some(part.kind)),
            texts(|part| part.segment.as_deref()),
            texts(|part| part.schema.as_deref()),
            texts(|part| part.device.as_deref()),
            Arc::new(parts.iter().map(|part| part.events).collect::<UInt64Array>()),
            texts(|part| part.why.as_deref()),
        ],
    )
}

/// Of what was deleted it is known, where there is a catalog, what was in it.
fn add_segment(parts: &mut Vec<Part>, placed: Placed) {
    let Placed { id, child, place } = placed;
    let tier = segments::tier(&place);
    let segment = Some(id.to_string());
    match place {
        Place::Warm { .. } | Place::Cold { .. } => {
            let why = Some(tier.to_owned());
            parts.push(Part { kind: "present", segment, events: child.rows, why, ..Part::default() });
        }
        Place::Absent => parts.push(Part { kind: tier, segment, events: child.rows, ..Part::default() }),
        Place::Deleted(deleted) => {
            let why = deleted.policy.map(|policy| format!("policy {policy}"));
            match deleted.contents {
                None => parts.push(Part { kind: tier, segment, events: child.rows, why, ..Part::default() }),
                Some(contents) => parts.extend(contents.into_iter().map(|content| Part {
                    kind: tier,
                    segment: segment.clone(),
                    schema: Some(content.schema),
                    device: Some(content.device),
                    events: content.rows,
                    why: why.clone(),
                })),
            }
        }
    }
}

/// What was never stored has neither schema nor segment.
fn add_unstored(parts: &mut Vec<Part>, view: &View) -> Result<(), SqlError> {
    let ledger = view.opened.replay.ledger_of(|_| true).map_err(ReplayError::from)?;
    let mut devices: Vec<_> = ledger.devices().collect();
    devices.sort_unstable_by_key(|(device, _)| *device);
    for (device, ledger) in devices {
        let (mut missing, mut dropped, mut refused) = (0, 0, 0);
        for epoch in ledger.epochs() {
            missing += epoch.missing().count();
            dropped += epoch.dropped().count();
            refused += epoch.refused().count();
        }
        for (kind, events) in [(NOT_ARRIVED, missing), (DROPPED, dropped), (REFUSED, refused)] {
            if events > 0 {
                let device = Some(device.as_str().to_owned());
                parts.push(Part { kind, device, events, ..Part::default() });
            }
        }
    }
    Ok(())
}
