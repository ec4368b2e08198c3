//! Batches as they are added to the log.

use icecore_log::{Followed as FollowedRecord, Follower, Record};

use crate::{Query, ReplayError, Selection};

/// The batches with events of a query behind those that were there: what [`Batches::follow`](crate::Batches::follow) goes on
/// with.
#[derive(Debug)]
pub struct Follow {
    follower: Follower,
    query: Query,
}

/// What comes next.
#[derive(Debug)]
pub enum Followed {
    /// A batch that may have events of the query.
    Batch(Box<Selection>),
    /// Something else, which is passed over.
    Other,
    /// Nothing: everything that is durable was looked at.
    Idle,
    /// The log has to be opened again, and read from [`Follow::position`] on.
    Behind,
}

impl Follow {
    pub(crate) fn new(follower: Follower, query: Query) -> Self {
        Self { follower, query }
    }

    /// When nothing came, or another view of the log is needed: everything before this position was looked at.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.follower.position()
    }

    /// The next batch.
    ///
    /// # Errors
    /// When a block that is durable cannot be read.
    #[expect(clippy::should_implement_trait, reason = "that there is nothing now is not the end")]
    pub fn next(&mut self) -> Result<Followed, ReplayError> {
        Ok(match self.follower.next()? {
            FollowedRecord::Record(Record::Batch(stored))
                if self.query.wants_device(stored.source.device.as_str())
                    && self.query.schemas.matches(stored.schema.name()) =>
            {
                Followed::Batch(Box::new(Selection::decode(stored, &self.query, None)?))
            }
            FollowedRecord::Record(_) => Followed::Other,
            FollowedRecord::Idle => Followed::Idle,
            FollowedRecord::Behind => Followed::Behind,
        })
    }
}
