//! What `/metrics` shows of the worker. The recorder has to be installed before [`Worker::new`](super::Worker::new).

use std::collections::BTreeMap;

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use super::Pass;
use crate::store::Store;

pub(super) struct Metrics {
    uploaded: Counter,
    verified: Counter,
    dropped: Counter,
    deleted: Counter,
    requests: Counter,
    backlog: Gauge,
    backlog_bytes: Gauge,
    hours_left: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        describe_counter!("icecore_tier_uploaded_bytes_total", Unit::Bytes, "Bytes of copies made");
        describe_counter!("icecore_tier_verified_bytes_total", Unit::Bytes, "Bytes of copies read back");
        describe_counter!("icecore_tier_dropped_bytes_total", Unit::Bytes, "Bytes of local files dropped");
        describe_counter!("icecore_tier_deleted_bytes_total", Unit::Bytes, "Bytes of segments deleted");
        describe_counter!("icecore_tier_requests_total", "Requests to stores");
        describe_counter!("icecore_tier_failures_total", "What failed and is tried again, by kind");
        describe_gauge!("icecore_tier_backlog_segments", "Copies that are to be made");
        describe_gauge!("icecore_tier_backlog_bytes", Unit::Bytes, "Bytes of copies that are to be made");
        describe_gauge!("icecore_store_resting", "1 while a store is left alone after failures");
        describe_gauge!(
            "icecore_disk_hours_left",
            "Hours until the disk is full, as it fills now; -1 = it does not, or that was not measured for long enough"
        );
        Self {
            uploaded: counter!("icecore_tier_uploaded_bytes_total"),
            verified: counter!("icecore_tier_verified_bytes_total"),
            dropped: counter!("icecore_tier_dropped_bytes_total"),
            deleted: counter!("icecore_tier_deleted_bytes_total"),
            requests: counter!("icecore_tier_requests_total"),
            backlog: gauge!("icecore_tier_backlog_segments"),
            backlog_bytes: gauge!("icecore_tier_backlog_bytes"),
            hours_left: gauge!("icecore_disk_hours_left"),
        }
    }

    pub(super) fn failed(&self, kind: &'static str) {
        counter!("icecore_tier_failures_total", "kind" => kind).increment(1);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub(super) fn tell(&self, pass: &Pass, stores: &BTreeMap<String, Store>) {
        self.uploaded.increment(pass.uploaded_bytes);
        self.verified.increment(pass.verified_bytes);
        self.dropped.increment(pass.dropped_bytes);
        self.deleted.increment(pass.deleted_bytes);
        self.requests.increment(pass.requests);
        self.backlog.set(pass.backlog as f64);
        self.backlog_bytes.set(pass.backlog_bytes as f64);
        self.hours_left.set(pass.hours_left.unwrap_or(-1.0));
        for (name, store) in stores {
            let resting = if store.is_healthy() { 0.0 } else { 1.0 };
            gauge!("icecore_store_resting", "store" => name.clone()).set(resting);
        }
    }
}
