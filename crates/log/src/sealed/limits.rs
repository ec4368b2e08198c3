//! Every bound of a sealed segment. A file that goes past one is refused before anything is allocated for it.

/// Batches in a segment: its batch directory is held in memory while it is written and while it is read in log order, with
/// about 50 bytes for each.
pub const MAX_BATCHES: usize = 1 << 21;

/// Rows of a row group. Larger groups compress no better.
pub(super) const MAX_GROUP_ROWS: usize = 1 << 18;

/// Numbers in one column of a row group, lists counted flat: what pco takes.
pub(super) const MAX_GROUP_NUMBERS: usize = 1 << 24;

/// A row group is ended once its values take so many bytes in memory; the batch that made it so is in it.
pub(super) const GROUP_BYTES: usize = 32 << 20;

/// A row group that holds so many rows ends where the next device begins: what is of one device compresses better, and
/// is found alone.
pub(super) const ROWS_OF_A_DEVICE: usize = 4_000;

/// Values in a page, lists counted flat: what a point read decodes.
pub(super) const PAGE_VALUES: usize = 8_192;

/// Bytes of texts in a page, if there are enough values to have fewer.
pub(super) const PAGE_TEXT_BYTES: usize = 1 << 20;

/// Bytes of the texts or byte strings of one column in a row group, or in what is read at once.
pub(super) const MAX_TEXT_BYTES: usize = 64 << 20;

/// Entries of a dictionary.
pub(super) const MAX_DICTIONARY: usize = 8_192;

/// Bytes of a text that statistics keep.
pub(super) const STATISTIC_BYTES: usize = 32;

/// Bytes of the unpacked footer, and of a row group's head.
pub(super) const MAX_SECTION_BYTES: usize = 256 << 20;

/// Bytes that the events of one window take while batches are read in log order.
pub(super) const WINDOW_BYTES: usize = 32 << 20;

/// Batches of the directory that are decoded at once.
pub(super) const DIRECTORY_STEP: usize = PAGE_VALUES;

const _: () = {
    use icecore_wire::limits::{MAX_DECODED_BATCH_BYTES, MAX_LIST_LENGTH, MAX_ROWS};

    assert!(MAX_ROWS <= MAX_GROUP_ROWS, "a batch lies in one row group");
    assert!(MAX_DECODED_BATCH_BYTES / 2 <= MAX_GROUP_NUMBERS, "the smallest numbers have two bytes");
    assert!(MAX_LIST_LENGTH <= 2 * PAGE_VALUES);
    // A group or window has at most one batch more than it should, and strings their offsets.
    assert!(GROUP_BYTES + 2 * MAX_DECODED_BATCH_BYTES <= MAX_TEXT_BYTES && WINDOW_BYTES <= GROUP_BYTES);
    assert!(MAX_TEXT_BYTES <= u32::MAX as usize);
};
