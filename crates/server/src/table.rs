//! Tables for people: columns aligned by their widest cell, numbers to the right.

use std::io::{self, BufWriter, Write};
use std::iter::repeat_n;

/// Which edge of its column a cell stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table that is laid out when it is complete.
#[derive(Debug)]
pub(crate) struct Table {
    alignment: Vec<Align>,
    /// The characters of the widest cell of each column.
    widths: Vec<usize>,
    /// All cells one after the other: a table may have a million rows.
    text: String,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Table {
    /// Starts a table with its header.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let alignment: Vec<Align> = columns.iter().map(|(_, align)| *align).collect();
        let mut table =
            Self { widths: vec![0; alignment.len()], alignment, text: String::new(), ends: Vec::new() };
        columns.iter().enumerate().for_each(|(column, (title, _))| table.cell(column, title));
        table
    }

    /// Appends a row with one cell per column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(cells.len(), self.alignment.len(), "a row has one cell per column");
        cells.into_iter().enumerate().for_each(|(column, cell)| self.cell(column, &cell));
    }

    fn cell(&mut self, column: usize, cell: &str) {
        self.widths[column] = self.widths[column].max(cell.chars().count());
        self.text += cell;
        self.ends.push(self.text.len());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.len() == self.alignment.len()
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut out = BufWriter::new(out);
        let (mut begin, mut line) = (0, String::new());
        for row in self.ends.chunks(self.alignment.len()) {
            line.clear();
            for (column, &end) in row.iter().enumerate() {
                let cell = &self.text[begin..end];
                let padding = self.widths[column] - cell.chars().count();
                let (before, after) = match self.alignment[column] {
                    Align::Left => (0, padding),
                    Align::Right => (padding, 0),
                };
                line.extend(repeat_n(' ', before));
                line += cell;
                line.extend(repeat_n(' ', after + 2));
                begin = end;
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            out.write_all(line.as_bytes())?;
        }
        out.flush()
    }
}

/// Writes a count with thousands separated: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Writes a count with its noun: `1 device`, `1,000 devices`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("device", Align::Left), ("events", Align::Right)]);
        table.row(["øre/1".to_owned(), count(1_234_567)]);
        table.row(["b".to_owned(), count(999)]);
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        let expected = "device     events\nøre/1   1,234,567\nb             999\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
