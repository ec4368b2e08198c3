//! `icecore replay --into`: history streamed into another server, as its devices had sent it.
//!
//! Devices, epochs and sequences are those of the log, and so is the cut into batches. A batch is made anew of its rows, always the same
//! way: its bytes do not depend on whether it was sealed meanwhile, and so a second replay adds nothing.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use icecore_device::{BatchPolicy, Config, Device, DeviceName, Epoch, Gateway, Identity, RecordError};
use icecore_log::Source;
use icecore_replay::{Coverage, Query, Replay, Selection};
use icecore_wire::limits::MAX_ALIASES;
use icecore_wire::{BatchBuilder, EncodeOptions, Payload, Schema};
use tokio::sync::mpsc;

use super::{explain, query, source, tell};
use crate::cli::ReplayArgs;
use crate::send::{Pace, Summary, Watch};

/// Batches that are read ahead of being sent.
const AHEAD: usize = 64;

/// Bytes of batches that may wait for their acks, over all devices.
const SPOOL_BYTES: usize = 64 << 20;

/// The most devices that a connection carries at once; beyond them, the one that is idle longest is let go of.
const DEVICES: usize = MAX_ALIASES / 2;

/// What batches are made with. Whoever changes this makes other batches under the same sequences: a server that has the former ones
/// would refuse them, if it did not say beforehand that it has those sequences.
const OPTIONS: EncodeOptions = EncodeOptions { pco: Some(8), ..EncodeOptions::PLAIN };

/// Longer than anybody waits: the [`Watch`] is what ends the wait for a server that is away.
const UNTIL_DONE: Duration = Duration::from_hours(365 * 24);

/// A batch on its way.
struct Handed {
    source: Arc<Source>,
    schema: Arc<Schema>,
    payload: Payload,
    received: i64,
    events: u64,
}

/// Streams what `args` ask for to `server`.
pub(super) fn run(args: &ReplayArgs, server: &str, config: &Path) -> anyhow::Result<()> {
    let identity =
        args.identity.as_ref().context("--into needs --identity, the directory of a gateway's identity")?;
    let identity = Identity::load(identity)?;
    let replay = source::open(&args.source, config)?;
    // Whoever reads them there reads them as the newest, too.
    let query = Query { as_written: true, ..query(args) };
    let rows = replay.plan(&query).events;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (summary, coverage) = std::thread::scope(|scope| {
        let (give, take) = mpsc::channel(AHEAD);
        let (replay, query) = (&replay, &query);
        // What gives batches goes with the reader, so that their end is noticed.
        let reader = scope.spawn(move || read(replay, query, &give));
        let sent = runtime.block_on(send(args, server, identity, rows, take));
        let read = reader.join().map_err(|_| anyhow!("the reader of the log panicked"))?;
        match (sent, read) {
            // That nobody takes batches any more is what the other error led to.
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(summary), Ok(coverage)) => Ok((summary, coverage)),
        }
    })?;
    summary.write(&mut std::io::stdout().lock())?;
    tell(&coverage, args.selection.require_complete)
}

/// Reads batches in log order, and makes them anew. They are whole, also where only some of their events were asked for.
fn read(
    replay: &Replay,
    query: &Query,
    give: &mpsc::Sender<anyhow::Result<Handed>>,
) -> anyhow::Result<Coverage> {
    let mut batches = replay.batches(query);
    let mut present = 0;
    for selection in &mut batches {
        let selection = selection.map_err(explain);
        if selection.as_ref().is_ok_and(|selection| selection.count() == 0) {
            continue;
        }
        let handed = selection.map(made_anew);
        let failed = handed.is_err();
        present += handed.as_ref().map_or(0, |handed| handed.events);
        if give.blocking_send(handed).is_err() || failed {
            return Ok(Coverage::default());
        }
    }
    Ok(batches.coverage(present)?)
}

/// The batch of all rows of what is stored.
fn made_anew(selection: Selection) -> Handed {
    let selection = selection.whole();
    let stored = selection.stored();
    let (mut builder, mut time_uncertain) = (BatchBuilder::new(Arc::clone(&stored.schema)), false);
    let added = selection.for_each(|event| {
        time_uncertain = event.time_uncertain;
        let values: Vec<_> = event.values().collect();
        builder.row(event.event_time, &values)
    });
    let options = EncodeOptions { time_uncertain, ..OPTIONS };
    let made = added.and_then(|()| builder.finish(stored.first_sequence, options));
    Handed {
        source: Arc::clone(&stored.source),
        schema: Arc::clone(&stored.schema),
        // What takes more plain than a batch may is kept as it came, when it is sealed as well.
        payload: made.unwrap_or_else(|_| stored.payload.clone()),
        received: stored.received,
        events: stored.count.into(),
    }
}

async fn send(
    args: &ReplayArgs,
    server: &str,
    identity: Identity,
    rows: u64,
    batches: mpsc::Receiver<anyhow::Result<Handed>>,
) -> anyhow::Result<Summary> {
    let cut = BatchPolicy { max_age: None, ..BatchPolicy::default() };
    let gateway = Gateway::connect(Config::new(server, identity).batch(cut))?;
    let mut watch = Watch::start(gateway.clone(), server, args.wait, rows);
    let mut fleet = Fleet { gateway: gateway.clone(), open: HashMap::new(), turn: 0 };
    let mut events = 0;
    let sent = tokio::select! {
        biased; // when both are ready, the failure is the one to tell
        failure = watch.failure() => Err(failure),
        sent = fleet.send_all(batches, args.speed, &mut events) => sent,
    };
    watch.expect(events);
    let outcome = watch.account(sent);
    drop((fleet, gateway));
    watch.goodbye().await;
    outcome
}

/// The devices that are being replayed.
struct Fleet {
    gateway: Gateway,
    open: HashMap<DeviceName, Open>,
    /// Counts batches, so that it is known which device is idle longest.
    turn: u64,
}

struct Open {
    device: Device,
    epoch: Epoch,
    turn: u64,
}

impl Fleet {
    async fn send_all(
        &mut self,
        mut batches: mpsc::Receiver<anyhow::Result<Handed>>,
        speed: Option<f64>,
        events: &mut u64,
    ) -> anyhow::Result<()> {
        let mut pace = Pace::new(None, speed);
        while let Some(batch) = batches.recv().await {
            let batch = batch?;
            pace.admit(batch.received).await;
            self.send(&batch).await?;
            *events += batch.events;
        }
        for (_, Open { device, .. }) in self.open.drain() {
            device.close(UNTIL_DONE).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: &Handed) -> anyhow::Result<()> {
        let (name, epoch) = (&batch.source.device, batch.source.epoch);
        if self.open.get(name).is_some_and(|open| open.epoch != epoch) {
            self.close(name).await?;
        }
        self.turn += 1;
        match self.device(name, epoch).await?.hand_in(&batch.schema, &batch.payload).await {
            // What had piled up at the device came behind newer data. A spool begins again where it is needed.
            Err(RecordError::OutOfOrder { .. }) => {
                self.close(name).await?;
                Ok(self.device(name, epoch).await?.hand_in(&batch.schema, &batch.payload).await?)
            }
            handed => Ok(handed?),
        }
    }

    /// The device in this epoch.
    async fn device(&mut self, name: &DeviceName, epoch: Epoch) -> anyhow::Result<&Device> {
        if !self.open.contains_key(name) {
            if self.open.len() >= DEVICES {
                let idle = self.open.iter().min_by_key(|(_, open)| open.turn).map(|(name, _)| name.clone());
                if let Some(idle) = idle {
                    self.close(&idle).await?;
                }
            }
            let device = self.gateway.device_with_epoch(name.clone(), epoch, SPOOL_BYTES / 16)?;
            self.open.insert(name.clone(), Open { device, epoch, turn: 0 });
        }
        let open = self.open.get_mut(name).context("the device was just opened")?;
        open.turn = self.turn;
        Ok(&open.device)
    }

    async fn close(&mut self, name: &DeviceName) -> anyhow::Result<()> {
        if let Some(open) = self.open.remove(name) {
            open.device.close(UNTIL_DONE).await?;
        }
        Ok(())
    }
}
