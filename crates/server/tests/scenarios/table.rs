//! Comparing what was sent with what is replayed: per device, the rows in order, cells equal as their types parse them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

/// Per device, a hash of each row in order: equal tables hold equal rows, as often and in the same order.
pub(crate) type Table = BTreeMap<String, Vec<u64>>;

/// Types of columns by name, as `fields.json` has them; a column without one is text.
pub(crate) type Types = HashMap<String, String>;

/// The types of one file in a `fields.json`.
pub(crate) fn types(fields: &Path, stem: &str) -> Types {
    let all: HashMap<String, Types> = serde_json::from_reader(File::open(fields).unwrap()).unwrap();
    all[stem].clone()
}

/// Reads a CSV file, gzipped or not.
pub(crate) fn read(path: &Path, types: &Types) -> Table {
    let file = File::open(path).unwrap();
    let gzipped = path.extension().is_some_and(|extension| extension == "gz");
    let bytes: Box<dyn Read> = if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    parse(bytes, types)
}

/// Parses CSV with the columns `device`, `timestamp` and fields; the columns that only a replay has are left out.
pub(crate) fn parse(bytes: impl Read, types: &Types) -> Table {
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().unwrap().clone();
    let device = header.iter().position(|name| name == "device").unwrap();
    let mut table = Table::new();
    for record in reader.records() {
        let record = record.unwrap();
        let mut hasher = DefaultHasher::new();
        for (name, cell) in header.iter().zip(&record) {
            if !["device", "epoch", "seq"].contains(&name) {
                let ty = if name == "timestamp" {
                    "timestamp"
                } else {
                    types.get(name).map_or("text", String::as_str)
                };
                (name, value(cell, ty)).hash(&mut hasher);
            }
        }
        table.entry(record[device].to_owned()).or_default().push(hasher.finish());
    }
    table
}

/// A cell as its type parses it.
fn value(cell: &str, ty: &str) -> String {
    if cell.is_empty() {
        return "missing".to_owned();
    }
    match ty {
        "float" => format!("float {:016x}", cell.parse::<f64>().unwrap().to_bits()),
        "int" | "u64" => format!("int {}", cell.parse::<i128>().unwrap()),
        "timestamp" => match cell.parse::<i64>() {
            Ok(nanoseconds) => format!("time {nanoseconds}"),
            Err(_) => format!("time {}", cell.parse::<Timestamp>().unwrap().as_nanosecond()),
        },
        _ => format!("text {cell}"),
    }
}

/// Number of rows.
pub(crate) fn rows(table: &Table) -> usize {
    table.values().map(Vec::len).sum()
}

/// Checks that two tables are equal, naming the first row that is not.
pub(crate) fn assert_equal(sent: &Table, replayed: &Table) {
    let names =
        |table: &Table| table.iter().map(|(name, rows)| (name.clone(), rows.len())).collect::<Vec<_>>();
    assert_eq!(names(sent), names(replayed), "rows by device");
    for (device, rows) in sent {
        let differs = rows.iter().zip(&replayed[device]).position(|(sent, replayed)| sent != replayed);
        assert_eq!(differs, None, "this row of {device} came back with other values or in another order");
    }
}
