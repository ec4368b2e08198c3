//! The file that keeps what a spool knows of clocks: text, written anew as a whole and fsynced.
//!
//! ```text
//! server_time <nanoseconds since the Unix epoch>
//! boot <32 hexadecimal digits> offset <nanoseconds> uncertain <true or false>
//! check <CRC32C of the lines above, 8 hexadecimal digits>
//! ```
//!
//! One `boot` line for each boot that batches in the spool are of.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crc32c::crc32c;

use super::files::{failed, sync_dir};
use crate::error::SpoolError;
use crate::spool::rebase::{Rebase, Rebases};

const FILE: &str = "clock";
const NEW_FILE: &str = "clock.new";

/// Keeps `rebases`, for good when it returns. Returns the bytes written.
pub(super) fn write(dir: &Path, rebases: &Rebases) -> Result<u64, SpoolError> {
    let text = render(rebases);
    let new = dir.join(NEW_FILE);
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, dir.join(FILE))
    };
    write().map_err(failed(&new, "write"))?;
    sync_dir(dir)?;
    Ok(text.len() as u64)
}

/// What was kept; nothing if there is no file. One that cannot be read is set aside: the batches it was about may then be
/// sent with other times than before, which the server refuses if it has them.
pub(super) fn read(dir: &Path) -> Result<Rebases, SpoolError> {
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rebases::default()),
        Err(error) => return Err(failed(&path, "read")(error)),
    };
    let parsed = std::str::from_utf8(&text).ok().and_then(parse);
    parsed.map_or_else(
        || {
            tracing::warn!(path = %path.display(), "the spool's clock file is damaged and is set aside");
            fs::rename(&path, path.with_extension("unreadable")).map_err(failed(&path, "set aside"))?;
            Ok(Rebases::default())
        },
        Ok,
    )
}

fn render(rebases: &Rebases) -> String {
    let mut text = format!("server_time {}\n", rebases.server_time);
    for (boot, Rebase { offset, uncertain }) in &rebases.boots {
        let boot = u128::from_be_bytes(*boot);
        // Writing to memory does not fail.
        let _ = writeln!(text, "boot {boot:032x} offset {offset} uncertain {uncertain}");
    }
    let check = crc32c(text.as_bytes());
    text + &format!("check {check:08x}\n")
}

fn parse(text: &str) -> Option<Rebases> {
    let mut lines = text.lines();
    let server_time = lines.next()?.strip_prefix("server_time ")?.parse().ok()?;
    let mut rebases = Rebases { server_time, ..Rebases::default() };
    for line in lines.take_while(|line| !line.starts_with("check ")) {
        let words: Vec<_> = line.split(' ').collect();
        let ["boot", boot, "offset", offset, "uncertain", uncertain] = words[..] else { return None };
        let boot = u128::from_str_radix(boot, 16).ok()?.to_be_bytes();
        let rebase = Rebase { offset: offset.parse().ok()?, uncertain: uncertain.parse().ok()? };
        rebases.boots.insert(boot, rebase);
    }
    (render(&rebases) == text).then_some(rebases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_reads_back_and_damage_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), Rebases::default());
        let rebase = Rebase { offset: -5, uncertain: true };
        let rebases = Rebases { server_time: 7, boots: [([9; 16], rebase)].into() };
        write(dir.path(), &rebases).unwrap();
        assert_eq!(read(dir.path()).unwrap(), rebases);
        let path = dir.path().join(FILE);
        let damaged = fs::read_to_string(&path).unwrap().replace("-5", "-6");
        fs::write(&path, damaged).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Rebases::default());
        assert!(dir.path().join("clock.unreadable").exists());
    }
}
