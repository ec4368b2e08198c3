//! The server is killed again and again while a fleet streams: what was acked is stored, once.

use std::thread;
use std::time::Duration;

use icecore_device::{Identity, Spool};
use icecore_load::promises::Acked;
use icecore_load::pumps::{self, Pumps};

use crate::harness::{Site, crash_rounds};

#[test]
fn nothing_acked_is_lost_when_the_server_is_killed() {
    let mut site = Site::new();
    let address = site.keep_address();
    // Small enough that some crashes meet a new segment.
    site.set("LOG__SEGMENT", "1MiB");
    let identity = Identity::load(site.enroll_gateway("gateway", "pump/*")).unwrap();
    let memory = (0..4).map(|_| Spool::Memory { max_bytes: 4 << 20 });
    let disk = (0..2).map(|n| Spool::Disk { dir: site.path(&format!("spool-{n}")), max_bytes: 16 << 20 });

    let mut server = site.serve();
    let acked = Acked::default();
    let config = pumps::config(address.to_string(), identity);
    let pumps = Pumps::start(config, memory.chain(disk).collect(), &acked).unwrap();
    for round in 0..crash_rounds() {
        let before = acked.count();
        // Half of the crashes meet a fleet that has found the server again, the others any state on the way there.
        if round % 2 == 0 {
            pumps.wait_for_acks(1).unwrap();
        }
        thread::sleep(Duration::from_millis(fastrand::u64(50..500)));
        server.kill();
        server = site.serve();
        println!("round {round}: killed after {} acks", acked.count() - before);
    }
    pumps.finish().unwrap();
    assert!(server.stop().success());
    let stored = acked.check(&site.path("data")).unwrap();
    println!("{} batches were acked, {} are stored", acked.count(), stored.batches);
    assert_eq!(acked.count(), stored.batches, "after the fleet is done, everything stored is acked");
}
