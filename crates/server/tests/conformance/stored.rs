//! What a server's log holds in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore_device::SequenceRanges;
use icecore_log::{LogReader, RealDisk, Record, Scan, StoredBatch};

use crate::harness::{Server, Site};

/// Stops the server and reads its log: batches by device and epoch number, in the log's order.
pub(crate) fn stored(site: &Site, server: Server) -> BTreeMap<(String, u32), Vec<StoredBatch>> {
    assert!(server.stop().success());
    let mut stored = BTreeMap::<_, Vec<_>>::new();
    let reader = LogReader::open(Arc::new(RealDisk), &site.path("data")).unwrap();
    for record in reader.scan(Scan::default()) {
        if let Record::Batch(batch) = record.unwrap() {
            let source = &batch.source;
            stored.entry((source.device.to_string(), source.number)).or_default().push(batch);
        }
    }
    stored
}

/// The sequences of some batches; none may be there twice.
pub(crate) fn sequences(batches: &[StoredBatch]) -> SequenceRanges {
    let mut sequences = SequenceRanges::new();
    for batch in batches {
        let range = batch.first_sequence..batch.first_sequence + u64::from(batch.count);
        assert!(!sequences.overlaps(&range), "{range:?} is stored twice");
        sequences.insert(range);
    }
    sequences
}
