//! The log of a fleet, its snapshots, its catalog, and what is asked of it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow::Continue;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore_benches::{Readings, schema};
use icecore_log::sealed::SealedSegment;
use icecore_log::{
    Appender, Committer, Encoder, Fact, HotLog, LogError, NewBatch, Options, RealDisk, SealPlan, Sealing,
    SegmentId, Source,
};
use icecore_replay::{Bases, Replay};
use icecore_state::snapshot::{Kind, SnapshotHead, Snapshots};
use icecore_state::{Fleet, Recent};
use icecore_tier::cache::Cache;
use icecore_tier::catalog::{Catalog, NewManifest, Why, contents};
use icecore_tier::elsewhere::Elsewhere;
use icecore_tier::segment::{Content, Copy, Share};
use icecore_tier::store::{Place, Store, Waiting};
use icecore_wire::{Batch, DeviceName, Digest, EncodeOptions, Epoch, Schema, encode};

const DEVICES: u64 = 10_000;
const ROWS: u64 = 100;
/// Between two events of a device.
const STEP: i64 = 1_000_000_000;
/// When the first event happened.
const BEGIN: i64 = 1_760_000_000 * STEP;
/// Batches of a block.
const BLOCK: u64 = 128;
const SEGMENT_BYTES: u64 = 64 << 20;
/// As the server does by default.
const SNAPSHOT_EVERY: u64 = 10_000_000;

/// A log that was made, and what made it.
pub(crate) struct Made {
    directory: PathBuf,
    rounds: u64,
    appender: Appender,
    committer: Committer,
    encoder: Encoder,
    term: u64,
    catalog: Arc<Catalog>,
    fleet: Fleet,
    recent: Recent,
    sources: Vec<Arc<Source>>,
    schema: Arc<Schema>,
    /// The next sequence of each device.
    next: Vec<u64>,
    received: i64,
    in_block: u64,
    base: Option<u64>,
    saved: u64,
}

/// What is asked.
pub(crate) struct Question {
    pub(crate) device: DeviceName,
    pub(crate) at: i64,
    pub(crate) known_at: i64,
}

/// The same for the same numbers.
fn chance(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ b.wrapping_mul(0xD1B5_4A32_D192_ED03);
    x = (x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 29)
}

impl Made {
    pub(crate) fn make(directory: &Path, events: u64) -> anyhow::Result<Self> {
        let data = directory.join("data");
        fs::create_dir_all(&data)?;
        let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
        let (appender, committer, recovery) =
            HotLog::open(Arc::new(RealDisk), &data, options, BEGIN, &mut |_| {})?;
        let source = |device: u64| {
            let device = format!("plant-{}/pump-{device}", device % 50).parse()?;
            Ok(Arc::new(Source { device, epoch: Epoch::from_bytes([1; 16]), number: 0 }))
        };
        let sources: anyhow::Result<Vec<_>> = (0..DEVICES).map(source).collect();
        let mut made = Self {
            directory: directory.to_owned(),
            rounds: (events / DEVICES / ROWS).max(1),
            appender,
            committer,
            encoder: Encoder::new(),
            term: recovery.term,
            catalog: Arc::new(Catalog::open(&data, [7; 16], None)?),
            fleet: Fleet::default(),
            recent: Recent::new(0),
            sources: sources?,
            schema: schema(),
            next: vec![0; DEVICES as usize],
            received: BEGIN,
            in_block: 0,
            base: None,
            saved: 0,
        };
        made.fill()?;
        Ok(made)
    }

    /// All rounds: in each, every device records a batch, and most send it.
    fn fill(&mut self) -> anyhow::Result<()> {
        let mut late: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for round in 0..self.rounds {
            for turn in 0..DEVICES {
                // Another order each time; 7,919 and the number of devices have no divisor in common.
                let device = (turn * 7_919 + chance(round, 0)) % DEVICES;
                let was_away = device % 100 == 7 && (self.rounds / 4..self.rounds * 3 / 5).contains(&round);
                let arrives = match chance(device, round) % 100 {
                    _ if was_away => self.rounds * 3 / 5,
                    0 => round + 1 + chance(round, device) % 10,
                    _ => round,
                };
                match arrives {
                    now if now == round => self.batch(device, round)?,
                    then => late.entry(then.min(self.rounds - 1)).or_default().push((device, round)),
                }
                self.received = BEGIN
                    + (round * ROWS) as i64 * STEP
                    + (turn as i64) * (ROWS as i64 * STEP / DEVICES as i64);
            }
            for (device, recorded) in late.remove(&round).unwrap_or_default() {
                self.batch(device, recorded)?;
            }
        }
        self.commit()
    }

    /// A batch that was recorded in a round.
    fn batch(&mut self, device: u64, recorded: u64) -> anyhow::Result<()> {
        let (source, first) = (Arc::clone(&self.sources[device as usize]), self.next[device as usize]);
        let clock = match (device % 500, chance(recorded, device) % 10) {
            (1, 0) => 94_694_400 * STEP + (recorded * ROWS) as i64 * STEP,
            (2, 0) => BEGIN + 1_200_000_000 * STEP + (recorded * ROWS) as i64 * STEP,
            _ => BEGIN + (recorded * ROWS) as i64 * STEP,
        };
        let readings = Readings::new(recorded * ROWS + device, ROWS as usize);
        let times: Vec<i64> = (0..ROWS as i64).map(|row| clock + row * STEP).collect();
        let payload = encode(&self.schema, first, &times, &readings.columns(), EncodeOptions::PLAIN)?;
        let batch = Batch::validate(payload.clone(), Arc::clone(&self.schema))?;
        let (digest, count) = (Digest::of(&payload), ROWS as u32);
        let position = self.appender.position();
        let received = self.received;
        self.fleet.apply(&Fact::Batch {
            source: &source,
            schema: &self.schema,
            first_sequence: first,
            count,
            position,
            received,
            digest,
        });
        self.fleet.fold(&source, received, &batch);
        self.recent.note(&source.device, position, &batch);
        self.appender.batch(
            &source,
            &self.schema,
            NewBatch { payload, first_sequence: first, count, digest, compressed: false },
        );
        self.next[device as usize] += ROWS;
        self.in_block += 1;
        if self.in_block == BLOCK { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        if self.in_block == 0 {
            return Ok(());
        }
        self.in_block = 0;
        self.committer.commit(&mut self.encoder.encode(self.appender.finish(self.received), 1))?;
        let position = self.committer.end().position;
        if position - self.saved >= SNAPSHOT_EVERY {
            self.saved = position;
            self.snapshot()?;
        }
        self.seal()
    }

    fn snapshot(&mut self) -> anyhow::Result<()> {
        let kind = self.base.map_or(Kind::Full, |base| Kind::Delta { base });
        let point = self.committer.end();
        self.fleet.cut();
        let mut devices = self.fleet.capture(usize::MAX).expect("all of them are captured at once");
        devices.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (log, term, received) = (self.committer.log(), self.term, self.received);
        let head = SnapshotHead { log, kind, point, term, received, created: 0, devices: 0 };
        self.snapshots().write(head, devices.into_iter().map(Ok))?;
        self.base = Some(point.block);
        Ok(())
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::new(Arc::new(RealDisk), &self.data())
    }

    fn seal(&self) -> anyhow::Result<()> {
        let sealer = self.committer.sealer();
        let finished = sealer.finished()?;
        if finished.is_empty() {
            return Ok(());
        }
        let one = |_: &Schema, _: &DeviceName, _: i64| Arc::from("all");
        let mut pace = |_| Continue(());
        let plan = SealPlan { hot_bytes: u64::MAX, classify: &one, pace: &mut pace, now: 1 };
        let Sealing::Done(manifest) = sealer.seal(plan)? else { return Ok(()) };
        let read = |id: SegmentId| -> Result<_, LogError> {
            let file = id.file(&self.data());
            let bytes = fs::read(&file).map_err(|source| LogError::Io {
                what: "read",
                file: file.clone(),
                source,
            })?;
            Ok(contents(SealedSegment::open(Arc::new(bytes), file)?.summary()))
        };
        let share = |bytes: u64, contents: &[Content]| {
            vec![Share {
                policy: "all".to_owned(),
                rows: contents.iter().map(|content| content.rows).sum(),
                bytes,
            }]
        };
        self.catalog.register(&NewManifest::of(&manifest, read)?, 0, &share, &why())?;
        Ok(())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(crate) fn position(&self) -> u64 {
        self.committer.end().position
    }

    /// As a server knows it that has been running all the time.
    pub(crate) fn with_live(&self, bases: Bases, device: &DeviceName) -> Bases {
        bases.with_live(self.position(), self.fleet.device(device).cloned(), self.recent.of(device))
    }

    pub(crate) fn describe(&self) -> anyhow::Result<String> {
        let sealed: Vec<u64> = self.replay()?.reader().sealed().map(|(_, child)| child.bytes).collect();
        Ok(format!(
            "{} events of {DEVICES} devices, {} sealed segments of {} MB",
            self.position(),
            sealed.len(),
            sealed.iter().sum::<u64>() / 1_000_000
        ))
    }

    fn store(&self) -> anyhow::Result<Store> {
        let url = format!("file://{}", self.directory.join("bucket").display());
        Ok(Store::new("archive", Place::open("archive", &url, &BTreeMap::new())?, 0))
    }

    /// Moves the older half of what is sealed; returns how many segments that are.
    pub(crate) fn make_cold(&self) -> anyhow::Result<usize> {
        let sealed: Vec<SegmentId> = self.replay()?.reader().sealed().map(|(id, _)| id).collect();
        let older = &sealed[..sealed.len() / 2];
        for id in older {
            let copy = Copy { store: "archive".to_owned(), class: None, verified: 0 };
            let content = fs::read(id.file(&self.data()))?;
            Waiting::new(None)?.wait(self.store()?.put_new(&copy.object(*id), content.into()))?;
            self.catalog.record_copy(*id, "archive", None, &why())?;
            self.catalog.drop_local(*id, &why())?;
            self.committer.sealer().drop_pages(*id)?;
        }
        Ok(older.len())
    }

    /// The log as a request finds it.
    pub(crate) fn replay(&self) -> anyhow::Result<Replay> {
        let cache = Cache::open(&self.directory.join("cache"), 4 << 30)?;
        let (catalog, waiting) = (Arc::clone(&self.catalog), Waiting::new(Some(Arc::new(cache)))?);
        let elsewhere = Elsewhere::new(move || catalog.view(), [self.store()?], waiting);
        Ok(Replay::open(&self.data())?.with_elsewhere(elsewhere).with_active(self.appender.active()))
    }

    pub(crate) fn question(&self, number: u64) -> Question {
        let device = chance(number, 1) % DEVICES;
        let span = self.rounds * ROWS;
        let instant = |salt: u64| BEGIN + (chance(number, salt) % span) as i64 * STEP;
        let device = self.sources[device as usize].device.clone();
        Question { device, at: instant(2), known_at: instant(3) }
    }
}

fn why() -> Why {
    Why { time: 0, by: "benchmark".to_owned(), policy: None, reason: "to be measured".to_owned() }
}
