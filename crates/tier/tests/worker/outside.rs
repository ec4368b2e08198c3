//! What happens to a site's segments, measured from outside: by the files there are, the listings of the stores, and the requests
//! they were sent.

use std::collections::{BTreeMap, BTreeSet};

use icecore_tier::plan::{Costs, Day, Prices, Requests, Upkeep};
use icecore_tier::segment::{SegmentId, parse_object};

use crate::counted::{Kind, Log, Request};
use crate::site::{DAY, HOUR, Site};

const GB: f64 = (1_u64 << 30) as f64;

/// An object: store, segment and storage class.
type Object = (String, SegmentId, Option<String>);

/// Segments and their bytes, by where they are.
#[derive(Debug, Clone, Default, PartialEq)]
struct Places {
    files: BTreeMap<SegmentId, u64>,
    objects: BTreeMap<Object, u64>,
    /// Bytes of the snapshots in the store.
    snapshots: u64,
}

impl Places {
    /// Every segment that is anywhere, with its bytes.
    fn segments(&self) -> BTreeMap<SegmentId, u64> {
        let files = self.files.iter().map(|(id, bytes)| (*id, *bytes));
        files.chain(self.objects.iter().map(|((_, id, _), bytes)| (*id, *bytes))).collect()
    }
}

/// Measures hour by hour.
pub(crate) struct Outside {
    log: Log,
    prices: BTreeMap<String, Prices>,
    /// The policies of segments: the only thing that is taken from the catalog.
    policies: BTreeMap<SegmentId, String>,
    before: Places,
    /// On which days objects came, counted from the Unix epoch.
    came: BTreeMap<Object, i64>,
    pub(crate) days: BTreeMap<String, Vec<Day>>,
    pub(crate) upkeep: Vec<Upkeep>,
}

impl Outside {
    pub(crate) fn new(log: Log, prices: BTreeMap<String, Prices>) -> Self {
        let (policies, before, came) = (BTreeMap::new(), Places::default(), BTreeMap::new());
        Self { log, prices, policies, before, came, days: BTreeMap::new(), upkeep: Vec::new() }
    }

    /// Begins to count, in place of what was counted so far.
    pub(crate) fn begin(&mut self, policies: &[&str]) {
        self.days = policies.iter().map(|policy| ((*policy).to_owned(), Vec::new())).collect();
        self.upkeep = Vec::new();
    }

    /// An hour is over, at whose beginning everything was done. The clock of the site is at its end.
    pub(crate) fn hour(&mut self, site: &Site, day: usize) {
        for days in self.days.values_mut() {
            days.resize(day + 1, Day::default());
        }
        self.upkeep.resize(day + 1, Upkeep::default());
        for entry in site.entries() {
            let policy = entry.segment.shares[0].policy.clone();
            self.policies.insert(entry.segment.id, policy);
        }
        let requests = self.log.take();
        let now = self.now(site, &requests);
        let before = std::mem::replace(&mut self.before, now.clone());
        for request in &requests {
            self.request(request, &before, &now);
        }
        self.changes(&before, &now, (site.now() - HOUR).div_euclid(DAY));
        self.standing(&now);
    }

    /// What is where now. Stores are listed where anything was written or deleted.
    fn now(&self, site: &Site, requests: &[Request]) -> Places {
        let size = |id: &SegmentId| std::fs::metadata(site.file(*id)).unwrap().len();
        let files = site.files().into_iter().map(|id| (id, size(&id))).collect();
        let changed = requests.iter().any(|request| matches!(request.kind, Kind::Put | Kind::Delete));
        let (objects, snapshots) = match changed {
            true => self.log.aside(|| (objects(site), snapshots(site))),
            false => (self.before.objects.clone(), self.before.snapshots),
        };
        Places { files, objects, snapshots }
    }

    fn today(&mut self, id: SegmentId) -> Option<&mut Day> {
        self.days.get_mut(&self.policies[&id])?.last_mut()
    }

    /// Counts a request, and what it costs.
    fn request(&mut self, request: &Request, before: &Places, now: &Places) {
        let (store, object) = request.object.split_once('/').unwrap();
        let parsed = if request.kind == Kind::List { None } else { parse_object(object) };
        let class = parsed.and_then(|(_, class)| class);
        let rates = self.prices[store].rates(class);
        let price = match request.kind {
            Kind::Put => rates.put_1000,
            Kind::Get => rates.get_1000,
            Kind::List => rates.list_1000,
            Kind::Delete => rates.delete_1000,
        } / 1000.0;
        let Some((id, class)) = parsed else {
            let Some(today) = self.upkeep.last_mut() else { return };
            count(&mut today.requests, request.kind);
            today.costs += price;
            let is_new = request.kind == Kind::Put;
            today.journal += u64::from(is_new && object.starts_with("journal/"));
            let is_snapshot = is_new && object.starts_with("snapshots/");
            today.snapshots += u64::from(is_snapshot);
            today.snapshot_bytes += if is_snapshot { request.bytes } else { 0 };
            today.manifests += u64::from(is_new && request.object.starts_with("archive/manifests/"));
            return;
        };
        let object: Object = (store.to_owned(), id, class.map(str::to_owned));
        let size = before.objects.get(&object).or(now.objects.get(&object)).copied().unwrap_or(request.bytes);
        let Some(today) = self.today(id) else { return };
        count(&mut today.requests, request.kind);
        today.costs.requests += price;
        match request.kind {
            Kind::Put => today.uploaded += request.bytes,
            Kind::Get => today.costs.retrieval += size as f64 / GB * rates.retrieval_gb,
            Kind::List | Kind::Delete => {}
        }
    }

    /// Counts what is not there any more.
    fn changes(&mut self, before: &Places, now: &Places, day: i64) {
        let there: BTreeSet<SegmentId> = now.segments().into_keys().collect();
        for (id, bytes) in before.segments() {
            let dropped = before.files.contains_key(&id) && !now.files.contains_key(&id);
            let Some(today) = self.today(id) else { continue };
            match there.contains(&id) {
                true => today.dropped += if dropped { bytes } else { 0 },
                false => today.deleted += bytes,
            }
        }
        for object in now.objects.keys() {
            self.came.entry(object.clone()).or_insert(day);
        }
        for (object, bytes) in before.objects.iter().filter(|(object, _)| !now.objects.contains_key(*object))
        {
            let (store, id, class) = object;
            let rates = self.prices[store].rates(class.as_deref());
            let kept = day - self.came.remove(object).unwrap();
            let missing = (i64::from(rates.min_days) - kept).max(0);
            let costs = *bytes as f64 / GB * rates.gb_month * (missing * 24) as f64 / 730.0;
            if let Some(today) = self.today(*id) {
                today.costs.early += costs;
            }
        }
    }

    /// What there is at the end of the hour, and what it costs to keep it for one.
    fn standing(&mut self, now: &Places) {
        for today in self.days.values_mut().filter_map(|days| days.last_mut()) {
            (today.segments, today.bytes, today.local, today.objects, today.stored) = (0, 0, 0, 0, 0);
        }
        for (id, bytes) in now.segments() {
            let local = now.files.get(&id).copied().unwrap_or_default();
            let Some(today) = self.today(id) else { continue };
            today.segments += 1;
            today.bytes += bytes;
            today.local += local;
        }
        if let Some(today) = self.upkeep.last_mut() {
            let month = self.prices["archive"].rates(None).gb_month;
            today.costs += now.snapshots as f64 / GB * month / 730.0;
        }
        for ((store, id, class), bytes) in &now.objects {
            let month = self.prices[store].rates(class.as_deref()).gb_month;
            let Some(today) = self.today(*id) else { continue };
            today.objects += 1;
            today.stored += bytes;
            today.costs.storage += *bytes as f64 / GB * month / 730.0;
        }
    }

    /// Holds a forecast of `policy` against what was measured.
    pub(crate) fn compare(&self, policy: &str, forecast: &[Day]) {
        assert_eq!(forecast.len(), self.days[policy].len());
        for (number, (forecast, measured)) in forecast.iter().zip(&self.days[policy]).enumerate() {
            // Marks are decisions, and nothing of them is to be seen from outside; pennies are rounded as they are added up.
            let seen = |day: &Day| Day { marked: 0, marked_young: 0, costs: Costs::default(), ..*day };
            assert_eq!(seen(forecast), seen(measured), "{policy}, day {number}");
            let costs = |day: &Day| {
                let Costs { storage, requests, retrieval, early } = day.costs;
                [storage, requests, retrieval, early]
            };
            for (forecast, measured) in costs(forecast).into_iter().zip(costs(measured)) {
                assert!(is_same(forecast, measured), "{policy}, day {number}: {forecast} for {measured}");
            }
        }
    }

    pub(crate) fn compare_upkeep(&self, forecast: &[Upkeep]) {
        for (number, (forecast, measured)) in forecast.iter().zip(&self.upkeep).enumerate() {
            let counts =
                |day: &Upkeep| (day.manifests, day.journal, day.snapshots, day.snapshot_bytes, day.requests);
            assert_eq!(counts(forecast), counts(measured), "upkeep, day {number}");
            assert!(is_same(forecast.costs, measured.costs), "{forecast:?} for {measured:?}");
        }
        assert_eq!(forecast.len(), self.upkeep.len());
    }
}

fn is_same(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

fn count(requests: &mut Requests, kind: Kind) {
    match kind {
        Kind::Put => requests.put += 1,
        Kind::Get => requests.get += 1,
        Kind::List => requests.list += 1,
        Kind::Delete => requests.delete += 1,
    }
}

fn snapshots(site: &Site) -> u64 {
    let mut bytes = 0;
    site.wait(site.store("archive").list("snapshots", |object| bytes += object.bytes)).unwrap();
    bytes
}

fn objects(site: &Site) -> BTreeMap<Object, u64> {
    let mut objects = BTreeMap::new();
    for name in ["archive", "deep"] {
        let store = site.store(name);
        let listing = store.list("segments", |object| {
            let (id, class) = parse_object(&object.path).unwrap();
            objects.insert((name.to_owned(), id, class.map(str::to_owned)), object.bytes);
        });
        site.wait(listing).unwrap();
    }
    objects
}
