//! How far the log is rolled up.

use serde::{Deserialize, Serialize};

use super::decision::{Decision, What, Why};
use super::effect::Beside;
use super::error::CatalogError;
use super::rows::{STATE, Tables, decode, encode, get};
use super::{Catalog, View};

/// The key of its row in the table `state`.
const KEY: &str = "rollups";

/// How far the log is rolled up, durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledUp {
    /// What the manifests below this number sealed is.
    pub manifests: u64,
    /// The first position behind that.
    pub position: u64,
    /// What was made of it stands before this position. Whatever stands there or behind it is of a later manifest.
    pub written: u64,
}

impl Catalog {
    /// Records how far the log is rolled up; `None` when nothing is to be rolled up any more. What was made of the events has to be
    /// durable: they may be deleted from then on.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn roll_up(&self, rolled_up: Option<RolledUp>, why: &Why) -> Result<(), CatalogError> {
        let what = rolled_up.map_or(What::RollupsEnded, What::RolledUp);
        self.decide(why, what, Beside::default()).map(drop)
    }
}

impl Tables<'_> {
    pub(super) fn put_rolled_up(&mut self, rolled_up: Option<RolledUp>) -> Result<(), CatalogError> {
        match rolled_up {
            Some(rolled_up) => self.stored.insert(KEY, &*encode(&rolled_up))?,
            None => self.stored.remove(KEY)?,
        };
        Ok(())
    }
}

impl View {
    /// How far the log is rolled up; `None` while nothing is to be rolled up, or nothing was said of it yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn rolled_up(&self) -> Result<Option<RolledUp>, CatalogError> {
        get(&self.txn.open_table(STATE)?, "state", KEY)
    }

    /// The same, of the time at which the log ended at `position` or before it: what is to be believed where the log has lost what was
    /// behind that.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn rolled_up_by(&self, position: u64) -> Result<Option<RolledUp>, CatalogError> {
        for row in self.history.range::<u64>(..)?.rev() {
            let (number, row) = row?;
            let decision: Decision = decode("history", &number.value(), row.value())?;
            match decision.what {
                What::RolledUp(rolled_up) if rolled_up.written <= position => return Ok(Some(rolled_up)),
                What::RollupsEnded => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}
