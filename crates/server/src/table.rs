//! Tables for people: columns aligned by their widest cell, numbers to the right.

use std::io::{self, Write};

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
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table with its header.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        let header = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        Self { alignment: columns.iter().map(|(_, align)| *align).collect(), rows: vec![header] }
    }

    /// Appends a row with one cell per column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(cells.len(), self.alignment.len(), "a row has one cell per column");
        self.rows.push(cells.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.alignment.len()).map(width).collect();
        for row in &self.rows {
            let cells =
                row.iter().zip(&self.alignment).zip(&widths).map(|((cell, align), width)| match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
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
