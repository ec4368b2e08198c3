//! Inferring the type of a column from all of its cells.

use super::cell::CellType;

/// Numbers a column needs for each cell that is not one, before such a cell is taken for a mistake.
const NUMBERS_PER_MISTAKE: u64 = 1_000;

/// Numbers a column needs before a single other cell is taken for a mistake.
const NUMBERS_FOR_FIRST_MISTAKE: u64 = 5;

/// Where a cell stands: index of the file, line, row, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CellAt {
    pub(super) file: usize,
    pub(super) line: u64,
    pub(super) row: u64,
    pub(super) text: String,
}

/// What the cells of a column look like. Empty cells say nothing.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    integers: u64,
    /// Integers beyond `i64`, which only a column of floats can hold.
    wide_integers: u64,
    floats: u64,
    bools: u64,
    first_other: Option<CellAt>,
    others: u64,
}

/// The outcome for a column.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inferred {
    Type(CellType),
    /// A column of numbers but for a very few cells, of which this is the first.
    Mistake(CellAt),
}

impl Evidence {
    /// Takes one cell into account; `place` is called only for the first that is neither number nor bool.
    pub(super) fn add(&mut self, text: &str, place: impl FnOnce() -> CellAt) {
        match text {
            "" => {}
            "true" | "false" => self.bools += 1,
            _ if is_identifier(text) => self.other(place),
            _ if text.parse::<i64>().is_ok() => self.integers += 1,
            _ if is_digits(text) => self.wide_integers += 1,
            _ if text.parse::<f64>().is_ok() => self.floats += 1,
            _ => self.other(place),
        }
    }

    fn other(&mut self, place: impl FnOnce() -> CellAt) {
        self.others += 1;
        self.first_other.get_or_insert_with(place);
    }

    /// The narrowest type that holds every cell exactly; text where there is none.
    pub(super) fn conclude(self) -> Inferred {
        let numbers = self.integers + self.wide_integers + self.floats;
        let tolerated =
            if numbers < NUMBERS_FOR_FIRST_MISTAKE { 0 } else { 1 + numbers / NUMBERS_PER_MISTAKE };
        match self.first_other {
            Some(cell) if self.others <= tolerated && self.bools == 0 => return Inferred::Mistake(cell),
            Some(_) => return Inferred::Type(CellType::Text),
            None => {}
        }
        Inferred::Type(match (numbers, self.bools) {
            (0, 0) => CellType::Text,
            (0, _) => CellType::Bool,
            (_, 1..) => CellType::Text,
            _ if self.floats > 0 => CellType::F64,
            _ if self.wide_integers > 0 => CellType::Text,
            _ => CellType::I64,
        })
    }
}

/// Digits with a leading zero (`007`) are a code: as a number they would not read back as they were.
fn is_identifier(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && is_digits(text)
}

fn is_digits(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(cells: &[&str]) -> Inferred {
        let mut evidence = Evidence::default();
        for (row, text) in (1..).zip(cells) {
            evidence.add(text, || CellAt { file: 0, line: row + 1, row, text: (*text).to_owned() });
        }
        evidence.conclude()
    }

    #[test]
    fn the_narrowest_type_that_loses_nothing() {
        let cases: [(&[&str], CellType); 11] = [
            (&["1", "-2", "", "9223372036854775807"], CellType::I64),
            (&["1", "2.5"], CellType::F64),
            (&["0", "1e-3", "NaN", "-inf"], CellType::F64),
            (&["true", "false", ""], CellType::Bool),
            (&["0", "1"], CellType::I64),
            (&["true", "1"], CellType::Text),
            (&["9223372036854775808", "1"], CellType::Text),
            (&["9223372036854775808", "1.5"], CellType::F64),
            (&["007", "008", "009"], CellType::Text),
            (&["", ""], CellType::Text),
            (&["1", "2", "x", "y", "3"], CellType::Text),
        ];
        for (cells, expected) in cases {
            assert_eq!(infer(cells), Inferred::Type(expected), "{cells:?}");
        }
    }

    #[test]
    fn a_lone_word_among_numbers_is_a_mistake() {
        let Inferred::Mistake(cell) = infer(&["1", "2", "3", "4", "5", "6", "x7"]) else {
            panic!("taken for text")
        };
        assert_eq!((cell.line, cell.row, cell.text.as_str()), (8, 7, "x7"));
        assert_eq!(infer(&["1", "2", "3", "x"]), Inferred::Type(CellType::Text), "too few to tell");
        assert_eq!(infer(&["1", "2", "3", "4", "5", "x", "y"]), Inferred::Type(CellType::Text));
    }
}
