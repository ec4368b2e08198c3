//! The catalog's tables and what their rows hold.
//!
//! A row is a version byte and a postcard value. `docs/format.md` lists the tables.

use std::ops::Range;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::decision::Decision;
use super::error::CatalogError;
use crate::hold::Hold;
use crate::segment::{Content, Copy, Deletion, Segment, SegmentId, Span};

/// Version of the rows; a later one is refused.
const ROW_VERSION: u8 = 1;

/// A segment's name as a key: manifest and child.
pub(super) type Id = (u64, u32);
type Bytes = &'static [u8];

pub(super) const STATE: TableDefinition<'_, &str, Bytes> = TableDefinition::new("state");
pub(super) const SEGMENTS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("segments");
pub(super) const CONTENTS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("contents");
pub(super) const GONE: TableDefinition<'_, Id, Bytes> = TableDefinition::new("gone");
pub(super) const DROPPED: TableDefinition<'_, (u64, u32, &str), ()> = TableDefinition::new("dropped");
pub(super) const MANIFESTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("manifests");
pub(super) const HISTORY: TableDefinition<'_, u64, Bytes> = TableDefinition::new("history");
pub(super) const HISTORY_OF: TableDefinition<'_, (u64, u32, u64), ()> = TableDefinition::new("history_of");
pub(super) const POLICIES: TableDefinition<'_, u64, u64> = TableDefinition::new("policies");
pub(super) const HOLDS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("holds");
pub(super) const SNAPSHOTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("snapshots");
pub(super) const OUTGOING: TableDefinition<'_, &str, Bytes> = TableDefinition::new("outgoing");
pub(super) const UPLOADS: TableDefinition<'_, (u64, u32, &str), Bytes> = TableDefinition::new("uploads");

/// The key of the one row of the table `outgoing`.
pub(super) const OUTGOING_KEY: &str = "snapshot";

/// The key of the state in the table `state`.
pub(super) const STATE_KEY: &str = "state";

/// A live segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What is known of it.
    pub segment: Segment,
    /// Numbers of the holds that stand on it, ascending.
    pub holds: Vec<u64>,
    /// Whether it is known to be nowhere: no local file and no verified copy.
    pub missing: bool,
}

/// What remains of a segment that is not live any more: for ever, so that deleted and missing differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Its name.
    pub id: SegmentId,
    /// Bytes the file had.
    pub bytes: u64,
    /// Events that were in it.
    pub rows: u64,
    /// Root of the file's hashes.
    pub root: [u8; 32],
    /// Positions of its events: the first, and the first behind the last.
    pub positions: Range<u64>,
    /// Received times, first and last.
    pub received: Span,
    /// Event times, first and last.
    pub events: Span,
    /// How it ended.
    pub end: End,
    /// When it ended, in nanoseconds since the Unix epoch.
    pub time: i64,
    /// Whether the data directory may still have the file.
    pub local: bool,
    /// Copies that object storage may still have.
    pub copies: Vec<Copy>,
}

/// How a segment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// A policy deleted it.
    Deleted {
        /// The mark that went before.
        mark: Option<Deletion>,
        /// The holds that stood on it: none.
        holds: Vec<u64>,
    },
    /// Its events live on in the segments of another manifest.
    Split {
        /// That manifest's number.
        into: u64,
    },
    /// It was lost together with its manifest, before either was in object storage.
    Lost,
}

/// What the catalog keeps of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestRow {
    pub(super) positions: Range<u64>,
    pub(super) from: Vec<SegmentId>,
    /// How many segments it brought.
    pub(super) children: u32,
    /// Events in them, all together.
    pub(super) rows: u64,
    /// Events at its positions that are in none of them: they were lost before.
    pub(super) lost: u64,
}

/// Whether anything may be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deletions {
    /// It may.
    On,
    /// Not until an operator confirms.
    Off {
        /// Why.
        reason: String,
    },
}

/// What there is one of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Random: tells this catalog from any other that ever wrote to the bucket.
    pub(super) catalog: [u8; 16],
    /// The term with which this catalog writes to the bucket, once it does.
    pub(super) term: Option<u64>,
    /// Decisions below this number are in the journal.
    pub(super) mirrored: u64,
    /// Hash of the journal's last line.
    pub(super) head: [u8; 32],
    /// Decisions that take effect when the journal has them, and not before; empty where none waits.
    pub(super) pending: Range<u64>,
    pub(super) deletions: Deletions,
    /// Manifests of hot segments cover the positions below this one.
    pub(super) sealed_to: u64,
    /// The number of the next hold.
    pub(super) next_hold: u64,
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![ROW_VERSION]).expect("rows have no type that postcard lacks")
}

pub(super) fn decode<T: DeserializeOwned>(
    table: &'static str,
    key: &dyn std::fmt::Debug,
    row: &[u8],
) -> Result<T, CatalogError> {
    let bad = |what: String| CatalogError::Row { table, key: format!("{key:?}"), what };
    match row {
        [ROW_VERSION, value @ ..] => postcard::from_bytes(value).map_err(|error| bad(error.to_string())),
        [version, ..] => Err(bad(format!("version {version}; this program knows {ROW_VERSION}"))),
        [] => Err(bad("empty".to_owned())),
    }
}

pub(super) fn key(id: SegmentId) -> Id {
    (id.manifest, id.child)
}

pub(super) fn id((manifest, child): Id) -> SegmentId {
    SegmentId { manifest, child }
}

/// Reads a row out of any table, in a transaction that writes or one that reads.
pub(super) fn get<'k, K, T>(
    table: &impl ReadableTable<K, Bytes>,
    name: &'static str,
    key: K::SelfType<'k>,
) -> Result<Option<T>, CatalogError>
where
    K: redb::Key + 'static,
    K::SelfType<'k>: Clone + std::fmt::Debug,
    T: DeserializeOwned,
{
    let row = table.get(key.clone())?;
    row.map(|row| decode(name, &key, row.value())).transpose()
}

/// All tables, open for writing.
pub(super) struct Tables<'t> {
    pub(super) state: State,
    pub(super) stored: Table<'t, &'static str, Bytes>,
    pub(super) segments: Table<'t, Id, Bytes>,
    pub(super) contents: Table<'t, Id, Bytes>,
    pub(super) gone: Table<'t, Id, Bytes>,
    pub(super) dropped: Table<'t, (u64, u32, &'static str), ()>,
    pub(super) manifests: Table<'t, u64, Bytes>,
    pub(super) history: Table<'t, u64, Bytes>,
    history_of: Table<'t, (u64, u32, u64), ()>,
    pub(super) policies: Table<'t, u64, u64>,
    pub(super) holds: Table<'t, u64, Bytes>,
    pub(super) uploads: Table<'t, (u64, u32, &'static str), Bytes>,
    pub(super) snapshots: Table<'t, u64, Bytes>,
    pub(super) outgoing: Table<'t, &'static str, Bytes>,
}

impl<'t> Tables<'t> {
    /// Opens the tables; a database without a state becomes that of the catalog `fresh`.
    pub(super) fn open(txn: &'t WriteTransaction, fresh: [u8; 16]) -> Result<Self, CatalogError> {
        let stored = txn.open_table(STATE)?;
        let state = get(&stored, "state", STATE_KEY)?.unwrap_or(State {
            catalog: fresh,
            term: None,
            mirrored: 0,
            head: [0; 32],
            pending: 0..0,
            deletions: Deletions::On,
            sealed_to: 0,
            next_hold: 1,
        });
        Ok(Self {
            state,
            stored,
            segments: txn.open_table(SEGMENTS)?,
            contents: txn.open_table(CONTENTS)?,
            gone: txn.open_table(GONE)?,
            dropped: txn.open_table(DROPPED)?,
            manifests: txn.open_table(MANIFESTS)?,
            history: txn.open_table(HISTORY)?,
            history_of: txn.open_table(HISTORY_OF)?,
            policies: txn.open_table(POLICIES)?,
            holds: txn.open_table(HOLDS)?,
            uploads: txn.open_table(UPLOADS)?,
            snapshots: txn.open_table(SNAPSHOTS)?,
            outgoing: txn.open_table(OUTGOING)?,
        })
    }

    /// Writes the state back; the last thing in a transaction.
    pub(super) fn store_state(&mut self) -> Result<(), CatalogError> {
        self.stored.insert(STATE_KEY, &*encode(&self.state))?;
        Ok(())
    }

    pub(super) fn entry(&self, segment: SegmentId) -> Result<Option<Entry>, CatalogError> {
        get(&self.segments, "segments", key(segment))
    }

    pub(super) fn gone(&self, segment: SegmentId) -> Result<Option<Gone>, CatalogError> {
        get(&self.gone, "gone", key(segment))
    }

    /// The live segment of this name, which a decision is about.
    pub(super) fn live(&self, segment: SegmentId) -> Result<Entry, CatalogError> {
        if let Some(entry) = self.entry(segment)? {
            return Ok(entry);
        }
        Err(CatalogError::Unknown { segment, gone: self.gone(segment)?.is_some() })
    }

    pub(super) fn put_entry(&mut self, entry: &Entry) -> Result<(), CatalogError> {
        self.segments.insert(key(entry.segment.id), &*encode(entry))?;
        Ok(())
    }

    pub(super) fn put_gone(&mut self, gone: &Gone) -> Result<(), CatalogError> {
        self.gone.insert(key(gone.id), &*encode(gone))?;
        Ok(())
    }

    pub(super) fn contents_of(&self, segment: SegmentId) -> Result<Vec<Content>, CatalogError> {
        Ok(get(&self.contents, "contents", key(segment))?.unwrap_or_default())
    }

    pub(super) fn all_holds(&self) -> Result<Vec<Hold>, CatalogError> {
        let rows = self.holds.iter()?;
        rows.map(|row| {
            row.map_err(Into::into).and_then(|(key, row)| decode("holds", &key.value(), row.value()))
        })
        .collect()
    }

    pub(super) fn decision(&self, number: u64) -> Result<Option<Decision>, CatalogError> {
        get(&self.history, "history", number)
    }

    /// The number that the next decision gets.
    pub(super) fn next_decision(&self) -> Result<u64, CatalogError> {
        Ok(self.history.last()?.map_or(0, |(number, _)| number.value() + 1))
    }

    /// The version of the policies that apply; 0 before there are any.
    pub(super) fn policy_version(&self) -> Result<u64, CatalogError> {
        Ok(self.policies.last()?.map_or(0, |(version, _)| version.value()))
    }

    /// Appends to the history.
    pub(super) fn append(&mut self, decision: &Decision) -> Result<(), CatalogError> {
        self.history.insert(decision.number, &*encode(decision))?;
        for segment in decision.what.segments() {
            self.history_of.insert((segment.manifest, segment.child, decision.number), ())?;
        }
        Ok(())
    }
}
