//! The buffer between formatting and the operating system.

use std::io::Write;

use crate::ReplayError;

/// Bytes gathered before they are written: large enough that a write's cost does not show beside the formatting.
const WRITE_BYTES: usize = 256 << 10;

/// Text on its way out. Lines are formatted in place, at the end of `buffer`.
#[derive(Debug)]
pub(crate) struct Output<W> {
    pub(crate) buffer: Vec<u8>,
    out: W,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { buffer: Vec::with_capacity(WRITE_BYTES + WRITE_BYTES / 8), out }
    }

    /// Ends a line, and writes when enough is gathered.
    #[inline]
    pub(crate) fn end_line(&mut self) -> Result<(), ReplayError> {
        self.buffer.push(b'\n');
        if self.buffer.len() < WRITE_BYTES { Ok(()) } else { self.write() }
    }

    /// Writes everything gathered, through to the operating system.
    pub(crate) fn flush(&mut self) -> Result<(), ReplayError> {
        self.write()?;
        self.out.flush().map_err(ReplayError::Output)
    }

    fn write(&mut self) -> Result<(), ReplayError> {
        let written = self.out.write_all(&self.buffer);
        // Also when it failed: how much of it came through is unknown, and twice is worse.
        self.buffer.clear();
        written.map_err(ReplayError::Output)
    }
}
