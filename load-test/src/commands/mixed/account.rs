//! What became of a device, and what the log must hold of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use icecore_device::{DeviceName, Epoch, SequenceRanges};
use icecore_load::promises::Contents;

use super::kind::Kind;
use super::scene::Scene;
use crate::crew::{self, Member};

/// One device's account, over all its connections.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) kind: Kind,
    /// Clients that spoke for it.
    pub(super) clients: usize,
    pub(super) events_cut: u64,
    /// Of those, as [`Account::check`] found them.
    pub(super) events_stored: u64,
    pub(super) reconnects: u64,
    /// Times that it moved to another socket.
    pub(super) moves: u64,
    /// From the cut of a batch to its ack, once the fleet was warm.
    pub(super) latencies: Vec<Duration>,
    /// From the revocation to the end of its session.
    pub(super) turned_out: Option<Duration>,
    sources: BTreeMap<(DeviceName, Epoch), Expected>,
}

/// What the log must hold of an epoch.
#[derive(Debug, Default)]
struct Expected {
    must: SequenceRanges,
    may: SequenceRanges,
}

impl Account {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            clients: 1,
            events_cut: 0,
            events_stored: 0,
            reconnects: 0,
            moves: 0,
            latencies: Vec::new(),
            turned_out: None,
            sources: BTreeMap::new(),
        }
    }

    /// Waits until everything that `member` cut is acked, closes it, and expects all of it in the log.
    pub(super) async fn close(&mut self, scene: &Scene, member: Member) -> Result<()> {
        member.flush().await?;
        let counted = scene.warm().into_std()..scene.end.into_std();
        self.latencies.extend(crew::latencies(std::slice::from_ref(&member), &counted));
        self.note(&member);
        let cut = member.cut();
        self.must(&member, cut);
        member.close().await
    }

    /// Closes `member` as it is.
    pub(super) async fn leave(&mut self, member: Member) -> Result<()> {
        self.note(&member);
        member.leave().await
    }

    fn note(&mut self, member: &Member) {
        let stats = member.device.stats();
        self.reconnects += stats.connections.saturating_sub(1);
        self.moves += stats.moves;
        self.events_cut += member.cut();
    }

    /// Expects the next `events` events of `member`'s epoch in the log.
    pub(super) fn must(&mut self, member: &Member, events: u64) {
        let (device, epoch) = (member.device.name(), member.device.epoch());
        let first = self.next(device, epoch);
        self.must_have(device, epoch, first..first + events);
    }

    /// The first sequence of an epoch that is not expected yet.
    pub(super) fn next(&self, device: &DeviceName, epoch: Epoch) -> u64 {
        self.sources.get(&(device.clone(), epoch)).map_or(0, |expected| expected.must.next())
    }

    /// Expects these sequences of an epoch in the log.
    pub(super) fn must_have(&mut self, device: &DeviceName, epoch: Epoch, range: Range<u64>) {
        self.source(device, epoch).must.insert(range);
    }

    /// Lets the log hold the first `events` events of `member`'s epoch.
    pub(super) fn may(&mut self, member: &Member, events: u64) {
        self.source(member.device.name(), member.device.epoch()).may.insert(0..events);
    }

    fn source(&mut self, device: &DeviceName, epoch: Epoch) -> &mut Expected {
        self.sources.entry((device.clone(), epoch)).or_default()
    }

    /// Checks that the log holds what it must of the device's epochs, and nothing that it may not; returns how many
    /// events it holds of them.
    ///
    /// # Errors
    /// What is missing or should not be there.
    pub(super) fn check(&mut self, contents: &Contents) -> Result<u64> {
        self.events_stored = 0;
        for ((device, epoch), expected) in &self.sources {
            let stored = contents.stored(device, *epoch);
            expected
                .check(&stored)
                .map_err(|error| error.context(format!("{} {device} {epoch}", self.kind)))?;
            self.events_stored += stored.count();
        }
        Ok(self.events_stored)
    }
}

impl Expected {
    fn check(&self, stored: &SequenceRanges) -> Result<()> {
        let mut missing = self.must.clone();
        missing.remove_all(stored);
        ensure!(missing.is_empty(), "{missing:?} were to be delivered and are not in the log");
        let mut foreign = stored.clone();
        foreign.remove_all(&self.must);
        foreign.remove_all(&self.may);
        ensure!(foreign.is_empty(), "{foreign:?} are in the log and should not be");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_stored_is_and_nothing_else() {
        let expected = Expected { must: (0..10).into(), may: (10..12).into() };
        let error = |stored: Range<u64>| expected.check(&stored.into()).unwrap_err().to_string();
        assert!(expected.check(&(0..10).into()).is_ok());
        assert!(expected.check(&(0..12).into()).is_ok());
        assert!(error(0..9).contains("are not in the log"));
        assert!(error(0..13).contains("should not be"));
    }
}
