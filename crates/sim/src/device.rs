//! A simulated device: cuts batches into its spool, sends them ahead of their acks, and believes what it is told.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use icecore_wire::{
    Ack, Attached, BatchStreamWriter, ClientEvent, ClientSession, DeviceName, Digest, Disposition, Epoch,
    Level, Nack, SequenceRanges,
};

use crate::network::{ConnectionId, Event, MS, Network, Stream};
use crate::oracle::{Oracle, Violation};
use crate::sample::{self, Sample, Schemas};
use crate::spool::{SpoolFate, SpooledEpoch};

/// Batches a device has on the way at once.
const WINDOW: usize = 6;

/// Batch streams of a connection.
const STREAMS: u8 = 2;

#[derive(Debug)]
pub(crate) struct Device {
    /// Its place among the devices.
    id: usize,
    name: DeviceName,
    /// Old ones are drained; the last one is written to.
    epochs: Vec<SpooledEpoch>,
    /// Batches that fit its spool.
    capacity: usize,
    /// An impostor does not care what the server says it has.
    impostor: bool,
    link: Option<Link>,
}

/// A connection as its client sees it.
#[derive(Debug)]
struct Link {
    connection: ConnectionId,
    session: ClientSession,
    attachments: BTreeMap<u32, Attachment>,
    streams: Vec<BatchStreamWriter>,
}

/// An epoch attached on a link.
#[derive(Debug)]
struct Attachment {
    epoch: Epoch,
    ready: bool,
    /// Sent on this link and not answered, by first sequence.
    in_flight: BTreeMap<u64, (Range<u64>, Digest)>,
    sent: SequenceRanges,
    acked: SequenceRanges,
    /// Drops that were reported on this link.
    reported: SequenceRanges,
}

impl Attachment {
    fn new(epoch: Epoch) -> Self {
        let (sent, acked, reported) = (SequenceRanges::new(), SequenceRanges::new(), SequenceRanges::new());
        Self { epoch, ready: false, in_flight: BTreeMap::new(), sent, acked, reported }
    }
}

impl Device {
    pub(crate) fn new(id: usize, net: &mut Network) -> Self {
        let epoch = SpooledEpoch::new(sample::epoch(&mut net.rng));
        let (name, capacity) = (sample::device_name(id), net.rng.usize(4..80));
        Self { id, name, epochs: vec![epoch], capacity, impostor: false, link: None }
    }

    /// Somebody who sends other content, in the same or in another cut, as this device's epoch.
    pub(crate) fn impostor(&self, id: usize, schemas: &Schemas, net: &mut Network) -> Self {
        let genuine = &self.epochs[net.rng.usize(..self.epochs.len())];
        let mut epoch = SpooledEpoch::new(genuine.epoch);
        let first = (genuine.next + 6).saturating_sub(net.rng.u64(..60));
        let genuine_cut = genuine.batches.values().next().filter(|_| net.rng.bool());
        let (first, count) = match genuine_cut {
            Some(batch) => (batch.sample.first_sequence, batch.sample.count),
            None => (first, net.rng.u32(1..=12)),
        };
        epoch.push(Sample::random(schemas, first, count, &mut net.rng));
        Self { id, name: self.name.clone(), epochs: vec![epoch], capacity: 1, impostor: true, link: None }
    }

    /// Whether the server has settled everything that it cut.
    pub(crate) fn is_content(&self) -> bool {
        self.epochs.iter().all(SpooledEpoch::is_drained)
    }

    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.link.as_ref().map(|link| link.connection)
    }

    /// Cuts a batch of new events.
    pub(crate) fn cut(&mut self, schemas: &Schemas, net: &mut Network, oracle: &mut Oracle) {
        let epoch = self.epochs.last_mut().expect("a spool has an epoch");
        if epoch.batches.len() >= self.capacity {
            let dropped = epoch.drop_oldest();
            net.note(format_args!("{} drops {dropped:?}", self.name));
        }
        let count = net.rng.u32(1..=12);
        let sample = Sample::random(schemas, epoch.next, count, &mut net.rng);
        net.note(format_args!("{} cuts {:?}", self.name, sample.range()));
        epoch.push(sample);
        oracle.cut(&self.name, epoch.epoch, epoch.next);
        self.send(net, oracle);
    }

    /// Starts again with what is left of its spool.
    pub(crate) fn restart(&mut self, fate: SpoolFate, net: &mut Network, oracle: &mut Oracle) {
        net.note(format_args!("{} restarts with its spool {fate:?}", self.name));
        if let Some(link) = self.link.take() {
            net.abandon(link.connection);
        }
        if fate == SpoolFate::Wiped {
            for epoch in self.epochs.drain(..) {
                oracle.wiped(&self.name, &epoch);
            }
        }
        if fate != SpoolFate::Kept {
            self.epochs.push(SpooledEpoch::new(sample::epoch(&mut net.rng)));
        }
        net.schedule(50 * MS, Event::Connect { device: self.id });
    }

    /// Opens a connection and attaches every epoch that has something to say.
    pub(crate) fn connect(&mut self, net: &mut Network) {
        let done = self.impostor && self.is_content();
        if self.link.is_some() || done {
            return;
        }
        let newest = self.epochs.len() - 1;
        let mut kept = 0..;
        self.epochs.retain(|epoch| kept.next() == Some(newest) || !epoch.is_drained());
        let connection = net.open(Some(self.id));
        let mut session = ClientSession::new("icecore-sim", 0, Duration::from_micros(net.now));
        let attach = |epoch: &SpooledEpoch| {
            (session.attach(self.name.clone(), epoch.epoch), Attachment::new(epoch.epoch))
        };
        let attachments = self.epochs.iter().map(attach).collect();
        net.note(format_args!("{} opens {connection}", self.name));
        net.send_to_server(connection, Stream::Control, session.take_control());
        let streams = (0..STREAMS).map(|_| BatchStreamWriter::new()).collect();
        self.link = Some(Link { connection, session, attachments, streams });
    }

    /// Gives its connection up and tries again a little later.
    pub(crate) fn disconnect(&mut self, net: &mut Network) {
        if let Some(link) = self.link.take() {
            net.abandon(link.connection);
            let backoff = net.rng.u64(5..100) * MS;
            net.schedule(backoff, Event::Connect { device: self.id });
        }
    }

    /// Sends what is due: reports of drops, and batches up to the window.
    pub(crate) fn send(&mut self, net: &mut Network, oracle: &mut Oracle) {
        let Some(link) = &mut self.link else { return };
        for (&alias, attachment) in &mut link.attachments {
            let Some(epoch) = self.epochs.iter().find(|epoch| epoch.epoch == attachment.epoch) else {
                continue;
            };
            if !attachment.ready {
                continue;
            }
            let mut unreported = epoch.dropped.clone();
            unreported.remove_all(&attachment.reported);
            attachment.reported.insert_all(&unreported);
            link.session.report_dropped(alias, &unreported);
            let due =
                epoch.batches.values().filter(|batch| batch.not_before <= net.now).map(|batch| &batch.sample);
            let mut due: Vec<&Sample> =
                due.filter(|sample| !attachment.in_flight.contains_key(&sample.first_sequence)).collect();
            if net.rng.u8(..4) == 0 {
                net.rng.shuffle(&mut due);
            }
            let room = WINDOW.saturating_sub(attachment.in_flight.len());
            for sample in due.into_iter().take(room) {
                let digest = Digest::of(&sample.payload);
                attachment.in_flight.insert(sample.first_sequence, (sample.range(), digest));
                attachment.sent.insert(sample.range());
                oracle.sent(&self.name, epoch.epoch, sample, digest);
                let stream = net.rng.u8(..STREAMS);
                let bytes = frames(&mut link.streams[usize::from(stream)], alias, sample);
                net.send_to_server(link.connection, Stream::Batches(stream), bytes);
            }
        }
        net.send_to_server(link.connection, Stream::Control, link.session.take_control());
    }

    /// Takes bytes from the server.
    pub(crate) fn hear(
        &mut self,
        bytes: &[u8],
        net: &mut Network,
        oracle: &mut Oracle,
    ) -> Result<(), Violation> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let breach = |e| Violation::new(format!("the server broke the protocol: {e}"));
        link.session.control_received(bytes).map_err(breach)?;
        while let Some(event) = self.link.as_mut().and_then(|link| link.session.poll_event()) {
            match event {
                ClientEvent::Attached(attached) => self.attached(attached, net, oracle),
                ClientEvent::Acked(ack) => self.acked(&ack, net, oracle)?,
                ClientEvent::Nacked(nack) => self.nacked(nack, net, oracle),
                ClientEvent::Refused(refuse) => {
                    return Err(Violation::new(format!("{} was turned away: {}", self.name, refuse.message)));
                }
                ClientEvent::GoAway(_) => self.disconnect(net),
                // Welcome, pace, and what later versions say.
                _ => {}
            }
        }
        self.send(net, oracle);
        Ok(())
    }

    fn attached(&mut self, attached: Attached, net: &mut Network, oracle: &mut Oracle) {
        let Attached { alias, epoch_number, stored, settled, .. } = attached;
        let Some((name, attachment, epoch)) = self.attachment(alias) else { return };
        attachment.ready = true;
        net.note(format_args!(
            "{name} is attached as epoch {epoch_number}, stored {stored:?}, settled {settled:?}"
        ));
        oracle.told_stored(name, epoch.epoch, &stored);
        oracle.told_settled(name, epoch.epoch, &settled);
        if self.impostor {
            return;
        }
        let Some((name, _, epoch)) = self.attachment(alias) else { return };
        for sample in epoch.take_within(&stored) {
            oracle.resumed(name, epoch.epoch, &sample);
        }
        epoch.take_within(&settled);
        epoch.dropped.remove_all(&stored);
        epoch.dropped.remove_all(&settled);
    }

    fn acked(&mut self, ack: &Ack, net: &mut Network, oracle: &mut Oracle) -> Result<(), Violation> {
        let Some((name, attachment, epoch)) = self.attachment(ack.alias) else { return Ok(()) };
        net.note(format_args!("{name} hears {:?} {:?}", ack.level, ack.ranges));
        if ack.level == Level::Settled {
            oracle.told_settled(name, epoch.epoch, &ack.ranges);
            epoch.dropped.remove_all(&ack.ranges);
            return Ok(());
        }
        if let Some(range) = ack.ranges.iter().find(|range| !attachment.sent.covers(range)) {
            return Err(Violation::new(format!(
                "{name}: {range:?} is acked and was not sent on this connection"
            )));
        }
        attachment.acked.insert_all(&ack.ranges);
        oracle.told_stored(name, epoch.epoch, &ack.ranges);
        let acked = |range: &Range<u64>| attachment.acked.covers(range);
        for (range, digest) in
            attachment.in_flight.extract_if(.., |_, (range, _)| acked(range)).map(|(_, sent)| sent)
        {
            oracle.told_durable(name, epoch.epoch, range.clone(), digest);
            if epoch.batches.get(&range.start).is_some_and(|batch| batch.sample.range() == range) {
                epoch.batches.remove(&range.start);
            }
            epoch.dropped.remove(range);
        }
        Ok(())
    }

    fn nacked(&mut self, nack: Nack, net: &mut Network, oracle: &mut Oracle) {
        let id = self.id;
        let Some((name, attachment, epoch)) = self.attachment(nack.alias) else { return };
        let Nack { range, code, disposition, .. } = nack;
        net.note(format_args!("{name} hears no to {range:?}: {code}, {disposition:?}"));
        attachment.in_flight.remove(&range.start);
        match disposition {
            Disposition::Permanent => {
                oracle.told_settled(name, epoch.epoch, &SequenceRanges::from(range.clone()));
                epoch.batches.remove(&range.start);
            }
            Disposition::RetryAfter(wait) => {
                let wait = u64::try_from(wait.as_micros()).expect("waits are short");
                attachment.reported.remove(range.clone());
                if let Some(batch) = epoch.batches.get_mut(&range.start) {
                    batch.not_before = net.now + wait;
                }
                net.schedule(wait, Event::Send { device: id });
            }
        }
    }

    fn attachment(&mut self, alias: u32) -> Option<(&DeviceName, &mut Attachment, &mut SpooledEpoch)> {
        let attachment = self.link.as_mut()?.attachments.get_mut(&alias)?;
        let epoch = self.epochs.iter_mut().find(|epoch| epoch.epoch == attachment.epoch)?;
        Some((&self.name, attachment, epoch))
    }
}

fn frames(stream: &mut BatchStreamWriter, alias: u32, sample: &Sample) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.append(alias, &sample.announced, &sample.payload, &mut bytes);
    bytes
}
