//! The rows of the scanned files into the SDK, each to its device.

use std::collections::HashMap;
use std::time::Duration;

use icecore_device::{BatchPolicy, Device, DeviceName, Gateway, Recorder};
use icecore_wire::limits::MAX_ALIASES;

use super::epoch;
use super::pace::Pace;
use crate::csv_file::{Mapping, Rows, Scan, ScannedFile};

/// How a file is cut into batches: 1,000 rows, beyond which compression gains little, or 64 KiB before compression,
/// so that a thousand open batches fit in 64 MiB. Never by time: the same file always makes the same batches. Whoever
/// changes this changes the context of [`epoch::of`] too.
pub(super) const CUT: BatchPolicy = BatchPolicy { max_rows: 1_000, max_bytes: 64 << 10, max_age: None };

/// Bytes of batches that may wait for their acks, over all devices of a file.
const SPOOL_BYTES: usize = 64 << 20;

/// Rows between two chances for the connection, which shares this thread, to send and receive.
const ROWS_PER_TURN: u64 = 256;

/// Longer than anybody waits: the [`Watch`](super::watch::Watch) is what ends the wait for a server that is away.
const UNTIL_DONE: Duration = Duration::from_hours(365 * 24);

/// Sends every file and waits until all of it is durable.
pub(super) async fn send_all(
    gateway: &Gateway,
    scan: &Scan,
    mapping: &Mapping,
    mut pace: Pace,
) -> anyhow::Result<()> {
    for file in &scan.files {
        let devices: Vec<&DeviceName> = file.devices.iter().collect();
        // A connection carries so many devices at once; a file of more is read once for each group.
        for group in devices.chunks(MAX_ALIASES) {
            send_devices(gateway, scan, file, mapping, group, &mut pace).await?;
        }
    }
    Ok(())
}

async fn send_devices(
    gateway: &Gateway,
    scan: &Scan,
    file: &ScannedFile,
    mapping: &Mapping,
    names: &[&DeviceName],
    pace: &mut Pace,
) -> anyhow::Result<()> {
    let spool_bytes = (SPOOL_BYTES / names.len().max(1)).max(2 * CUT.max_bytes);
    let mut devices: HashMap<DeviceName, (Device, Recorder)> = HashMap::with_capacity(names.len());
    for name in names {
        let epoch = epoch::of(&file.fingerprint, scan.schema.id(), mapping, name);
        let device = gateway.device_with_epoch((*name).clone(), epoch, spool_bytes)?;
        let recorder = device.recorder(scan.schema.clone());
        devices.insert((*name).clone(), (device, recorder));
    }

    let mut rows = Rows::open(scan, file, mapping)?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let Some((_, recorder)) = devices.get_mut(row.device) else { continue };
        pace.admit(row.event_time).await;
        recorder.row(row.event_time, &row.values).await?;
        count += 1;
        if count % ROWS_PER_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    rows.finish()?;
    for (_, recorder) in devices.values_mut() {
        recorder.cut().await?;
    }
    for (device, _) in devices.into_values() {
        device.close(UNTIL_DONE).await?;
    }
    Ok(())
}
