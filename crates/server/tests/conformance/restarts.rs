//! Either end goes away and comes back.

use crate::client::{Client, Sdk};
use crate::harness::Site;
use crate::stored::{sequences, stored};

pub(crate) fn a_killed_server_is_found_again_and_nothing_is_lost(sdk: Sdk) {
    let mut site = Site::new();
    let address = site.keep_address();
    let identity = site.enroll_device("pump");
    let mut server = site.serve();
    let mut client = Client::connect(sdk, address, &identity);
    client.attach("pump", None);
    for round in 0..3 {
        let (start, middle, end) = (round * 100, round * 100 + 50, (round + 1) * 100);
        client.record("pump", start..middle);
        client.wait_for_acks("pump", start.unsigned_abs()..middle.unsigned_abs());
        server.kill();
        client.record("pump", middle..end);
        server = site.serve();
    }
    client.flush();
    assert_eq!(client.count("rejected"), 0);
    client.close();
    let stored = stored(&site, server);
    assert_eq!(stored.len(), 1, "a new connection is no new epoch");
    assert_eq!(sequences(&stored[&("pump".to_owned(), 0)]), (0..300).into());
}

pub(crate) fn a_restarted_device_begins_an_epoch(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_device("pump");
    let server = site.serve();
    for number in 0..2 {
        let mut client = Client::connect(sdk, server.quic, &identity);
        client.attach("pump", None);
        let attached = client.wait("attached", |_| true);
        assert_eq!(attached["epoch_number"], number);
        client.record("pump", 0..20);
        client.flush();
        client.kill();
    }
    let stored = stored(&site, server);
    for epoch in 0..2 {
        assert_eq!(sequences(&stored[&("pump".to_owned(), epoch)]), (0..20).into());
    }
}

pub(crate) fn the_same_rows_again_are_stored_once(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_gateway("gateway", "*");
    let server = site.serve();
    // The second goes on where the first was killed.
    for rows in [50, 80] {
        let mut client = Client::connect(sdk, server.quic, identity.as_ref());
        client.attach("file", Some([7; 16]));
        client.record("file", 0..rows);
        client.wait_for_acks("file", 0..rows.unsigned_abs());
        client.kill();
    }
    let stored = stored(&site, server);
    assert_eq!(stored.len(), 1);
    assert_eq!(sequences(&stored[&("file".to_owned(), 0)]), (0..80).into());
}
