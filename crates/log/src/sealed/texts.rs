//! Text and byte string columns: zstd pages with their lengths in pco, or ranks in a dictionary.

use std::collections::HashMap;

use super::Decoded;
use super::cells::Strings;
use super::limits::{MAX_DICTIONARY, MAX_TEXT_BYTES, PAGE_TEXT_BYTES, PAGE_VALUES};
use super::numbers::{self, Decoder, Packed};
use super::section;
use super::varint::{self, Fields};

const PLAIN: u8 = 0;
const DICTIONARY: u8 = 1;

/// Values in a page: fewer where they are long.
pub(super) fn per_page(strings: &Strings) -> usize {
    let mut values = PAGE_VALUES;
    while values > 1 && strings.data.len() / strings.len() * values > PAGE_TEXT_BYTES {
        values /= 2;
    }
    values
}

/// Compresses strings (at least one) into pages of `per_page`.
pub(super) fn compress(strings: &Strings, per_page: usize) -> Packed {
    let plain = compress_plain(strings, per_page);
    match compress_with_dictionary(strings, per_page) {
        Some(packed) if packed.size() < plain.size() => packed,
        _ => plain,
    }
}

fn compress_plain(strings: &Strings, per_page: usize) -> Packed {
    let lengths: Vec<u64> = strings.iter().map(|string| string.len() as u64).collect();
    let Packed { head: lengths_head, pages: lengths } = numbers::compress(&lengths, per_page, false);
    let mut head = vec![PLAIN];
    head.extend_from_slice(&lengths_head);
    let page = |(index, lengths): (usize, Vec<u8>)| {
        let range = numbers::page_range(index, per_page, strings.len());
        let data = &strings.data[strings.offsets[range.start] as usize..strings.offsets[range.end] as usize];
        let mut page = Vec::new();
        varint::push_bytes(&mut page, &lengths);
        varint::push(&mut page, data.len() as u64);
        page.extend_from_slice(&section::compress(data));
        page
    };
    Packed { head, pages: lengths.into_iter().enumerate().map(page).collect() }
}

/// `None` if there are too many distinct strings.
fn compress_with_dictionary(strings: &Strings, per_page: usize) -> Option<Packed> {
    let most = MAX_DICTIONARY.min(strings.len() / 2);
    let mut ranks: HashMap<&[u8], u64> = HashMap::new();
    for string in strings.iter() {
        ranks.insert(string, 0);
        if ranks.len() > most {
            return None;
        }
    }
    let mut entries: Vec<&[u8]> = ranks.keys().copied().collect();
    entries.sort_unstable();
    let mut listed = Vec::new();
    for (rank, entry) in entries.iter().enumerate() {
        ranks.insert(entry, rank as u64);
        varint::push_bytes(&mut listed, entry);
    }
    let numbers: Vec<u64> = strings.iter().map(|string| ranks[string]).collect();
    let Packed { head: ranks_head, pages } = numbers::compress(&numbers, per_page, false);
    let mut head = vec![DICTIONARY];
    varint::push(&mut head, entries.len() as u64);
    varint::push(&mut head, listed.len() as u64);
    varint::push_bytes(&mut head, &section::compress(&listed));
    head.extend_from_slice(&ranks_head);
    Some(Packed { head, pages })
}

/// Decodes the pages of one column and row group.
pub(super) enum TextDecoder {
    Plain { lengths: Decoder<u64> },
    Dictionary { entries: Strings, ranks: Decoder<u64> },
}

impl TextDecoder {
    pub(super) fn open(head: &[u8], count: usize, pages: usize) -> Decoded<Self> {
        let mut fields = Fields::new(head);
        match fields.array()? {
            [PLAIN] => Ok(Self::Plain { lengths: Decoder::open(fields.rest(), count, pages)? }),
            [DICTIONARY] => {
                let count_of_entries = fields.size(MAX_DICTIONARY, "entries of a dictionary")?;
                let len = fields.size(2 * MAX_TEXT_BYTES, "bytes of a dictionary")?;
                let listed = section::decompress(fields.bytes()?, len)?;
                let (mut listed, mut entries) = (Fields::new(&listed), Strings::default());
                for _ in 0..count_of_entries {
                    entries.push(listed.bytes()?)?;
                }
                listed.end()?;
                Ok(Self::Dictionary { entries, ranks: Decoder::open(fields.rest(), count, pages)? })
            }
            [tag] => Err(format!("unknown form {tag} of texts")),
        }
    }

    /// Decodes the page with this index, of `count` strings.
    pub(super) fn page(&mut self, index: usize, page: &[u8], count: usize) -> Decoded<Strings> {
        let mut strings = Strings::default();
        match self {
            Self::Plain { lengths } => {
                let mut fields = Fields::new(page);
                let lengths = lengths.page(index, fields.bytes()?, count)?;
                let len = fields.size(MAX_TEXT_BYTES, "bytes of texts")?;
                strings.data = section::decompress(fields.rest(), len)?;
                let mut end = 0_u64;
                for length in lengths {
                    end = end.saturating_add(length).min(u64::from(u32::MAX));
                    strings.offsets.push(end as u32);
                }
                if end != len as u64 {
                    return Err(format!("texts of {end} bytes in a page of {len}"));
                }
            }
            Self::Dictionary { entries, ranks } => {
                for rank in ranks.page(index, page, count)? {
                    if rank >= entries.len() as u64 {
                        return Err("a rank outside of the dictionary".into());
                    }
                    strings.push(entries.get(rank as usize))?;
                }
            }
        }
        Ok(strings)
    }
}

/// Checks that every string is UTF-8.
pub(super) fn check_utf8(strings: &Strings) -> Decoded<()> {
    let text = str::from_utf8(&strings.data).map_err(|error| format!("a text is not UTF-8: {error}"))?;
    if strings.offsets.iter().all(|end| text.is_char_boundary(*end as usize)) {
        Ok(())
    } else {
        Err("a text ends within a character".into())
    }
}
