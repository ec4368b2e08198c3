//! The marker of a clean close: the only thing that lets a spool go on with its epoch.
//!
//! Sequences of an epoch must never be given out twice. A process that was killed may have given out some that never
//! reached the disk; a copy of a spool would give out the same ones as the original. So an epoch goes on only when a
//! marker says that it was closed after everything was fsynced, and when its files are, by device, inode and change
//! time, the very files that were closed, in the same boot of the same machine. A copied file has another inode, one that
//! was restored in place another change time, and the image of a whole disk runs in another boot. Whatever cannot be
//! told (no boot id, say) means a new epoch, which costs a few bytes.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crc32c::crc32c;
use icecore_wire::Epoch;

use super::files::{failed, file_path, sync_dir};
use super::format::FileId;
use super::index::FileIndex;
use crate::error::SpoolError;

const MARKER: &str = "closed";
const NEW_MARKER: &str = "closed.new";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Leaves the marker over `epoch`'s files of those in `files`, with all of their content fsynced. If it has none, nothing
/// was ever written in it, and it need not go on.
pub(super) fn leave(
    dir: &Path,
    epoch: Epoch,
    files: impl Iterator<Item = FileId>,
    next_sequence: u64,
) -> Result<(), SpoolError> {
    let Some(text) = render(dir, epoch, files, next_sequence)? else { return Ok(()) };
    let new = dir.join(NEW_MARKER);
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, dir.join(MARKER))
    };
    write().map_err(failed(&new, "write"))?;
    sync_dir(dir)
}

/// Removes the marker, for good before it returns, and tells the epoch and next sequence if it holds.
pub(super) fn take(dir: &Path, files: &VecDeque<FileIndex>) -> Result<Option<(Epoch, u64)>, SpoolError> {
    let path = dir.join(MARKER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(failed(&path, "read")(error)),
    };
    fs::remove_file(&path).map_err(failed(&path, "remove"))?;
    sync_dir(dir)?;
    let Some(epoch) = files.back().map(|file| file.id.epoch) else { return Ok(None) };
    let Some(next_sequence) = next_sequence_of(&text) else { return Ok(None) };
    let expected = render(dir, epoch, files.iter().map(|file| file.id), next_sequence)?;
    Ok((expected.as_deref() == Some(&text)).then_some((epoch, next_sequence)))
}

/// The marker over `epoch`'s files as they are now. `None` if it has none, or where the boot cannot be told.
fn render(
    dir: &Path,
    epoch: Epoch,
    files: impl Iterator<Item = FileId>,
    next_sequence: u64,
) -> Result<Option<String>, SpoolError> {
    let mut numbers: Vec<_> = files.filter(|file| file.epoch == epoch).map(|file| file.number).collect();
    let Some(boot) = fs::read_to_string(BOOT_ID).ok().filter(|_| !numbers.is_empty()) else {
        return Ok(None);
    };
    numbers.sort_unstable();
    let mut body = format!("next {next_sequence}\nepoch {epoch}\n");
    for number in numbers {
        let path = file_path(dir, number);
        let meta = fs::metadata(&path).map_err(failed(&path, "stat"))?;
        // Writing to memory does not fail.
        let _ = writeln!(
            body,
            "file {number} device {} inode {} changed {}.{:09} bytes {}",
            meta.dev(),
            meta.ino(),
            meta.ctime(),
            meta.ctime_nsec(),
            meta.len(),
        );
    }
    let _ = writeln!(body, "boot {}", boot.trim());
    let check = crc32c(body.as_bytes());
    Ok(Some(format!("{body}check {check:08x}\n")))
}

fn next_sequence_of(text: &str) -> Option<u64> {
    text.lines().next()?.strip_prefix("next ")?.parse().ok()
}
