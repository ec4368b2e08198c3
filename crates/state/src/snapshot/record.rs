//! A device as a snapshot stores it. Its layout is version 1 of the format: a change to it, or to the accumulators of the fold
//! that are in it, is another version.

use std::collections::HashMap;
use std::sync::Arc;

use icecore_wire::{Code, DeviceName, Epoch, Schema, SchemaId, SequenceRanges};
use rkyv::{Archive, Deserialize, Serialize};

use crate::fold::{FieldTally, SchemaTally, Tally};
use crate::{DeviceLedger, DeviceState, EpochLedger, RefusedRanges, Skew};

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct DeviceV1 {
    pub(super) name: String,
    first_received: i64,
    last_received: i64,
    epochs: Vec<EpochV1>,
    skew: Skew,
    present: Vec<SchemaV1>,
    ahead: Option<Vec<SchemaV1>>,
}

#[derive(Archive, Serialize, Deserialize)]
struct EpochV1 {
    epoch: [u8; 16],
    number: u32,
    stored: Vec<(u64, u64)>,
    refused: Vec<(u64, u64, u16)>,
    dropped: Vec<(u64, u64)>,
}

#[derive(Archive, Serialize, Deserialize)]
struct SchemaV1 {
    schema: [u8; 16],
    events: u64,
    first_time: i64,
    last_time: i64,
    fields: Vec<FieldTally>,
}

/// The schemas that devices refer to.
pub(super) type Schemas = HashMap<SchemaId, Arc<Schema>>;

impl DeviceV1 {
    pub(super) fn of(name: &DeviceName, state: &DeviceState) -> Self {
        let ledger = state.ledger();
        Self {
            name: name.as_str().to_owned(),
            first_received: ledger.first_received(),
            last_received: ledger.last_received(),
            epochs: ledger.epochs().iter().map(EpochV1::of).collect(),
            skew: state.skew().clone(),
            present: state.tally().schemas().iter().map(SchemaV1::of).collect(),
            ahead: state.ahead().map(|ahead| ahead.schemas().iter().map(SchemaV1::of).collect()),
        }
    }

    /// About how many bytes it takes in a page.
    pub(super) fn weight(&self) -> usize {
        let epochs: usize = self.epochs.iter().map(EpochV1::weight).sum();
        let ahead = self.ahead.iter().flatten();
        let schemas: usize = self.present.iter().chain(ahead).map(SchemaV1::weight).sum();
        160 + self.name.len() + epochs + schemas
    }

    /// The device; says what is wrong if there can be none like it.
    pub(super) fn restore(self, schemas: &Schemas) -> Result<(DeviceName, DeviceState), String> {
        let name = DeviceName::try_from(self.name.as_str()).map_err(|error| error.to_string())?;
        let epochs = self.epochs.into_iter().map(EpochV1::restore).collect();
        let ledger = DeviceLedger::restored(epochs, self.first_received..=self.last_received);
        let tally = |schema_tallies: Vec<SchemaV1>| {
            let restored: Result<_, String> =
                schema_tallies.into_iter().map(|tally| tally.restore(schemas)).collect();
            restored.map(Tally::restored)
        };
        let ahead = self.ahead.map(tally).transpose()?;
        Ok((name, DeviceState::restored(ledger, self.skew, tally(self.present)?, ahead)))
    }
}

impl EpochV1 {
    fn of(epoch: &EpochLedger) -> Self {
        let pairs = |ranges: &SequenceRanges| ranges.iter().map(|range| (range.start, range.end)).collect();
        let refused = epoch.refused().iter();
        Self {
            epoch: *epoch.epoch().as_bytes(),
            number: epoch.number(),
            stored: pairs(epoch.stored()),
            refused: refused.map(|part| (part.range.start, part.range.end, part.code.number())).collect(),
            dropped: pairs(epoch.dropped()),
        }
    }

    fn weight(&self) -> usize {
        48 + 16 * (self.stored.len() + self.dropped.len()) + 24 * self.refused.len()
    }

    fn restore(self) -> EpochLedger {
        let ranges = |pairs: Vec<(u64, u64)>| pairs.into_iter().map(|(start, end)| start..end).collect();
        let mut refused = RefusedRanges::default();
        for (start, end, code) in self.refused {
            refused.insert(start..end, Code::from_number(code));
        }
        let epoch = Epoch::from_bytes(self.epoch);
        EpochLedger::restored(epoch, self.number, ranges(self.stored), refused, ranges(self.dropped))
    }
}

impl SchemaV1 {
    fn of(tally: &SchemaTally) -> Self {
        Self {
            schema: *tally.schema().id().as_bytes(),
            events: tally.events(),
            first_time: tally.first_time(),
            last_time: tally.last_time(),
            fields: tally.fields().to_vec(),
        }
    }

    fn weight(&self) -> usize {
        48 + self.fields.iter().map(FieldTally::weight).sum::<usize>()
    }

    fn restore(self, schemas: &Schemas) -> Result<SchemaTally, String> {
        let id = SchemaId::from_bytes(self.schema);
        let schema = schemas.get(&id).ok_or_else(|| format!("schema {id} is not in the snapshot"))?;
        let fits = self.fields.len() == schema.fields().len()
            && self.fields.iter().zip(schema.fields()).all(|(tally, field)| tally.is_of(field));
        if !fits {
            return Err(format!("statistics are not those of schema {id}"));
        }
        let times = (self.first_time, self.last_time);
        Ok(SchemaTally::restored(Arc::clone(schema), self.events, times, self.fields))
    }
}
