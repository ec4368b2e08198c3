//! Recording events of one schema.

use icecore_wire::{Column, Value};

use crate::error::RecordError;

/// Records events of one schema for one device, and cuts them into batches.
///
/// Dropping a recorder cuts what it holds if the spool has room; [`Device::flush`](crate::Device::flush) does in any case.
pub struct Recorder {
    _private: (),
}

impl Recorder {
    /// Records one event: its time in nanoseconds since the Unix epoch, and one value per field.
    ///
    /// Waits only while the spool is full, and only under [`WhenFull::Wait`](crate::WhenFull::Wait).
    ///
    /// # Errors
    /// The values do not fit the schema (nothing was recorded), or the device is closed.
    pub async fn row(&mut self, _time: i64, _values: &[Value<'_>]) -> Result<(), RecordError> {
        unimplemented!("skeleton")
    }

    /// Records many events: their times, and one column per field. The fast way: columns are encoded where they lie.
    ///
    /// # Errors
    /// The columns do not fit the schema or each other (nothing was recorded), or the device is closed.
    pub async fn columns(&mut self, _times: &[i64], _columns: &[Column<'_>]) -> Result<(), RecordError> {
        unimplemented!("skeleton")
    }

    /// Makes a batch of what was recorded since the last one, however small. Waits like [`Recorder::row`].
    ///
    /// # Errors
    /// The device is closed, or its spool's disk failed.
    pub async fn cut(&mut self) -> Result<(), RecordError> {
        unimplemented!("skeleton")
    }
}
