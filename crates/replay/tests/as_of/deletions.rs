//! What was deleted by policy is not left out in silence: a state is exact, or the error says from when on it is.

use std::sync::Arc;

use icecore_log::{LogError, Source};
use icecore_replay::{AsOf, AsOfError, ExactFrom, Refusal};
use icecore_wire::{Batch, BatchBuilder, ColumnType, DeviceName, EncodeOptions, Epoch, Field, Schema, Value};

use super::history::Told;
use super::site::Site;

/// Events of a batch; their times are their sequences, and they are received when the last has happened.
const ROWS: i64 = 10;

fn told(device: &str, first: i64) -> Told {
    let schema = Arc::new(Schema::new("heat", 1, vec![Field::new("a", ColumnType::I64)]).unwrap());
    let source = Source { device: device.parse().unwrap(), epoch: Epoch::from_bytes([1; 16]), number: 0 };
    let mut builder = BatchBuilder::new(Arc::clone(&schema));
    (first..first + ROWS).for_each(|time| builder.row(time, &[Value::I64(time)]).unwrap());
    let payload = builder.finish(first as u64, EncodeOptions::PLAIN).unwrap();
    let batch = Batch::validate(payload, schema).unwrap();
    Told { source: Arc::new(source), received: first + ROWS - 1, batch }
}

/// Blocks of one batch of `device`, from the event time `from` to `to`.
fn commit(site: &mut Site, device: &str, from: i64, to: i64) {
    (from..to).step_by(ROWS as usize).for_each(|first| _ = site.commit(&[&told(device, first)]));
}

fn events(site: &Site, device: &str, as_of: AsOf) -> Result<u64, AsOfError> {
    let device: DeviceName = device.parse().unwrap();
    let states = site.state(&device, as_of)?;
    Ok(states.devices.get(&device).map_or(0, |state| state.view().events))
}

fn refusal(site: &Site, as_of: AsOf) -> Refusal {
    match events(site, "pump", as_of) {
        Err(AsOfError::Refused(refusal)) => *refusal,
        other => panic!("{as_of:?}: {other:?}"),
    }
}

fn at(at: i64) -> AsOf {
    AsOf { at: Some(at), known_at: None }
}

fn known_at(known_at: i64) -> AsOf {
    AsOf { at: None, known_at: Some(known_at) }
}

/// `pump` from 0 to 1,000 and `press` behind it; what is sealed by then is gone, with a snapshot when 500 events of `pump` had
/// come that is too old, and with one behind all.
fn pruned() -> Site {
    let mut site = Site::new();
    commit(&mut site, "pump", 0, 500);
    site.snapshot(true);
    commit(&mut site, "pump", 500, 1_000);
    commit(&mut site, "press", 1_000, 2_000);
    site.seal();
    site
}

#[test]
fn a_state_is_exact_from_the_snapshot_behind_a_deletion_on() {
    let mut site = pruned();
    let gone = site.local();
    site.snapshot(true);
    assert_eq!(events(&site, "pump", at(700)).unwrap(), 701);
    gone.iter().for_each(|id| _ = site.delete(*id));
    commit(&mut site, "pump", 2_000, 2_100);

    let refused = refusal(&site, at(700));
    assert_eq!(refused.exact_from, Some(ExactFrom { at: 999, known_at: 1_999 }));
    assert_eq!((refused.segment, refused.policy.as_deref()), (gone[0], Some("brief")));
    let said = refused.to_string();
    assert!(
        said.contains("policy `brief`") && said.ends_with("exact from 1970-01-01T00:00:00.000000999Z on"),
        "{said}"
    );
    assert!(
        refusal(&site, known_at(1_500))
            .to_string()
            .ends_with("exact as known from 1970-01-01T00:00:00.000001999Z on")
    );
    for (as_of, expected) in [
        (at(999), 1_000),
        (at(2_049), 1_050),
        (known_at(1_999), 1_000),
        (known_at(2_049), 1_050),
        (AsOf { at: Some(999), known_at: Some(1_999) }, 1_000),
        (AsOf::default(), 1_100),
        // Before anything that is gone there was nothing.
        (at(-1), 0),
    ] {
        assert_eq!(events(&site, "pump", as_of).unwrap(), expected, "{as_of:?}");
    }
}

#[test]
fn without_a_snapshot_behind_a_deletion_there_is_no_instant() {
    let site = pruned();
    site.local().iter().for_each(|id| _ = site.delete(*id));
    let refused = refusal(&site, at(700));
    assert_eq!(refused.exact_from, None);
    assert!(refused.to_string().ends_with("exact at no instant"), "{refused}");
    // The snapshot has all events of that time that had come, and nobody knows any more what came later.
    refusal(&site, at(499));
    refusal(&site, known_at(499));
    assert_eq!(events(&site, "nobody", at(700)).unwrap(), 0, "nothing of it is gone");
}

#[test]
fn what_is_nowhere_is_named() {
    let site = pruned();
    let id = site.local()[0];
    site.lose(id);
    let error = events(&site, "pump", at(700)).unwrap_err();
    assert!(matches!(&error, AsOfError::Log(LogError::Absent { id: lost, .. }) if *lost == id), "{error}");
    assert!(error.to_string().contains(&id.to_string()), "{error}");
}
