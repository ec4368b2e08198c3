//! The figures of a run: for people, and as JSON.

use std::fmt;

use serde::Serialize;

/// What was measured. A figure that the run does not have is absent.
#[derive(Debug, Default, Serialize)]
#[serde(default)]
pub(crate) struct Figures {
    /// Connections to the server.
    pub(crate) connections: usize,
    /// Seconds from the first batch to the last ack.
    pub(crate) seconds: f64,
    /// Events acked, each of them found in the log afterwards.
    pub(crate) events: u64,
    /// Events acked per second.
    pub(crate) events_per_s: f64,
    /// Median time from sending a batch to its durable ack.
    pub(crate) ack_p50_ms: f64,
    /// 99th percentile of the same.
    pub(crate) ack_p99_ms: f64,
    /// Bytes sent in UDP payloads, per event.
    pub(crate) wire_bytes_per_event: f64,
    /// Batch bytes taken by the log over bytes written by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zstd_ratio: Option<f64>,
    /// Bytes per second of bare QUIC on this machine, in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bare_quic_bytes_per_s: Option<f64>,
    /// Bytes sent per second, over those of bare QUIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_to_bare_quic: Option<f64>,
    /// Processor time of the server, from the first batch to the last ack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_s: Option<f64>,
    /// Processor time of this process, over the same time.
    pub(crate) client_cpu_s: f64,
    /// The server's growth in memory per connection, at the end of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_per_connection_bytes: Option<u64>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "connections            {}", self.connections)?;
        writeln!(f, "events acked           {} in {:.1} s", self.events, self.seconds)?;
        writeln!(f, "events per second      {:.0}", self.events_per_s)?;
        writeln!(f, "ack p50, p99           {:.1} ms, {:.1} ms", self.ack_p50_ms, self.ack_p99_ms)?;
        writeln!(f, "wire bytes per event   {:.1}", self.wire_bytes_per_event)?;
        if let Some(ratio) = self.zstd_ratio {
            writeln!(f, "zstd ratio             {ratio:.2}")?;
        }
        if let (Some(bare), Some(ratio)) = (self.bare_quic_bytes_per_s, self.ratio_to_bare_quic) {
            writeln!(
                f,
                "bare QUIC              {:.0} MB/s, of which {:.0} % here",
                bare / 1e6,
                ratio * 100.0
            )?;
        }
        if let Some(cpu) = self.server_cpu_s {
            writeln!(f, "server processor time  {cpu:.1} s, {:.2} cores", cpu / self.seconds)?;
        }
        writeln!(
            f,
            "client processor time  {:.1} s, {:.2} cores",
            self.client_cpu_s,
            self.client_cpu_s / self.seconds
        )?;
        if let Some(bytes) = self.memory_per_connection_bytes {
            writeln!(f, "server memory          {:.0} KiB a connection", bytes as f64 / 1_024.0)?;
        }
        Ok(())
    }
}
