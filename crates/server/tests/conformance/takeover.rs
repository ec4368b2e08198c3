//! Two clients that use one identity.

use std::time::{Duration, Instant};

use icecore_device::Code;

use crate::client::{Client, Sdk};
use crate::harness::Site;
use crate::stored::{sequences, stored};

/// When the first loser may come back.
const FIRST_RETRY: Duration = Duration::from_secs(1);

fn loses(client: &mut Client, code: Code) {
    let refused = client.wait("refused", |event| event["device"] == "pump");
    assert_eq!(refused["code"], code.number(), "{refused}");
}

pub(crate) fn the_newer_session_wins_and_the_older_comes_back_when_it_may(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_device("pump");
    let server = site.serve();
    let [mut older, mut newer] = [(); 2].map(|()| Client::connect(sdk, server.quic, &identity));
    older.attach("pump", None);
    older.record("pump", 0..20);
    older.flush();
    let taken = Instant::now();
    newer.attach("pump", None);
    loses(&mut older, Code::TakenOver);
    older.record("pump", 20..40);
    newer.record("pump", 0..20);
    newer.flush();
    // It asks again over the connection that it has.
    older.flush();
    assert!(taken.elapsed() >= FIRST_RETRY, "it was back after {:?}", taken.elapsed());
    assert_eq!(older.count("disconnected"), 0);
    loses(&mut newer, Code::TakenOver);
    older.close();
    newer.close();
    let stored = stored(&site, server);
    assert_eq!(sequences(&stored[&("pump".to_owned(), 0)]), (0..40).into());
    assert_eq!(sequences(&stored[&("pump".to_owned(), 1)]), (0..20).into());
}

pub(crate) fn taking_over_again_and_again_is_called_a_conflict(sdk: Sdk) {
    let site = Site::new();
    let identity = site.enroll_device("pump");
    let server = site.serve();
    let [mut owner, mut other] = [(); 2].map(|()| Client::connect(sdk, server.quic, &identity));
    owner.attach("pump", None);
    owner.wait("attached", |_| true);
    other.attach("pump", None);
    // Each comes back when it may, after one, two and four seconds.
    for code in [Code::TakenOver, Code::TakenOver, Code::TakenOver, Code::IdentityConflict] {
        loses(&mut owner, code);
        std::mem::swap(&mut owner, &mut other);
    }
    owner.record("pump", 0..20);
    owner.flush();
    owner.close();
    other.close();
    assert!(site.expect(&["device", "show", "pump"]).contains("identity_conflict"));
    assert_eq!(sequences(&stored(&site, server)[&("pump".to_owned(), 0)]), (0..20).into());
}
