//! Events as Arrow record batches: one schema is one table.
//!
//! A [`Table`] says which columns there are. A [`TableScan`] reads them: sealed row groups go from their pages into arrays, column by
//! column and on several threads, and columns that nobody asked for are not read; what is hot, of an older version, or wanted in an order
//! goes row by row.

mod arrays;
mod assembly;
mod comparison;
mod cursor;
mod scan;
mod table;
mod watch;

pub use comparison::{Comparison, InvalidComparison, Operator};
pub use cursor::Cursor;
pub use scan::TableScan;
pub use table::Table;
pub use watch::{Looked, ScanWatch};
