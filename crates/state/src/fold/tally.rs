//! What is known of some events of a device.

use std::sync::Arc;

use icecore_wire::Schema;

use super::{FieldTally, Run};

/// What is known of some events of a device, by schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    schemas: Vec<SchemaTally>,
}

/// What is known of a device's events of one schema.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaTally {
    schema: Arc<Schema>,
    events: u64,
    first_time: i64,
    last_time: i64,
    fields: Vec<FieldTally>,
}

impl Tally {
    pub(crate) fn restored(schemas: Vec<SchemaTally>) -> Self {
        Self { schemas }
    }

    /// By schema, in the order in which they came first.
    #[must_use]
    pub fn schemas(&self) -> &[SchemaTally] {
        &self.schemas
    }

    /// How many events there are.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.schemas.iter().map(SchemaTally::events).sum()
    }

    /// The earliest and the latest event time, nanoseconds since the Unix epoch; `None` without events.
    #[must_use]
    pub fn times(&self) -> Option<(i64, i64)> {
        let first = self.schemas.iter().map(SchemaTally::first_time).min()?;
        Some((first, self.schemas.iter().map(SchemaTally::last_time).max()?))
    }

    /// Takes in a run of rows.
    pub(crate) fn fold(&mut self, run: &Run<'_>) {
        let schema = run.batch().schema();
        let known = self.schemas.iter().position(|tally| Arc::ptr_eq(&tally.schema, schema));
        let known = known.or_else(|| self.schemas.iter().position(|tally| tally.schema.id() == schema.id()));
        let at = known.unwrap_or_else(|| {
            self.schemas.push(SchemaTally::new(Arc::clone(schema)));
            self.schemas.len() - 1
        });
        self.schemas[at].fold(run);
    }
}

impl SchemaTally {
    pub(crate) fn new(schema: Arc<Schema>) -> Self {
        let fields = schema.fields().iter().map(FieldTally::new).collect();
        Self { schema, events: 0, first_time: i64::MAX, last_time: i64::MIN, fields }
    }

    /// As a snapshot has it: `times` are those of the first and of the last event.
    pub(crate) fn restored(
        schema: Arc<Schema>,
        events: u64,
        times: (i64, i64),
        fields: Vec<FieldTally>,
    ) -> Self {
        let (first_time, last_time) = times;
        Self { schema, events, first_time, last_time, fields }
    }

    /// The schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// How many events there are.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The earliest event time, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn first_time(&self) -> i64 {
        self.first_time
    }

    /// The latest event time, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn last_time(&self) -> i64 {
        self.last_time
    }

    /// One for each field of the schema.
    #[must_use]
    pub fn fields(&self) -> &[FieldTally] {
        &self.fields
    }

    pub(crate) fn fold(&mut self, run: &Run<'_>) {
        self.events += run.len() as u64;
        self.first_time = self.first_time.min(run.oldest_time());
        self.last_time = self.last_time.max(run.newest_time());
        let batch = run.batch();
        for (at, (tally, field)) in self.fields.iter_mut().zip(batch.schema().fields()).enumerate() {
            tally.fold(field, run, &batch.column(at));
        }
    }
}
