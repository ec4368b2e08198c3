//! `/v1/devices`: who there is, what was received of them, and what is missing.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use icecore_ingest::{Enrolment, Labels, LiveDevice};
use icecore_replay::format_instant;
use icecore_state::{DeviceLedger, DeviceState, EpochLedger};
use icecore_wire::{DeviceName, Glob, SequenceRanges};
use serde_json::{Value, json};

use super::Api;
use super::cursor::Page;
use super::known::Everybody;
use super::parameters::{Named, Parameters};
use super::problem::{Kind, Problem};
use crate::instant;
use crate::state::json::epoch;

/// A device or gateway, as the registry and the log know it.
#[derive(Default)]
struct Known<'a> {
    enrolment: Option<&'a Enrolment>,
    labels: Option<&'a Labels>,
    data: Option<&'a DeviceLedger>,
}

/// Sequences that are not stored.
#[derive(Default)]
struct Gaps {
    missing: u64,
    dropped: u64,
    refused: u64,
}

/// Which devices are asked for, and how they are sorted.
struct Wanted {
    names: Glob,
    /// Labels, with the value they must have if one is said.
    labels: Vec<(String, Option<String>)>,
    silent_for: Option<Duration>,
    sort: Sort,
    descending: bool,
}

#[derive(Debug, Clone, Copy)]
enum Sort {
    Name,
    FirstReceived,
    LastReceived,
    Events,
    Gaps,
}

/// `sort`, upwards and downwards.
const SORTS: [(&str, (Sort, bool)); 10] = [
    ("name", (Sort::Name, false)),
    ("-name", (Sort::Name, true)),
    ("first_received", (Sort::FirstReceived, false)),
    ("-first_received", (Sort::FirstReceived, true)),
    ("last_received", (Sort::LastReceived, false)),
    ("-last_received", (Sort::LastReceived, true)),
    ("events", (Sort::Events, false)),
    ("-events", (Sort::Events, true)),
    ("gaps", (Sort::Gaps, false)),
    ("-gaps", (Sort::Gaps, true)),
];

/// One page of the devices that are asked for.
pub(super) async fn list(State(api): State<Arc<Api>>, mut query: Parameters) -> Result<Json<Value>, Problem> {
    let wanted = Wanted::of(&mut query)?;
    let page = Page::of(&mut query, &wanted.describe())?;
    query.end()?;
    let look = Arc::clone(&api);
    let list = move |_: &_| {
        let (enrolments, labels) = look.registry()?;
        let Everybody { states, position } = look.known.devices();
        let all = everybody(&enrolments, &labels, &states);
        let (devices, next) = wanted.page(&all, &page);
        let damage = look.known.damage();
        Ok(json!({ "devices": devices, "next": next, "position": position, "damage": damage }))
    };
    api.pool.run(list).await.map(Json)
}

/// One device.
pub(super) async fn one(
    State(api): State<Arc<Api>>,
    Named(name): Named<DeviceName>,
    query: Parameters,
) -> Result<Json<Value>, Problem> {
    query.end()?;
    let look = Arc::clone(&api);
    let one = move |_: &_| {
        let (enrolments, labels) = look.registry()?;
        let LiveDevice { state, position, .. } = look.known.device(&name);
        let known = Known {
            enrolment: enrolments.iter().find(|enrolment| enrolment.name == name.as_str()),
            labels: labels.now(name.as_str()),
            data: state.as_ref().map(|state| state.ledger()),
        };
        let in_full = || known.in_full(&name, position, look.known.damage());
        known.is_anybody().then(in_full).ok_or_else(|| nobody(&name))
    };
    api.pool.run(one).await.map(Json)
}

/// What is not stored of one device, and why.
pub(super) async fn gaps(
    State(api): State<Arc<Api>>,
    Named(name): Named<DeviceName>,
    query: Parameters,
) -> Result<Json<Value>, Problem> {
    query.end()?;
    let look = Arc::clone(&api);
    let gaps = move |_: &_| {
        look.check_known(&name)?;
        let LiveDevice { state, position, .. } = look.known.device(&name);
        let epochs = state.iter().flat_map(|state| state.ledger().device_epochs());
        Ok(json!({
            "device": name.as_str(),
            "epochs": epochs.map(gaps_of).collect::<Vec<_>>(),
            "position": position,
            "damage": look.known.damage(),
        }))
    };
    api.pool.run(gaps).await.map(Json)
}

pub(super) fn nobody(name: &DeviceName) -> Problem {
    let detail = format!("{name} is not enrolled, has no labels, and nothing was ever received of it");
    Problem::new(Kind::NotFound, detail)
}

/// Everybody that the registry or the log knows.
fn everybody<'a>(
    enrolments: &'a [Enrolment],
    labels: &'a icecore_ingest::LabelHistory,
    states: &'a [(DeviceName, Arc<DeviceState>)],
) -> BTreeMap<&'a str, Known<'a>> {
    let mut all: BTreeMap<&str, Known<'a>> = BTreeMap::new();
    for enrolment in enrolments {
        all.entry(&enrolment.name).or_default().enrolment = Some(enrolment);
    }
    for (name, state) in states {
        all.entry(name.as_str()).or_default().data = Some(state.ledger());
    }
    for name in labels.names() {
        all.entry(name).or_default().labels = labels.now(name);
    }
    all
}

impl Wanted {
    fn of(query: &mut Parameters) -> Result<Self, Problem> {
        let label = |text: String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text, None),
        };
        let names = query.glob("name")?;
        let labels = query.all("label").into_iter().map(label).collect();
        let silent_for = query.read("silent_for", instant::parse_duration)?;
        let (sort, descending) = query.word("sort", &SORTS)?;
        Ok(Self { names, labels, silent_for, sort, descending })
    }

    /// Which list it is, for its cursors.
    fn describe(&self) -> String {
        let Self { names, labels, silent_for, sort, descending } = self;
        format!("devices {names:?} {labels:?} {silent_for:?} {sort:?} {descending}")
    }

    fn wants(&self, name: &str, known: &Known<'_>, now: i64) -> bool {
        let has = |(key, value): &(String, Option<String>)| {
            let found = known.labels.and_then(|labels| labels.get(key));
            found.is_some_and(|found| value.as_ref().is_none_or(|value| found == value))
        };
        self.names.matches(name)
            && self.labels.iter().all(has)
            && self.silent_for.is_none_or(|limit| known.silence(now).is_none_or(|silence| silence >= limit))
    }

    /// What the list is sorted by, before the name; `None` comes first.
    fn key(&self, known: &Known<'_>) -> Option<i64> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let data = known.data?;
        match self.sort {
            Sort::Name => None,
            Sort::FirstReceived => Some(data.first_received()),
            Sort::LastReceived => Some(data.last_received()),
            Sort::Events => Some(signed(data.events())),
            Sort::Gaps => Some(signed(known.gaps().total())),
        }
    }

    fn order(&self, a: (Option<i64>, &str), b: (Option<i64>, &str)) -> Ordering {
        if self.descending { b.cmp(&a) } else { a.cmp(&b) }
    }

    /// The devices of a page, and the cursor of the next one.
    fn page(&self, all: &BTreeMap<&str, Known<'_>>, page: &Page) -> (Vec<Value>, Option<String>) {
        let now = instant::now();
        let behind = page.behind.as_ref().map(|cursor| (cursor.key, cursor.name.as_str()));
        let mut found: Vec<(Option<i64>, &str, &Known<'_>)> = all
            .iter()
            .filter(|(name, known)| self.wants(name, known, now))
            .map(|(name, known)| (self.key(known), *name, known))
            .filter(|(key, name, _)| behind.is_none_or(|b| self.order((*key, name), b).is_gt()))
            .collect();
        found.sort_unstable_by(|a, b| self.order((a.0, a.1), (b.0, b.1)));
        let more = found.len() > page.limit;
        found.truncate(page.limit);
        let next = found.last().filter(|_| more).map(|(key, name, _)| page.cursor(*key, name));
        (found.iter().map(|(_, name, known)| known.as_json(name)).collect(), next)
    }
}

impl Known<'_> {
    fn is_anybody(&self) -> bool {
        self.enrolment.is_some() || self.labels.is_some() || self.data.is_some()
    }

    /// How long ago something was received last; `None` if nothing ever was.
    fn silence(&self, now: i64) -> Option<Duration> {
        let silence = |data: &DeviceLedger| now.saturating_sub(data.last_received()).max(0).unsigned_abs();
        self.data.map(|data| Duration::from_nanos(silence(data)))
    }

    fn gaps(&self) -> Gaps {
        let mut gaps = Gaps::default();
        for epoch in self.data.into_iter().flat_map(DeviceLedger::device_epochs) {
            gaps.add(epoch);
        }
        gaps
    }

    fn as_json(&self, name: &str) -> Value {
        let Self { enrolment, labels, data } = self;
        let Gaps { missing, dropped, refused } = self.gaps();
        json!({
            "name": name,
            "kind": enrolment.map_or("behind a gateway", |enrolment| enrolment.role.as_str()),
            "enrolled": enrolment.map(|enrolment| format_instant(enrolment.enrolled_time)),
            "revoked": enrolment.and_then(|enrolment| enrolment.revoked_time).map(format_instant),
            "labels": labels.cloned().unwrap_or_default(),
            "first_received": data.map(|data| format_instant(data.first_received())),
            "last_received": data.map(|data| format_instant(data.last_received())),
            "events": data.map_or(0, DeviceLedger::events),
            "epoch_count": data.map_or(0, |data| data.device_epochs().count()),
            "missing": missing,
            "dropped": dropped,
            "refused": refused,
        })
    }

    fn in_full(&self, name: &DeviceName, position: u64, damage: Option<&str>) -> Value {
        let mut full = self.as_json(name.as_str());
        let epochs = self.data.into_iter().flat_map(DeviceLedger::device_epochs).map(epoch);
        full["grants"] = json!(self.enrolment.map_or(&[][..], |enrolment| &enrolment.grants));
        full["epochs"] = epochs.collect();
        full["position"] = json!(position);
        full["damage"] = json!(damage);
        full
    }
}

impl Gaps {
    fn add(&mut self, epoch: &EpochLedger) {
        self.missing += epoch.missing().count();
        self.dropped += epoch.dropped().count();
        self.refused += epoch.refused().count();
    }

    fn total(&self) -> u64 {
        self.missing + self.dropped + self.refused
    }
}

fn gaps_of(epoch: &EpochLedger) -> Value {
    let refused = epoch.refused().iter();
    let refused: Vec<Value> = refused
        .map(|refused| {
            let mut gap = range(&refused.range);
            gap["code"] = json!(refused.code.name());
            gap
        })
        .collect();
    json!({
        "epoch": epoch.epoch().to_string(),
        "number": epoch.number(),
        "next": epoch.next(),
        "missing": ranges(&epoch.missing()),
        "dropped": ranges(epoch.dropped()),
        "refused": refused,
    })
}

fn ranges(ranges: &SequenceRanges) -> Vec<Value> {
    ranges.iter().map(|found| range(&found)).collect()
}

/// Half-open.
fn range(range: &Range<u64>) -> Value {
    json!({ "from": range.start, "to": range.end })
}
