//! The bytes of a batch, aligned so that columns are read where they lie.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use rkyv::util::AlignedVec;

/// Immutable bytes that start on a 16-byte boundary. Cloning shares them, and so does [`Payload::slice`]: the batches
/// of one log block share its buffer.
#[derive(Clone)]
pub struct Payload {
    buffer: Arc<AlignedVec<16>>,
    start: usize,
    end: usize,
}

impl Payload {
    /// Copies `bytes` into an aligned buffer.
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        Self::from(aligned)
    }

    /// A part of these bytes, sharing their buffer.
    ///
    /// # Panics
    ///
    /// If `range.start` is not a multiple of 16 or `range` reaches beyond the end.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start.is_multiple_of(16),
            "a payload starts on a 16-byte boundary, not at {}",
            range.start
        );
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} lies outside {self:?}");
        Self {
            buffer: Arc::clone(&self.buffer),
            start: self.start + range.start,
            end: self.start + range.end,
        }
    }

    /// The whole underlying buffer, to be filled anew, if nobody else shares it.
    pub fn into_buffer(self) -> Option<AlignedVec<16>> {
        Arc::into_inner(self.buffer)
    }
}

impl From<AlignedVec<16>> for Payload {
    fn from(bytes: AlignedVec<16>) -> Self {
        Self { start: 0, end: bytes.len(), buffer: Arc::new(bytes) }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}
