//! A new certificate before the old one expires.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;

use crate::bench::Bench;
use crate::client::{Client, Sdk};
use crate::harness::Site;
use crate::stored::{sequences, stored};

const URI: &str = "icecore:device:pump";

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// The identity of a device whose certificate has lived for most of its life, by the clock of the server.
fn old_identity(bench: &Bench) -> PathBuf {
    bench.server.faults().server_time = i64::try_from(since_1970().as_nanos()).unwrap();
    let identity = bench.identity("device", "pump");
    // From 2000 until the end of this year, or a little longer.
    let until = 1971 + i32::try_from(since_1970().as_secs() / (365 * 86_400)).unwrap();
    let old = bench.server.authority().certificate(URI, &key(&identity), until);
    fs::write(identity.join("cert.pem"), old.pem()).unwrap();
    identity
}

fn key(identity: &Path) -> KeyPair {
    KeyPair::from_pem(&fs::read_to_string(identity.join("key.pem")).unwrap()).unwrap()
}

fn certificate(identity: &Path) -> String {
    fs::read_to_string(identity.join("cert.pem")).unwrap().split_whitespace().collect()
}

/// What the client tells of the renewal, and how many connections showed which certificate: the client sends something over
/// three.
fn three_connections(sdk: Sdk, bench: &Bench, identity: &Path, told: &str) -> Vec<Vec<u8>> {
    let mut client = Client::connect(sdk, bench.server.address, identity);
    client.attach("pump", None);
    client.wait(told, |_| true);
    for batch in 0..2 {
        bench.server.faults().drop_after = Some(1);
        client.record("pump", batch * 10..(batch + 1) * 10);
        client.wait("disconnected", |_| true);
        client.flush();
    }
    assert_eq!(client.count("renewed") + client.count("not_renewed"), 0, "once is enough");
    client.close();
    assert_eq!(bench.server.stored("pump"), [(0..20).into()]);
    let memory = bench.server.memory();
    assert_eq!(memory.renewals, 1);
    memory.certificates.clone()
}

pub(crate) fn an_old_certificate_is_renewed_and_the_new_one_shown_next(sdk: Sdk) {
    let bench = Bench::new();
    let identity = old_identity(&bench);
    let new = bench.server.authority().certificate(URI, &key(&identity), 2100);
    bench.server.faults().renewal = Some(new.der().to_vec());
    let shown = three_connections(sdk, &bench, &identity, "renewed");
    assert_ne!(shown[0], shown[1]);
    assert_eq!(shown[1..], [new.der().to_vec(), new.der().to_vec()]);
    assert_eq!(certificate(&identity), new.pem().split_whitespace().collect::<String>());
}

pub(crate) fn who_gets_no_new_certificate_goes_on_and_does_not_ask_at_every_connection(sdk: Sdk) {
    let bench = Bench::new();
    let shown = three_connections(sdk, &bench, &old_identity(&bench), "not_renewed");
    assert!(shown.iter().all(|certificate| *certificate == shown[0]));
}

pub(crate) fn a_certificate_of_another_key_is_not_taken(sdk: Sdk) {
    let bench = Bench::new();
    let identity = old_identity(&bench);
    let before = certificate(&identity);
    let other = bench.server.authority().certificate(URI, &KeyPair::generate().unwrap(), 2100);
    bench.server.faults().renewal = Some(other.der().to_vec());
    let shown = three_connections(sdk, &bench, &identity, "not_renewed");
    assert!(shown.iter().all(|certificate| *certificate == shown[0]));
    assert_eq!(certificate(&identity), before);
}

pub(crate) fn a_real_server_renews_what_it_issued(sdk: Sdk) {
    let mut site = Site::new();
    let address = site.keep_address();
    let identity = site.path("pump");
    // Certificates are good from a day ago on, so that most of this one's life is over.
    let arguments = ["device", "enroll", "pump", "--valid-for", "1h", "--out", identity.to_str().unwrap()];
    site.expect(&arguments);
    let enrolled = since_1970().as_secs();
    let old = certificate(&identity);
    let server = site.serve();
    // A certificate counts in seconds, and one that is made in the same does not last longer.
    while since_1970().as_secs() <= enrolled {
        thread::sleep(Duration::from_millis(20));
    }
    let mut client = Client::connect(sdk, address, &identity);
    client.attach("pump", None);
    client.wait("renewed", |_| true);
    client.record("pump", 0..20);
    client.flush();
    server.kill();
    let server = site.serve();
    client.record("pump", 20..40);
    client.flush();
    client.close();
    assert_ne!(certificate(&identity), old);
    // Another process, with what was kept; what it has is as old, and is not to be had anew within a minute.
    let mut client = Client::connect(sdk, address, &identity);
    client.attach("pump", None);
    client.record("pump", 0..20);
    client.flush();
    assert_eq!(client.count("refused"), 0);
    client.close();
    let stored = stored(&site, server);
    assert_eq!(sequences(&stored[&("pump".to_owned(), 0)]), (0..40).into());
    assert_eq!(sequences(&stored[&("pump".to_owned(), 1)]), (0..20).into());
}
