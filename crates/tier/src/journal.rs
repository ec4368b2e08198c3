//! The journal: every decision of the catalog, mirrored to a bucket as objects that are created once and never changed.
//!
//! A line is a decision and the hash of the line before, so that a line cannot be edited or taken out unnoticed. An object
//! has the lines from the decision that names it on, `journal/<term>/<number>.json`. Who writes has a [`Term`]; lines that a
//! machine wrote after another took over do not count.

mod bucket;
mod term;

use serde::{Deserialize, Serialize};

pub use self::bucket::{Bucket, BucketError, StoreBucket};
pub use self::term::Term;
use crate::catalog::{Decision, digest};

/// Version of the lines; a later one is refused.
const VERSION: u32 = 1;

/// Decisions in one object, at most: bounds what is in memory at once, and what one failed request repeats.
pub const MAX_LINES: usize = 1000;

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
        /// The newest one.
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
    before: [u8; 32],
    pub(crate) decision: Decision,
}

/// The name of the object whose first line is decision `first`.
pub(crate) fn object(term: u64, first: u64) -> String {
    format!("journal/{term:010}/{first:020}.json")
}

/// The object with these decisions behind the line with the hash `head`.
pub(crate) fn encode(mut head: [u8; 32], decisions: &[Decision]) -> Vec<u8> {
    let mut text = Vec::new();
    for decision in decisions {
        let line = Line { journal: VERSION, before: head, decision: decision.clone() };
        let line = serde_json::to_vec(&line).expect("a line has string keys only");
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
        let parsed: Line = serde_json::from_slice(line).map_err(|error| bad(&error))?;
        if parsed.journal != VERSION {
            return Err(bad(&format!("version {}; this program knows {VERSION}", parsed.journal)));
        }
        Ok((parsed, blake3::hash(line).into()))
    });
    parsed.collect()
}
