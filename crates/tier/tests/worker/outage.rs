//! A store that is down for long, and a disk that fills.

use std::thread::sleep;
use std::time::Duration;

use icecore_tier::plan::Moment;

use crate::life::memory;
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
