//! Pages of a list: where one ended, in a form that clients hand back and do not look into.

use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use super::problem::Problem;

/// Entries of a page: without a wish, and at most.
pub(in crate::serve) const PAGE: usize = 100;
pub(in crate::serve) const LONGEST_PAGE: usize = 1000;

/// Behind what a page begins, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// Of what list: the same parameters have to be there.
    list: u64,
    pub(super) key: Option<i64>,
    pub(super) name: String,
}

/// Which part of which list is asked for.
#[derive(Debug)]
pub(super) struct Page {
    list: u64,
    pub(super) limit: usize,
    pub(super) behind: Option<Cursor>,
}

impl Page {
    /// Takes `limit` and `cursor`; `list` are the other parameters, which say what list it is.
    pub(super) fn of(query: &mut Parameters, list: &str) -> Result<Self, Problem> {
        let list = fingerprint(list);
        let behind = query.read("cursor", |text| {
            let cursor = Cursor::decode(text).ok_or("this is no cursor of an earlier answer")?;
            if cursor.list != list {
                return Err("it is of a list with other parameters; begin without a cursor".to_owned());
            }
            Ok(cursor)
        })?;
        Ok(Self { list, limit: query.number("limit", 1, LONGEST_PAGE)?.unwrap_or(PAGE), behind })
    }

    /// The cursor behind the entry with this key and name.
    pub(super) fn cursor(&self, key: Option<i64>, name: &str) -> String {
        Cursor { list: self.list, key, name: name.to_owned() }.encode()
    }
}

impl Cursor {
    fn encode(&self) -> String {
        let json = serde_json::to_string(self).expect("a cursor is JSON");
        json.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    fn decode(text: &str) -> Option<Self> {
        let digits = text.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok());
        let bytes: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
        serde_json::from_slice(&bytes?).ok()
    }
}

fn fingerprint(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let cursor = Cursor { list: u64::MAX, key: Some(i64::MIN), name: "å/\"b".to_owned() };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor.clone()));
        for wrong in ["", "7", "zz", "7b7d", "å", &cursor.encode()[2..]] {
            assert_eq!(Cursor::decode(wrong), None, "{wrong}");
        }
    }
}
