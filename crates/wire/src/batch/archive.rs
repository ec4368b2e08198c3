//! The rkyv archive that a batch payload is. Its layout is version 1 of the format and never changes: a later version
//! is another frame kind.

use std::mem::{align_of, offset_of, size_of};

use rkyv::rancor::{Error, Fallible};
use rkyv::ser::{Allocator, Writer, WriterExt};
use rkyv::util::AlignedVec;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::with::{ArchiveWith, AsVec, SerializeWith};
use rkyv::{Archive, Place, Serialize};

use super::BatchError;
use crate::Payload;

/// Every byte vector starts on a multiple of this, so that any number type can be read where it lies.
pub(super) const VECTOR_ALIGNMENT: usize = 8;

/// A batch as it is written: borrowed parts, copied once into the payload.
#[derive(Archive, Serialize)]
pub(super) struct BatchV1<'a> {
    pub(super) schema: [u8; 16],
    pub(super) first_sequence: u64,
    pub(super) count: u32,
    pub(super) flags: u32,
    /// The event times, then one column per field.
    #[rkyv(with = AsVec)]
    pub(super) columns: &'a [ColumnV1<'a>],
}

/// One column as it is written.
#[derive(Archive, Serialize)]
pub(super) struct ColumnV1<'a> {
    pub(super) ty: u8,
    pub(super) encoding: u8,
    #[rkyv(with = AlignedBytes)]
    pub(super) validity: &'a [u8],
    #[rkyv(with = AlignedBytes)]
    pub(super) offsets: &'a [u8],
    #[rkyv(with = AlignedBytes)]
    pub(super) data: &'a [u8],
}

pub(super) type ArchivedBatch = ArchivedBatchV1<'static>;
pub(super) type ArchivedColumn = ArchivedColumnV1<'static>;

/// Bytes of the root and of each column's entry, beside the byte vectors.
pub(super) const ROOT_BYTES: usize = size_of::<ArchivedBatch>();
/// See [`ROOT_BYTES`].
pub(super) const COLUMN_BYTES: usize = size_of::<ArchivedColumn>();

// The layout that `docs/protocol.md` specifies.
const _: () = {
    assert!(ROOT_BYTES == 40 && align_of::<ArchivedBatch>() == 8);
    assert!(offset_of!(ArchivedBatch, schema) == 0);
    assert!(offset_of!(ArchivedBatch, first_sequence) == 16);
    assert!(offset_of!(ArchivedBatch, count) == 24);
    assert!(offset_of!(ArchivedBatch, flags) == 28);
    assert!(offset_of!(ArchivedBatch, columns) == 32);
    assert!(COLUMN_BYTES == 28 && align_of::<ArchivedColumn>() == 4);
    assert!(offset_of!(ArchivedColumn, ty) == 0);
    assert!(offset_of!(ArchivedColumn, encoding) == 1);
    assert!(offset_of!(ArchivedColumn, validity) == 4);
    assert!(offset_of!(ArchivedColumn, offsets) == 12);
    assert!(offset_of!(ArchivedColumn, data) == 20);
    assert!(size_of::<ArchivedVec<u8>>() == 8);
};

/// Bytes that start on a multiple of [`VECTOR_ALIGNMENT`] in the archive.
pub(super) struct AlignedBytes;

impl ArchiveWith<&[u8]> for AlignedBytes {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve_with(field: &&[u8], resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(field, resolver, out);
    }
}

impl<S> SerializeWith<&[u8], S> for AlignedBytes
where
    S: Fallible + Allocator + Writer + ?Sized,
{
    fn serialize_with(field: &&[u8], serializer: &mut S) -> Result<VecResolver, S::Error> {
        serializer.align(VECTOR_ALIGNMENT)?;
        ArchivedVec::serialize_from_slice(field, serializer)
    }
}

/// Bytes of an archive of so many columns, the event times' included, whose vectors end at `vectors_end`.
pub(super) fn bytes(vectors_end: usize, columns: usize) -> usize {
    let entries_end = vectors_end.next_multiple_of(align_of::<ArchivedColumn>()) + columns * COLUMN_BYTES;
    entries_end.next_multiple_of(align_of::<ArchivedBatch>()) + ROOT_BYTES
}

/// Writes the archive into a fresh payload; `capacity` is the expected size in bytes.
pub(super) fn write(batch: &BatchV1<'_>, capacity: usize) -> Payload {
    let buffer = AlignedVec::<16>::with_capacity(capacity);
    let bytes = rkyv::api::high::to_bytes_in::<_, Error>(batch, buffer)
        .expect("writing to memory fails only when offsets overflow, and a batch is far smaller than 2 GiB");
    Payload::from(bytes)
}

/// Checks that `payload` is a well-formed archive: every vector lies within it and none overlaps another. Says nothing
/// about the columns' content.
pub(super) fn check(payload: &Payload) -> Result<&ArchivedBatch, BatchError> {
    rkyv::api::low::access::<ArchivedBatch, Error>(payload)
        .map_err(|error| BatchError::Archive(error.to_string()))
}

/// The archive of a payload that [`check`] accepted before.
///
/// # Safety
///
/// [`check`] must have accepted the same payload.
pub(super) unsafe fn access_checked(payload: &Payload) -> &ArchivedBatch {
    // SAFETY: the caller guarantees it; a payload never changes.
    unsafe { rkyv::access_unchecked::<ArchivedBatch>(payload) }
}
