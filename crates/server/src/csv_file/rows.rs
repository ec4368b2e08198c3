//! The second pass: typed rows.

use icecore_wire::Value;

use super::cell::CellType;
use super::records::{Layout, Records};
use super::scan::event_time;
use super::{CsvError, Mapping, Scan, ScannedFile};

/// The rows of a scanned file, in the file's order.
pub(crate) struct Rows<'s> {
    records: Records,
    layout: Layout,
    types: &'s [CellType],
    scanned: &'s ScannedFile,
}

/// An event before it has a sequence.
pub(crate) struct Row<'a> {
    pub(crate) device: &'a str,
    pub(crate) event_time: i64,
    /// One per field of the schema.
    pub(crate) values: Vec<Value<'a>>,
}

impl<'s> Rows<'s> {
    /// Opens a file that [`scan`](super::scan) has read.
    pub(crate) fn open(
        scan: &'s Scan,
        scanned: &'s ScannedFile,
        mapping: &Mapping,
    ) -> Result<Self, CsvError> {
        let (records, layout) = Records::open(&scanned.path, mapping)?;
        if layout.fields.len() != scan.types.len() {
            return Err(CsvError::Changed { file: scanned.path.clone() });
        }
        Ok(Self { records, layout, types: &scan.types, scanned })
    }

    /// The next row, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>, CsvError> {
        let Some(record) = self.records.next()? else { return Ok(None) };
        let mut values = Vec::with_capacity(self.types.len());
        for ((name, index), ty) in self.layout.fields.iter().zip(self.types) {
            let text = record.text(*index, name)?;
            values.push(ty.parse(text).ok_or_else(|| record.malformed(name, text, ty.expected()))?);
        }
        let device = record.text(self.layout.device, &self.layout.device_name)?;
        Ok(Some(Row { device, event_time: event_time(record, &self.layout)?, values }))
    }

    /// Confirms, after the last row, that the file still was what the first pass read: epochs are made from it.
    pub(crate) fn finish(self) -> Result<(), CsvError> {
        if self.records.fingerprint() == self.scanned.fingerprint {
            Ok(())
        } else {
            Err(CsvError::Changed { file: self.scanned.path.clone() })
        }
    }
}
