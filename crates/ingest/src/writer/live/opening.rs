//! The state at the start.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use icecore_log::{
    AbsentSegment, Committer, Disk, LogError, LogReader, OnAbsent, OnDamage, Options, Record, Recovery, Scan,
    Source, StoredBatch,
};
use icecore_state::snapshot::{Loaded, SnapshotHead, Snapshots};
use icecore_state::{Fleet, Ledger};
use icecore_wire::{Batch, Schema};

use crate::writer::{Core, ReadElsewhere, StartError};

/// Batches that are handed from one thread to the next at once, at most.
const BATCHES_AT_ONCE: usize = 256;

/// And about as many bytes of them.
const BYTES_AT_ONCE: usize = 1 << 20;

/// Such hand-overs that may wait before each thread.
const WAITING: usize = 4;

/// The log and the state, ready for more.
#[derive(Debug)]
pub(in crate::writer) struct Opened {
    pub(in crate::writer) core: Core,
    pub(in crate::writer) committer: Committer,
    pub(in crate::writer) recovery: Recovery,
    pub(in crate::writer) fleet: Fleet,
    pub(in crate::writer) snapshots: Snapshots,
    /// The number of the block up to which a good snapshot goes, on which the next may build.
    pub(in crate::writer) base: Option<u64>,
    /// Events behind it.
    pub(in crate::writer) unsaved: u64,
    /// Whether nothing is lacking that a later start might find.
    pub(in crate::writer) is_whole: bool,
}

/// Opens the log and folds what no snapshot has. `now` is in nanoseconds since the Unix epoch.
pub(in crate::writer) fn open(
    disk: &Arc<dyn Disk>,
    data: &Path,
    mut options: Options,
    elsewhere: Option<ReadElsewhere>,
    now: i64,
) -> Result<Opened, StartError> {
    let snapshots = Snapshots::new(Arc::clone(disk), data);
    let judge = judge(disk, data);
    let others = || elsewhere.as_ref().map_or_else(Vec::new, |elsewhere| (elsewhere.snapshots)());
    let (loaded, faults) = snapshots.load_or(&|head| judge(head) == Some(true), &others)?;
    for fault in &faults {
        tracing::error!(%fault, "a snapshot is passed over for what is older");
    }
    let is_good = faults.is_empty();
    let head = loaded.as_ref().map(|loaded| loaded.head.clone());
    let mut fleet = loaded.map_or_else(Fleet::default, |Loaded { fleet, .. }| fleet);
    options.known_to = head.as_ref().map_or(0, |head| head.point.block);
    let schemas = schemas_of(&fleet);
    let (core, committer, recovery) =
        Core::open_behind(Ledger::of(&fleet), &schemas, Arc::clone(disk), data, options, now)?;
    // What goes on where this log does not would be taken for the newest from here on.
    for file in snapshots.set_aside(&|head| judge(head) == Some(false))? {
        tracing::warn!(file = %file.display(), "a snapshot is not of this log, and was set aside");
    }
    let from = head.as_ref().map_or(0, |head| head.point.position);
    let mut folded = Folded { events: 0, is_whole: true };
    if from < recovery.position {
        let reader = LogReader::open(Arc::clone(disk), data)?;
        let reader = match elsewhere {
            Some(elsewhere) => reader.with_elsewhere(elsewhere.segments),
            None => reader,
        };
        folded = fold_tail(&mut fleet, &reader, from..recovery.position)?;
    }
    let Folded { events: unsaved, is_whole } = folded;
    // What has no events, and what is sealed, is told of in the facts.
    for (name, device) in core.ledger().devices() {
        fleet.settle(name, device);
    }
    tracing::info!(
        snapshot = head.as_ref().map(|head| head.point.block),
        devices = fleet.len(),
        events_behind_it = unsaved,
        "the state is there"
    );
    let base = head.filter(|_| is_good).map(|head| head.point.block);
    Ok(Opened { core, committer, recovery, fleet, snapshots, base, unsaved, is_whole })
}

/// Tells whether a snapshot is one of the log in `data`: of what the log still says the same of. `None` where the log cannot be read,
/// which is for its opening to report.
fn judge(disk: &Arc<dyn Disk>, data: &Path) -> impl Fn(&SnapshotHead) -> Option<bool> {
    let reader = LogReader::open(Arc::clone(disk), data);
    move |head| {
        let reader = reader.as_ref().ok()?;
        let reaches =
            head.point.position <= reader.positions().end && head.point.block <= reader.next_block();
        let chain = reader.chain_before(head.point.block).ok()?;
        Some(reader.log() == Some(head.log) && reaches && chain.is_none_or(|chain| chain == head.point.chain))
    }
}

fn schemas_of(fleet: &Fleet) -> Vec<Arc<Schema>> {
    let mut schemas: Vec<Arc<Schema>> = Vec::new();
    for (_, state) in fleet.devices() {
        let ahead = state.ahead().map_or(&[][..], |ahead| ahead.schemas());
        for tally in state.tally().schemas().iter().chain(ahead) {
            if !schemas.iter().any(|known| Arc::ptr_eq(known, tally.schema())) {
                schemas.push(Arc::clone(tally.schema()));
            }
        }
    }
    schemas
}

/// What came of a tail.
struct Folded {
    events: u64,
    /// Every segment that there is could be read.
    is_whole: bool,
}

/// Folds the events at these positions. One thread reads, several decode by turns, and this one takes in what they have decoded, in the
/// order in which it was read.
fn fold_tail(
    fleet: &mut Fleet,
    reader: &LogReader,
    positions: std::ops::Range<u64>,
) -> Result<Folded, LogError> {
    let decoders = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let (mut to_decode, mut decoded) = (Vec::new(), Vec::new());
        for _ in 0..decoders {
            let (send, work) = sync_channel::<Vec<StoredBatch>>(WAITING);
            let (done, receive) = sync_channel::<Vec<Decoded>>(WAITING);
            let decode = |batches: Vec<StoredBatch>| batches.into_iter().filter_map(decode).collect();
            scope.spawn(move || work.into_iter().try_for_each(|batches| done.send(decode(batches))));
            to_decode.push(send);
            decoded.push(receive);
        }
        // What is sent goes with its thread, so that the other ends hear when there is no more.
        let reading = scope.spawn(move || {
            let mut turns = to_decode.iter().cycle();
            read(reader, positions, |batches| turns.next().is_some_and(|turn| turn.send(batches).is_ok()))
        });
        let mut events = 0;
        for turn in decoded.iter().cycle() {
            let Ok(batches) = turn.recv() else { break };
            for Decoded { source, received, batch } in batches {
                events += u64::from(batch.count());
                fleet.fold(&source, received, &batch);
            }
        }
        let is_whole = reading.join().expect("reading does not panic")?;
        Ok(Folded { events, is_whole })
    })
}

/// A batch, ready to be folded.
struct Decoded {
    source: Arc<Source>,
    received: i64,
    batch: Batch,
}

fn decode(stored: StoredBatch) -> Option<Decoded> {
    let StoredBatch { source, received, position, payload, schema, .. } = stored;
    match Batch::validate(payload, schema) {
        Ok(batch) => Some(Decoded { source, received, batch }),
        Err(error) => {
            tracing::error!(position, %error, "the state lacks the events of a batch that cannot be read");
            None
        }
    }
}

/// Reads batches and hands them over until nobody takes them; tells whether every segment that there is could be read.
fn read(
    reader: &LogReader,
    positions: std::ops::Range<u64>,
    mut hand_over: impl FnMut(Vec<StoredBatch>) -> bool,
) -> Result<bool, LogError> {
    let scan = Scan {
        positions: Some(positions),
        // What was lost was accepted when the log was opened.
        on_damage: OnDamage::Skip,
        on_absent: OnAbsent::Skip,
        ..Scan::default()
    };
    let mut records = reader.scan(scan);
    let mut is_whole = true;
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while let Some(record) = records.next().transpose()? {
        is_whole &= records.take_absent().iter().all(is_gone);
        let Record::Batch(stored) = record else { continue };
        bytes += stored.payload.len();
        batches.push(stored);
        if batches.len() == BATCHES_AT_ONCE || bytes >= BYTES_AT_ONCE {
            bytes = 0;
            if !hand_over(std::mem::take(&mut batches)) {
                return Ok(is_whole);
            }
        }
    }
    is_whole &= records.take_absent().iter().all(is_gone);
    hand_over(batches);
    Ok(is_whole)
}

/// Tells what the state lacks: for ever, if a segment was deleted or lost, or until the next start, if its store did not answer.
fn is_gone(absent: &AbsentSegment) -> bool {
    let AbsentSegment { id, child, why } = absent;
    let is_gone = matches!(why, LogError::Absent { .. });
    if is_gone {
        tracing::warn!(segment = %id, events = child.rows, "the state lacks the events of a segment that was deleted or lost");
    } else {
        tracing::error!(segment = %id, events = child.rows, %why,
            "the state lacks the events of a segment that could not be read; it is not saved, and the next start tries again");
    }
    is_gone
}
