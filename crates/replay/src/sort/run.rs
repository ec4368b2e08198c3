//! Sorted runs: in memory while there is room, otherwise in a temporary file.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use bytemuck::{cast_slice, cast_slice_mut};
use crc_fast::{CrcAlgorithm, checksum};

use super::Ranking;
use super::row::Row;
use crate::Event;

/// Bytes read from a run at a time: enough that a disk reads 64 runs side by side at nearly full speed.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Bytes of a sort key: what [`Key`] takes, and half as much again for the sort to work in.
const KEY_BYTES: usize = size_of::<Key>() * 3 / 2;

/// Rows of a sorted run, one after the other.
#[derive(Debug)]
pub(super) enum Run {
    Memory(RunBuffer),
    File(RunFile),
}

impl Run {
    /// Goes to the next row; before the first call there is none. Says whether there is one.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        match self {
            Self::Memory(buffer) => Ok(buffer.advance()),
            Self::File(file) => file.advance(),
        }
    }

    /// The row that the last [`Run::advance`] went to.
    pub(super) fn row(&self) -> Row<'_> {
        match self {
            Self::Memory(buffer) => buffer.row(buffer.at - 1),
            Self::File(file) => file.row(),
        }
    }
}

/// Rows in memory, and how to sort them.
#[derive(Debug, Default)]
pub(super) struct RunBuffer {
    words: Vec<u64>,
    keys: Vec<Key>,
    /// Rows that [`RunBuffer::advance`] went past.
    at: usize,
}

/// What a row is sorted by first, and where it lies.
#[derive(Debug, Clone, Copy)]
struct Key {
    event_time: i64,
    /// Index of the row's first word.
    start: u32,
    /// Words of the row.
    length: u32,
}

impl RunBuffer {
    /// Bytes it takes, the space for sorting included.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words) + self.keys.len() * KEY_BYTES
    }

    pub(super) fn push(&mut self, event: &Event<'_>, source: u32, schema: u32) {
        let start = self.words.len();
        Row::append(&mut self.words, event, source, schema);
        let length = self.words.len() - start;
        self.keys.push(Key { event_time: event.event_time, start: start as u32, length: length as u32 });
    }

    /// Sorts the rows.
    pub(super) fn sort(&mut self, ranking: &Ranking) {
        let words = &self.words;
        let rest = |key: &Key| {
            let row = Row::new(&words[key.start as usize..][..key.length as usize]);
            (ranking.source(row.source()), row.sequence())
        };
        // The stable sort, since rows come in sorted stretches (a device's events mostly are), which it makes use of.
        let time = |key: &Key| ranking.time(key.event_time);
        self.keys.sort_by(|a, b| time(a).cmp(&time(b)).then_with(|| rest(a).cmp(&rest(b))));
    }

    /// Moves the sorted rows into a file in `directory`.
    pub(super) fn spill(&mut self, directory: &Path) -> io::Result<Run> {
        let mut writer = RunWriter::create(directory)?;
        for key in &self.keys {
            writer.write(&self.words[key.start as usize..][..key.length as usize])?;
        }
        self.words.clear();
        self.keys.clear();
        writer.finish()
    }

    fn advance(&mut self) -> bool {
        let more = self.at < self.keys.len();
        self.at += usize::from(more);
        more
    }

    fn row(&self, at: usize) -> Row<'_> {
        let key = &self.keys[at];
        Row::new(&self.words[key.start as usize..][..key.length as usize])
    }
}

/// Writes rows to a file: per row a word with its length (low half) and its CRC32C (high half), then its words.
#[derive(Debug)]
pub(super) struct RunWriter {
    file: File,
    words: Vec<u64>,
}

impl RunWriter {
    /// A run in a new file without a name in `directory`.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(directory)?, words: Vec::with_capacity(READ_BYTES / 8) })
    }

    /// Adds a row; rows come in order.
    pub(super) fn write(&mut self, row: &[u64]) -> io::Result<()> {
        self.words.push(head(row));
        self.words.extend_from_slice(row);
        if size_of_val(&*self.words) < READ_BYTES { Ok(()) } else { self.flush() }
    }

    /// The run, to be read from its beginning.
    pub(super) fn finish(mut self) -> io::Result<Run> {
        self.flush()?;
        self.file.rewind()?;
        Ok(Run::File(RunFile { file: self.file, words: Vec::new(), row: 0..0, filled: 0 }))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(cast_slice(&self.words))?;
        self.words.clear();
        Ok(())
    }
}

/// A run in a file, read through a buffer.
#[derive(Debug)]
pub(super) struct RunFile {
    file: File,
    words: Vec<u64>,
    /// Where in `words` the current row lies.
    row: std::ops::Range<usize>,
    /// Words that were read.
    filled: usize,
}

impl RunFile {
    fn row(&self) -> Row<'_> {
        Row::new(&self.words[self.row.clone()])
    }

    fn advance(&mut self) -> io::Result<bool> {
        self.row = self.row.end..self.row.end;
        if !self.buffer_words(1)? {
            return Ok(false);
        }
        let expected = self.words[self.row.start];
        let length = expected as u32 as usize;
        if !self.buffer_words(1 + length)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let start = self.row.start + 1;
        self.row = start..start + length;
        if head(&self.words[self.row.clone()]) != expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a temporary file reads back altered"));
        }
        Ok(true)
    }

    /// Makes `count` words lie in the buffer from the beginning of `row`; false if the file has none left.
    fn buffer_words(&mut self, count: usize) -> io::Result<bool> {
        if self.row.start + count <= self.filled {
            return Ok(true);
        }
        self.words.copy_within(self.row.start..self.filled, 0);
        self.filled -= self.row.start;
        self.row = 0..0;
        if self.words.len() < count.max(READ_BYTES / 8) {
            self.words.resize(count.max(READ_BYTES / 8), 0);
        }
        let mut bytes = self.filled * 8;
        let buffer: &mut [u8] = cast_slice_mut(&mut self.words);
        // A read may end within a word, and the buffer is handed out in whole ones.
        while bytes < count * 8 || !bytes.is_multiple_of(8) {
            match self.file.read(&mut buffer[bytes..]) {
                Ok(0) if bytes == 0 => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => bytes += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.filled = bytes / 8;
        Ok(true)
    }
}

/// The word in front of a row.
fn head(row: &[u64]) -> u64 {
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, cast_slice(row));
    row.len() as u64 | crc << 32
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn rows_larger_than_the_read_buffer_come_back_and_altered_ones_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let rows: Vec<Vec<u64>> = [1usize, READ_BYTES / 4, 3, READ_BYTES / 8, 0, 9]
            .iter()
            .map(|&length| (0..length as u64).collect())
            .collect();
        let mut writer = RunWriter::create(directory.path()).unwrap();
        rows.iter().for_each(|row| writer.write(row).unwrap());
        let Run::File(mut run) = writer.finish().unwrap() else { unreachable!() };
        for row in &rows[..5] {
            assert!(run.advance().unwrap());
            assert_eq!(run.row().words(), row);
        }

        let last = run.file.metadata().unwrap().len() - 1;
        run.file.write_all_at(&[0xff], last).unwrap();
        run.filled = run.row.end;
        run.file.seek(io::SeekFrom::Start(last + 1 - 80)).unwrap();
        assert_eq!(run.advance().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
