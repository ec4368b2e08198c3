//! What `/metrics` shows of ingestion. No metric carries a device's name: there may be a million of them.
//!
//! Handles are made once and kept, so that counting costs an atomic add. The recorder has to be installed before
//! [`Writer::start`](crate::Writer::start) for anything to be counted.

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::writer::Decision;

/// Counted by the writer's thread.
pub(crate) struct WriterMetrics {
    events: Counter,
    batches: Counter,
    payload_bytes: Counter,
    duplicates: Counter,
    pub(crate) live_queue_bytes: Gauge,
    pub(crate) backlog_queue_bytes: Gauge,
    pub(crate) durable_position: Gauge,
}

/// Counted by the thread that commits blocks.
pub(crate) struct DiskMetrics {
    pub(crate) commit_seconds: Histogram,
    pub(crate) block_bytes: Histogram,
    pub(crate) raw_bytes: Counter,
    pub(crate) stored_bytes: Counter,
}

/// Counted by the endpoint.
pub(crate) struct EndpointMetrics {
    pub(crate) connections: Gauge,
    pub(crate) full_handshakes: Counter,
    pub(crate) resumed_handshakes: Counter,
    pub(crate) early_handshakes: Counter,
    pub(crate) failed_handshakes: Counter,
    pub(crate) unattached: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) paced: Counter,
    pub(crate) takeovers: Counter,
    pub(crate) identity_conflicts: Counter,
}

impl WriterMetrics {
    pub(crate) fn new() -> Self {
        describe_counter!("icecore_events_total", "Events taken into the log");
        describe_counter!("icecore_batches_total", "Batches taken into the log");
        describe_counter!("icecore_payload_bytes_total", Unit::Bytes, "Payload bytes of batches taken");
        describe_counter!("icecore_duplicate_batches_total", "Batches that came again and were acked again");
        describe_counter!("icecore_refused_batches_total", "Batches refused for good, by code");
        describe_counter!("icecore_deferred_batches_total", "Batches turned away for now, by code");
        describe_gauge!("icecore_queue_bytes", Unit::Bytes, "Bytes that wait for the writer, by class");
        describe_gauge!("icecore_durable_position", "First position that is not durable");
        Self {
            events: counter!("icecore_events_total"),
            batches: counter!("icecore_batches_total"),
            payload_bytes: counter!("icecore_payload_bytes_total"),
            duplicates: counter!("icecore_duplicate_batches_total"),
            live_queue_bytes: gauge!("icecore_queue_bytes", "class" => "live"),
            backlog_queue_bytes: gauge!("icecore_queue_bytes", "class" => "backlog"),
            durable_position: gauge!("icecore_durable_position"),
        }
    }

    /// Counts what became of a batch with `events` events and `bytes` bytes of payload.
    pub(crate) fn count(&self, decision: &Decision, events: u32, bytes: usize) {
        match decision {
            Decision::Stored => {
                self.events.increment(u64::from(events));
                self.batches.increment(1);
                self.payload_bytes.increment(bytes as u64);
            }
            Decision::Duplicate => self.duplicates.increment(1),
            Decision::Refused(refusal) => {
                counter!("icecore_refused_batches_total", "code" => refusal.code.name()).increment(1);
            }
            Decision::Deferred(code) => {
                counter!("icecore_deferred_batches_total", "code" => code.name()).increment(1);
            }
            Decision::Attached | Decision::Dropped => {}
        }
    }
}

impl DiskMetrics {
    pub(crate) fn new() -> Self {
        describe_histogram!("icecore_commit_seconds", Unit::Seconds, "Time to write and fsync a block");
        describe_histogram!("icecore_block_bytes", Unit::Bytes, "Bytes of a block before compression");
        describe_counter!("icecore_log_raw_bytes_total", Unit::Bytes, "Bytes of blocks before compression");
        describe_counter!("icecore_log_stored_bytes_total", Unit::Bytes, "Bytes of blocks on disk");
        Self {
            commit_seconds: histogram!("icecore_commit_seconds"),
            block_bytes: histogram!("icecore_block_bytes"),
            raw_bytes: counter!("icecore_log_raw_bytes_total"),
            stored_bytes: counter!("icecore_log_stored_bytes_total"),
        }
    }
}

impl EndpointMetrics {
    pub(crate) fn new() -> Self {
        describe_gauge!("icecore_connections", "Open sessions");
        describe_counter!("icecore_handshakes_total", "Connections that were let in, by kind of handshake");
        describe_counter!("icecore_failed_handshakes_total", "Connections that failed or were not let in");
        describe_counter!("icecore_unattached_batches_total", "Batches ignored because nothing was attached");
        describe_counter!(
            "icecore_rate_limited_batches_total",
            "Batches sent back because of their device's limit"
        );
        describe_counter!(
            "icecore_paced_connections_total",
            "Times that a connection was told to send slower"
        );
        describe_counter!(
            "icecore_takeovers_total",
            "Devices that a newer session took over from an older one"
        );
        describe_counter!(
            "icecore_identity_conflicts_total",
            "Devices that began to be taken over again and again"
        );
        Self {
            connections: gauge!("icecore_connections"),
            full_handshakes: counter!("icecore_handshakes_total", "kind" => "full"),
            resumed_handshakes: counter!("icecore_handshakes_total", "kind" => "resumed"),
            early_handshakes: counter!("icecore_handshakes_total", "kind" => "0rtt"),
            failed_handshakes: counter!("icecore_failed_handshakes_total"),
            unattached: counter!("icecore_unattached_batches_total"),
            rate_limited: counter!("icecore_rate_limited_batches_total"),
            paced: counter!("icecore_paced_connections_total"),
            takeovers: counter!("icecore_takeovers_total"),
            identity_conflicts: counter!("icecore_identity_conflicts_total"),
        }
    }
}
