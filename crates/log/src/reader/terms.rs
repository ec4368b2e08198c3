//! In which term which positions were written.

use super::LogReader;
use crate::error::LogError;
use crate::segment::SegmentHeader;
use crate::walk::{Limits, Step, Walk};

impl LogReader {
    /// Whether the event that had this position in a log of this term is the one that has it here: not if a later term began at
    /// it or before it, as on a machine that was made anew from less than the lost one had, and not if it never came here.
    ///
    /// Of sealed data it is only known in which manifests terms began. Where this view cannot tell, the answer is yes.
    ///
    /// # Errors
    /// When a segment with which a term began cannot be read.
    pub fn holds(&self, term: u64, position: u64) -> Result<bool, LogError> {
        let manifests = self.manifests().iter().map(|manifest| (manifest.term, manifest.positions.end));
        let hot = self.segments.headers.iter();
        let newest =
            hot.clone().map(|header| header.term).chain(manifests.clone().map(|(term, _)| term)).max();
        if newest.is_none_or(|newest| newest < term) || position >= self.end.position {
            return Ok(false);
        }
        if manifests.filter(|(later, _)| *later > term).any(|(_, end)| end <= position) {
            return Ok(false);
        }
        for header in hot.filter(|header| header.term > term) {
            if self.first_new_position(header)? <= position {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether everything that stood before `position` when a log of this id was in this term is here, as far as [`LogReader::holds`] can
    /// tell.
    ///
    /// # Errors
    /// As [`LogReader::holds`].
    pub fn holds_all_before(&self, log: &[u8; 16], term: u64, position: u64) -> Result<bool, LogError> {
        let last = position.checked_sub(1);
        Ok(self.log() == Some(*log) && last.map_or(Ok(true), |last| self.holds(term, last))?)
    }

    /// The position of the first event in a segment that was not copied there by the recovery that began it.
    fn first_new_position(&self, header: &SegmentHeader) -> Result<u64, LogError> {
        if !header.begins_with_copy {
            return Ok(header.first_position);
        }
        let limits = Limits::of_newest(header, None);
        let mut walk = Walk::open(&*self.store.disk, &self.store.layout, header, limits)?;
        match walk.next_header()? {
            Step::Block(_) | Step::End => Ok(walk.at.position),
            Step::Damage(damage) => Err(damage.into()),
        }
    }
}
