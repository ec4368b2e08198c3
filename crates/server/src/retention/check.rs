//! `icecore retention check`: what a policy file applies to among all that is stored, hot data included.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use icecore_log::{LogReader, OnAbsent, OnDamage, RealDisk, Record, Scan};
use icecore_tier::catalog::{Entry, View};
use icecore_tier::policy::Known;

use crate::config::Config;
use crate::device::registry;
use crate::tiers;

pub(super) fn run(file: &Path, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let (_, policies) = tiers::read_policies(file)?;
    let labels = registry(config)?.labels();
    let stored = Stored::in_all(config)?;
    let known = stored.0.iter().map(|((schema, device), amount)| Known {
        schema,
        device,
        labels: tiers::now(&labels, device),
        rows: amount.rows,
        bytes: amount.bytes,
    });
    let stores: Vec<&str> = config.store.keys().map(String::as_str).collect();
    write!(out, "{}", policies.check(&stores, &known.collect::<Vec<_>>()))?;
    Ok(())
}

/// What is stored of each schema and device.
#[derive(Default)]
struct Stored(BTreeMap<(String, String), Amount>);

#[derive(Default)]
struct Amount {
    rows: u64,
    bytes: u64,
}

impl Stored {
    fn in_all(config: &Config) -> anyhow::Result<Self> {
        let mut stored = Self::default();
        let view = tiers::catalog(config)?;
        if let Some(view) = &view {
            stored.add_sealed(view)?;
        }
        stored.add_others(&config.data.dir, view.map_or(0, |view| view.sealed_to()))?;
        Ok(stored)
    }

    fn add_sealed(&mut self, view: &View) -> anyhow::Result<()> {
        for row in view.segments_with_contents()? {
            let (Entry { segment, .. }, contents) = row?;
            for content in contents {
                let part =
                    u128::from(segment.bytes) * u128::from(content.rows) / u128::from(segment.rows.max(1));
                self.add(content.schema, content.device, content.rows, u64::try_from(part)?);
            }
        }
        Ok(())
    }

    /// What the catalog does not know yet. Its bytes are those of the batches as they came.
    fn add_others(&mut self, data: &Path, from: u64) -> anyhow::Result<()> {
        let reader = LogReader::open(Arc::new(RealDisk), data)?;
        let positions = Some(from..u64::MAX);
        let around =
            Scan { positions, on_damage: OnDamage::Skip, on_absent: OnAbsent::Skip, ..Scan::default() };
        for record in reader.scan(around) {
            if let Record::Batch(batch) = record? {
                let (schema, device) = (batch.schema.name(), batch.source.device.as_str());
                let bytes = batch.payload.len() as u64;
                self.add(schema.to_owned(), device.to_owned(), u64::from(batch.count), bytes);
            }
        }
        Ok(())
    }

    fn add(&mut self, schema: String, device: String, rows: u64, bytes: u64) {
        let amount = self.0.entry((schema, device)).or_default();
        amount.rows += rows;
        amount.bytes += bytes;
    }
}
