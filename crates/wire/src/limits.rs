//! Every limit of the protocol. A peer that goes past one is refused with a reason; nothing grows without one.

use std::time::Duration;

/// Rows in a batch. Offsets and row numbers then fit in 17 bits, and one batch is at most a few blocks' work.
pub const MAX_ROWS: usize = 65_536;

/// Bytes of a batch payload, without frame header and padding. Equal to the log's block target, so that one batch
/// never needs a block much larger than the others.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// Bytes of any other frame's payload (control messages and schema announcements).
pub const MAX_CONTROL_BYTES: usize = 64 << 10;

/// Bytes that the decoded columns of one batch may take, all together. A pco column of a few bytes can stand for
/// 65,536 equal numbers; this bounds what a small payload may make the reader allocate.
pub const MAX_DECODED_BATCH_BYTES: usize = 8 << 20;

/// Fields in a schema, the event time not counted.
pub const MAX_FIELDS: usize = 1024;

/// Bytes of a device name (UTF-8).
pub const MAX_DEVICE_NAME_BYTES: usize = 128;

/// Bytes of a schema name (UTF-8).
pub const MAX_SCHEMA_NAME_BYTES: usize = 128;

/// Bytes of a field name (UTF-8).
pub const MAX_FIELD_NAME_BYTES: usize = 128;

/// Bytes of a unit (UCUM).
pub const MAX_UNIT_BYTES: usize = 64;

/// Bytes of a schema's canonical form: it must fit in one announcement frame.
pub const MAX_SCHEMA_BYTES: usize = MAX_CONTROL_BYTES;

/// Elements of a list value (one waveform).
pub const MAX_LIST_LENGTH: usize = 16_384;

/// Disjoint ranges kept per device and epoch, for each of stored, settled and archived.
pub const MAX_RANGES: usize = 1024;

/// Epochs of one device that may still receive batches.
pub const MAX_OPEN_EPOCHS: usize = 64;

/// Devices attached at once on one connection (a gateway attaches many).
pub const MAX_ALIASES: usize = 1024;

/// Schemas that a batch stream remembers; announcing one more makes both ends forget the oldest.
pub const MAX_STREAM_SCHEMAS: usize = 256;

/// How long either end waits for the other's first message.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a human-readable text in a control message (SDK name, server name, reason).
pub const MAX_TEXT_BYTES: usize = 512;

/// The largest first sequence plus count: one below the largest u64, so that a range's end always fits.
pub const MAX_SEQUENCE: u64 = u64::MAX - 1;

// How the limits hang together.
const _: () = {
    use crate::frame::FRAME_HEADER_BYTES;

    assert!(MAX_ROWS <= u32::MAX as usize);
    assert!(MAX_BATCH_BYTES >= MAX_ROWS * 8, "the largest batch must have room for its event times");
    assert!(MAX_BATCH_BYTES.is_multiple_of(FRAME_HEADER_BYTES));
    assert!(MAX_DECODED_BATCH_BYTES >= MAX_BATCH_BYTES, "whatever fits plain must fit decoded");
    assert!(MAX_DECODED_BATCH_BYTES >= MAX_ROWS * 8);
    assert!(MAX_LIST_LENGTH <= u16::MAX as usize);
    assert!(MAX_LIST_LENGTH * 4 < MAX_BATCH_BYTES, "one waveform must fit in a batch");
    assert!(MAX_FIELDS <= u16::MAX as usize);
    // Texts carry their length in 16 bits.
    assert!(MAX_SCHEMA_NAME_BYTES <= u16::MAX as usize);
    assert!(MAX_FIELD_NAME_BYTES <= u16::MAX as usize);
    assert!(MAX_UNIT_BYTES <= u16::MAX as usize);
    assert!(MAX_TEXT_BYTES <= u16::MAX as usize);
    assert!(3 * MAX_RANGES * 16 + 256 <= MAX_CONTROL_BYTES, "all ranges of an epoch must fit in one message");
    assert!(2 * (MAX_TEXT_BYTES + MAX_DEVICE_NAME_BYTES) + 256 <= MAX_CONTROL_BYTES);
};
