//! The batch directory, a page at a time.

use std::ops::Range;
use std::slice::from_ref;

use super::limits::DIRECTORY_STEP;
use super::segment::{Listed, SealedSegment};
use crate::error::LogError;

/// What was read last of a batch directory. Runs are often shorter than what is read at once, and follow each other.
#[derive(Debug, Default)]
pub(super) struct Listing {
    step: Range<u64>,
    listed: Vec<Listed>,
}

impl Listing {
    /// The first of `batches` (not empty): as many as are read at once, at least one.
    pub(super) fn read(
        &mut self,
        segment: &SealedSegment,
        batches: &Range<u64>,
    ) -> Result<&[Listed], LogError> {
        if !self.step.contains(&batches.start) {
            let start = batches.start - batches.start % DIRECTORY_STEP as u64;
            let end = (start + DIRECTORY_STEP as u64).min(segment.batch_count());
            self.listed = segment.list(from_ref(&(start..end)))?;
            self.step = start..end;
        }
        let first = (batches.start - self.step.start) as usize;
        let end = (batches.end.min(self.step.end) - self.step.start) as usize;
        Ok(&self.listed[first..end])
    }
}
