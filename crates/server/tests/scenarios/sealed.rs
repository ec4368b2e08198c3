//! A site whose data is sealed.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use icecore_log::{HotLog, Options, RealDisk, SealPlan, Sealing, SegmentId};

use crate::harness::{Site, testdata};

/// The one segment of [`sealed_site`].
pub(crate) const SEGMENT: SegmentId = SegmentId { manifest: 0, child: 0 };

/// A site without a server, with the events of a month in one sealed segment.
pub(crate) fn sealed_site() -> Site {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    let file = january();
    let address = server.address();
    let to = ["--schema", "weather", "--server", &address, "--identity", &identity];
    site.expect(&[&["send", file.to_str().unwrap()], &to[..]].concat());
    assert!(server.stop().success());
    seal(&site);
    site
}

pub(crate) fn january() -> PathBuf {
    testdata().join("fixtures/january.csv")
}

fn seal(site: &Site) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(since.as_nanos()).unwrap();
    let opened = HotLog::open(Arc::new(RealDisk), &site.path("data"), Options::default(), now, &mut |_| ());
    let (_appender, committer, _) = opened.unwrap();
    let class: Arc<str> = "default".into();
    let plan = SealPlan {
        hot_bytes: u64::MAX,
        classify: &|_, _, _| Arc::clone(&class),
        pace: &mut |_| ControlFlow::Continue(()),
        now,
    };
    assert!(matches!(committer.sealer().seal(plan).unwrap(), Sealing::Done(_)));
}
