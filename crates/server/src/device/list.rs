//! `icecore device list`: one line per enrolled identity or device with data.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use icecore_ingest::{Enrolment, Labels};
use icecore_state::DeviceLedger;

use super::label::display;
use super::{ledger, registry};
use crate::config::Config;
use crate::instant::{self, display_duration};
use crate::table::{Align, Table, count};

pub(super) fn run(silent_for: Option<Duration>, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let registry = registry(config)?;
    let (enrolments, labels) = (registry.list(), registry.labels());
    let ledger = ledger(&config.data.dir)?;
    let mut lines: BTreeMap<&str, Line<'_>> = BTreeMap::new();
    for enrolment in &enrolments {
        lines.entry(&enrolment.name).or_default().enrolment = Some(enrolment);
    }
    for (name, data) in ledger.devices() {
        lines.entry(name.as_str()).or_default().data = Some(data);
    }
    for name in labels.names() {
        lines.entry(name).or_default().labels = labels.now(name);
    }

    let now = instant::now();
    let silent =
        |line: &Line<'_>| silent_for.is_none_or(|limit| line.silence(now).is_none_or(|s| s >= limit));
    let mut table = Table::new(&[
        ("device", Align::Left),
        ("kind", Align::Left),
        ("events", Align::Right),
        ("missing", Align::Right),
        ("last received", Align::Right),
        ("labels", Align::Left),
    ]);
    for (name, line) in lines.iter().filter(|(_, line)| silent(line)) {
        table.row([
            (*name).to_owned(),
            line.kind(),
            line.events(),
            line.missing(),
            line.last(now),
            line.labels(),
        ]);
    }
    match table.is_empty() {
        true if silent_for.is_some() => writeln!(out, "no device was silent for that long")?,
        true => writeln!(out, "no devices yet; `icecore device enroll` adds one")?,
        false => table.write(out)?,
    }
    Ok(())
}

#[derive(Default)]
struct Line<'a> {
    enrolment: Option<&'a Enrolment>,
    data: Option<&'a DeviceLedger>,
    labels: Option<&'a Labels>,
}

impl Line<'_> {
    fn kind(&self) -> String {
        match self.enrolment {
            Some(Enrolment { revoked_time: Some(_), role, .. }) => format!("{} (revoked)", role.as_str()),
            Some(enrolment) => enrolment.role.as_str().to_owned(),
            None => "behind a gateway".to_owned(),
        }
    }

    fn labels(&self) -> String {
        self.labels.filter(|labels| !labels.is_empty()).map(display).unwrap_or_default()
    }

    fn events(&self) -> String {
        self.data.map_or_else(|| "-".to_owned(), |data| count(data.events()))
    }

    fn missing(&self) -> String {
        let missing = |data: &DeviceLedger| data.device_epochs().map(|epoch| epoch.missing().count()).sum();
        self.data.map_or_else(|| "-".to_owned(), |data| count(missing(data)))
    }

    /// How long ago the last event was received; `None` if there never was one.
    fn silence(&self, now: i64) -> Option<Duration> {
        let silence = |data: &DeviceLedger| now.saturating_sub(data.last_received()).max(0).unsigned_abs();
        self.data.map(|data| Duration::from_nanos(silence(data)))
    }

    fn last(&self, now: i64) -> String {
        self.silence(now)
            .map_or_else(|| "never".to_owned(), |silence| format!("{} ago", display_duration(silence)))
    }
}
