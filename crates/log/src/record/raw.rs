//! Records: what a block's packed section is made of.
//!
//! A record is a 16-byte header and a body, padded to 16. Sources and schemas have numbers that count from zero in
//! each segment and are announced there before first use.

use std::ops::Range;
use std::sync::Arc;

use icecore_wire::{DeviceName, Digest, Epoch, Schema};

use super::Source;
use crate::fields::FieldReader;

const SOURCE: u8 = 1;
const SCHEMA: u8 = 2;
const BATCH: u8 = 3;
const REFUSED: u8 = 4;
const DROPPED: u8 = 5;

/// Flag of a batch whose payload lies in the verbatim section.
const VERBATIM: u8 = 1;

pub(crate) const RECORD_HEADER_BYTES: usize = 16;

/// Bytes between a batch record's header and its payload.
pub(crate) const BATCH_FIELDS_BYTES: usize = 32;

/// What a batch record says besides its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchFields {
    pub(crate) source: u32,
    pub(crate) schema: u32,
    pub(crate) first_sequence: u64,
    pub(crate) count: u32,
    pub(crate) payload_len: u32,
    pub(crate) digest: Digest,
    pub(crate) verbatim: bool,
}

/// A record as it lies in a packed section.
#[derive(Debug)]
pub(crate) enum RawRecord<'a> {
    Source {
        id: u32,
        source: Arc<Source>,
    },
    Schema {
        id: u32,
        schema: Arc<Schema>,
    },
    /// `payload` is its place in the packed section; empty for a verbatim one.
    Batch {
        fields: BatchFields,
        payload: Range<usize>,
    },
    Refused {
        source: u32,
        range: Range<u64>,
        code: u16,
        digest: Digest,
        message: &'a str,
    },
    Dropped {
        source: u32,
        range: Range<u64>,
    },
}

pub(crate) fn push_source(out: &mut Vec<u8>, id: u32, source: &Source) {
    let name = source.device.as_str().as_bytes();
    push_header(out, SOURCE, 0, 16 + name.len(), id, source.number);
    out.extend_from_slice(source.epoch.as_bytes());
    out.extend_from_slice(name);
    pad(out);
}

pub(crate) fn push_schema(out: &mut Vec<u8>, id: u32, schema: &Schema) {
    push_header(out, SCHEMA, 0, schema.canonical().len(), id, 0);
    out.extend_from_slice(schema.canonical());
    pad(out);
}

/// Pushes all of a batch record but its payload and the padding after it.
pub(crate) fn push_batch(out: &mut Vec<u8>, fields: &BatchFields) {
    let (flags, payload) = if fields.verbatim { (VERBATIM, 0) } else { (0, fields.payload_len as usize) };
    push_header(out, BATCH, flags, BATCH_FIELDS_BYTES + payload, fields.source, fields.schema);
    out.extend_from_slice(&fields.first_sequence.to_le_bytes());
    out.extend_from_slice(&fields.count.to_le_bytes());
    out.extend_from_slice(&fields.payload_len.to_le_bytes());
    out.extend_from_slice(fields.digest.as_bytes());
}

pub(crate) fn push_refused(
    out: &mut Vec<u8>,
    source: u32,
    range: &Range<u64>,
    code: u16,
    digest: &Digest,
    message: &str,
) {
    push_header(out, REFUSED, 0, 32 + message.len(), source, u32::from(code));
    out.extend_from_slice(&range.start.to_le_bytes());
    out.extend_from_slice(&range.end.to_le_bytes());
    out.extend_from_slice(digest.as_bytes());
    out.extend_from_slice(message.as_bytes());
    pad(out);
}

pub(crate) fn push_dropped(out: &mut Vec<u8>, source: u32, range: &Range<u64>) {
    push_header(out, DROPPED, 0, 16, source, 0);
    out.extend_from_slice(&range.start.to_le_bytes());
    out.extend_from_slice(&range.end.to_le_bytes());
}

fn push_header(out: &mut Vec<u8>, kind: u8, flags: u8, body: usize, id: u32, extra: u32) {
    let body = u32::try_from(body).expect("a record is smaller than a batch and a schema together");
    out.extend_from_slice(&[kind, flags, 0, 0]);
    out.extend_from_slice(&body.to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&extra.to_le_bytes());
}

/// Pads to the 16 bytes on which every record, and so every payload, starts.
pub(crate) fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(16), 0);
}

/// Reads the record at `at` in a packed section and says where the next one starts; `None` if there is none.
pub(crate) fn parse(section: &[u8], at: usize) -> Option<(RawRecord<'_>, usize)> {
    let mut fields = FieldReader::new(section.get(at..)?);
    let (kind, flags) = (fields.u8()?, fields.u8()?);
    fields.bytes(2)?;
    let body_len = fields.u32()? as usize;
    let (id, extra) = (fields.u32()?, fields.u32()?);
    let mut body = FieldReader::new(fields.bytes(body_len)?);
    let record = match kind {
        SOURCE => {
            let epoch = Epoch::from_bytes(body.array()?);
            let device = DeviceName::try_from(str::from_utf8(body.rest()).ok()?).ok()?;
            RawRecord::Source { id, source: Arc::new(Source { device, epoch, number: extra }) }
        }
        SCHEMA => RawRecord::Schema { id, schema: Arc::new(Schema::from_canonical(body.rest()).ok()?) },
        BATCH => {
            let verbatim = flags & VERBATIM != 0;
            let (first_sequence, count, payload_len) = (body.u64()?, body.u32()?, body.u32()?);
            let digest = Digest::from_bytes(body.array()?);
            let start = at + RECORD_HEADER_BYTES + BATCH_FIELDS_BYTES;
            let inline = if verbatim { 0 } else { payload_len as usize };
            if body.rest().len() != inline || first_sequence.checked_add(u64::from(count)).is_none() {
                return None;
            }
            let fields = BatchFields {
                source: id,
                schema: extra,
                first_sequence,
                count,
                payload_len,
                digest,
                verbatim,
            };
            RawRecord::Batch { fields, payload: start..start + inline }
        }
        REFUSED => {
            let range = body.u64()?..body.u64()?;
            let digest = Digest::from_bytes(body.array()?);
            let message = str::from_utf8(body.rest()).ok()?;
            RawRecord::Refused { source: id, range, code: u16::try_from(extra).ok()?, digest, message }
        }
        DROPPED => RawRecord::Dropped { source: id, range: body.u64()?..body.u64()? },
        _ => return None,
    };
    Some((record, (at + RECORD_HEADER_BYTES + body_len).next_multiple_of(16)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..7) {
            let _ = parse(&bytes, 0);
            // With a kind and a length that fit, the rest is reached.
            let mut bytes = bytes;
            if let Some(body) = bytes.len().checked_sub(RECORD_HEADER_BYTES) {
                bytes[0] = kind;
                bytes[4..8].copy_from_slice(&(body as u32).to_le_bytes());
            }
            let _ = parse(&bytes, 0);
        }

        #[test]
        fn records_follow_one_another(
            (first_sequence, count, payload) in (0..u64::MAX / 2, any::<u32>(), prop::collection::vec(any::<u8>(), 0..100)),
            (code, message) in (any::<u16>(), ".{0,20}"),
            range in any::<std::ops::Range<u64>>(),
            name in "[^\\p{Cc}]{1,20}",
        ) {
            let digest = Digest::of(&payload);
            let source = Source { device: name.parse().unwrap(), epoch: Epoch::from_bytes([9; 16]), number: 4 };
            let payload_len = payload.len() as u32;
            let fields = BatchFields { source: 1, schema: 2, first_sequence, count, payload_len, digest, verbatim: false };
            let mut section = Vec::new();
            push_source(&mut section, 1, &source);
            push_batch(&mut section, &fields);
            section.extend_from_slice(&payload);
            pad(&mut section);
            push_refused(&mut section, 1, &range, code, &digest, &message);
            push_dropped(&mut section, 1, &range);

            let (record, at) = parse(&section, 0).unwrap();
            let RawRecord::Source { id: 1, source: read } = record else { panic!("{record:?}") };
            prop_assert_eq!(&*read, &source);
            let (record, at) = parse(&section, at).unwrap();
            let RawRecord::Batch { fields: read, payload: place } = record else { panic!("{record:?}") };
            prop_assert_eq!(
                (read.source, read.schema, read.first_sequence, read.count, read.digest, read.verbatim),
                (1, 2, first_sequence, count, digest, false)
            );
            prop_assert_eq!(place.start % 16, 0);
            prop_assert_eq!(&section[place], &payload[..]);
            let (record, at) = parse(&section, at).unwrap();
            let RawRecord::Refused { source: 1, range: read, code: c, digest: d, message: m } = record else {
                panic!("{record:?}")
            };
            prop_assert_eq!((read, c, d, m), (range.clone(), code, digest, &message[..]));
            let (record, at) = parse(&section, at).unwrap();
            let RawRecord::Dropped { source: 1, range: read } = record else { panic!("{record:?}") };
            prop_assert_eq!(read, range);
            prop_assert_eq!(at, section.len());
        }
    }
}
