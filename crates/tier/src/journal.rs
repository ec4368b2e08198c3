//! The journal: every decision of the catalog, mirrored to a bucket as objects that are created once and never changed.
//!
//! A line is a decision and the hash of the line before, so that a line cannot be edited or taken out unnoticed. An object
//! has the lines from the decision that names it on, `journal/<term>/<number>.json`. Who writes has a [`Term`]; lines that a
//! machine wrote after another took over do not count.

mod bucket;
mod term;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use icecore_log::checked_line::{self, LineCheck};
use serde::{Deserialize, Serialize};

pub use self::bucket::{Bucket, BucketError, StoreBucket};
pub use self::term::Term;
use crate::catalog::{Decision, digest};

/// Version of the lines; a later one is refused. Those of version 1 have no checksum.
const VERSION: u32 = 2;

/// Decisions in one object, at most: bounds what is in memory at once, and what one failed request repeats.
pub const MAX_LINES: usize = 1000;

/// Decisions that the worker has put on record together. All of them or none take effect.
pub(crate) const TOGETHER: usize = 256;

/// Decisions that may be missing in one place of a journal that is read. More is taken for a misnamed object, so that a
/// number near the end of all numbers does not fill the memory.
const MAX_GAP: u64 = 1 << 20;

/// The journal could not be read or extended.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The bucket refused.
    #[error("bucket: {object}: {source}")]
    Bucket {
        /// The object it was about.
        object: String,
        /// What it said.
        source: BucketError,
    },
    /// Another machine has taken the bucket over.
    #[error(
        "{by} took the bucket over with term {newest}, after this one's term {ours}; this machine must not upload or delete any more"
    )]
    Superseded {
        /// The term of this catalog.
        ours: u64,
        /// The one that ended it.
        newest: u64,
        /// Who took it.
        by: String,
    },
    /// The bucket has the journal of another catalog.
    #[error(
        "the bucket belongs to another catalog ({by}, term {term}); take it over with `catalog rebuild`, or name another bucket"
    )]
    Foreign {
        /// The newest term.
        term: u64,
        /// Who took it.
        by: String,
    },
    /// The bucket lacks what this catalog has put there.
    #[error(
        "the bucket does not have term {term}, which this catalog has taken in it: is it the right one, and mounted if it is a directory?"
    )]
    Emptied {
        /// The term.
        term: u64,
    },
    /// An object is not what this catalog wrote, or would write.
    #[error("bucket: {object}: {what}; rebuild the catalog")]
    Diverged {
        /// The object.
        object: String,
        /// What is wrong.
        what: String,
    },
}

impl JournalError {
    pub(crate) fn bucket(object: &str) -> impl FnOnce(BucketError) -> Self {
        let object = object.to_owned();
        move |source| Self::Bucket { object, source }
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The version of the journal's format.
    journal: u32,
    /// BLAKE3 of the line before, without its newline; zeros in the first line of all.
    #[serde(with = "digest")]
    pub(crate) before: [u8; 32],
    pub(crate) decision: Decision,
}

/// The name of the object whose first line is decision `first`.
pub(crate) fn object(term: u64, first: u64) -> String {
    format!("journal/{term:010}/{first:020}.json")
}

fn parse_object(name: &str) -> Option<(u64, u64)> {
    let (term, first) = name.strip_prefix("journal/")?.strip_suffix(".json")?.split_once('/')?;
    let parsed = (term.parse().ok()?, first.parse().ok()?);
    (object(parsed.0, parsed.1) == name).then_some(parsed)
}

/// The object with these decisions behind the line with the hash `head`.
pub(crate) fn encode(mut head: [u8; 32], decisions: &[Decision]) -> Vec<u8> {
    let mut text = Vec::new();
    for decision in decisions {
        let line = Line { journal: VERSION, before: head, decision: decision.clone() };
        let mut line = serde_json::to_vec(&line).expect("a line has string keys only");
        checked_line::close(&mut line);
        head = blake3::hash(&line).into();
        text.extend(line);
        text.push(b'\n');
    }
    text
}

/// The lines of an object, each with its hash. Says which line cannot be read, counted from 1, and why.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<(Line, [u8; 32])>, String> {
    if !text.ends_with(b"\n") {
        return Err("its last line is cut off".to_owned());
    }
    let lines = text.split(|&byte| byte == b'\n').enumerate().take_while(|(_, line)| !line.is_empty());
    let parsed = lines.map(|(n, line)| {
        let bad = |what: &dyn std::fmt::Display| format!("line {}: {what}", n + 1);
        let sum = checked_line::check(line);
        if sum == LineCheck::Damaged {
            return Err(bad(&"its checksum does not fit"));
        }
        let parsed: Line = serde_json::from_slice(line).map_err(|error| bad(&error))?;
        match (parsed.journal, sum) {
            (1, _) | (VERSION, LineCheck::Whole) => Ok((parsed, blake3::hash(line).into())),
            (VERSION, _) => Err(bad(&"it has no checksum")),
            (version, _) => Err(bad(&format!("version {version}; this program knows {VERSION}"))),
        }
    });
    parsed.collect()
}

/// What a journal says, as far as it can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The decisions from 0 on; `None` where one cannot be read. All in memory: some 300 bytes each.
    pub(crate) decisions: Vec<Option<Decision>>,
    /// Hash of the last line.
    pub(crate) head: [u8; 32],
    /// What is wrong with it; empty when it was read whole.
    pub(crate) faults: Vec<String>,
}

/// What the journal of a bucket says, for whoever only looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Its decisions in order, as far as they can be read.
    pub decisions: Vec<Decision>,
    /// What is wrong with it, each with the object and line; empty when it is whole.
    pub faults: Vec<String>,
}

impl Audit {
    /// Reads the journal. The bucket stays with whoever has it.
    ///
    /// # Errors
    /// When the bucket does not answer.
    pub fn read(bucket: &dyn Bucket) -> Result<Self, JournalError> {
        let newest = Term::newest(bucket)?;
        let Reading { decisions, mut faults, .. } = read(bucket, newest)?;
        if decisions.is_empty() && newest > 0 {
            faults.push(format!("journal/: it is gone; there was one in term {newest}"));
        }
        faults.extend(term::faults(bucket)?);
        Ok(Self { decisions: decisions.into_iter().flatten().collect(), faults })
    }
}

/// Reads the whole journal, up to the term `newest`. A damaged object or a gap is a fault in what is returned; only a bucket that does
/// not answer is an error.
pub(crate) fn read(bucket: &dyn Bucket, newest: u64) -> Result<Reading, JournalError> {
    let mut reading = Reading::default();
    let mut objects: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for name in bucket.list("journal/").map_err(JournalError::bucket("journal/"))? {
        match parse_object(&name) {
            Some((term, first)) => objects.entry(term).or_default().push(first),
            None => reading.faults.push(format!("{name}: this is no name of a journal's object")),
        }
    }
    // What a term wrote behind the place where a later one goes on, it wrote after it was superseded.
    let mut end = u64::MAX;
    let mut order = Vec::new();
    for (term, mut firsts) in objects.into_iter().rev() {
        firsts.sort_unstable();
        firsts.retain(|&first| first < end);
        let begin = firsts.first().copied().unwrap_or(end);
        order.push((term, firsts, end));
        end = begin;
    }
    let mut last = 1;
    for (term, firsts, end) in order.into_iter().rev() {
        for first in firsts {
            reading.catch_up(bucket, last..=term, first)?;
            last = term;
            if first >= reading.next() {
                let name = object(term, first);
                reading.fetch(bucket, &name, first, end)?;
            }
        }
    }
    reading.catch_up(bucket, last..=newest, u64::MAX)?;
    Ok(reading)
}

impl Reading {
    fn next(&self) -> u64 {
        self.decisions.len() as u64
    }

    /// A listing may lag behind. What has the name of what comes next is there all the same: reads on in these terms up to
    /// decision `end`.
    fn catch_up(
        &mut self,
        bucket: &dyn Bucket,
        terms: RangeInclusive<u64>,
        end: u64,
    ) -> Result<(), JournalError> {
        for term in terms {
            while self.next() < end {
                let next = self.next();
                if !self.fetch(bucket, &object(term, next), next, end)? || self.next() == next {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads an object, if it is there.
    fn fetch(&mut self, bucket: &dyn Bucket, name: &str, first: u64, end: u64) -> Result<bool, JournalError> {
        match bucket.get(name) {
            Ok(text) => self.take(name, first, end, &text),
            Err(BucketError::Absent) => return Ok(false),
            Err(BucketError::Unavailable(what)) => {
                let source = BucketError::Unavailable(what);
                return Err(JournalError::Bucket { object: name.to_owned(), source });
            }
            Err(error) => self.faults.push(format!("{name}: {error}")),
        }
        Ok(true)
    }

    /// Takes the lines of an object below decision `end`.
    fn take(&mut self, name: &str, first: u64, end: u64, text: &[u8]) {
        let lines = match decode(text) {
            Ok(lines) => lines,
            Err(what) => return self.faults.push(format!("{name}: {what}")),
        };
        if first < self.next() || first - self.next() > MAX_GAP {
            return self.faults.push(format!("{name}: decision {} was to come next", self.next()));
        }
        if first > self.next() {
            self.faults
                .push(format!("{name}: the decisions {} to {first} before it are not there", self.next()));
            self.decisions.extend((self.next()..first).map(|_| None));
            // What is behind a gap cannot be held against what is before it, only against itself.
            self.head = lines.first().map_or(self.head, |(line, _)| line.before);
        }
        for (n, (line, hash)) in lines.into_iter().enumerate() {
            if self.next() == end {
                return;
            }
            if line.decision.number != self.next() {
                return self.faults.push(format!(
                    "{name}: line {} is decision {}, not {}",
                    n + 1,
                    line.decision.number,
                    self.next()
                ));
            }
            if line.before != self.head {
                self.faults.push(format!("{name}: line {} does not follow the line before it", n + 1));
            }
            self.head = hash;
            self.decisions.push(Some(line.decision));
        }
    }
}
