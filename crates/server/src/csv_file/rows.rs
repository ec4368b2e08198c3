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
    /// Opens a file that [`scan`](fn@super::scan) has read.
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::scan;
    use super::*;

    struct Case {
        _directory: tempfile::TempDir,
        path: PathBuf,
        mapping: Mapping,
    }

    impl Case {
        fn new(content: &[u8]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("case.csv");
            std::fs::write(&path, content).unwrap();
            let mapping = Mapping { device_field: "device".to_owned(), time_field: "timestamp".to_owned() };
            Self { _directory: directory, path, mapping }
        }

        fn scan(&self) -> Result<Scan, CsvError> {
            scan(std::slice::from_ref(&self.path), &self.mapping, None, "s", 1)
        }
    }

    #[test]
    fn rows_have_the_inferred_types_and_missing_cells() {
        let case = Case::new(b"timestamp,a,device,b,c\n1,2,x,\"u,\nv\",\n1970-01-01T00:00:00Z,,y,,true\n");
        let scan = case.scan().unwrap();
        assert_eq!(scan.fields().collect::<Vec<_>>(), [("a", "int"), ("b", "text"), ("c", "bool")]);
        assert_eq!(scan.files[0].times, Some((0, 1)));
        let mut rows = Rows::open(&scan, &scan.files[0], &case.mapping).unwrap();
        let first = rows.next().unwrap().unwrap();
        assert_eq!((first.device, first.event_time), ("x", 1));
        assert_eq!(first.values, [Value::I64(2), Value::Text("u,\nv"), Value::Null]);
        let second = rows.next().unwrap().unwrap();
        assert_eq!((second.device, second.event_time), ("y", 0));
        assert_eq!(second.values, [Value::Null, Value::Null, Value::Bool(true)]);
        assert!(rows.next().unwrap().is_none());
        rows.finish().unwrap();
    }

    #[test]
    fn compression_does_not_change_the_fingerprint() {
        use std::io::Write;
        let plain = b"device,timestamp,a\nx,1,2\n";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(plain).unwrap();
        let fingerprint = |content: &[u8]| Case::new(content).scan().unwrap().files[0].fingerprint;
        assert_eq!(fingerprint(&gzip.finish().unwrap()), fingerprint(plain));
    }

    #[test]
    fn a_file_that_changes_between_the_passes_is_noticed() {
        let case = Case::new(b"device,timestamp,a\nx,1,2\n");
        let scan = case.scan().unwrap();
        std::fs::write(&case.path, b"device,timestamp,a\nx,1,3\n").unwrap();
        let mut rows = Rows::open(&scan, &scan.files[0], &case.mapping).unwrap();
        while rows.next().unwrap().is_some() {}
        assert!(matches!(rows.finish(), Err(CsvError::Changed { .. })));
    }

    #[test]
    fn a_damaged_gzip_file_is_an_error() {
        let case = Case::new(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]);
        assert!(matches!(case.scan(), Err(CsvError::Unreadable { .. })));
    }
}
