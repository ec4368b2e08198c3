//! What the log has on record of every device, kept up with the log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use icecore_log::{Followed, Follower, LogError, LogReader, OnAbsent, OnDamage, RealDisk, Scan};
use icecore_state::Ledger;

use super::problem::Problem;

/// The ledger of the whole log: made from its facts when it is asked for first, and then from what is added.
pub(super) struct Known {
    data: PathBuf,
    folded: RwLock<Option<Folded>>,
}

/// What the log was folded into, up to where the follower stands.
struct Folded {
    ledger: Ledger,
    follower: Follower,
    damage: Option<String>,
}

/// The ledger, as it is now.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) ledger: &'a Ledger,
    /// What could not be read, and is not in it.
    pub(super) damage: Option<&'a str>,
    /// Every event before this position is in it.
    pub(super) position: u64,
}

impl Known {
    pub(super) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), folded: RwLock::new(None) }
    }

    /// Takes up what was added to the log, and looks.
    ///
    /// # Errors
    /// When the log cannot be read, for other reasons than damage, which is told.
    pub(super) fn look<T>(&self, look: impl FnOnce(Now<'_>) -> T) -> Result<T, Problem> {
        self.catch_up()?;
        let folded = self.folded.read().unwrap_or_else(PoisonError::into_inner);
        let Folded { ledger, follower, damage } = folded.as_ref().expect("it was just made");
        Ok(look(Now { ledger, damage: damage.as_deref(), position: follower.position() }))
    }

    fn catch_up(&self) -> Result<(), LogError> {
        let mut folded = self.folded.write().unwrap_or_else(PoisonError::into_inner);
        // What was sealed or damaged under the follower is known when all is read again.
        let is_current = folded.as_mut().is_some_and(|folded| folded.follow().unwrap_or(false));
        if !is_current {
            *folded = None;
            let mut anew = Folded::read(&self.data)?;
            anew.follow()?;
            *folded = Some(anew);
        }
        Ok(())
    }
}

impl Folded {
    fn read(data: &Path) -> Result<Self, LogError> {
        let reader = LogReader::open(Arc::new(RealDisk), data)?;
        let around = || Scan { on_damage: OnDamage::Skip, on_absent: OnAbsent::Skip, ..Scan::default() };
        let mut ledger = Ledger::default();
        let mut damage = None;
        match reader.facts(&mut |fact| ledger.apply(fact)) {
            Ok(()) => {}
            Err(LogError::Damaged(place)) => {
                damage = Some(place.to_string());
                ledger = Ledger::default();
                for record in reader.scan(around()) {
                    ledger.apply(&record?.fact());
                }
            }
            Err(error) => return Err(error),
        }
        let positions = Some(reader.positions().end..u64::MAX);
        let mut behind = reader.scan(Scan { positions, ..around() });
        // What has no events stands at the end too, and is told twice, which changes nothing.
        for record in behind.by_ref() {
            ledger.apply(&record?.fact());
        }
        Ok(Self { ledger, follower: behind.follow(), damage })
    }

    /// Adds what the log's writer has added; `false` if the log has to be read anew.
    fn follow(&mut self) -> Result<bool, LogError> {
        loop {
            match self.follower.next()? {
                Followed::Record(record) => self.ledger.apply(&record.fact()),
                Followed::Idle => return Ok(true),
                Followed::Behind => return Ok(false),
            }
        }
    }
}
