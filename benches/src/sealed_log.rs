//! A log as a server leaves it that has sealed everything.

use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::sync::Arc;

use icecore_log::{Encoder, HotLog, NewBatch, Options, RealDisk, SealPlan, Source};
use icecore_wire::{DeviceName, Digest, EncodeOptions, Epoch, encode};

use crate::{Readings, schema};

/// Devices, `bench/000` and so on.
pub const DEVICES: u64 = 100;
const ROWS: u64 = 100;
/// Batches in a block, and events between two seals: what a server seals in a few minutes.
const BLOCK: u64 = 50;
const SEAL: u64 = 4_000_000;

/// The name of a device.
///
/// # Errors
/// Never, for numbers below [`DEVICES`].
pub fn device(number: u64) -> anyhow::Result<DeviceName> {
    Ok(format!("bench/{number:03}").parse()?)
}

/// Writes `events` events into a new data directory: devices send batches in turn.
///
/// # Errors
/// When the disk refuses.
pub fn write(data: &Path, events: u64) -> anyhow::Result<()> {
    // Small ones, since the last is never sealed.
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let (mut appender, mut committer, _) = HotLog::open(Arc::new(RealDisk), data, options, 0, &mut |_| {})?;
    let source = |number| -> anyhow::Result<_> {
        Ok(Arc::new(Source { device: device(number)?, epoch: Epoch::from_bytes([1; 16]), number: 0 }))
    };
    let sources = (0..DEVICES).map(source).collect::<anyhow::Result<Vec<_>>>()?;
    let (schema, mut encoder) = (schema(), Encoder::new());
    let (sealer, class): (_, Arc<str>) = (committer.sealer(), "default".into());
    for number in 0..events / ROWS {
        let (device, first_sequence) = (number % DEVICES, number / DEVICES * ROWS);
        let at_once = Readings::new(first_sequence, ROWS as usize);
        // No two devices measure the same.
        let its_own = Readings::new(first_sequence + device * 7_919, ROWS as usize);
        let payload =
            encode(&schema, first_sequence, at_once.times(), &its_own.columns(), EncodeOptions::PLAIN)?;
        let digest = Digest::of(&payload);
        let batch = NewBatch { payload, first_sequence, count: ROWS as u32, digest, compressed: false };
        appender.batch(&sources[device as usize], &schema, batch);
        let is_last = number + 1 == events / ROWS;
        if number % BLOCK == BLOCK - 1 || is_last {
            committer.commit(&mut encoder.encode(appender.finish(number as i64), 1))?;
        }
        if number * ROWS % SEAL == SEAL - ROWS || is_last {
            let classify = |_: &_, _: &_, _| Arc::clone(&class);
            let plan =
                SealPlan { hot_bytes: u64::MAX, classify: &classify, pace: &mut |_| Continue(()), now: 1 };
            sealer.seal(plan)?;
        }
    }
    Ok(())
}
