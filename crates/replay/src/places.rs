//! Where the sealed segments of a log are.

use icecore_log::{Child, SegmentId};
use icecore_tier::elsewhere::Deleted;

use crate::{Replay, ReplayError};

/// A sealed segment of the log, and where it is.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its name.
    pub id: SegmentId,
    /// What its manifest knows of it.
    pub child: Child,
    /// Where it is.
    pub place: Place,
}

/// Where a sealed segment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the data directory; copies of it may be in these stores.
    Warm {
        /// The stores' names.
        stores: Vec<String>,
    },
    /// In object storage only.
    Cold {
        /// The stores' names.
        stores: Vec<String>,
    },
    /// It was deleted by policy.
    Deleted(Deleted),
    /// It is nowhere, as far as is known.
    Absent,
}

impl Replay {
    /// The sealed segments of the log, oldest first, and where each of them is. None of them is opened.
    ///
    /// # Errors
    /// When the catalog or the data directory cannot be read.
    pub fn segments(&self) -> Result<Vec<Placed>, ReplayError> {
        let placed = |(id, child): (SegmentId, &Child)| {
            Ok(Placed { id, child: child.clone(), place: self.place_of(id)? })
        };
        self.reader().sealed().map(placed).collect()
    }

    fn place_of(&self, id: SegmentId) -> Result<Place, ReplayError> {
        let is_here = self.reader().is_here(id)?;
        let Some(elsewhere) = self.elsewhere() else {
            return Ok(if is_here { Place::Warm { stores: Vec::new() } } else { Place::Absent });
        };
        if let Some(deleted) = elsewhere.deleted(id)? {
            return Ok(Place::Deleted(deleted));
        }
        let stores = elsewhere.stores_of(id)?;
        Ok(match is_here {
            true => Place::Warm { stores },
            false if stores.is_empty() => Place::Absent,
            false => Place::Cold { stores },
        })
    }
}
