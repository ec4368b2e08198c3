//! The spool on disk.
//!
//! - [`mod@format`]: the bytes of a file
//! - [`index`]: which batch lies where, and what is to be done with the files; no I/O
//! - [`files`]: the directory; carries the work out
//! - [`recovery`]: what is read when a spool is opened
//! - [`mod@clock`]: what is kept of clocks
//! - [`marker`]: when an epoch may go on

mod clock;
mod files;
mod format;
mod index;
mod marker;
mod recovery;

pub(crate) use files::{Done, SpoolFiles};
pub(crate) use index::{DiskIndex, Work};
