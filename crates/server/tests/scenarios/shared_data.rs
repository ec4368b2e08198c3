//! The eight real data sets, where the folder with them is present beside the workspace.

use crate::fixtures::round_trip;
use crate::harness::{Site, workspace};

pub(crate) const FILES: [&str; 8] = [
    "beijing_air",
    "ecg_mitbih100",
    "metro_traffic",
    "nab_telemetry",
    "nyc_weather",
    "px4_imu",
    "room_occupancy",
    "usgs_quakes",
];

#[test]
fn every_real_file_comes_back_as_it_was_sent() {
    let data = workspace().join("../shared/data");
    if !data.is_dir() {
        eprintln!("skipped: {} is absent", data.display());
        return;
    }
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let server = site.serve();
    for name in FILES {
        round_trip(
            &site,
            &server,
            &identity,
            &data.join(format!("{name}.csv.gz")),
            &data.join("fields.json"),
        );
    }
    assert!(server.stop().success());
}
