//! Number columns compressed with pco (its wrapped format: header, chunk metadata and one page, back to back).
//!
//! A few bytes of pco metadata can claim a dictionary of 2^25 numbers or a window of 2^24, and pco allocates what they
//! claim. So the claims are read here first, and refused where the column could not need them.

use bytemuck::Pod;
use pco::data_types::Number;
#[cfg(feature = "compression")]
use pco::wrapped::FileCompressor;
use pco::wrapped::FileDecompressor;
#[cfg(feature = "compression")]
use pco::{ChunkConfig, PagingSpec};
use rkyv::util::AlignedVec;

use super::ColumnError;
use crate::ColumnType;

/// The pco format: its major version, and the highest minor version that this build reads.
const PCO_MAJOR: u8 = 4;
const PCO_MINOR: u8 = 1;

/// The highest compression level.
pub(super) const MAX_LEVEL: u8 = 12;

/// The largest lookback window that pco's encoder chooses, and the smallest (log2).
const MAX_WINDOW_LOG: u32 = 15;
const MIN_WINDOW_LOG: u32 = 4;

/// The numbers of two of pco's delta encodings.
const LOOKBACK: u32 = 2;
/// Predicts by weights of the writer's choice; pco's encoder takes it only when told to. What hostile weights make of the
/// decoder's arithmetic is not worth finding out.
const CONVOLUTION: u32 = 3;

/// Bytes of one number, for types that pco takes.
pub(super) fn number_bytes(ty: ColumnType) -> Option<usize> {
    match ty {
        ColumnType::F64 | ColumnType::I64 | ColumnType::U64 | ColumnType::Timestamp => Some(8),
        ColumnType::F32 | ColumnType::F32List(_) => Some(4),
        ColumnType::I16List(_) => Some(2),
        ColumnType::Bool | ColumnType::Text | ColumnType::Bytes => None,
    }
}

/// Compresses the little-endian numbers of a plain column; `None` when that makes it no smaller (or pco cannot).
#[cfg(feature = "compression")]
pub(super) fn compress(ty: ColumnType, plain: &[u8], level: u8) -> Option<Vec<u8>> {
    let packed = match ty {
        ColumnType::F64 => compress_numbers::<f64>(plain, level),
        ColumnType::F32 | ColumnType::F32List(_) => compress_numbers::<f32>(plain, level),
        ColumnType::I64 | ColumnType::Timestamp => compress_numbers::<i64>(plain, level),
        ColumnType::U64 => compress_numbers::<u64>(plain, level),
        ColumnType::I16List(_) => compress_numbers::<i16>(plain, level),
        ColumnType::Bool | ColumnType::Text | ColumnType::Bytes => None,
    };
    packed.filter(|packed| packed.len() < plain.len())
}

/// This build leaves columns plain.
#[cfg(not(feature = "compression"))]
pub(super) fn compress(_: ColumnType, _: &[u8], _: u8) -> Option<Vec<u8>> {
    None
}

#[cfg(feature = "compression")]
fn compress_numbers<T: Number + Pod>(plain: &[u8], level: u8) -> Option<Vec<u8>> {
    let numbers: &[T] = bytemuck::cast_slice(plain);
    let config = ChunkConfig::default()
        .with_compression_level(usize::from(level))
        .with_paging_spec(PagingSpec::Exact(vec![numbers.len()]));
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(numbers, &config).ok()?;
    let packed = Vec::with_capacity(2 + chunk.meta_size_hint() + chunk.page_size_hint(0));
    let packed = file.write_header(packed).ok()?;
    let packed = chunk.write_meta(packed).ok()?;
    chunk.write_page(0, packed).ok()
}

/// Decompresses `count` numbers of a column into little-endian bytes.
pub(super) fn decompress(ty: ColumnType, packed: &[u8], count: usize) -> Result<AlignedVec<16>, ColumnError> {
    match ty {
        ColumnType::F64 => decompress_numbers::<f64>(packed, count),
        ColumnType::F32 | ColumnType::F32List(_) => decompress_numbers::<f32>(packed, count),
        ColumnType::I64 | ColumnType::Timestamp => decompress_numbers::<i64>(packed, count),
        ColumnType::U64 => decompress_numbers::<u64>(packed, count),
        ColumnType::I16List(_) => decompress_numbers::<i16>(packed, count),
        ColumnType::Bool | ColumnType::Text | ColumnType::Bytes => {
            Err(wrong("this type is never compressed"))
        }
    }
}

fn decompress_numbers<T: Number + Pod>(packed: &[u8], count: usize) -> Result<AlignedVec<16>, ColumnError> {
    check_pco_claims(packed, size_of::<T>(), count)?;
    let pco = |error: pco::errors::PcoError| wrong(error.to_string());
    let (file, rest) = FileDecompressor::new(packed).map_err(pco)?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest).map_err(pco)?;
    let mut plain = AlignedVec::with_capacity(count * size_of::<T>());
    plain.resize(count * size_of::<T>(), 0);
    let mut page = chunk.page_decompressor(rest, count).map_err(pco)?;
    let progress = page.read(bytemuck::cast_slice_mut(&mut plain)).map_err(pco)?;
    if !progress.finished || progress.n_processed != count {
        return Err(wrong("fewer numbers than the batch has rows"));
    }
    if !page.into_src().is_empty() {
        return Err(wrong("bytes after the last number"));
    }
    Ok(plain)
}

/// Reads what the metadata of a pco chunk of `count` numbers (its header and chunk metadata are at the front of `packed`)
/// would make pco allocate, and refuses what so many numbers cannot need.
///
/// # Errors
/// The chunk claims more than it needs, is of an unknown format or mode, or is a convolution.
pub fn check_pco_claims(packed: &[u8], number_bytes: usize, count: usize) -> Result<(), ColumnError> {
    let Some((&[major, minor], chunk)) = packed.split_first_chunk() else {
        return Err(wrong("no header"));
    };
    if major != PCO_MAJOR || minor > PCO_MINOR {
        return Err(wrong(format!(
            "format {major}.{minor} is not one of {PCO_MAJOR}.0 to {PCO_MAJOR}.{PCO_MINOR}"
        )));
    }
    // Mode: 4 bits, then what belongs to it.
    let mode_bits = match bits(chunk, 0, 4) {
        0 => 4,
        1 | 2 => 4 + 8 * number_bytes,
        3 => 4 + 8,
        4 => {
            let entries = bits(chunk, 4, 25) as usize;
            if entries > count || entries * number_bytes > chunk.len() {
                return Err(wrong(format!("a dictionary of {entries} entries for {count} numbers")));
            }
            // The entries start on a byte.
            32 + 8 * number_bytes * entries
        }
        mode => return Err(wrong(format!("unknown mode {mode}"))),
    };
    // Delta encoding: 4 bits; lookback is followed by the window's log2, less one.
    match bits(chunk, mode_bits, 4) {
        LOOKBACK => {
            let window_log = 1 + bits(chunk, mode_bits + 4, 5);
            let needed_log = usize::BITS - count.leading_zeros();
            if window_log > needed_log.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG) {
                return Err(wrong(format!("a window of 2^{window_log} for {count} numbers")));
            }
        }
        CONVOLUTION => return Err(wrong("a convolution, which is not used here")),
        _ => {}
    }
    Ok(())
}

/// `count` (at most 25) bits from bit `at` on, least significant first; zeros past the end, as pco reads them.
fn bits(bytes: &[u8], at: usize, count: u32) -> u32 {
    let mut word = [0; 4];
    let from = bytes.get(at / 8..).unwrap_or_default();
    let length = from.len().min(4);
    word[..length].copy_from_slice(&from[..length]);
    (u32::from_le_bytes(word) >> (at % 8)) & ((1 << count) - 1)
}

fn wrong(what: impl Into<String>) -> ColumnError {
    ColumnError::Pco(what.into())
}

#[cfg(test)]
mod tests {
    use pco::wrapped::FileCompressor;
    use pco::{ChunkConfig, DeltaSpec};

    use super::*;

    fn packed(delta: DeltaSpec) -> Vec<u8> {
        let numbers: Vec<f32> = (0..500_u16).map(|n| f32::from(n % 37 * 3)).collect();
        let config = ChunkConfig::default().with_delta_spec(delta);
        let file = FileCompressor::default();
        let mut chunk = file.chunk_compressor(&numbers, &config).unwrap();
        let packed = chunk.write_meta(file.write_header(Vec::new()).unwrap()).unwrap();
        chunk.write_page(0, packed).unwrap()
    }

    #[test]
    fn a_convolution_is_refused_and_other_delta_encodings_are_read() {
        for delta in [DeltaSpec::NoOp, DeltaSpec::TryConsecutive(2), DeltaSpec::TryLookback] {
            decompress(ColumnType::F32, &packed(delta), 500).unwrap();
        }
        for order in [1, 6, 32] {
            let refused = decompress(ColumnType::F32, &packed(DeltaSpec::TryConv1(order)), 500).unwrap_err();
            assert!(refused.to_string().contains("convolution"), "{refused}");
        }
    }
}
