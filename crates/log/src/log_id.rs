//! The file `log.id`: which log this is.

use std::io;

use crate::disk::{Access, Disk};
use crate::error::{Damage, LogError};
use crate::fields::crc32c;
use crate::segment::{Layout, LogId, unfinished};

/// Reads the log's id, or gives it one. `known` is what its segments or manifests say.
pub(crate) fn load_or_create(
    disk: &dyn Disk,
    layout: &Layout,
    known: Option<LogId>,
) -> Result<LogId, LogError> {
    let stored = load(disk, layout)?;
    match (stored, known) {
        (Some(stored), Some(log)) if stored != log => {
            let what = "its segments or manifests belong to another log than log.id says".to_owned();
            Err(LogError::Foreign { file: layout.data.clone(), what })
        }
        (Some(stored), _) => Ok(stored),
        (None, log) => {
            let log = log.unwrap_or_else(|| disk.random());
            create(disk, layout, log)?;
            Ok(log)
        }
    }
}

fn load(disk: &dyn Disk, layout: &Layout) -> Result<Option<LogId>, LogError> {
    let path = layout.log_id();
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io("open", &path)(error)),
    };
    let mut text = vec![0; 64];
    let len = file.read_at(&mut text, 0).map_err(LogError::io("read", &path))?;
    let parsed = parse(&text[..len]).ok_or_else(|| {
        let what = "this is no log id; remove the file if the segments are this log's".to_owned();
        Damage { file: path, offset: 0, what, positions: None }
    })?;
    Ok(Some(parsed))
}

fn create(disk: &dyn Disk, layout: &Layout, log: LogId) -> Result<(), LogError> {
    let path = layout.log_id();
    let unfinished = unfinished(&path);
    let file = disk.open(&unfinished, Access::Truncate).map_err(LogError::io("create", &unfinished))?;
    file.write_at(text(log).as_bytes(), 0).map_err(LogError::io("write", &unfinished))?;
    file.sync().map_err(LogError::io("sync", &unfinished))?;
    disk.rename(&unfinished, &path).map_err(LogError::io("rename", &unfinished))?;
    disk.sync_dir(&layout.data).map_err(LogError::io("sync", &layout.data))
}

/// `<id> <CRC32C of the id>` in hexadecimal digits, and a newline.
fn text(log: LogId) -> String {
    format!("{:032x} {:08x}\n", u128::from_be_bytes(log), crc32c(&log))
}

fn parse(bytes: &[u8]) -> Option<LogId> {
    let digits = str::from_utf8(bytes.get(..32)?).ok()?;
    let log = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
    (text(log).as_bytes() == bytes).then_some(log)
}
