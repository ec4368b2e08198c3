//! A file sent again is stored once, whatever happened to the server in between.

use crate::harness::{Site, testdata};

#[test]
fn a_file_sent_again_is_not_stored_twice() {
    let site = Site::new();
    let identity = site.enroll_gateway("gw", "*");
    let file = testdata().join("nyc_weather.csv.gz");
    let send = |server: &str, schema: &str| {
        let file = file.to_str().unwrap();
        site.expect(&["send", file, "--schema", schema, "--server", server, "--identity", &identity])
    };
    let server = site.serve();
    assert!(send(&server.address(), "weather").contains("26,115 new, 0 stored before"));
    let again = send(&server.address(), "weather");
    assert!(again.contains("0 new, 26,115 stored before"), "{again}");
    assert!(again.contains("nothing was stored twice"), "{again}");
    server.kill();

    let server = site.serve();
    assert!(send(&server.address(), "weather").contains("0 new, 26,115 stored before"), "after a crash");
    assert!(send(&server.address(), "other").contains("26,115 new"), "another schema is other data");
    assert!(server.stop().success());
    let replayed = site.expect(&["replay", "--schema", "weather"]);
    assert_eq!(replayed.lines().count(), 1 + 26_115);
}
