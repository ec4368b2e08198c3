//! How figures are written for people.

use bytesize::ByteSize;

/// A count with thousands apart: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let mut groups = vec![(number % 1_000).to_string()];
    let mut rest = number / 1_000;
    while rest > 0 {
        let last = groups.last_mut().expect("it began with one");
        *last = format!("{last:0>3}");
        groups.push((rest % 1_000).to_string());
        rest /= 1_000;
    }
    groups.reverse();
    groups.join(",")
}

/// A count with its noun: `1 device`, `1,000 devices`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes in the units that policies and bills use: `1.2 GB` is 1.2 × 10⁹.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

/// Lays out rows of equally many cells: the first column to the left, all others to the right, two spaces apart.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => text += &format!("{cell:<width$}"),
                _ => text += &format!("  {cell:>width$}"),
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let counts = [0, 7, 1_000, 1_234_567, 10_000_002].map(count);
        assert_eq!(counts, ["0", "7", "1,000", "1,234,567", "10,000,002"]);
        assert_eq!(
            (counted(1, "device"), counted(0, "device")),
            ("1 device".to_owned(), "0 devices".to_owned())
        );
        assert_eq!(size(1_200_000_000), "1.2 GB");
        let rows = [["a", "1"], ["bc", "234"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "a     1\nbc  234\n");
    }
}
