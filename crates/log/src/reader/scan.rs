//! What a scan wants.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use super::Scan;
use crate::manifest::Child;
use crate::record::{Record, Source};
use crate::sealed::RowQuery;

impl Scan<'_> {
    pub(super) fn wants_none_of<'s>(&self, mut sources: impl Iterator<Item = &'s Arc<Source>>) -> bool {
        let Some(wanted) = &self.devices else { return false };
        !sources.any(|source| wanted(&source.device))
    }

    /// Whether nothing at these positions is wanted. What has no events belongs to the position it stands at.
    pub(super) fn excludes(&self, positions: &Range<u64>) -> bool {
        let end = positions.end.max(positions.start.saturating_add(1));
        self.positions.as_ref().is_some_and(|wanted| end <= wanted.start || positions.start >= wanted.end)
    }

    /// Whether something received at this time, and so all behind it, came too late.
    pub(super) fn is_past(&self, received: i64) -> bool {
        self.known_at.is_some_and(|known_at| received > known_at)
    }

    /// Whether it is known of a sealed segment, without opening it, that nothing in it is wanted at `positions`.
    pub(super) fn wants_none_in(&self, child: &Child, positions: &Range<u64>) -> bool {
        let apart = child.positions.end <= positions.start || positions.end <= child.positions.start;
        let past = |times: &RangeInclusive<i64>| {
            child.times.end() < times.start() || times.end() < child.times.start() || times.is_empty()
        };
        apart || self.is_past(*child.received.start()) || self.times.as_ref().is_some_and(past)
    }

    /// What is wanted of a sealed segment at `positions`.
    pub(super) fn rows_at(&self, positions: &Range<u64>) -> RowQuery<'_> {
        RowQuery {
            schemas: self.schemas.as_ref().map(|wanted| Box::new(|schema: &_| wanted(schema)) as _),
            devices: self.devices.as_ref().map(|wanted| Box::new(|device: &_| wanted(device)) as _),
            positions: Some(positions.clone()),
            times: self.times.clone(),
            known_at: self.known_at,
            sequences: None,
        }
    }

    /// Whether a record is wanted; `at` is where it stands if it has no events.
    pub(super) fn wants(&self, record: &Record, at: &Range<u64>) -> bool {
        if self.is_past(record.received()) {
            return false;
        }
        let excluded = match record {
            Record::Batch(batch) => {
                self.schemas.as_ref().is_some_and(|wanted| !wanted(&batch.schema))
                    || self.excludes(&(batch.position..batch.position + u64::from(batch.count)))
            }
            Record::Refused(_) | Record::Dropped(_) => self.batches_only || self.excludes(at),
        };
        !excluded && self.devices.as_ref().is_none_or(|wanted| wanted(&record.source().device))
    }
}
