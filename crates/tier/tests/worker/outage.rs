//! A store that is down for long, and a disk that fills.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use icecore_tier::plan::Moment;

use crate::life::{directories, memory};
use crate::site::{HOUR, Site};

#[test]
fn an_outage_is_waited_out_and_the_backlog_drains() {
    let (archive, _, open) = memory();
    let mut site = Site::new(open);
    for _ in 0..4 {
        site.fill();
    }
    site.settle();
    site.pass_time(7 * HOUR);
    archive.set_down(true);
    let mut passes = 0;
    let pass = loop {
        let pass = site.pass();
        assert_eq!((pass.uploaded, pass.dropped, pass.deleted), (0, 0, 0));
        assert!(pass.backlog > 0 && pass.failed + pass.waits.len() as u64 > 0, "{pass:?}");
        if !pass.resting.is_empty() {
            break pass;
        }
        passes += 1;
        assert!(passes < 10, "it is left alone in the end");
        site.pass_time(2 * HOUR);
    };
    assert_eq!(pass.resting, ["archive"]);
    let requests = archive.requests();
    let pass = site.pass();
    assert_eq!(archive.requests(), requests, "a store that is left alone is left alone: {pass:?}");
    site.write("vibration", "pump/late", 5);
    site.seal();
    site.pass();

    archive.set_down(false);
    // The breaker has a clock of its own.
    let healthy = (0..100).any(|_| {
        sleep(Duration::from_millis(100));
        site.pass().resting.is_empty()
    });
    assert!(healthy, "it is used again");
    let pass = site.settle();
    assert_eq!(pass.backlog, 0);
    site.check_rows();
    site.check_places();
    assert!(site.objects("archive", "segments").len() >= 8);
}

#[test]
fn a_directory_that_is_not_mounted_is_not_taken_for_the_store() {
    let root = tempfile::tempdir().unwrap();
    let (archive, away) = (root.path().join("archive"), root.path().join("away"));
    let mut site = Site::new(directories(root.path()));
    site.fill();
    site.pass_time(7 * HOUR);
    site.settle();
    let copies = site.objects("archive", "segments");
    assert!(!copies.is_empty());

    let waits = |site: &mut Site, why: &str| {
        site.fill();
        site.pass_time(7 * HOUR);
        let mut told = Vec::new();
        for _ in 0..8 {
            let pass = site.pass();
            assert_eq!((pass.uploaded, pass.dropped, pass.deleted), (0, 0, 0));
            told.extend(pass.failures.into_iter().map(|failure| failure.what));
        }
        assert!(told.iter().any(|what| what.contains(why)), "{told:?}");
        let empty = fs::read_dir(&archive).is_ok_and(|mut directory| directory.next().is_none());
        assert!(empty, "not a byte is written there");
    };
    // While it runs, and when it starts.
    fs::rename(&archive, &away).unwrap();
    fs::create_dir(&archive).unwrap();
    waits(&mut site, "is another directory than at the start");
    site.restart();
    waits(&mut site, "does not have term 1, which this catalog has taken in it");

    fs::remove_dir(&archive).unwrap();
    fs::rename(&away, &archive).unwrap();
    site.restart();
    site.settle();
    assert!(site.objects("archive", "segments").len() > copies.len());
    site.check_rows();
    site.check_places();
}

#[test]
fn the_hours_that_the_disk_lasts_are_told() {
    let (_, _, open) = memory();
    let mut site = Site::new(open);
    site.fill();
    let mut last = None;
    for minute in 0..10 {
        site.pass_time(HOUR / 60);
        let moment = Moment { now: site.now(), free: 110 << 30, ..Moment::default() };
        last = site.pass_with(moment, 10 << 30, minute * ((10 << 30) / 60)).hours_left;
    }
    let hours = last.unwrap();
    assert!((hours - 10.0).abs() < 0.5, "{hours}");
}

#[test]
fn a_full_disk_is_made_room_on() {
    let (_, _, open) = memory();
    let mut site = Site::new(open);
    site.apply(
        "[[policy]]\nname = \"all\"\ncold = [{ after = \"10d\", store = \"archive\" }]\nlocal = { min_free = \"1GB\" }\n\
         delete = \"never\"\n",
    );
    site.fill();
    assert!(site.settle().is_quiet());
    assert_eq!(site.files().len(), 1);
    site.free = 500 << 20;
    site.settle();
    assert!(site.files().is_empty(), "uploaded early, and dropped");
    site.check_rows();
    site.check_places();
}
