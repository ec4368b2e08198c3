//! Random histories: writes, seals, faults, crashes, holds, policies and time, in any order.

use icecore_tier::hold::Scope;

use crate::faulty::{FAULTS, Faulty};
use crate::life::memory;
use crate::site::{DAY, HOUR, POLICIES, SECOND, Site};

/// Histories in one run, or as many as `ICECORE_HISTORIES` says.
const HISTORIES: u64 = 6;
const STEPS: usize = 60;

/// As the usual policies, but one device is kept.
fn other_policies() -> String {
    let kept = "[[policy]]\nname = \"kept\"\nmatch = { device = \"pump/1\" }\n\
                cold = [{ after = \"2h\", store = \"deep\" }]\nlocal = { drop_after = \"1d\" }\ndelete = \"never\"\n";
    format!("{kept}{POLICIES}")
}

fn step(site: &mut Site, places: &[Faulty; 2], random: &mut fastrand::Rng, holds: &mut Vec<u64>) {
    match random.u32(..100) {
        0..22 => {
            let schema = ["vibration", "logs", "alarm"][random.usize(..3)];
            let device = format!("pump/{}", random.u32(..3));
            site.write(schema, &device, random.u32(1..60));
        }
        22..32 => site.seal(),
        32..70 => _ = site.pass_or_crash(),
        70..80 => site.pass_time(random.i64(SECOND..12 * HOUR)),
        80..84 => site.pass_time(random.i64(DAY..20 * DAY)),
        84..86 => site.restart(),
        86..94 => {
            let place = &places[random.usize(..2)];
            place.plant(place.requests() + random.usize(..25), FAULTS[random.usize(..FAULTS.len())]);
        }
        94..96 => {
            let scope = Scope { device: Some(format!("pump/{}", random.u32(..3))), ..Scope::default() };
            holds.extend(site.catalog().hold_add(&scope, &site.why()));
        }
        96..98 => {
            let removed = |site: &mut Site, hold| site.catalog().hold_remove(hold, &site.why()).is_ok();
            if let Some(hold) = holds.pop()
                && site.or_crash(|site| removed(site, hold)) == Some(false)
            {
                holds.push(hold);
            }
        }
        98 => site.apply(POLICIES),
        _ => site.apply(&other_policies()),
    }
}

fn history(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (archive, deep, open) = memory();
    let mut site = Site::new(open);
    let (places, mut holds) = ([archive, deep], Vec::new());
    let aside = |site: &Site, check: fn(&Site)| places[0].aside(|| places[1].aside(|| check(site)));
    for number in 0..STEPS {
        let before = [places[0].requests(), places[1].requests()];
        step(&mut site, &places, &mut random, &mut holds);
        site.pass_time(SECOND);
        let wrote = before != [places[0].requests(), places[1].requests()];
        if wrote && number % 4 == 0 {
            aside(&site, Site::check_rows);
        }
    }
    places.iter().for_each(Faulty::heal);
    site.settle();
    aside(&site, Site::check_rows);
    // What a stale listing hid is found by a later sweep.
    site.pass_time(2 * HOUR);
    site.settle();
    aside(&site, Site::check_rows);
    aside(&site, Site::check_places);
}

#[test]
fn every_row_is_somewhere_until_its_policy_deletes_it() {
    let count = std::env::var("ICECORE_HISTORIES").map_or(HISTORIES, |count| count.parse().unwrap());
    let first = std::env::var("ICECORE_HISTORY")
        .map_or_else(|_| fastrand::u64(..1 << 32), |seed| seed.parse().unwrap());
    for seed in first..first + count {
        eprintln!("ICECORE_HISTORY={seed}");
        history(seed);
    }
}
