//! Refused batches, kept with the reason for whoever has to find out what a device did wrong.
//!
//! Each is two files in `quarantine/`: `<name>.batch` holds the payload as it came, `<name>.json` says who sent it
//! and why it was refused. The same batch sent again is the same file. When the directory has reached its limit,
//! nothing is added: the first refusals tell more about a fault than the latest, and the operator empties the
//! directory. Nothing here is fsynced: that a batch was refused is in the log.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use icecore_wire::Digest;
use metrics::counter;
use serde::Serialize;

use crate::writer::{Refusal, wall_time};

/// Refusals that may wait for the disk; more are counted, not kept. A device that sends nothing but bad batches
/// must not slow the writer.
const WAITING: usize = 64;

/// The way into the quarantine; dropping it ends the thread behind it.
#[derive(Debug)]
pub(crate) struct Quarantine {
    queue: SyncSender<Box<Refusal>>,
}

/// The content of the `.json` file.
#[derive(Serialize)]
struct Reason<'a> {
    device: &'a str,
    epoch: String,
    first_sequence: u64,
    end_sequence: u64,
    code: &'static str,
    message: &'a str,
    digest: String,
    bytes: usize,
    /// Nanoseconds since the Unix epoch.
    refused_time: i64,
}

/// The directory, and how full it is.
struct Shelf {
    directory: PathBuf,
    bytes: u64,
    limit: u64,
}

impl Quarantine {
    /// Starts to keep refusals in `directory`, at most `limit` bytes of them.
    pub(crate) fn start(directory: PathBuf, limit: u64) -> io::Result<(Self, JoinHandle<()>)> {
        fs::create_dir_all(&directory)?;
        let bytes = bytes_in(&directory)?;
        let shelf = Shelf { directory, bytes, limit };
        let (queue, refusals) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("icecore-quarantine".to_owned())
            .spawn(move || shelf.keep_all(&refusals))?;
        Ok((Self { queue }, thread))
    }

    /// Hands a refusal over; never waits.
    pub(crate) fn keep(&self, refusal: Box<Refusal>) {
        if self.queue.try_send(refusal).is_err() {
            count_lost();
        }
    }
}

impl Shelf {
    fn keep_all(mut self, refusals: &Receiver<Box<Refusal>>) {
        for refusal in refusals {
            // Here and not in the writer's thread, which must not wait for whoever reads the log.
            tracing::info!(
                device = %refusal.from.device,
                first_sequence = refusal.range.start,
                code = refusal.code.name(),
                reason = refusal.message,
                "refused a batch"
            );
            if let Err(e) = self.keep(&refusal) {
                count_lost();
                tracing::warn!(error = %e, directory = %self.directory.display(), "cannot keep a refused batch");
            }
        }
    }

    fn keep(&mut self, refusal: &Refusal) -> io::Result<()> {
        let digest = Digest::of(&refusal.payload);
        let device = refusal.from.device.path_segment();
        // The cut keeps the longest name within what file systems take; the digest keeps names apart.
        let name = format!("{device:.120}-{}-{digest}", refusal.range.start);
        let batch = self.directory.join(format!("{name}.batch"));
        if batch.exists() {
            return Ok(());
        }
        let reason = Reason {
            device: refusal.from.device.as_str(),
            epoch: refusal.from.epoch.to_string(),
            first_sequence: refusal.range.start,
            end_sequence: refusal.range.end,
            code: refusal.code.name(),
            message: &refusal.message,
            digest: digest.to_string(),
            bytes: refusal.payload.len(),
            refused_time: wall_time(),
        };
        let reason = serde_json::to_vec_pretty(&reason).map_err(io::Error::other)?;
        let bytes = (refusal.payload.len() + reason.len()) as u64;
        if self.bytes + bytes > self.limit {
            count_lost();
            return Ok(());
        }
        fs::write(&batch, &*refusal.payload)?;
        fs::write(self.directory.join(format!("{name}.json")), reason)?;
        self.bytes += bytes;
        Ok(())
    }
}

fn count_lost() {
    counter!("icecore_quarantine_not_kept_total").increment(1);
}

fn bytes_in(directory: &Path) -> io::Result<u64> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use icecore_wire::{Code, DeviceName, Epoch, Payload};

    use super::*;
    use crate::writer::Attachment;

    fn refusal(first: u64, content: &[u8]) -> Box<Refusal> {
        let device = DeviceName::try_from("hall/pump").unwrap();
        Box::new(Refusal {
            from: Attachment::new(1, 1, device, Epoch::from_bytes([7; 16])),
            range: first..first + 10,
            code: Code::MalformedBatch,
            message: "offsets run backwards".to_owned(),
            payload: Payload::copy_from(content),
        })
    }

    #[test]
    fn keeps_each_batch_once_and_stops_at_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quarantine");
        let (quarantine, thread) = Quarantine::start(path.clone(), 2_000).unwrap();
        quarantine.keep(refusal(0, b"bad"));
        quarantine.keep(refusal(0, b"bad"));
        quarantine.keep(refusal(10, &[1; 3_000]));
        quarantine.keep(refusal(20, b"worse"));
        drop(quarantine);
        thread.join().unwrap();
        let mut names: Vec<String> =
            fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        let batch = names.iter().find(|n| n.starts_with("hall%2Fpump-0-") && n.ends_with(".batch")).unwrap();
        assert_eq!(fs::read(path.join(batch)).unwrap(), b"bad");
        let reason: serde_json::Value =
            serde_json::from_slice(&fs::read(path.join(batch.replace(".batch", ".json"))).unwrap()).unwrap();
        assert_eq!(reason["code"], "malformed_batch");
        assert_eq!(reason["device"], "hall/pump");
    }
}
