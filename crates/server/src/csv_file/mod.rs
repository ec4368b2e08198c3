//! CSV files as what their devices recorded.
//!
//! A file is read twice in constant memory: [`scan()`] checks every cell, infers the types of the columns and takes
//! the file's fingerprint; [`Rows`] then yields typed rows. Nothing is sent of a file that has a malformed row.

mod cell;
mod declared;
mod inference;
mod records;
mod rows;
mod scan;

use std::path::PathBuf;

pub(crate) use declared::DeclaredTypes;
pub(crate) use rows::Rows;
pub(crate) use scan::{Scan, ScannedFile, scan};

/// Which columns say who and when; all others are fields.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    pub(crate) device_field: String,
    pub(crate) time_field: String,
}

/// Why a file cannot be read as events. Lines count from 1 with the header, rows from 1 without it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CsvError {
    #[error("{}: {source}", .file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{}:{line}: row {row}: {problem}", .file.display())]
    Row { file: PathBuf, line: u64, row: u64, problem: String },
    #[error("{}:{line}: row {row}, column {column}: {value:?} is not {expected}", .file.display())]
    Cell { file: PathBuf, line: u64, row: u64, column: String, value: String, expected: String },
    #[error("{}:1: {problem}", .file.display())]
    Header { file: PathBuf, problem: String },
    #[error("{}: {problem}", .file.display())]
    Declared { file: PathBuf, problem: String },
    #[error("{} changed while it was being sent", .file.display())]
    Changed { file: PathBuf },
}
