//! Damage is found and named, and hostile files are refused.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Arrivals, open, seal};
use crate::error::{Damage, LogError};
use crate::record::StoredBatch;
use crate::sealed::footer::{self, Contents};
use crate::sealed::limits::MAX_SECTION_BYTES;
use crate::sealed::trailer::{self, HEADER_BYTES, TRAILER_BYTES, Trailer};
use crate::sealed::{RowQuery, SealedSegment, section};

/// A small file with two schemas.
fn small_file() -> Vec<u8> {
    let mut arrivals = Arrivals::new(11, 30);
    arrivals.schemas.remove(0);
    seal(&arrivals.batches(12)).0
}

/// What is found wrong with a file, by opening it and reading all of it.
fn damage(file: Vec<u8>) -> Vec<Damage> {
    match SealedSegment::open(Arc::new(file), PathBuf::from("test.ice")) {
        Ok(segment) => segment.verify().unwrap(),
        Err(LogError::Damaged(damage)) => vec![*damage],
        Err(error) => panic!("{error}"),
    }
}

/// Reads a file in all ways, and lets every error pass.
fn read_all(file: Vec<u8>) {
    let Ok(segment) = SealedSegment::open(Arc::new(file), PathBuf::from("test.ice")) else { return };
    let _ = segment.verify();
    for entry in segment.entries().map_while(Result::ok).take(100) {
        let _ = segment.find(&entry.source.device, &entry.source.epoch, entry.batch.first_sequence);
    }
    if let Ok(batches) = segment.in_log_order(&RowQuery::default()) {
        batches.map_while(Result::ok).for_each(drop);
    }
    let query = RowQuery { times: Some(0..=i64::MAX), ..RowQuery::default() };
    for group in segment.rows(query).map_while(Result::ok) {
        let _ = group.open().and_then(|open| open.times().and(open.column(0)));
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let file = small_file();
    assert_eq!(damage(file.clone()), vec![]);
    for offset in 0..file.len() {
        let mut flipped = file.clone();
        flipped[offset] ^= 1 << (offset % 8);
        assert!(!damage(flipped).is_empty(), "a flip at {offset} of {} goes unseen", file.len());
    }
}

#[test]
fn a_file_that_is_cut_is_refused() {
    let file = small_file();
    for len in 0..file.len() {
        let error = SealedSegment::open(Arc::new(file[..len].to_vec()), PathBuf::from("test.ice"));
        assert!(matches!(error, Err(LogError::Damaged(_))), "{len}: {error:?}");
    }
}

#[test]
fn damage_is_named() {
    let batches = Arrivals::new(5, 200).batches(30);
    let (file, _) = seal(&batches);
    let segment = open(file.clone());
    let table = segment.footer.tables.last().unwrap();
    let group = &table.groups[0];
    // The last byte of a row group is in the last page of its last column.
    let mut flipped = file.clone();
    flipped[(group.offset + group.entry.len) as usize - 1] ^= 0x10;
    let found = damage(flipped.clone());
    assert_eq!(found.len(), 1, "{found:?}");
    let name = &table.shape.columns.last().unwrap().0;
    let what =
        format!("{}, row group 0, column {name}, page 0: the checksum does not match", table.shape.label);
    assert_eq!(found[0].what, what);
    assert_eq!(found[0].positions, Some(group.positions.clone()));
    // What is of other columns and schemas can be read.
    let damaged = open(flipped);
    for group in damaged.rows(RowQuery::default()).map(Result::unwrap) {
        let is_hit = group.schema().id() == segment.schemas().last().unwrap().id();
        let open = group.open().unwrap();
        assert!(open.times().is_ok());
        assert_eq!(open.column(group.schema().fields().len() - 1).is_err(), is_hit);
    }
    let mut flipped = file;
    flipped[group.offset as usize + 3] ^= 1;
    let found = damage(flipped);
    assert!(found[0].what.contains("row group 0, head"), "{}", found[0].what);
}

#[test]
fn what_is_not_damaged_is_read_in_log_order() {
    let batches = Arrivals::new(5, 200).batches(60);
    let (file, _) = seal(&batches);
    let segment = open(file.clone());
    let table = segment.footer.tables.last().unwrap();
    let group = &table.groups[0];
    let mut flipped = file;
    flipped[(group.offset + group.entry.len) as usize - 1] ^= 0x10;
    let id = segment.schemas().last().unwrap().id();
    let mut read = Vec::new();
    let mut lost = Vec::new();
    for batch in open(flipped).in_log_order(&RowQuery::default()).unwrap() {
        match batch {
            Ok(batch) => read.push(batch.position),
            Err(LogError::Damaged(damage)) => lost.push(damage.positions.unwrap()),
            Err(error) => panic!("{error}"),
        }
    }
    let of_schema = |is: bool| batches.iter().filter(move |batch| (batch.schema.id() == id) == is);
    let others: Vec<u64> = of_schema(false).map(|batch| batch.position).collect();
    assert_eq!(read, others);
    let is_lost = |batch: &StoredBatch| lost.iter().any(|range| range.contains(&batch.position));
    assert!(of_schema(true).all(is_lost) && !of_schema(false).any(is_lost), "{lost:?}");
    assert!(lost.len() <= of_schema(true).count());
}

#[test]
fn a_later_format_is_no_damage() {
    let mut file = small_file();
    let start = file.len() - TRAILER_BYTES;
    let mut trailer = Trailer::read(&file[start..]).unwrap();
    trailer.version += 1;
    file.splice(start.., trailer.to_bytes());
    let error = SealedSegment::open(Arc::new(file), PathBuf::from("test.ice")).unwrap_err();
    assert!(matches!(error, LogError::Foreign { .. }), "{error}");
}

/// `file` with another footer and everything about it set right.
fn with_footer(file: &[u8], footer: &[u8]) -> Vec<u8> {
    let trailer = Trailer::read(&file[file.len() - TRAILER_BYTES..]).unwrap();
    let stored = section::pack(footer);
    let mut changed = file[..file.len() - trailer.tail_bytes() as usize].to_vec();
    changed.extend_from_slice(&stored);
    let trailer = Trailer {
        footer_stored: stored.len() as u64,
        footer_len: footer.len() as u64,
        len: (changed.len() + TRAILER_BYTES) as u64,
        root: trailer::root(&stored),
        version: trailer::VERSION,
    };
    changed.extend_from_slice(&trailer.to_bytes());
    changed
}

fn footer_of(file: &[u8]) -> Vec<u8> {
    let trailer = Trailer::read(&file[file.len() - TRAILER_BYTES..]).unwrap();
    let start = file.len() - trailer.tail_bytes() as usize;
    section::unpack(&file[start..start + trailer.footer_stored as usize], trailer.footer_len as usize)
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hostile_footers_are_refused_or_read(
        changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..6),
        cut in any::<bool>(),
    ) {
        let file = small_file();
        let mut footer = footer_of(&file);
        for (at, byte) in changes {
            let at = at as usize % footer.len();
            footer[at] = byte;
            if cut {
                footer.truncate(at.max(1));
            }
        }
        read_all(with_footer(&file, &footer));
    }

    #[test]
    fn hostile_heads_are_refused_or_read(
        changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..6),
        which in any::<u8>(),
    ) {
        read_all(with_changed_head(&small_file(), which, &changes));
    }
}

/// `file` with changes in the head of a row group that no checksum tells.
fn with_changed_head(file: &[u8], which: u8, changes: &[(u32, u8)]) -> Vec<u8> {
    let segment = open(file.to_vec());
    let footer = &segment.footer;
    let entries =
        |table: &footer::Table| table.groups.iter().map(|group| group.entry.clone()).collect::<Vec<_>>();
    let mut tables: Vec<_> = footer.tables.iter().chain([&footer.directory]).map(entries).collect();
    let all: Vec<(usize, usize)> =
        tables.iter().enumerate().flat_map(|(t, groups)| (0..groups.len()).map(move |g| (t, g))).collect();
    let chosen = all[usize::from(which) % all.len()];
    let mut changed = file[..HEADER_BYTES].to_vec();
    let mut offset = HEADER_BYTES;
    for (table, group) in all {
        let entry = &mut tables[table][group];
        let bytes = &file[offset..offset + entry.len as usize];
        offset += bytes.len();
        if (table, group) == chosen {
            let mut head = section::unpack(&bytes[..entry.head_stored], entry.head_len).unwrap();
            for (at, byte) in changes {
                let at = *at as usize % head.len();
                head[at] = *byte;
            }
            let stored = section::pack(&head);
            let pages = &bytes[entry.head_stored..];
            (entry.head_stored, entry.len) = (stored.len(), (stored.len() + pages.len()) as u64);
            changed.extend_from_slice(&stored);
            changed.extend_from_slice(pages);
            entry.hash = *blake3::hash(&[&stored, pages].concat()).as_bytes();
        } else {
            changed.extend_from_slice(bytes);
        }
    }
    let directory = tables.pop().unwrap();
    let contents = Contents { log: footer.log, runs: &footer.runs, tables: &tables, directory: &directory };
    let footer = footer::write(&contents);
    changed.extend_from_slice(&[0; TRAILER_BYTES]);
    let trailer = Trailer { footer_stored: 0, footer_len: 0, len: 0, root: [0; 32], version: 1 };
    let start = changed.len() - TRAILER_BYTES;
    changed.splice(start.., trailer.to_bytes());
    with_footer(&changed, &footer)
}

#[test]
fn sections_that_claim_too_much_are_refused() {
    let packed = section::compress(&vec![0; 4 << 20]);
    assert!(section::decompress(&packed, 4 << 20).is_err(), "{} bytes", packed.len());
    assert!(section::decompress(&packed, MAX_SECTION_BYTES).is_err());
    assert!(section::decompress(&section::compress(&[0; 1000]), 1000).is_ok());
    assert!(section::decompress(&section::compress(&[0; 1000]), 999).is_err());
}
