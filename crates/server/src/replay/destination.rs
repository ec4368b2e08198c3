//! Where a replay goes: standard output, or a file that is there when it is whole.

use std::fs::File;
use std::io::{self, Stdout, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;

/// An output.
pub(crate) enum Destination {
    /// Unlocked: what writes to it does so in large pieces, and nothing else does.
    Standard(Stdout),
    File {
        unfinished: NamedTempFile,
        path: PathBuf,
    },
}

impl Destination {
    /// The file `out`, or standard output for `-`.
    pub(crate) fn open(out: &Path) -> anyhow::Result<Self> {
        if out.as_os_str() == "-" {
            return Ok(Self::Standard(io::stdout()));
        }
        let directory = match out.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        let unfinished = NamedTempFile::new_in(directory)
            .with_context(|| format!("cannot make a file in {}", directory.display()))?;
        Ok(Self::File { unfinished, path: out.to_owned() })
    }

    fn file(&mut self) -> &mut dyn Write {
        match self {
            Self::Standard(out) => out,
            Self::File { unfinished, .. } => unfinished,
        }
    }

    /// Gives a file its name.
    pub(crate) fn keep(self) -> anyhow::Result<()> {
        let Self::File { unfinished, path } = self else { return Ok(()) };
        let failed = || format!("cannot write {}", path.display());
        let readable = readable_by_all(unfinished.as_file()).with_context(failed);
        unfinished.as_file().sync_all().with_context(failed)?;
        unfinished.persist(&path).map_err(|error| error.error).with_context(failed)?;
        readable
    }
}

/// Temporary files are their owner's alone; this one is like any that a command makes.
fn readable_by_all(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}
