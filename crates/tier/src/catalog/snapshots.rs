//! Snapshots that are kept, and the one that is on its way to be.

use redb::{ReadableTable, TableError};
use serde::{Deserialize, Serialize};

use super::decision::{What, Why};
use super::effect::Beside;
use super::error::CatalogError;
use super::rows::{OUTGOING, OUTGOING_KEY, SNAPSHOTS, decode, encode, get};
use super::view::View;
use super::{Catalog, End, carry_out, invariants, next};
use crate::segment::SegmentId;
use crate::snapshot::KeptSnapshot;
use crate::store::Parts;

/// A snapshot that was written to the data directory and is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// What it is, and where it goes.
    pub snapshot: KeptSnapshot,
    /// How far its upload is, where that is in parts.
    pub parts: Option<Parts>,
}

impl Catalog {
    /// Records that a snapshot is kept, which was read back and found whole. It is not outgoing any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn keep_snapshot(&self, snapshot: &KeptSnapshot, why: &Why) -> Result<(), CatalogError> {
        self.decide(why, What::SnapshotKept { snapshot: snapshot.clone() }, Beside::default()).map(drop)
    }

    /// Decides that a kept snapshot may go; its bytes may once that is on record and [`Catalog::check_term`] says that nobody else
    /// has the bucket.
    ///
    /// # Errors
    /// When it is not kept; or it is the oldest that goes past everything that was deleted.
    pub fn drop_snapshot(&self, block: u64, why: &Why) -> Result<(), CatalogError> {
        let deleted_to = self.view()?.deleted_to()?;
        self.transact(|tables| {
            let mut kept = Vec::new();
            for row in tables.snapshots.iter()? {
                let (block, row) = row?;
                kept.push(decode("snapshots", &block.value(), row.value())?);
            }
            invariants::snapshot_stays_behind_deletions(&kept, deleted_to, block)?;
            let decision = next(tables, why, What::SnapshotDropped { block })?;
            carry_out(tables, &decision, Beside::default())?;
            tables.append(&decision)
        })
    }

    /// Records that a kept snapshot is gone, or is not the same any more.
    ///
    /// # Errors
    /// When it is not kept.
    pub fn snapshot_lost(&self, block: u64, why: &Why) -> Result<(), CatalogError> {
        self.decide(why, What::SnapshotLost { block }, Beside::default()).map(drop)
    }

    /// Notes a snapshot that is to be kept, before its upload begins and after each part; `None` where it is not any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn note_outgoing(&self, outgoing: Option<&Outgoing>) -> Result<(), CatalogError> {
        self.transact(|tables| {
            match outgoing {
                Some(outgoing) => tables.outgoing.insert(OUTGOING_KEY, &*encode(outgoing))?,
                None => tables.outgoing.remove(OUTGOING_KEY)?,
            };
            Ok(())
        })
    }

    /// Segments may be deleted: the state of their devices is in a snapshot that is kept.
    pub(super) fn are_in_a_snapshot(
        &self,
        segments: impl Iterator<Item = SegmentId>,
    ) -> Result<(), CatalogError> {
        let view = self.view()?;
        let kept = view.snapshots()?;
        for segment in segments {
            if let Some(entry) = view.segment(segment)? {
                invariants::deleted_is_in_a_snapshot(&entry.segment, &kept)?;
            }
        }
        Ok(())
    }
}

impl View {
    /// The snapshots that are kept, in log order.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn snapshots(&self) -> Result<Vec<KeptSnapshot>, CatalogError> {
        let snapshots = match self.txn.open_table(SNAPSHOTS) {
            // An earlier version wrote it, and nobody has since.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            snapshots => snapshots?,
        };
        let rows = snapshots.iter()?;
        rows.map(|row| {
            let (block, row) = row?;
            decode("snapshots", &block.value(), row.value())
        })
        .collect()
    }

    /// The snapshot that is on its way to be kept.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn outgoing(&self) -> Result<Option<Outgoing>, CatalogError> {
        match self.txn.open_table(OUTGOING) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            outgoing => get(&outgoing?, "outgoing", OUTGOING_KEY),
        }
    }

    /// The position behind everything that a policy deleted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn deleted_to(&self) -> Result<u64, CatalogError> {
        let mut to = 0;
        for gone in self.gone()? {
            let gone = gone?;
            if matches!(gone.end, End::Deleted { .. }) {
                to = to.max(gone.positions.end);
            }
        }
        Ok(to)
    }
}
