//! `icecore retention plan`: the planner that the worker obeys, asked beside it.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use icecore_ingest::LabelHistory;
use icecore_log::SegmentId;
use icecore_tier::catalog::{Catalog, Deletions, Entry, View};
use icecore_tier::plan::{
    Action, Books, Day, Kind, Moment, Plan, Rehearsal, Requests, SnapshotPlan, Stores, Upkeep, Waiting,
};
use icecore_tier::policy::{Changes, Comparison, PolicySet};
use serde_json::{Value, json};

use crate::cli::PlanArgs;
use crate::config::Config;
use crate::device::registry;
use crate::instant::{self, display_seconds};
use crate::saved;
use crate::status::disk;
use crate::tiers::{self, InForce};

/// Days back over which is measured how much new data comes.
const MEASURED_DAYS: u32 = 7;

pub(super) fn run(args: &PlanArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let view = Catalog::read(&config.data.dir)?.view()?;
    let in_force = InForce::of(&view)?;
    let proposed =
        args.policy.as_deref().map(tiers::read_policies).transpose()?.map(|(_, policies)| policies);
    let now = instant::now();
    let (mut books, changes) = match &proposed {
        None => (books(&view, &in_force.policies)?, None),
        Some(proposed) => {
            let labels = registry(config)?.labels();
            let mut comparison = in_force.policies.compare(proposed);
            let books = proposed_books(&view, proposed, &labels, &mut comparison)?;
            tiers::compare_unregistered(&view, &config.data.dir, &labels, &mut comparison)?;
            (books, Some(comparison.changes(now)))
        }
    };
    let moment = moment(&view, config, args.at.unwrap_or(now))?;
    match args.days {
        Some(days) => {
            let arrivals = books.recent_arrivals(now, MEASURED_DAYS);
            let rehearsal =
                books.rehearse(&moment, days, config.tier.interval, &stores(config), &arrivals)?;
            match args.json {
                true => writeln!(out, "{}", rehearsal_as_json(&rehearsal))?,
                false => write!(out, "{rehearsal}")?,
            }
        }
        None => {
            let plan = books.plan(&moment);
            match args.json {
                true => writeln!(out, "{}", plan_as_json(&plan, moment.now))?,
                false => write!(out, "at {}\n{plan}", display_seconds(moment.now))?,
            }
        }
    }
    if let (Some(reason), false) = (&moment.suspended, args.json) {
        writeln!(out, "\nnothing is deleted at present: {reason}")?;
    }
    match changes {
        Some(changes) if !args.json => tell_changes(&changes, in_force.version, out),
        _ => Ok(()),
    }
}

/// The plan of now, or so many days ahead, by the policies that apply.
pub(crate) fn plan_by_policies(view: &View, config: &Config, days: Option<u32>) -> anyhow::Result<Value> {
    let in_force = InForce::of(view)?;
    let mut books = books(view, &in_force.policies)?;
    let now = instant::now();
    let moment = moment(view, config, now)?;
    let Some(days) = days else { return Ok(plan_as_json(&books.plan(&moment), now)) };
    let arrivals = books.recent_arrivals(now, MEASURED_DAYS);
    let rehearsal = books.rehearse(&moment, days, config.tier.interval, &stores(config), &arrivals)?;
    Ok(rehearsal_as_json(&rehearsal))
}

/// What a plan for this time goes by.
fn moment(view: &View, config: &Config, now: i64) -> anyhow::Result<Moment> {
    let suspended = match view.deletions() {
        Deletions::On => None,
        Deletions::Off { reason } => Some(reason.clone()),
    };
    let (free, off_peak) = (disk::free(&config.data.dir)?, config.tier.off_peak);
    let saved = saved::saved(config).context("cannot look at the snapshots of the state")?;
    Ok(Moment { now, free, off_peak, suspended, unreachable: Vec::new(), saved: Some(saved) })
}

/// The segments, with the shares that the catalog has.
fn books<'p>(view: &View, policies: &'p PolicySet) -> anyhow::Result<Books<'p>> {
    let mut books = Books::new(policies).rolled_up_to(rolled_up_to(view)?);
    for entry in view.segments()? {
        let Entry { segment, holds, .. } = entry?;
        books.add(&segment, !holds.is_empty())?;
    }
    books.keep_snapshots(view.snapshots()?, view.deleted_to()?);
    Ok(books)
}

/// The segments, with shares by `policies`, which do not apply yet; `comparison` is to know of them, too.
fn proposed_books<'p>(
    view: &View,
    policies: &'p PolicySet,
    labels: &LabelHistory,
    comparison: &mut Comparison<'_>,
) -> anyhow::Result<Books<'p>> {
    let mut books = Books::new(policies).rolled_up_to(rolled_up_to(view)?);
    for row in view.segments_with_contents()? {
        let (Entry { mut segment, holds, .. }, contents) = row?;
        segment.shares = tiers::shares(policies, labels, segment.bytes, &contents);
        comparison.add(&segment, &contents, |content| tiers::at_receipt(labels, content));
        books.add(&segment, !holds.is_empty())?;
    }
    books.keep_snapshots(view.snapshots()?, view.deleted_to()?);
    Ok(books)
}

/// Events before this position are rolled up.
fn rolled_up_to(view: &View) -> anyhow::Result<u64> {
    Ok(view.rolled_up()?.map_or(0, |rolled_up| rolled_up.position))
}

fn stores(config: &Config) -> Stores {
    let prices = config.store.iter().map(|(name, store)| (name.clone(), store.prices())).collect();
    Stores { prices, journal: config.journal().map(str::to_owned) }
}

fn tell_changes(changes: &Changes, version: u64, out: &mut impl Write) -> anyhow::Result<()> {
    match changes.are_destructive() {
        true => write!(out, "\nbeside the policies that apply, version {version}, {changes}")?,
        false => writeln!(out, "\nnothing is deleted sooner than by the policies that apply")?,
    }
    Ok(())
}

fn plan_as_json(plan: &Plan, at: i64) -> Value {
    let action = |action: &Action| {
        let mut json = json!({
            "segment": action.segment,
            "bytes": action.bytes,
            "policy": &*action.policy,
            "do": action.kind.to_string(),
            "why": action.reason.to_string(),
        });
        if let Kind::Mark { due } = action.kind {
            json["due"] = json!(display_seconds(due));
        }
        json
    };
    let actions: Vec<Value> = plan.actions.iter().map(action).collect();
    let waits =
        |(segment, policy): &(SegmentId, Arc<str>)| json!({ "segment": segment, "policy": &**policy });
    let unrolled: Vec<Value> = plan.unrolled.iter().map(waits).collect();
    let SnapshotPlan { keep, drop, waiting, save: _ } = &plan.snapshots;
    let mut json = json!({ "at": display_seconds(at), "actions": actions, "unrolled": unrolled, "drop_snapshots": drop });
    if let Some(need) = keep {
        json["keep_a_snapshot"] = json!(need.to_string());
    }
    if let Some(Waiting { segments, bytes, position }) = waiting {
        json["deletions_waiting"] = json!({ "segments": segments, "bytes": bytes, "for_position": position });
    }
    json
}

fn rehearsal_as_json(rehearsal: &Rehearsal) -> Value {
    let day = |day: &Day| {
        json!({
            "segments": day.segments,
            "bytes": day.bytes,
            "local_bytes": day.local,
            "objects": day.objects,
            "stored_bytes": day.stored,
            "uploaded_bytes": day.uploaded,
            "dropped_bytes": day.dropped,
            "marked_bytes": day.marked,
            "marked_within_a_day_bytes": day.marked_young,
            "deleted_bytes": day.deleted,
            "requests": requests_as_json(&day.requests),
            "costs": {
                "storage": day.costs.storage,
                "requests": day.costs.requests,
                "retrieval": day.costs.retrieval,
                "early": day.costs.early,
            },
        })
    };
    let policy = |(name, days): &(String, Vec<Day>)| json!({ "policy": name, "days": days.iter().map(day).collect::<Vec<_>>() });
    let policies: Vec<Value> = rehearsal.policies.iter().map(policy).collect();
    let upkeep = |day: &Upkeep| {
        json!({
            "manifests": day.manifests,
            "journal_objects": day.journal,
            "snapshots": day.snapshots,
            "snapshot_bytes": day.snapshot_bytes,
            "requests": requests_as_json(&day.requests),
            "costs": { "requests": day.costs },
        })
    };
    let upkeep: Vec<Value> = rehearsal.upkeep.iter().map(upkeep).collect();
    json!({ "start": display_seconds(rehearsal.start), "policies": policies, "upkeep": upkeep })
}

fn requests_as_json(requests: &Requests) -> Value {
    let Requests { put, get, list, delete } = requests;
    json!({ "put": put, "get": get, "list": list, "delete": delete })
}
