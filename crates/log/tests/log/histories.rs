//! Seeded histories of writing, sealing, failing, crashing and recovering on the simulated disk. What was promised once, by an
//! acknowledgement or by recovery, stays; nothing is there twice; positions are dense.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::support::{content, noted, real_batch, source};
use fastrand::Rng;
use icecore_log::disk::{Crash, SimDisk};
use icecore_log::mutants::{self, Mutant};
use icecore_log::{
    Appender, CommitError, Committer, Disk, Encoder, Fact, HotLog, LogError, LogReader, NewBatch, Options,
    Record, Scan, SealPlan, Source, StoredBatch,
};
use icecore_wire::{DeviceName, Schema};

const DATA: &str = "/data";
const SOURCES: usize = 3;

/// Events in a batch.
const ROWS: u64 = 10;

/// A batch's device and first sequence.
type Key = (usize, u64);

/// One machine's life. `Err` says which promise was broken.
struct History {
    rng: Rng,
    disk: SimDisk,
    log: Arc<dyn Disk>,
    schemas: Vec<Arc<Schema>>,
    sources: Vec<Arc<Source>>,
    /// What must be there, with its position.
    promised: BTreeMap<Key, u64>,
    /// What may be there: written, never acknowledged, and not sent again yet.
    pending: Vec<Key>,
    next_sequence: [u64; SOURCES],
}

impl History {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        Self {
            rng: Rng::with_seed(seed ^ 0x5eed),
            log: Arc::new(disk.clone()),
            disk,
            schemas: vec![noted("a"), noted("b")],
            sources: (0..SOURCES).map(|i| source(&format!("device/{i}"), i as u8)).collect(),
            promised: BTreeMap::new(),
            pending: Vec::new(),
            next_sequence: [0; SOURCES],
        }
    }

    fn run(mut self) -> Result<(), String> {
        for _ in 0..self.rng.usize(3..8) {
            self.live()?;
            let crash = if self.rng.bool() { Crash::Process } else { Crash::Power };
            self.disk.crash(crash);
            self.disk.set_capacity(None);
        }
        self.live()
    }

    /// One life of the writing process.
    fn live(&mut self) -> Result<(), String> {
        if self.rng.bool() {
            self.disk.go_down_after(self.rng.u64(0..60));
        }
        let options =
            Options { segment_bytes: self.rng.u64(2..24) << 10, block_bytes: 4096, ..Options::default() };
        let mut told = Vec::new();
        let opened =
            HotLog::open(Arc::clone(&self.log), Path::new(DATA), options, 1, &mut |fact| match fact {
                Fact::Batch { source, first_sequence, .. } => {
                    told.push((source.number as usize, *first_sequence));
                }
                Fact::Sealed { source, sequences, .. } => {
                    let batches = sequences.clone().step_by(ROWS as usize);
                    told.extend(batches.map(|first_sequence| (source.number as usize, first_sequence)));
                }
                _ => {}
            });
        let (mut appender, mut committer, recovery) = match opened {
            Ok(opened) => opened,
            Err(LogError::Io { .. }) if self.disk.is_down() => return Ok(()),
            Err(error) => return Err(format!("the log does not open: {error}")),
        };
        let Some(found) = self.find_all(&mut appender, &told)? else { return Ok(()) };
        self.check(&found, recovery.position)?;
        self.check_reader(recovery.position)?;

        let mut encoder = Encoder::new();
        for _ in 0..self.rng.usize(0..12) {
            if self.rng.u8(..10) == 0 {
                self.seal(&committer)?;
            }
            match self.rng.u8(..20) {
                0 => self.disk.fail_next_sync(),
                1 => self.disk.set_capacity(Some(self.disk.used_space() + self.rng.u64(..2048))),
                _ => {}
            }
            let added = self.fill(&mut appender);
            let mut block = encoder.encode(appender.finish(1), 1);
            loop {
                match committer.commit(&mut block) {
                    Ok(_) => self.promised.extend(added.iter().copied()),
                    Err(CommitError::Full { .. }) => {
                        self.disk.set_capacity(None);
                        continue;
                    }
                    Err(_) => {
                        self.pending.extend(added.iter().map(|(key, _)| *key));
                        return Ok(());
                    }
                }
                break;
            }
        }
        if self.rng.u8(..4) == 0 {
            // Without a crash in between, the next life starts at once.
            let _ = committer.close();
        }
        Ok(())
    }

    /// Seals something, or fails to: neither changes what the log says.
    fn seal(&mut self, committer: &Committer) -> Result<(), String> {
        match self.rng.u8(..20) {
            0 => self.disk.fail_next_sync(),
            1 => self.disk.set_capacity(Some(self.disk.used_space() + self.rng.u64(..8192))),
            _ => {}
        }
        let classes = self.rng.u8(1..4);
        let classify = |schema: &Schema, device: &DeviceName, _| -> Arc<str> {
            let letters =
                device.as_str().len() + usize::from(device.as_str().ends_with('1')) + schema.name().len();
            let class = (letters + usize::from(schema.name() == "a")) as u8 % classes;
            class.to_string().into()
        };
        let mut pieces = self.rng.u64(..200);
        let mut pace = |_| {
            pieces += 1;
            if pieces == 200 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let hot_bytes = self.rng.u64(..60) << 10;
        let plan = SealPlan { hot_bytes, classify: &classify, pace: &mut pace, now: 1 };
        let sealer = committer.sealer();
        let sealed = if self.rng.u8(..5) == 0 {
            let reader = LogReader::open(Arc::clone(&self.log), Path::new(DATA));
            let ids: Vec<_> = reader.iter().flat_map(LogReader::sealed).map(|(id, _)| id).collect();
            if ids.is_empty() {
                return Ok(());
            }
            sealer.split(ids[self.rng.usize(..ids.len())], plan)
        } else {
            sealer.seal(plan)
        };
        self.disk.set_capacity(None);
        match sealed {
            Ok(_) | Err(LogError::Io { .. } | LogError::SealsPoisoned) => Ok(()),
            Err(error) => Err(format!("a seal finds what it should not: {error}")),
        }
    }

    /// Where the batches that recovery told of are; `None` if the machine goes down.
    fn find_all(&self, appender: &mut Appender, told: &[Key]) -> Result<Option<Vec<(Key, u64)>>, String> {
        let mut found = Vec::new();
        for key in told {
            let source = &self.sources[key.0];
            match appender.find_batch(&source.device, &source.epoch, key.1) {
                Ok(Some(entry)) => found.push((*key, entry.position)),
                Err(LogError::Io { .. }) if self.disk.is_down() => return Ok(None),
                other => return Err(format!("{key:?} was told, and looking it up gives {other:?}")),
            }
        }
        Ok(Some(found))
    }

    /// Puts some batches into a block: those of earlier lives that are not there, or new ones.
    fn fill(&mut self, appender: &mut icecore_log::Appender) -> Vec<(Key, u64)> {
        let mut added = Vec::new();
        for _ in 0..self.rng.usize(0..6) {
            let key = self.pending.pop().unwrap_or_else(|| {
                let device = self.rng.usize(..SOURCES);
                let sequence = self.next_sequence[device];
                self.next_sequence[device] += ROWS;
                (device, sequence)
            });
            let (schema, batch) = self.batch(key);
            added.push((key, appender.batch(&self.sources[key.0], schema, batch)));
        }
        added
    }

    /// The batch of a key: who sends it again sends the same.
    fn batch(&self, (device, sequence): Key) -> (&Arc<Schema>, NewBatch) {
        let schema = &self.schemas[(sequence / ROWS) as usize % 3 % 2];
        (
            schema,
            real_batch(schema, sequence, ROWS as u32, (sequence * 7 + device as u64 * 31) as usize % 180),
        )
    }

    /// What recovery tells against what was promised. What it tells is a promise from now on.
    fn check(&mut self, found: &[(Key, u64)], position: u64) -> Result<(), String> {
        let told: BTreeMap<Key, u64> = found.iter().copied().collect();
        if told.len() != found.len() {
            return Err("a batch is stored twice".into());
        }
        for (key, position) in &self.promised {
            match told.get(key) {
                Some(at) if at == position => {}
                Some(at) => return Err(format!("{key:?} moved from position {position} to {at}")),
                None => return Err(format!("{key:?} was acknowledged and is lost")),
            }
        }
        let mut positions: Vec<u64> = told.values().copied().collect();
        positions.sort_unstable();
        if positions != (0..position).step_by(ROWS as usize).collect::<Vec<_>>() {
            return Err(format!("positions are not dense up to {position}: {positions:?}"));
        }
        self.pending.retain(|key| !told.contains_key(key));
        self.promised = told;
        Ok(())
    }

    /// A reader beside the writer sees the same, in order and intact.
    fn check_reader(&self, position: u64) -> Result<(), String> {
        let reader = match LogReader::open(Arc::clone(&self.log), Path::new(DATA)) {
            Ok(reader) => reader,
            Err(LogError::Io { .. }) if self.disk.is_down() => return Ok(()),
            Err(error) => return Err(format!("the reader does not open: {error}")),
        };
        let mut next = 0;
        for record in reader.scan(Scan::default()) {
            let record = match record {
                Ok(record) => record,
                Err(LogError::Io { .. }) if self.disk.is_down() => return Ok(()),
                Err(error) => return Err(format!("reading: {error}")),
            };
            let Record::Batch(stored) = record else { continue };
            let key = (stored.source.number as usize, stored.first_sequence);
            let expected = (self.promised.get(&key), stored.position);
            if expected != (Some(&next), next) || !self.is_as_it_came(key, &stored) {
                return Err(format!("the reader yields {key:?} at {}, {expected:?}", stored.position));
            }
            next += ROWS;
        }
        if next == position || self.disk.is_down() {
            Ok(())
        } else {
            Err(format!("the reader ends at {next}, not {position}"))
        }
    }
}

impl History {
    fn is_as_it_came(&self, key: Key, stored: &StoredBatch) -> bool {
        let (schema, new) = self.batch(key);
        let same_payload = *new.payload == *stored.payload;
        let came = StoredBatch {
            schema: Arc::clone(schema),
            payload: new.payload,
            digest: new.digest,
            ..stored.clone()
        };
        same_payload || content(&Record::Batch(came)) == content(&Record::Batch(stored.clone()))
    }
}

fn histories() -> u64 {
    std::env::var("ICECORE_HISTORIES").map_or(1000, |text| text.parse().expect("a number of histories"))
}

#[test]
fn promises_are_kept() {
    for seed in 0..histories() {
        if let Err(broken) = History::new(seed).run() {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn planted_bugs_are_caught() {
    let mutants = [
        Mutant::AckBeforeSync,
        Mutant::NoSync,
        Mutant::DirectoryNotSynced,
        Mutant::TrustPageCache,
        Mutant::ManifestBeforeChildren,
        Mutant::ChildrenNotNamed,
        Mutant::SourcesBeforeManifest,
    ];
    for mutant in mutants {
        mutants::plant(Some(mutant));
        let caught =
            (0..histories()).find_map(|seed| History::new(seed).run().err().map(|broken| (seed, broken)));
        mutants::plant(None);
        let (seed, broken) = caught.unwrap_or_else(|| panic!("{mutant:?} goes unnoticed"));
        println!("{mutant:?} is caught by seed {seed}: {broken}");
    }
}
