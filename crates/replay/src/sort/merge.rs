//! Merging sorted runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::path::Path;

use super::Ranking;
use super::row::Row;
use super::run::{Run, RunWriter};

/// The rows of several sorted runs in one order.
#[derive(Debug)]
pub(super) struct Merge {
    runs: Vec<Run>,
    /// Per run that has a row, that row's place; the least comes first.
    heads: BinaryHeap<Reverse<Head>>,
    ranking: Ranking,
    /// Whether the least row was handed out and is to be left behind.
    taken: bool,
}

/// A row's place in the order, and the run it is in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    time: i64,
    rank: u32,
    sequence: u64,
    run: usize,
}

impl Merge {
    pub(super) fn new(runs: impl IntoIterator<Item = Run>, ranking: Ranking) -> io::Result<Self> {
        let mut runs: Vec<Run> = runs.into_iter().collect();
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (number, run) in runs.iter_mut().enumerate() {
            if run.advance()? {
                heads.push(Reverse(Head::of(run.row(), number, &ranking)));
            }
        }
        Ok(Self { runs, heads, ranking, taken: false })
    }

    /// The next row.
    pub(super) fn next(&mut self) -> io::Result<Option<Row<'_>>> {
        if self.taken {
            self.leave_least()?;
        }
        self.taken = true;
        Ok(self.heads.peek().map(|Reverse(head)| self.runs[head.run].row()))
    }

    /// Writes all rows as one run into a file in `directory`.
    pub(super) fn spill(mut self, directory: &Path) -> io::Result<Run> {
        let mut writer = RunWriter::create(directory)?;
        while let Some(row) = self.next()? {
            writer.write(row.words())?;
        }
        writer.finish()
    }

    fn leave_least(&mut self) -> io::Result<()> {
        let Some(mut least) = self.heads.peek_mut() else { return Ok(()) };
        let number = least.0.run;
        let run = &mut self.runs[number];
        if run.advance()? {
            // Puts the run back in its place when `least` goes: cheap if it still is the least.
            least.0 = Head::of(run.row(), number, &self.ranking);
        } else {
            PeekMut::pop(least);
        }
        Ok(())
    }
}

impl Head {
    fn of(row: Row<'_>, run: usize, ranking: &Ranking) -> Self {
        let (time, rank) = (ranking.time(row.event_time()), ranking.source(row.source()));
        Self { time, rank, sequence: row.sequence(), run }
    }
}
