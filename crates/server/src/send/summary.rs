//! What `send` says: what it found before, what became of it after.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::csv_file::Scan;
use crate::instant::display_seconds;
use crate::table::{count, counted};

/// States what the files hold and which types their fields have.
pub(super) fn describe(scan: &Scan, out: &mut impl Write) -> io::Result<()> {
    for file in &scan.files {
        let (rows, devices) = (counted(file.rows, "row"), counted(file.devices.len() as u64, "device"));
        let times = file.times.map_or_else(String::new, |(first, last)| {
            format!(", {} to {}", display_seconds(first), display_seconds(last))
        });
        writeln!(out, "{}: {rows} of {devices}{times}", file.path.display())?;
    }
    let fields = scan.fields().map(|(name, ty)| format!("{name} {ty}")).collect::<Vec<_>>().join(", ");
    writeln!(out, "schema {} version {}: {fields}", scan.schema.name(), scan.schema.version())
}

/// A completed transfer: every row is durable.
pub(crate) struct Summary {
    pub(super) rows: u64,
    /// Rows stored by this call.
    pub(super) new: u64,
    /// Rows the server had before.
    pub(super) known: u64,
    pub(super) elapsed: Duration,
    /// UDP payload bytes sent.
    pub(super) wire_bytes: u64,
    /// Time from sending a batch to its ack, in microseconds.
    pub(super) latencies: Histogram<u64>,
}

impl Summary {
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let [rows, new, known] = [self.rows, self.new, self.known].map(count);
        writeln!(out, "{rows} rows durable: {new} new, {known} stored before")?;
        match (self.new, self.known) {
            (0, 0) => return Ok(()),
            (0, _) => return writeln!(out, "nothing was stored twice: the server had every row"),
            _ => {}
        }
        let seconds = self.elapsed.as_secs_f64();
        let rate = count((self.rows as f64 / seconds).round() as u64);
        let bytes = self.wire_bytes as f64 / self.new as f64;
        writeln!(out, "{seconds:.2} s, {rate} events/s, {bytes:.2} bytes on the wire per event")?;
        let at = |quantile| self.latencies.value_at_quantile(quantile) as f64 / 1e3;
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
        writeln!(out, "ack latency: p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms")
    }
}
