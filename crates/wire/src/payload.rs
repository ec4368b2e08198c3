//! The bytes of a batch, aligned so that columns are read where they lie.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use rkyv::util::AlignedVec;

/// Immutable bytes that start on a 16-byte boundary. Cloning shares them.
#[derive(Clone)]
pub struct Payload(Arc<AlignedVec<16>>);

impl Payload {
    /// Copies `bytes` into an aligned buffer.
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        Self::from(aligned)
    }
}

impl From<AlignedVec<16>> for Payload {
    fn from(bytes: AlignedVec<16>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
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
