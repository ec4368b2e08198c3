use std::collections::BTreeMap;
use std::path::Path;

use icecore_wire::{ColumnType, Field};
use proptest::prelude::*;

use super::*;
use crate::disk::{Disk, SimDisk};
use crate::record::Fact;
use crate::segment::{Layout, SegmentHeader};

/// What is put into a directory: a source, a first sequence, and whether a block ends after it.
type Puts = Vec<(u8, u64, bool)>;

fn source(index: u8) -> Arc<Source> {
    let device = format!("device-{}", index / 2).parse().unwrap();
    Arc::new(Source { device, epoch: Epoch::from_bytes([index; 16]), number: u32::from(index) })
}

fn entry(first_sequence: u64, position: u64) -> BatchEntry {
    BatchEntry { first_sequence, count: 1, digest: Digest::of(&first_sequence.to_le_bytes()), position }
}

fn header() -> SegmentHeader {
    SegmentHeader {
        log: [1; 16],
        number: 5,
        nonce: [2; 16],
        term: 0,
        first_block: 10,
        first_position: 100,
        chain: [0; 32],
        created: 0,
        begins_with_copy: false,
    }
}

fn extent(directory: &Directory, positions: Range<u64>) -> Extent {
    let blocks = 10..10 + directory.blocks.len() as u64;
    let SegmentHeader { log, nonce, number, chain, .. } = header();
    Extent { log, nonce, segment: number, blocks, positions, chain, end: 512, received: 3 }
}

/// A directory, and what it must find.
fn build(puts: &Puts) -> (Directory, BTreeMap<(u8, u64), BatchEntry>) {
    let schema = Arc::new(Schema::new("s", 1, vec![Field::new("v", ColumnType::I64)]).unwrap());
    let mut directory = Directory::new(10);
    let mut expected = BTreeMap::new();
    for (position, (index, first_sequence, ends_block)) in (100..).zip(puts) {
        expected.entry((*index, *first_sequence)).or_insert_with(|| {
            let entry = entry(*first_sequence, position);
            let (source, schema) = (directory.source(&source(*index)).id, directory.schema(&schema).id);
            directory.batch(source, schema, entry);
            entry
        });
        if *ends_block {
            directory.end_block(0);
        }
    }
    directory.end_block(0);
    (directory, expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn finds_the_same_in_memory_and_on_disk(puts in prop::collection::vec((0..6_u8, 0..40_u64, any::<bool>()), 0..60)) {
        let (mut directory, expected) = build(&puts);
        let disk = SimDisk::new(1);
        let layout = Layout::new(Path::new("/"));
        disk.create_dir(&layout.hot).unwrap();
        let extent = extent(&directory, 100..100 + puts.len() as u64);
        let in_memory: Vec<_> = (0..6).flat_map(|index| (0..40).map(move |first| (index, first))).map(|(index, first)| {
            let source = source(index);
            directory.find(&source.device, &source.epoch, first)
        }).collect();
        let directory = directory.finish();
        DirectoryFile::write(&disk, &layout, &extent, &directory, &[]).unwrap();
        let file = DirectoryFile::open_whole(&disk, &layout, &header()).unwrap().unwrap();
        let places = (0..6).flat_map(|index| (0..40).map(move |first| (index, first)));
        for ((index, first), in_memory) in places.zip(in_memory) {
            let source = source(index);
            let wanted = expected.get(&(index, first)).copied();
            prop_assert_eq!(in_memory, wanted);
            prop_assert_eq!(directory.find_finished(&source.device, &source.epoch, first), wanted);
            prop_assert_eq!(file.find(&source.device, &source.epoch, first).unwrap(), wanted);
        }
        let mut told = Vec::new();
        file.facts(&mut |fact| {
            if let Fact::Batch { source, first_sequence, position, .. } = fact {
                told.push(((source.number as u8, *first_sequence), *position));
            }
        }).unwrap();
        told.sort_unstable();
        let wanted: Vec<_> = expected.iter().map(|(key, entry)| (*key, entry.position)).collect();
        prop_assert_eq!(told, wanted);
    }
}
