use std::collections::BTreeMap;
use std::sync::Arc;

use icecore_wire::{ColumnType, Digest, Field, Schema};
use proptest::prelude::*;

use super::*;

const DEVICE: &str = "plant/pump";

/// What happened to some sequences. The order is that of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Dropped,
    Refused,
    Stored,
}

fn source(epoch: u8) -> Arc<Source> {
    let device = DEVICE.parse().unwrap();
    Arc::new(Source { device, epoch: Epoch::from_bytes([epoch; 16]), number: epoch.into() })
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new("flow", 1, vec![Field::new("rate", ColumnType::F64)]).unwrap())
}

impl Ledger {
    fn tell(&mut self, epoch: u8, range: Range<u64>, fate: Fate) {
        self.tell_at(0, epoch, range, fate);
    }

    fn tell_at(&mut self, received: i64, epoch: u8, range: Range<u64>, fate: Fate) {
        let (source, schema) = (&source(epoch), &schema());
        let code = Code::MalformedBatch.number();
        let digest = Digest::of(&[]);
        self.apply(&match fate {
            Fate::Stored => {
                let (first_sequence, count) = (range.start, (range.end - range.start) as u32);
                Fact::Batch { source, schema, first_sequence, count, position: 0, received, digest }
            }
            Fate::Refused => Fact::Refused { source, range, code, digest, received },
            Fate::Dropped => Fact::Dropped { source, range, received },
        });
    }

    fn verdict(&self, epoch: u8, range: Range<u64>) -> Verdict {
        self.classify(&DEVICE.parse().unwrap(), &source(epoch).epoch, &range)
    }

    fn epoch_0(&self) -> &EpochLedger {
        self.resolve(&DEVICE.parse().unwrap(), &source(0).epoch).unwrap()
    }
}

#[test]
fn a_resend_is_covered_and_half_of_one_overlaps() {
    let mut ledger = Ledger::default();
    assert_eq!(ledger.verdict(0, 0..10), Verdict::New);
    ledger.tell(0, 0..10, Fate::Stored);
    ledger.tell(0, 10..20, Fate::Stored);
    assert_eq!(ledger.verdict(0, 0..10), Verdict::Covered);
    assert_eq!(ledger.verdict(0, 5..15), Verdict::Covered);
    assert_eq!(ledger.verdict(0, 15..25), Verdict::Overlapping);
    assert_eq!(ledger.verdict(0, 20..30), Verdict::New);
    assert_eq!(ledger.verdict(1, 0..10), Verdict::New, "another epoch starts at 0 again");
}

#[test]
fn what_was_sealed_counts_as_it_did_before() {
    let (mut hot, mut sealed) = (Ledger::default(), Ledger::default());
    for (received, range) in [(7, 0..10), (5, 10..20), (9, 30..40)] {
        hot.tell_at(received, 0, range, Fate::Stored);
    }
    hot.tell_at(6, 0, 20..25, Fate::Dropped);
    sealed.tell_at(6, 0, 20..25, Fate::Dropped);
    let source = &source(0);
    for sequences in [0..20, 30..40] {
        sealed.apply(&Fact::Sealed { source, sequences, received: 5..=9 });
    }
    let device = DEVICE.parse().unwrap();
    let facts = |ledger: &Ledger| {
        let device = ledger.device(&device).unwrap();
        (device.first_received(), device.last_received(), device.events())
    };
    assert_eq!(facts(&hot), facts(&sealed));
    assert_eq!(hot.epoch_0().stored(), sealed.epoch_0().stored());
    assert_eq!(hot.epoch_0().missing(), sealed.epoch_0().missing());
    assert_eq!(sealed.verdict(0, 10..15), Verdict::Covered);
    assert_eq!(sealed.verdict(0, 15..25), Verdict::Overlapping);
}

#[test]
fn what_was_refused_or_dropped_may_still_be_stored() {
    let mut ledger = Ledger::default();
    ledger.tell(0, 0..10, Fate::Refused);
    ledger.tell(0, 10..20, Fate::Dropped);
    assert_eq!(ledger.verdict(0, 5..15), Verdict::New);
    ledger.tell(0, 5..15, Fate::Stored);
    let epoch = ledger.epoch_0();
    assert_eq!(epoch.refused().ranges(), SequenceRanges::from(0..5));
    assert_eq!(epoch.dropped(), &SequenceRanges::from(15..20));
    assert!(epoch.missing().is_empty());
}

#[test]
fn a_full_range_list_takes_what_extends_a_range_and_nothing_else() {
    let mut ledger = Ledger::default();
    for i in 0..MAX_RANGES as u64 {
        assert_eq!(ledger.verdict(0, i * 10..i * 10 + 1), Verdict::New);
        ledger.tell(0, i * 10..i * 10 + 1, Fate::Stored);
    }
    assert_eq!(ledger.verdict(0, 5..6), Verdict::TooManyRanges);
    assert_eq!(ledger.verdict(0, 1..2), Verdict::New);
    ledger.tell(0, 1..10, Fate::Stored);
    assert_eq!(ledger.verdict(0, 15..16), Verdict::New, "a closed gap makes room");
}

#[test]
fn only_epochs_with_gaps_count_against_the_limit() {
    let mut ledger = Ledger::default();
    for epoch in 0..MAX_OPEN_EPOCHS as u8 {
        ledger.tell(epoch, 0..1, Fate::Stored);
    }
    assert_eq!(ledger.verdict(200, 0..1), Verdict::New, "none of them has a gap");
    for epoch in 0..MAX_OPEN_EPOCHS as u8 {
        ledger.tell(epoch, 5..6, Fate::Stored);
    }
    assert_eq!(ledger.verdict(200, 0..1), Verdict::TooManyEpochs);
    assert_eq!(ledger.verdict(3, 1..5), Verdict::New, "known epochs go on");
    ledger.tell(3, 1..5, Fate::Dropped);
    assert_eq!(ledger.verdict(200, 0..1), Verdict::New, "a settled gap makes room");
}

#[test]
fn refusals_and_drops_are_limited_too() {
    let mut ledger = Ledger::default();
    let (device, epoch) = (DEVICE.parse().unwrap(), source(0).epoch);
    for i in 0..MAX_RANGES as u64 {
        assert!(ledger.can_settle(&device, &epoch, &(i * 10..i * 10 + 1)));
        ledger.tell(0, i * 10..i * 10 + 1, if i % 2 == 0 { Fate::Dropped } else { Fate::Refused });
    }
    assert!(!ledger.can_settle(&device, &epoch, &(5..6)));
    assert!(ledger.can_settle(&device, &epoch, &(10..11)), "settled already");
}

#[test]
fn epochs_are_numbered_as_the_log_says() {
    let mut ledger = Ledger::default();
    let device: DeviceName = DEVICE.parse().unwrap();
    assert_eq!(ledger.next_epoch_number(&device), 0);
    ledger.tell_at(20, 3, 0..1, Fate::Stored);
    ledger.tell_at(10, 1, 0..2, Fate::Stored);
    ledger.tell_at(30, 3, 1..2, Fate::Dropped);
    let ledger_of_device = ledger.device(&device).unwrap();
    let numbers: Vec<u32> = ledger_of_device.epochs().iter().map(EpochLedger::number).collect();
    assert_eq!(numbers, [1, 3]);
    assert_eq!(ledger.next_epoch_number(&device), 4);
    assert_eq!(ledger_of_device.events(), 3);
    assert_eq!((ledger_of_device.first_received(), ledger_of_device.last_received()), (10, 30));
}

fn facts() -> impl Strategy<Value = Vec<(u64, u64, Fate)>> {
    let fate = prop_oneof![Just(Fate::Dropped), Just(Fate::Refused), Just(Fate::Stored)];
    prop::collection::vec((0u64..60, 1u64..12, fate), 1..40)
}

proptest! {
    #[test]
    fn every_sequence_has_the_strongest_fate_told(facts in facts()) {
        let mut ledger = Ledger::default();
        let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
        for (start, count, fate) in facts {
            ledger.tell(0, start..start + count, fate);
            for sequence in start..start + count {
                let known = fates.entry(sequence).or_insert(fate);
                *known = fate.max(*known);
            }
        }
        let epoch = ledger.epoch_0();
        let of = |fate: Option<Fate>| -> SequenceRanges {
            let end = fates.last_key_value().map_or(0, |(last, _)| last + 1);
            (0..end).filter(|sequence| fates.get(sequence).copied() == fate).map(|s| s..s + 1).collect()
        };
        prop_assert_eq!(epoch.stored(), &of(Some(Fate::Stored)));
        prop_assert_eq!(epoch.refused().ranges(), of(Some(Fate::Refused)));
        prop_assert_eq!(epoch.dropped(), &of(Some(Fate::Dropped)));
        prop_assert_eq!(epoch.missing(), of(None));
        prop_assert_eq!(epoch.settled().count() + epoch.missing().count(), epoch.next());
    }

    #[test]
    fn refused_ranges_stay_disjoint_and_keep_the_first_reason(
        steps in prop::collection::vec((0u64..40, 1u64..10, 0u16..3, any::<bool>()), 1..30),
    ) {
        let mut refused = RefusedRanges::default();
        let mut expected: BTreeMap<u64, u16> = BTreeMap::new();
        for (start, count, code, remove) in steps {
            let range = start..start + count;
            if remove {
                refused.remove(&range);
                expected.retain(|sequence, _| !range.contains(sequence));
            } else {
                refused.insert(range.clone(), Code::from_number(code));
                range.for_each(|sequence| _ = expected.entry(sequence).or_insert(code));
            }
            let found: BTreeMap<u64, u16> = refused
                .iter()
                .flat_map(|part| part.range.clone().map(|sequence| (sequence, part.code.number())))
                .collect();
            prop_assert_eq!(&found, &expected);
            let sorted = refused.iter().zip(refused.iter().skip(1)).all(|(a, b)| {
                a.range.end < b.range.start || (a.range.end == b.range.start && a.code != b.code)
            });
            prop_assert!(sorted, "{:?}", refused);
        }
    }
}

#[test]
fn what_the_server_derives_is_no_sign_of_life_and_none_of_the_devices_events() {
    let mut ledger = Ledger::default();
    ledger.tell_at(5, 0, 0..10, Fate::Stored);
    let device: DeviceName = DEVICE.parse().unwrap();
    let epoch = Epoch::derived(&[1; 16], &device, "flow@1m");
    let derived = Arc::new(Source { device: device.clone(), epoch, number: 1 });
    ledger.apply(&Fact::Sealed { source: &derived, sequences: 0..3, received: 9..=9 });
    let told = ledger.device(&device).unwrap();
    assert_eq!((told.first_received(), told.last_received(), told.events()), (5, 5, 10));
    assert_eq!((told.device_epochs().count(), told.epochs().len()), (1, 2));
    assert_eq!(told.epoch(&epoch).unwrap().next(), 3);
    assert_eq!(ledger.next_epoch_number(&device), 2);
}
