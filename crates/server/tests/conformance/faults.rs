//! What a healthy server does not do, or only under circumstances that a test cannot bring about.

use std::time::Duration;

use icecore_device::Code;
use icecore_wire::Pace;

use crate::bench::Bench;
use crate::client::{Client, Sdk};
use crate::fake::LastWords;

pub(crate) fn batches_without_an_ack_are_sent_again_as_they_were(sdk: Sdk) {
    let bench = Bench::new();
    let mut client = bench.pump(sdk);
    for round in 0..3 {
        // Stored, and the connection is lost ahead of the acks.
        bench.server.faults().ack_delay = Duration::from_millis(500);
        bench.server.faults().drop_after = Some(3);
        client.record("pump", round * 50..(round + 1) * 50);
        client.wait("disconnected", |_| true);
        bench.server.faults().ack_delay = Duration::ZERO;
        client.flush();
    }
    client.close();
    // The server panics at a resend that is not the same to the byte, and then these do not arrive.
    assert_eq!(bench.server.stored("pump"), [(0..150).into()]);
    assert!(bench.server.memory().connections >= 4);
}

pub(crate) fn a_refused_batch_is_given_up_and_the_next_goes_on(sdk: Sdk) {
    let bench = Bench::new();
    let mut client = bench.pump(sdk);
    bench.server.faults().reject.insert(10);
    client.record("pump", 0..40);
    client.flush();
    let rejected = client.wait("rejected", |_| true);
    assert_eq!([&rejected["start"], &rejected["end"]], [10, 20]);
    assert_eq!(rejected["code"], Code::MalformedBatch.number());
    client.close();
    assert_eq!(bench.server.stored("pump"), [[0..10, 20..40].into_iter().collect()]);
}

pub(crate) fn a_deferred_batch_comes_again_when_it_may(sdk: Sdk) {
    const LATER: Duration = Duration::from_millis(300);
    let bench = Bench::new();
    let mut client = bench.pump(sdk);
    let codes = [Code::RateLimited, Code::Overloaded, Code::Unrecognized(999)];
    let firsts = [0, 20, 40];
    bench.server.faults().defer = firsts.into_iter().zip(codes.map(|code| (code, LATER))).collect();
    client.record("pump", 0..60);
    client.flush();
    assert_eq!(client.count("rejected"), 0);
    client.close();
    assert_eq!(bench.server.stored("pump"), [(0..60).into()]);
    for first in firsts {
        assert!(bench.return_of(first) >= LATER, "{first} came again after {:?}", bench.return_of(first));
    }
}

pub(crate) fn a_standstill_is_kept(sdk: Sdk) {
    const STANDSTILL: Duration = Duration::from_millis(400);
    let bench = Bench::new();
    let mut client = bench.pump(sdk);
    bench.server.faults().pace = Some(Pace { bytes_per_s: 0, retry_after: STANDSTILL });
    client.record("pump", 0..10);
    client.wait_for_acks("pump", 0..10);
    client.record("pump", 10..30);
    client.flush();
    client.close();
    assert_eq!(bench.server.stored("pump"), [(0..30).into()]);
    let memory = bench.server.memory();
    let arrivals = &memory.epochs.values().next().unwrap().arrivals;
    let waited = arrivals[1].0 - arrivals[0].0;
    assert!(waited >= STANDSTILL, "went on after {waited:?}");
}

pub(crate) fn a_slow_pace_spreads_batches_out(sdk: Sdk) {
    const BYTES_PER_S: u64 = 1_000;
    let bench = Bench::new();
    let mut client = bench.pump(sdk);
    bench.server.faults().pace =
        Some(Pace { bytes_per_s: BYTES_PER_S, retry_after: Duration::from_secs(60) });
    client.record("pump", 0..10);
    client.wait_for_acks("pump", 0..10);
    client.record("pump", 10..90);
    client.flush();
    client.close();
    assert_eq!(bench.server.stored("pump"), [(0..90).into()]);
    let memory = bench.server.memory();
    let kept = memory.epochs.values().next().unwrap();
    let took = kept.arrivals[8].0 - kept.arrivals[1].0;
    let bytes: usize = kept.batches.range(10..80).map(|(_, payload)| payload.len()).sum();
    // A tenth less: the network may bring the first late.
    let least = Duration::from_millis(bytes as u64 * 900 / BYTES_PER_S);
    assert!(took >= least, "{bytes} bytes in {took:?}");
}

pub(crate) fn who_is_told_to_go_comes_back_when_it_may(sdk: Sdk) {
    const AWAY: Duration = Duration::from_millis(600);
    let bench = Bench::new();
    let mut client = bench.pump(sdk);
    bench.server.faults().last_words = Some(LastWords::GoAway(AWAY));
    client.record("pump", 0..10);
    client.wait("disconnected", |_| true);
    client.record("pump", 10..30);
    client.flush();
    client.close();
    assert_eq!(bench.server.stored("pump"), [(0..30).into()]);
    let memory = bench.server.memory();
    let told = memory.epochs.values().next().unwrap().arrivals[0].0;
    assert_eq!(memory.hellos.len(), 2, "one goodbye, one return");
    assert!(memory.hellos[1] - told >= AWAY, "came back after {:?}", memory.hellos[1] - told);
}

pub(crate) fn half_a_frame_ends_a_connection_and_nothing_else(sdk: Sdk) {
    let bench = Bench::new();
    let mut client = bench.pump(sdk);
    bench.server.faults().last_words = Some(LastWords::HalfAFrame);
    client.record("pump", 0..30);
    client.wait("disconnected", |_| true);
    client.flush();
    client.close();
    assert_eq!(bench.server.stored("pump"), [(0..30).into()]);
}

pub(crate) fn aliases_are_never_used_again(sdk: Sdk) {
    let bench = Bench::new();
    bench.server.faults().refuse_device.insert("b".parse().unwrap(), Code::NotGranted);
    let identity = bench.identity("gateway", "gateway");
    let mut client = Client::connect(sdk, bench.server.address, &identity);
    for device in ["a", "b"] {
        client.attach(device, None);
        client.record(device, 0..10);
    }
    for _ in 0..2 {
        client.wait("refused", |event| event["device"] == "b");
    }
    bench.server.faults().refuse_device.clear();
    client.attach("c", None);
    client.record("c", 0..10);
    client.flush();
    client.close();
    let memory = bench.server.memory();
    let [aliases] = memory.aliases.values().collect::<Vec<_>>()[..] else { panic!("{:?}", memory.aliases) };
    assert!(aliases.len() >= 5, "{aliases:?}");
    assert!(aliases[0] > 0 && aliases.is_sorted_by(|a, b| a < b), "{aliases:?}");
}

pub(crate) fn who_is_refused_asks_again_when_it_may_whatever_the_code(sdk: Sdk) {
    const LATER: Duration = Duration::from_millis(300);
    let bench = Bench::new();
    let identity = bench.identity("device", "pump");
    bench.server.faults().refuse_connection = Some((Code::NotEnrolled, Some(LATER)));
    let mut client = Client::connect(sdk, bench.server.address, &identity);
    client.attach("pump", None);
    client.record("pump", 0..10);
    for code in [Code::NotEnrolled, Code::Revoked, Code::Unrecognized(999)] {
        bench.server.faults().refuse_connection = Some((code, Some(LATER)));
        client.wait("refused", |event| event["code"] == code.number());
    }
    bench.server.faults().refuse_connection = None;
    client.flush();
    client.close();
    assert_eq!(bench.server.stored("pump"), [(0..10).into()]);
    let hellos = &bench.server.memory().hellos;
    assert!(hellos.len() >= 4 && hellos.windows(2).all(|pair| pair[1] - pair[0] >= LATER), "{hellos:?}");
}
