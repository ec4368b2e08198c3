//! Conflicts that a person has to look at, on record in `quarantine/conflicts.jsonl`.
//!
//! One JSON object a line. The same device and code again within a minute is counted, and written as one line when the
//! minute is over. When the file is full it becomes `conflicts.old.jsonl`, in place of the one before. Nothing here is
//! fsynced: what a conflict was about is in the log.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use icecore_wire::Code;
use serde::{Deserialize, Serialize};

use crate::writer::{Refusal, wall_time};

/// The record, and what it was before the last time it was full; each grows to [`MAX_FILE_BYTES`].
const FILE: &str = "conflicts.jsonl";
const OLD_FILE: &str = "conflicts.old.jsonl";
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Time within which the same device and code is counted and not written again.
const QUIET: Duration = Duration::from_secs(60);

/// Devices and codes that are counted at once; when there are more, all of them are written and counted anew.
const MAX_COUNTED: usize = 1_024;

/// One conflict, or several of the same kind in short succession.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// When it was seen last, in nanoseconds since the Unix epoch.
    pub time: i64,
    /// The device.
    pub device: String,
    /// The incarnation of its spool, where the conflict is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// The name of the code that the client was told.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
    /// How many of them this stands for.
    pub count: u64,
}

impl Conflict {
    /// One that is seen now.
    pub(crate) fn new(device: &str, code: Code, message: String) -> Self {
        let (device, code) = (device.to_owned(), code.name().to_owned());
        Self { time: wall_time(), device, epoch: None, code, message, count: 1 }
    }

    /// What a refused batch says about its device's spool or schemas, if it does.
    pub(crate) fn of(refusal: &Refusal) -> Option<Self> {
        let told =
            matches!(refusal.code, Code::SequenceConflict | Code::SchemaConflict | Code::SchemaIncompatible);
        let conflict = || Self::new(refusal.from.device.as_str(), refusal.code, refusal.message.clone());
        told.then(|| Self { epoch: Some(refusal.from.epoch.to_string()), ..conflict() })
    }
}

/// What is on record of `device` in the data directory `data`, the newest first.
///
/// # Errors
/// When the record cannot be read. Lines that are not whole are left out.
pub fn conflicts(data: &Path, device: &str) -> io::Result<Vec<Conflict>> {
    let mut found: Vec<Conflict> = Vec::new();
    for file in [OLD_FILE, FILE] {
        let text = match fs::read(data.join("quarantine").join(file)) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let whole = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        found.extend(whole.filter(|conflict: &Conflict| conflict.device == device));
    }
    found.reverse();
    Ok(found)
}

/// The writing end of the record.
#[derive(Debug)]
pub(crate) struct ConflictBook {
    directory: PathBuf,
    counted: HashMap<(String, String), Counted>,
}

/// Repeats of a conflict since it was written.
#[derive(Debug)]
struct Counted {
    since: Instant,
    repeats: Option<Conflict>,
}

impl ConflictBook {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, counted: HashMap::new() }
    }

    /// Whether a file of the quarantine is a part of the record.
    pub(crate) fn is_part(name: &str) -> bool {
        name == FILE || name == OLD_FILE
    }

    /// Puts a conflict on record, or counts it.
    pub(crate) fn record(&mut self, conflict: Conflict, now: Instant) -> io::Result<()> {
        self.write_due(now)?;
        let key = (conflict.device.clone(), conflict.code.clone());
        if let Some(counted) = self.counted.get_mut(&key) {
            let before = counted.repeats.take().map_or(0, |repeats| repeats.count);
            counted.repeats = Some(Conflict { count: before + conflict.count, ..conflict });
            return Ok(());
        }
        if self.counted.len() >= MAX_COUNTED {
            self.write_all(now)?;
        }
        self.counted.insert(key, Counted { since: now, repeats: None });
        self.append(&[conflict])
    }

    /// Writes the counts whose minute is over.
    pub(crate) fn write_due(&mut self, now: Instant) -> io::Result<()> {
        self.write_counted(now, QUIET)
    }

    /// Writes all counts.
    pub(crate) fn write_all(&mut self, now: Instant) -> io::Result<()> {
        self.write_counted(now, Duration::ZERO)
    }

    fn write_counted(&mut self, now: Instant, age: Duration) -> io::Result<()> {
        let mut due = Vec::new();
        self.counted.retain(|_, counted| {
            let keep = now.saturating_duration_since(counted.since) < age;
            if !keep {
                due.extend(counted.repeats.take());
            }
            keep
        });
        due.sort_by_key(|conflict| conflict.time);
        self.append(&due)
    }

    fn append(&self, conflicts: &[Conflict]) -> io::Result<()> {
        if conflicts.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for conflict in conflicts {
            serde_json::to_writer(&mut lines, conflict).map_err(io::Error::other)?;
            lines.push(b'\n');
        }
        let path = self.directory.join(FILE);
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        if file.metadata()?.len() + lines.len() as u64 > MAX_FILE_BYTES {
            fs::rename(&path, self.directory.join(OLD_FILE))?;
            file = OpenOptions::new().create(true).append(true).open(&path)?;
        }
        file.write_all(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(device: &str, message: &str) -> Conflict {
        Conflict::new(device, Code::IdentityConflict, message.to_owned())
    }

    #[test]
    fn repeats_within_a_minute_are_counted() {
        let data = tempfile::tempdir().unwrap();
        let quarantine = data.path().join("quarantine");
        fs::create_dir(&quarantine).unwrap();
        let (mut book, start) = (ConflictBook::new(quarantine), Instant::now());
        for second in [0, 1, 2, 3] {
            book.record(conflict("pump", &second.to_string()), start + Duration::from_secs(second)).unwrap();
            book.record(conflict(&format!("fan {second}"), "other"), start).unwrap();
        }
        let found = || {
            let found = conflicts(data.path(), "pump").unwrap();
            found.into_iter().map(|conflict| (conflict.message, conflict.count)).collect::<Vec<_>>()
        };
        assert_eq!(found(), [("0".to_owned(), 1)]);
        book.record(conflict("pump", "later"), start + QUIET).unwrap();
        assert_eq!(found(), [("later".to_owned(), 1), ("3".to_owned(), 3), ("0".to_owned(), 1)]);
        book.record(conflict("pump", "last"), start + QUIET).unwrap();
        book.write_all(start + QUIET).unwrap();
        assert_eq!(found()[0], ("last".to_owned(), 1));
    }

    #[test]
    fn the_record_is_bounded_and_keeps_the_newest() {
        let data = tempfile::tempdir().unwrap();
        let quarantine = data.path().join("quarantine");
        fs::create_dir(&quarantine).unwrap();
        let mut book = ConflictBook::new(quarantine.clone());
        let now = Instant::now();
        for number in 0..12 {
            let message = format!("{number} {}", "x".repeat(1 << 20));
            book.append(&[conflict("pump", &message)]).unwrap();
        }
        let bytes: u64 =
            fs::read_dir(&quarantine).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 2 * MAX_FILE_BYTES, "{bytes}");
        let found = conflicts(data.path(), "pump").unwrap();
        assert!(found[0].message.starts_with("11 ") && found.len() >= 4, "{}", found.len());
        book.record(conflict("pump", "again"), now).unwrap();
    }
}
