//! What the log holds behind the bases.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use icecore_log::{AbsentSegment, OnAbsent, OnDamage, Reads, Record, Scan, StoredBatch};
use icecore_state::DeviceState;
use icecore_wire::{Batch, DeviceName};

use super::bases::{Seat, Seats};
use super::{AsOf, AsOfError, Bases, Explained, Refusal, States, Who};
use crate::Replay;

/// Folds what is read into the states.
pub(super) struct Folding<'a> {
    replay: &'a Replay,
    who: Who<'a>,
    as_of: AsOf,
    bases: &'a Bases,
    devices: BTreeMap<DeviceName, Seat>,
    explained: Explained,
}

impl<'a> Folding<'a> {
    pub(super) fn new(replay: &'a Replay, who: Who<'a>, as_of: AsOf, bases: &'a Bases, seats: Seats) -> Self {
        let Seats { devices, ledger, oldest, faults } = seats;
        let end = bases.end().unwrap_or(replay.reader().positions().end);
        let sealed = replay.reader().sealed().count();
        let explained =
            Explained { base: oldest, ledger, position: end, sealed, faults, ..Explained::default() };
        Self { replay, who, as_of, bases, devices, explained }
    }

    pub(super) fn run(mut self) -> Result<States, AsOfError> {
        let ledger = self.explained.ledger.as_ref().map_or(0, |base| base.position);
        let first = self.devices.values().map(|seat| seat.from).min().unwrap_or(ledger);
        if first < ledger {
            let parts = self.bases.parts_up_to(first..ledger, self.as_of.at.unwrap_or(i64::MAX));
            parts.into_iter().try_for_each(|part| self.read_before(part, ledger))?;
        }
        if ledger < self.explained.position || self.bases.end().is_none() {
            self.read_behind(ledger)?;
        }
        let devices = self.devices.into_iter().map(|(name, seat)| (name, seat.state));
        Ok(States { devices: devices.collect(), explained: self.explained })
    }

    /// Reads the events up to the time asked for of those whose statistics are of less than is settled of them.
    fn read_before(&mut self, positions: Range<u64>, ledger: u64) -> Result<(), AsOfError> {
        let behind = |(name, seat): (&DeviceName, &Seat)| (seat.from < ledger).then(|| name.clone());
        let wanted: HashSet<DeviceName> = self.devices.iter().filter_map(behind).collect();
        let scan = Scan {
            devices: Some(Box::new(move |device| wanted.contains(device))),
            batches_only: true,
            times: self.as_of.at.map(|at| i64::MIN..=at),
            ..self.scan(positions)
        };
        let base = self.explained.base.as_ref().and_then(|base| base.received);
        self.read(scan, base, |devices, record, at, explained| {
            let Record::Batch(stored) = record else { return Ok(()) };
            match devices.get_mut(&stored.source.device) {
                Some(seat) if seat.from <= stored.position => fold(seat, stored, at, explained),
                _ => Ok(()),
            }
        })
    }

    /// Reads everything behind what is settled.
    fn read_behind(&mut self, position: u64) -> Result<(), AsOfError> {
        let who = self.who;
        let scan = Scan {
            devices: Some(Box::new(move |device| who.wants(device.as_str()))),
            ..self.scan(position..u64::MAX)
        };
        let base = self.explained.ledger.as_ref().and_then(|base| base.received);
        self.read(scan, base, |devices, record, at, explained| {
            let seat = devices.entry(record.source().device.clone()).or_default();
            Arc::make_mut(&mut seat.state).apply(&record.fact());
            match record {
                Record::Batch(stored) => fold(seat, stored, at, explained),
                Record::Refused(_) | Record::Dropped(_) => Ok(()),
            }
        })
    }

    fn scan(&self, positions: Range<u64>) -> Scan<'a> {
        Scan {
            positions: Some(positions),
            known_at: self.as_of.known_at,
            on_damage: OnDamage::Fail,
            // What was deleted by policy may not be of anybody who is asked for.
            on_absent: OnAbsent::Skip,
            ..Scan::default()
        }
    }

    /// Reads what is behind a base that has everything up to the received time `base`.
    fn read(
        &mut self,
        scan: Scan<'_>,
        base: Option<i64>,
        mut take: impl FnMut(
            &mut BTreeMap<DeviceName, Seat>,
            Record,
            Option<i64>,
            &mut Explained,
        ) -> Result<(), AsOfError>,
    ) -> Result<(), AsOfError> {
        let replay = self.replay;
        let mut records = replay.reader().scan(scan);
        loop {
            let next = records.next();
            for absent in records.take_absent() {
                self.account(absent, base)?;
            }
            if replay.check_stop().is_err() {
                return Err(AsOfError::Stopped);
            }
            let Some(record) = next else { break };
            take(&mut self.devices, record?, self.as_of.at, &mut self.explained)?;
        }
        let Reads { blocks, segments, pages } = records.reads();
        self.explained.blocks += blocks;
        self.explained.segments.extend(segments);
        self.explained.pages += pages;
        Ok(())
    }

    /// A segment that was passed over may have had nothing of those who are asked for.
    fn account(&self, absent: AbsentSegment, base: Option<i64>) -> Result<(), AsOfError> {
        let deleted = self.replay.elsewhere().map(|elsewhere| elsewhere.deleted(absent.id)).transpose()?;
        let (deleted, within) = (deleted.flatten(), (base, self.as_of.known_at));
        if !Refusal::may_hold(self.replay, absent.id, deleted.as_ref(), self.who, within)? {
            return Ok(());
        }
        match deleted {
            None => Err(absent.why.into()),
            Some(deleted) => {
                Err(Box::new(Refusal::of(self.replay, self.bases, self.who, self.as_of, absent.id, deleted)?)
                    .into())
            }
        }
    }
}

/// Folds the events of a batch that happened by `at`.
fn fold(
    seat: &mut Seat,
    stored: StoredBatch,
    at: Option<i64>,
    explained: &mut Explained,
) -> Result<(), AsOfError> {
    let StoredBatch { source, position, first_sequence, received, .. } = stored;
    let batch = Batch::validate(stored.payload, stored.schema).map_err(|error| AsOfError::Batch {
        position,
        device: source.device.clone(),
        first_sequence,
        source: error,
    })?;
    explained.batches += 1;
    let state: &mut DeviceState = Arc::make_mut(&mut seat.state);
    let times = batch.times();
    let wanted = |time: &i64| at.is_none_or(|at| *time <= at);
    let mut start = 0;
    for rows in times.chunk_by(|a, b| wanted(a) == wanted(b)) {
        let end = start + rows.len();
        if wanted(&rows[0]) {
            state.fold(source.number, received, &batch, start..end);
            explained.events += rows.len() as u64;
        }
        start = end;
    }
    Ok(())
}
