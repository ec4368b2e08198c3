//! Times that were stamped before there was a clock, set right in place.

use rkyv::util::AlignedVec;

use super::archive::ROOT_BYTES;
use super::{BatchError, BatchHeader, ColumnError, Encoding, FLAG_TIME_UNCERTAIN, TIME_COLUMN};
use crate::Payload;

/// Where the flags lie in the root.
const FLAGS: usize = 28;

/// `payload` with `offset` nanoseconds added to every event time (held within the range of `i64`), marked
/// [uncertain](BatchHeader::time_uncertain) or not.
///
/// Nothing else changes, and the result depends on nothing but the arguments: a resend is byte-identical.
///
/// # Errors
/// The payload is not a well-formed batch, or its event times are compressed.
pub fn rebase(payload: &Payload, offset: i64, uncertain: bool) -> Result<Payload, BatchError> {
    let (header, batch) = BatchHeader::read(payload)?;
    let times = batch.columns.first().filter(|times| times.encoding == Encoding::Plain as u8);
    let wrong = |error: ColumnError| error.of(TIME_COLUMN);
    let times = times.ok_or_else(|| wrong(ColumnError::Encoding(Encoding::Pco as u8)))?;
    let (expected, found) = (header.count as usize * size_of::<i64>(), times.data.len());
    if found != expected {
        return Err(wrong(ColumnError::Length { part: "data", expected, found }));
    }
    let start = times.data.as_ptr() as usize - payload.as_ptr() as usize;
    let mut bytes = AlignedVec::<16>::with_capacity(payload.len());
    bytes.extend_from_slice(payload);
    let (times, _) = bytes[start..start + expected].as_chunks_mut::<8>();
    for time in times {
        *time = i64::from_le_bytes(*time).saturating_add(offset).to_le_bytes();
    }
    let flags = header.flags & !FLAG_TIME_UNCERTAIN | if uncertain { FLAG_TIME_UNCERTAIN } else { 0 };
    let at = bytes.len() - ROOT_BYTES + FLAGS;
    bytes[at..at + size_of::<u32>()].copy_from_slice(&flags.to_le_bytes());
    Ok(Payload::from(bytes))
}
