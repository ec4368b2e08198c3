//! Columns into a payload.

use super::builder::Rows;
use super::{BatchError, Column};
use crate::{Payload, Schema};

/// How a batch is encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Compress number columns with pco at this level (0–12, 8 is a good one; higher counts as 12); `None` leaves them
    /// plain. A column that pco does not make smaller stays plain.
    pub pco: Option<u8>,
    /// Spend no time where it would hardly show: batches of a few rows stay plain, and so does a column that pco does
    /// not make smaller by an eighth; a [`super::BatchBuilder`] then does not try that column again for 64 batches.
    pub only_where_it_pays: bool,
    /// Leave the event times plain, so that they can be [rebased](crate::rebase).
    pub plain_times: bool,
    /// The device had no trustworthy clock when it stamped these events.
    pub time_uncertain: bool,
}

impl EncodeOptions {
    /// Nothing compressed, times from a clock: the default.
    pub const PLAIN: Self =
        Self { pco: None, only_where_it_pays: false, plain_times: false, time_uncertain: false };
}

/// Encodes one batch: `times` in nanoseconds since the Unix epoch, and one column per field of `schema`. To encode many
/// batches, keep a [`super::BatchBuilder`]: it keeps its buffers.
pub fn encode(
    schema: &Schema,
    first_sequence: u64,
    times: &[i64],
    columns: &[Column<'_>],
    options: EncodeOptions,
) -> Result<Payload, BatchError> {
    let mut rows = Rows::new(schema);
    rows.push_columns(schema, times, columns)?;
    rows.encode(schema, first_sequence, options)
}
