//! The tables of `docs/time.md` are true.

use std::sync::Arc;

use icecore_log::Source;
use icecore_replay::AsOf;
use icecore_state::StatisticsView;
use icecore_state::fold::Kept;
use icecore_wire::{Batch, BatchBuilder, ColumnType, EncodeOptions, Epoch, Field, Schema, Value};

use super::history::Told;
use super::site::Site;

const DOCUMENT: &str = include_str!("../../../../docs/time.md");

/// The cells of the rows of the table whose head begins with this.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(&format!("| {head} |")));
    let rows = lines.take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    rows.map(cells).enumerate().filter(|(row, _)| *row != 1).map(|(_, row)| row).collect()
}

/// Nanoseconds; `None` of `now`.
fn instant(text: &str) -> Option<i64> {
    let clock = text.split(' ').next_back().unwrap();
    let (hour, minute) = clock.split_once(':')?;
    let day = 1_772_323_200;
    Some((day + hour.parse::<i64>().unwrap() * 3_600 + minute.parse::<i64>().unwrap() * 60) * 1_000_000_000)
}

fn told(schema: &Arc<Schema>, row: &[&str]) -> Told {
    let device = "thermometer".parse().unwrap();
    let source = Arc::new(Source { device, epoch: Epoch::from_bytes([1; 16]), number: 0 });
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    builder.row(instant(row[1]).unwrap(), &[Value::F64(row[3].parse().unwrap())]).unwrap();
    let sequence = row[0].parse::<u64>().unwrap() - 1;
    let payload = builder.finish(sequence, EncodeOptions::PLAIN).unwrap();
    let batch = Batch::validate(payload, Arc::clone(schema)).unwrap();
    Told { source, received: instant(row[2]).unwrap(), batch }
}

#[test]
fn the_tables_of_the_document_are_true() {
    let schema = Arc::new(Schema::new("heat", 1, vec![Field::new("temperature", ColumnType::F64)]).unwrap());
    let mut events: Vec<Told> = table("event")[1..].iter().map(|row| told(&schema, row)).collect();
    assert_eq!(events.len(), 5);
    events.sort_by_key(|event| event.received);
    let (mut plain, mut with_snapshots) = (Site::new(), Site::new());
    for event in &events {
        plain.commit(&[event]);
        with_snapshots.commit(&[event]);
        with_snapshots.snapshot(false);
    }
    let answers = table("its state");
    assert_eq!(answers.len(), 3);
    for row in &answers[1..] {
        for (known_at, expected) in answers[0][1..].iter().zip(&row[1..]) {
            let as_of = AsOf { at: instant(row[0]), known_at: instant(known_at) };
            for site in [&plain, &with_snapshots] {
                let device = "thermometer".parse().unwrap();
                let view = site.state(&device, as_of).unwrap().devices[&device].view();
                let field = &view.schemas[0].fields[0];
                let Some(StatisticsView::Gauge { max: Kept::F64(max), .. }) = field.statistics else {
                    panic!()
                };
                let Kept::F64(last) = field.last.as_ref().unwrap().value else { panic!() };
                let events = if view.events == 1 { "event" } else { "events" };
                let (last, max) = (f64::from_bits(last), f64::from_bits(max));
                let said = format!("{} {events}, last {last}, maximum {max}", view.events);
                assert_eq!(said, *expected, "{as_of:?}");
            }
        }
    }
}
