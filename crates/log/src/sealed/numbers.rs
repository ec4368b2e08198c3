//! Number columns: one pco chunk per column and row group, with pages that decode on their own.
//!
//! Ahead of pco, numbers may take another form. Which one pays is found out on a sample.

use std::collections::HashMap;
use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use icecore_wire::check_pco_claims;
use pco::wrapped::{ChunkDecompressor, FileCompressor, FileDecompressor};
use pco::{ChunkConfig, PagingSpec};

use super::Decoded;
use super::limits::MAX_DICTIONARY;
use super::varint::{self, Fields};

/// pco's level: higher ones take much more time for a percent.
const LEVEL: usize = 8;

/// Forms are compared on so many numbers, in pieces from all over the chunk.
const SAMPLE: usize = 16_384;
const PIECE: usize = 4_096;

/// A dictionary has at most one entry for so many numbers.
const NUMBERS_PER_ENTRY: usize = 4;

/// The most decimal places looked for, and the largest number of units that a double tells apart.
const MAX_PLACES: usize = 17;
const MAX_UNITS: u64 = 1 << 53;
const SCALES: [f64; MAX_PLACES + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17];

/// Fractional bits of a line's start and slope.
const LINE_BITS: u32 = 16;

const PLAIN: u8 = 0;
const DECIMALS: u8 = 1;
const DICTIONARY: u8 = 2;
const LINES: u8 = 3;

/// A type of numbers that columns have.
pub(super) trait Number: pco::data_types::Number + Pod + PartialEq {
    /// The forms to compare, besides [`PLAIN`].
    const FORMS: &[u8];
    /// The bits, mapped so that they are in the order of the numbers.
    fn key(self) -> u64;
    /// The number of a key; `None` if no number has it.
    fn from_key(key: u64) -> Option<Self>;
    /// How many units of 1/`scale` this is, if it is exactly so many.
    fn units(self, scale: f64) -> Option<i64>;
    fn from_units(units: i64, scale: f64) -> Self;
}

macro_rules! float {
    ($ty:ty, $bits:ty) => {
        impl Number for $ty {
            const FORMS: &[u8] = &[DECIMALS, DICTIONARY];

            fn key(self) -> u64 {
                let (bits, sign) = (self.to_bits(), 1 << (<$bits>::BITS - 1));
                u64::from(if bits & sign == 0 { bits | sign } else { !bits })
            }

            fn from_key(key: u64) -> Option<Self> {
                let (key, sign) = (<$bits>::try_from(key).ok()?, 1 << (<$bits>::BITS - 1));
                Some(<$ty>::from_bits(if key & sign == 0 { !key } else { key & !sign }))
            }

            fn units(self, scale: f64) -> Option<i64> {
                let units = (f64::from(self) * scale).round();
                // What is not a number becomes zero, and so does -0.0.
                let exact = |units| Self::from_units(units, scale).to_bits() == self.to_bits();
                Some(units as i64).filter(|units| units.unsigned_abs() <= MAX_UNITS && exact(*units))
            }

            fn from_units(units: i64, scale: f64) -> Self {
                (units as f64 / scale) as $ty
            }
        }
    };
}

macro_rules! integer {
    ($ty:ty, $flip:expr, $forms:expr) => {
        impl Number for $ty {
            const FORMS: &[u8] = $forms;

            fn key(self) -> u64 {
                self as u64 ^ $flip
            }

            fn from_key(key: u64) -> Option<Self> {
                Some((key ^ $flip) as $ty)
            }

            fn units(self, _scale: f64) -> Option<i64> {
                None
            }

            fn from_units(units: i64, _scale: f64) -> Self {
                units as $ty
            }
        }
    };
}

float!(f64, u64);
float!(f32, u32);
integer!(i64, 1 << 63, &[DICTIONARY]);
integer!(u64, 0, &[DICTIONARY]);
integer!(i16, 1 << 63, &[]);

/// A column's numbers as they are stored.
#[derive(Debug)]
pub(super) struct Packed {
    /// What is needed to decode any page.
    pub(super) head: Vec<u8>,
    pub(super) pages: Vec<Vec<u8>>,
}

impl Packed {
    pub(super) fn size(&self) -> usize {
        self.head.len() + self.pages.iter().map(Vec::len).sum::<usize>()
    }
}

/// Compresses numbers (at least one) into pages of `per_page`. Times also try the form of lines.
pub(super) fn compress<T: Number>(numbers: &[T], per_page: usize, are_times: bool) -> Packed {
    let forms = T::FORMS.iter().copied().chain(are_times.then_some(LINES));
    if numbers.len() <= SAMPLE {
        let plain = pack(PLAIN, &[], numbers, per_page);
        return forms
            .filter_map(|form| compress_as(form, numbers, per_page))
            .fold(plain, |best, next| if next.size() < best.size() { next } else { best });
    }
    let sample = sample(numbers);
    let plain = pack(PLAIN, &[], &sample, PIECE).size();
    let tried = forms.filter_map(|form| Some((compress_as(form, &sample, PIECE)?.size(), form)));
    let mut better: Vec<(usize, u8)> = tried.filter(|(size, _)| *size < plain).collect();
    better.sort_unstable();
    better
        .into_iter()
        .find_map(|(_, form)| compress_as(form, numbers, per_page))
        .unwrap_or_else(|| pack(PLAIN, &[], numbers, per_page))
}

fn sample<T: Number>(numbers: &[T]) -> Vec<T> {
    let pieces = SAMPLE / PIECE;
    let last = numbers.len() - PIECE;
    (0..pieces).flat_map(|piece| &numbers[last * piece / (pieces - 1)..][..PIECE]).copied().collect()
}

/// `None` if the numbers do not have this form.
fn compress_as<T: Number>(form: u8, numbers: &[T], per_page: usize) -> Option<Packed> {
    let mut fields = Vec::new();
    match form {
        DECIMALS => {
            let (places, units) = decimals(numbers)?;
            fields.push(places);
            Some(pack(DECIMALS, &fields, &units, per_page))
        }
        DICTIONARY => {
            let (entries, ranks) = dictionary(numbers)?;
            let Packed { head, pages } = pack(PLAIN, &[], &entries, entries.len());
            varint::push(&mut fields, entries.len() as u64);
            varint::push_bytes(&mut fields, &head);
            varint::push_bytes(&mut fields, &pages[0]);
            Some(pack(DICTIONARY, &fields, &ranks, per_page))
        }
        _ => {
            let mut offsets = Vec::with_capacity(numbers.len());
            for page in numbers.chunks(per_page) {
                let line = Line::through(page);
                line.push(&mut fields);
                let distance =
                    |(index, number): (usize, &T)| number.key().wrapping_sub(line.at(index)) as i64;
                offsets.extend(page.iter().enumerate().map(distance));
            }
            Some(pack(LINES, &fields, &offsets, per_page))
        }
    }
}

/// The fewest decimal places that all numbers have, and the numbers in units of the last one.
fn decimals<T: Number>(numbers: &[T]) -> Option<(u8, Vec<i64>)> {
    let mut places = 0;
    for number in numbers {
        while number.units(SCALES[places]).is_none() {
            places += 1;
            if places > MAX_PLACES {
                return None;
            }
        }
    }
    let units = numbers.iter().map(|number| number.units(SCALES[places])).collect::<Option<_>>()?;
    Some((places as u8, units))
}

/// The distinct numbers in order, and every number's rank among them.
fn dictionary<T: Number>(numbers: &[T]) -> Option<(Vec<T>, Vec<u32>)> {
    let most = MAX_DICTIONARY.min(numbers.len() / NUMBERS_PER_ENTRY);
    let mut ranks: HashMap<u64, u32> = HashMap::new();
    let mut last = None;
    for number in numbers {
        let key = number.key();
        if last != Some(key) {
            last = Some(key);
            ranks.insert(key, 0);
            if ranks.len() > most {
                return None;
            }
        }
    }
    let mut keys: Vec<u64> = ranks.keys().copied().collect();
    keys.sort_unstable();
    for (rank, key) in keys.iter().enumerate() {
        ranks.insert(*key, rank as u32);
    }
    let entries = keys.into_iter().map(T::from_key).collect::<Option<_>>()?;
    Some((entries, numbers.iter().map(|number| ranks[&number.key()]).collect()))
}

/// What the numbers of one page would be if they grew evenly.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// A key, and [`LINE_BITS`] fractional bits of it.
    start: u64,
    fraction: u16,
    /// With [`LINE_BITS`] fractional bits.
    slope: i64,
}

impl Line {
    /// The least squares line through a page.
    fn through<T: Number>(page: &[T]) -> Self {
        let first = page[0].key();
        let middle = (page.len() - 1) as f64 / 2.0;
        let (mut sum, mut products, mut squares) = (0.0, 0.0, 0.0);
        for (index, number) in page.iter().enumerate() {
            let (x, y) = (index as f64 - middle, number.key().wrapping_sub(first) as i64 as f64);
            sum += y;
            products += x * y;
            squares += x * x;
        }
        let slope = if squares > 0.0 { products / squares } else { 0.0 };
        // What is cut off below is rounded then.
        let start = sum / page.len() as f64 - slope * middle + 0.5;
        let (whole, unit) = (start.floor(), f64::from(1 << LINE_BITS));
        Self {
            start: first.wrapping_add(whole as i64 as u64),
            fraction: ((start - whole) * unit) as u16,
            slope: (slope * unit).round() as i64,
        }
    }

    /// The key expected at `index`.
    fn at(self, index: usize) -> u64 {
        let distance = i128::from(self.fraction) + i128::from(self.slope) * index as i128;
        self.start.wrapping_add((distance >> LINE_BITS) as u64)
    }

    fn push(self, fields: &mut Vec<u8>) {
        varint::push(fields, self.start);
        fields.extend_from_slice(&self.fraction.to_le_bytes());
        varint::push_signed(fields, self.slope);
    }

    fn read(fields: &mut Fields<'_>) -> Decoded<Self> {
        let (start, fraction) = (fields.number()?, u16::from_le_bytes(fields.array()?));
        Ok(Self { start, fraction, slope: fields.signed()? })
    }
}

/// The form and what belongs to it, then pco's header and chunk metadata.
fn pack<T: pco::data_types::Number>(form: u8, fields: &[u8], numbers: &[T], per_page: usize) -> Packed {
    let lengths: Vec<usize> = numbers.chunks(per_page).map(<[T]>::len).collect();
    let count = lengths.len();
    let config =
        ChunkConfig::default().with_compression_level(LEVEL).with_paging_spec(PagingSpec::Exact(lengths));
    let valid = "numbers in pages of at least one, at a level that exists, into memory";
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(numbers, &config).expect(valid);
    let meta = file.write_header(Vec::with_capacity(2 + chunk.meta_size_hint())).expect(valid);
    let meta = chunk.write_meta(meta).expect(valid);
    let mut head = vec![form];
    head.extend_from_slice(fields);
    head.extend_from_slice(&meta);
    let mut page = |index| {
        let mut page = chunk.write_page(index, Vec::with_capacity(chunk.page_size_hint(index))).expect(valid);
        page.shrink_to_fit();
        page
    };
    Packed { head, pages: (0..count).map(&mut page).collect() }
}

/// Decodes the pages of one column and row group.
pub(super) struct Decoder<T: Number> {
    form: Form<T>,
}

enum Form<T: Number> {
    Plain(Chunk<T>),
    Decimals { scale: f64, units: Chunk<i64> },
    Dictionary { entries: Vec<T>, ranks: Chunk<u32> },
    Lines { lines: Vec<Line>, offsets: Chunk<i64> },
}

impl<T: Number> Decoder<T> {
    /// Reads the head of `count` numbers in `pages` pages.
    pub(super) fn open(head: &[u8], count: usize, pages: usize) -> Decoded<Self> {
        let mut fields = Fields::new(head);
        let [form] = fields.array()?;
        let form = match form {
            PLAIN => Form::Plain(Chunk::open(fields, count)?),
            DECIMALS if T::FORMS.contains(&DECIMALS) => {
                let [places] = fields.array()?;
                let scale = *SCALES.get(usize::from(places)).ok_or("too many decimal places")?;
                Form::Decimals { scale, units: Chunk::open(fields, count)? }
            }
            DICTIONARY => {
                let entries = fields.size(MAX_DICTIONARY.min(count), "entries of a dictionary")?;
                let (head, page) = (fields.bytes()?, fields.bytes()?);
                let mut head = Fields::new(head);
                if head.array()? != [PLAIN] {
                    return Err("a dictionary's entries are not plain".into());
                }
                let entries = Chunk::open(head, entries)?.page(page, entries)?;
                Form::Dictionary { entries, ranks: Chunk::open(fields, count)? }
            }
            LINES => {
                let lines = (0..pages).map(|_| Line::read(&mut fields)).collect::<Decoded<_>>()?;
                Form::Lines { lines, offsets: Chunk::open(fields, count)? }
            }
            form => return Err(format!("unknown form {form} of numbers")),
        };
        Ok(Self { form })
    }

    /// Decodes the page with this index, of `count` numbers.
    pub(super) fn page(&mut self, index: usize, page: &[u8], count: usize) -> Decoded<Vec<T>> {
        let mut numbers = Vec::with_capacity(count);
        self.append(index, page, count, &mut numbers)?;
        Ok(numbers)
    }

    /// The same, behind other numbers.
    pub(super) fn append(
        &mut self,
        index: usize,
        page: &[u8],
        count: usize,
        numbers: &mut Vec<T>,
    ) -> Decoded<()> {
        match &mut self.form {
            Form::Plain(chunk) => chunk.append(page, count, numbers)?,
            Form::Decimals { scale, units } => {
                let scale = *scale;
                let units = units.page(page, count)?;
                numbers.extend(units.iter().map(|units| T::from_units(*units, scale)));
            }
            Form::Dictionary { entries, ranks } => {
                let ranks = ranks.page(page, count)?;
                if ranks.iter().any(|rank| *rank as usize >= entries.len()) {
                    return Err("a rank outside of the dictionary".into());
                }
                numbers.extend(ranks.iter().map(|rank| entries[*rank as usize]));
            }
            Form::Lines { lines, offsets } => {
                let line = lines.get(index).ok_or("a page without a line")?;
                let number = |(index, offset): (usize, i64)| {
                    T::from_key(line.at(index).wrapping_add(offset as u64))
                        .ok_or_else(|| "a number outside of its type".to_owned())
                };
                for next in offsets.page(page, count)?.into_iter().enumerate() {
                    numbers.push(number(next)?);
                }
            }
        }
        Ok(())
    }
}

/// A pco chunk.
struct Chunk<T: pco::data_types::Number>(ChunkDecompressor<T>);

impl<T: pco::data_types::Number + Zeroable> Chunk<T> {
    /// Reads header and metadata of `count` numbers, which must be all that is left.
    fn open(mut fields: Fields<'_>, count: usize) -> Decoded<Self> {
        let meta = fields.rest();
        check_pco_claims(meta, size_of::<T>(), count).map_err(|error| error.to_string())?;
        let (file, rest) = FileDecompressor::new(meta).map_err(|error| format!("pco: {error}"))?;
        let (chunk, rest) = file.chunk_decompressor(rest).map_err(|error| format!("pco: {error}"))?;
        if rest.is_empty() { Ok(Self(chunk)) } else { Err("pco: bytes behind the metadata".into()) }
    }

    fn page(&mut self, page: &[u8], count: usize) -> Decoded<Vec<T>> {
        let mut numbers = Vec::with_capacity(count);
        self.append(page, count, &mut numbers)?;
        Ok(numbers)
    }

    fn append(&mut self, page: &[u8], count: usize, numbers: &mut Vec<T>) -> Decoded<()> {
        let pco = |error: pco::errors::PcoError| format!("pco: {error}");
        let start = numbers.len();
        numbers.resize(start + count, T::zeroed());
        let mut page = self.0.page_decompressor(page, count).map_err(pco)?;
        let progress = page.read(&mut numbers[start..]).map_err(pco)?;
        if progress.finished && progress.n_processed == count && page.into_src().is_empty() {
            Ok(())
        } else {
            Err("pco: the page does not hold what it should".into())
        }
    }
}

/// Which numbers the page with this index holds.
pub(super) fn page_range(index: usize, per_page: usize, count: usize) -> Range<usize> {
    index * per_page..((index + 1) * per_page).min(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PER_PAGE: usize = 100;

    /// Compresses in every form that fits, and gives the sizes by form.
    fn sizes<T: Number>(numbers: &[T]) -> Vec<(u8, usize)> {
        let forms = T::FORMS.iter().copied().chain([LINES]);
        let packed = forms.filter_map(|form| Some((form, compress_as(form, numbers, PER_PAGE)?)));
        let plain = (PLAIN, pack(PLAIN, &[], numbers, PER_PAGE));
        let check = |(form, packed): (u8, Packed)| {
            assert_eq!(keys(&decoded::<T>(&packed, numbers.len()).unwrap()), keys(numbers), "form {form}");
            (form, packed.size())
        };
        std::iter::once(plain).chain(packed).map(check).collect()
    }

    fn decoded<T: Number>(packed: &Packed, count: usize) -> Decoded<Vec<T>> {
        let mut decoder = Decoder::<T>::open(&packed.head, count, packed.pages.len())?;
        let mut all = Vec::new();
        for (index, page) in packed.pages.iter().enumerate() {
            all.extend(decoder.page(index, page, page_range(index, PER_PAGE, count).len())?);
        }
        Ok(all)
    }

    fn keys<T: Number>(numbers: &[T]) -> Vec<u64> {
        numbers.iter().map(|number| number.key()).collect()
    }

    #[test]
    fn even_times_take_next_to_nothing() {
        let times: Vec<i64> =
            (0..20_000).map(|index| (f64::from(index) * 1e9 / 360.0).round() as i64).collect();
        let sizes = sizes(&times);
        assert!(sizes.contains(&(LINES, compress(&times, PER_PAGE, true).size())), "{sizes:?}");
        let line = Line::through(&times[..8_192]);
        assert!(times[..8_192].iter().enumerate().all(|(index, time)| line.at(index) == time.key()));
    }

    #[test]
    fn readings_become_integers_or_ranks() {
        let decimals: Vec<f64> =
            (0..5_000).map(|index| f64::from(index * 7_919 % 10_007) / 1_000.0).collect();
        assert_eq!(compress(&decimals, PER_PAGE, false).head[0], DECIMALS);
        let few: Vec<f64> = (0..5_000_u64).map(|index| 1.0 / ((index * 7_919 % 31) as f64 + 0.7)).collect();
        assert_eq!(compress(&few, PER_PAGE, false).head[0], DICTIONARY);
        assert!(dictionary(&decimals).is_none());
        assert_eq!(decimals.iter().find(|number| number.units(1e3).is_none()), None);
        assert_eq!(super::decimals(&[0.25_f64, -0.0]), None);
        assert_eq!(super::decimals(&[0.25_f64, f64::NAN]), None);
        assert_eq!(super::decimals(&[0.25_f64, 3.0]), Some((2, vec![25, 300])));
    }

    /// Numbers of every kind, repeated so that dictionaries fit.
    fn repeated<T: Number>(distinct: &[T]) -> Vec<T> {
        distinct.iter().cycle().take(distinct.len() * 5).copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_form_keeps_every_bit(
            bits in proptest::collection::vec(any::<u64>(), 1..200),
            places in 0..=MAX_PLACES,
        ) {
            sizes::<f64>(&repeated(&bits.iter().map(|bits| f64::from_bits(*bits)).collect::<Vec<_>>()));
            sizes::<f32>(&repeated(&bits.iter().map(|bits| f32::from_bits(*bits as u32)).collect::<Vec<_>>()));
            sizes::<i64>(&repeated(&bits.iter().map(|bits| *bits as i64).collect::<Vec<_>>()));
            sizes::<u64>(&repeated(&bits));
            let units = bits.iter().map(|bits| (bits >> 20) as f64 / SCALES[places]);
            let decimals: Vec<f64> = units.collect();
            prop_assert!(sizes::<f64>(&decimals).iter().any(|(form, _)| *form == DECIMALS));
            let singles: Vec<f32> = bits.iter().map(|bits| ((bits >> 50) as f64 / 1e3) as f32).collect();
            prop_assert!(sizes::<f32>(&singles).iter().any(|(form, _)| *form == DECIMALS));
        }

        #[test]
        fn hostile_heads_and_pages_are_refused_or_decoded(
            numbers in proptest::collection::vec(0_i64..50, 1..300),
            form in 0_u8..=4,
            flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
            in_head in any::<bool>(),
        ) {
            let floats: Vec<f64> = numbers.iter().map(|number| *number as f64 / 8.0).collect();
            let packed = compress_as(form, &floats, PER_PAGE);
            let mut packed = packed.unwrap_or_else(|| pack(PLAIN, &[], &floats, PER_PAGE));
            let bytes = if in_head { &mut packed.head } else { &mut packed.pages[0] };
            for (at, flip) in flips {
                let len = bytes.len();
                if len > 0 {
                    bytes[usize::from(at) % len] ^= flip;
                }
            }
            let _ = decoded::<f64>(&packed, floats.len());
        }
    }
}
