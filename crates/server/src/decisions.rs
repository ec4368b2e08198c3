//! What operators decide about sealed segments: told to the running server, or, without one, carried out by the command.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use icecore_ingest::Registry;
use icecore_log::disk::Disk;
use icecore_log::{RealDisk, SegmentId};
use icecore_tier::catalog::{Catalog, CatalogError, View, Why};
use icecore_tier::hold::Scope;
use icecore_tier::policy::PolicySet;
use icecore_tier::store::Waiting;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::{Config, RETENTION};
use crate::device::registry;
use crate::stores::Stores;
use crate::tiers::InForce;
use crate::{control, identities, instant, stores, tiers};

/// What an operator asks for, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) wish: Wish,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wish {
    /// Put policies into force, in place of those of version `over`: the operator was shown the difference to these.
    Apply { text: String, over: u64 },
    /// Keep what is in this scope from being deleted.
    AddHold(Scope),
    /// Let a hold go.
    RemoveHold(u64),
    /// Take the mark for deletion off a segment, and hold it.
    Undelete(SegmentId),
    /// Allow deletions again after a rebuild.
    AllowDeletions,
    /// Put what is new in the registry on record.
    Identities,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Policies of this version apply now.
    Applied(u64),
    /// A hold of this number stands now.
    Held(u64),
    /// A segment is not to be deleted; a hold of this number is what keeps it.
    Undeleted(u64),
    /// What was asked for, and no more is to be said.
    Done,
}

/// What was done, and whether a lost disk would take it along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    outcome: Outcome,
    /// Why the journal in the bucket does not have it yet.
    not_on_record: Option<String>,
}

/// Has it done by the server, or does it here if none runs. What was done is in the journal then, or the operator was told that it is
/// not.
pub(crate) fn ask(config: &Config, wish: Wish, reason: Option<&str>) -> anyhow::Result<Outcome> {
    let reason = reason.unwrap_or("no reason was given").to_owned();
    let request = Request { by: operator(), reason, wish };
    let answer = match control::ask(&config.data.dir, &request)? {
        Some(answer) => answer,
        None => {
            let catalog = open(config, &stores::open(config)?, &stores::waiting()?)?;
            answer_on_record(&request, &catalog, &registry(config)?)?
        }
    };
    if let Some(reason) = answer.not_on_record {
        eprintln!(
            "warning: done, but not in the journal yet, so that it would be lost with this disk; the server writes it there when \
             it can: {reason}"
        );
    }
    Ok(answer.outcome)
}

/// Does what an operator asks for, and writes it to the journal: a hold that is lost with the disk is none.
fn answer_on_record(request: &Request, catalog: &Catalog, registry: &Registry) -> anyhow::Result<Answer> {
    let now = instant::now();
    let outcome = answer(request, catalog, registry, now)?;
    // What is written after another machine took the bucket over does not count.
    let on_record = catalog.mirror(&request.by, now).and_then(|()| catalog.check_term());
    Ok(Answer { outcome, not_on_record: on_record.err().map(|error| error.to_string()) })
}

/// Does what commands ask for on the local socket of the data directory, on a thread of its own, for as long as the process
/// lives. `applied` is told of policies that apply from now on.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn serve(
    data: &Path,
    catalog: Arc<Catalog>,
    registry: Arc<Registry>,
    applied: impl Fn(PolicySet) + Send + 'static,
) -> anyhow::Result<()> {
    control::serve(data, move |request: Request| {
        registry.refresh()?;
        let answer = answer_on_record(&request, &catalog, &registry)?;
        if let Wish::Apply { text, .. } = &request.wish {
            applied(PolicySet::parse("policies", text)?);
        }
        Ok(answer)
    })
}

/// The catalog, for writing. `waiting` has to be that with which the stores are used.
///
/// # Errors
/// When the server, or another command, has it.
pub(crate) fn open(config: &Config, stores: &Stores, waiting: &Waiting) -> anyhow::Result<Catalog> {
    let data = &config.data.dir;
    fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    Ok(Catalog::open(data, RealDisk.random(), stores::journal(config, stores, waiting))?)
}

/// Why the policy file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The server starts.
    Start,
    /// An operator asked for it, with SIGHUP.
    Hangup,
}

/// Puts the policy file of the configuration into force where it deletes nothing sooner; what would is for an operator to apply.
/// Without a file, and before any were applied, those apply that keep everything.
///
/// # Errors
/// When the catalog refuses, or the file has a mistake; what applied before still does.
pub(crate) fn propose(
    config: &Config,
    catalog: &Catalog,
    registry: &Registry,
    occasion: Occasion,
) -> anyhow::Result<()> {
    let file = &config.tier.policies;
    let view = catalog.view()?;
    let before = view.all_policies()?;
    let (text, policies) = match (file.exists(), before.is_empty()) {
        (true, _) => tiers::read_policies(file)?,
        (false, true) => (RETENTION.to_owned(), PolicySet::parse("the default policies", RETENTION)?),
        (false, false) => return Ok(()),
    };
    if let Some(applied) = before.iter().rfind(|applied| applied.text == text) {
        let version = view.policy_version()?;
        if applied.version == version {
            return Ok(());
        }
        // What was replaced since, by other policies than those of the file, does not come back by a restart.
        if occasion == Occasion::Start {
            let (file, before) = (file.display(), applied.version);
            info!(%file, before, version, "the policies of the file were replaced since; SIGHUP puts them into force again");
            return Ok(());
        }
    }
    tiers::stores_exist(&policies, config)?;
    apply_unless_destructive(config, catalog, registry, text, &policies)
}

fn apply_unless_destructive(
    config: &Config,
    catalog: &Catalog,
    registry: &Registry,
    text: String,
    policies: &PolicySet,
) -> anyhow::Result<()> {
    let file = config.tier.policies.display();
    registry.refresh()?;
    let (view, now, labels) = (catalog.view()?, instant::now(), &registry.labels());
    let in_force = InForce::of(&view)?;
    let changes = tiers::changes(&view, &config.data.dir, &in_force.policies, policies, labels, now)?;
    if changes.are_destructive() {
        warn!(
            %file,
            bytes = changes.bytes(),
            events = changes.rows(),
            "the policy file would delete data sooner, and was not applied: `icecore retention apply` says what, and asks"
        );
        return Ok(());
    }
    let by = "server".to_owned();
    let reason = format!("{file} is new, and deletes nothing sooner");
    let wish = Wish::Apply { text, over: in_force.version };
    if let Outcome::Applied(version) = answer(&Request { by, reason, wish }, catalog, registry, now)? {
        info!(version, %file, "policies apply");
    }
    Ok(())
}

/// Who runs the command, as the history says it.
pub(crate) fn operator() -> String {
    match std::env::var("USER").or_else(|_| std::env::var("LOGNAME")) {
        Ok(name) if !name.is_empty() => format!("operator {name}"),
        _ => "operator".to_owned(),
    }
}

/// Does what an operator asks for. Of policies that apply then, whoever sorts by them is to be told.
///
/// # Errors
/// When the catalog does not allow it; nothing was done then.
pub(crate) fn answer(
    request: &Request,
    catalog: &Catalog,
    registry: &Registry,
    now: i64,
) -> anyhow::Result<Outcome> {
    let Request { by, reason, wish } = request;
    let why = Why { time: now, by: by.clone(), policy: None, reason: reason.clone() };
    Ok(match wish {
        Wish::Apply { text, over } => {
            let policies = PolicySet::parse("policies", text)?;
            let version = catalog.view()?.policies()?.map_or(0, |applied| applied.version);
            ensure!(
                version == *over,
                "nothing was applied: since it was compared, version {version} was put into force; look again"
            );
            let labels = registry.labels();
            let sharing = |bytes, contents: &[_]| tiers::shares(&policies, &labels, bytes, contents);
            Outcome::Applied(catalog.apply_policies(text, &sharing, &why)?)
        }
        Wish::AddHold(scope) => Outcome::Held(catalog.hold_add(scope, &why)?),
        Wish::RemoveHold(number) => {
            catalog.hold_remove(*number, &why)?;
            Outcome::Done
        }
        Wish::Undelete(segment) => undelete(*segment, catalog, &why)?,
        Wish::AllowDeletions => {
            catalog.deletions_on(&why)?;
            Outcome::Done
        }
        Wish::Identities => {
            catalog.identities(&identities::text(registry)?, &why)?;
            Outcome::Done
        }
    })
}

/// Without a hold, the policy that wanted the segment deleted would at once want it again.
fn undelete(segment: SegmentId, catalog: &Catalog, why: &Why) -> anyhow::Result<Outcome> {
    let view = catalog.view()?;
    let Some(entry) = view.segment(segment)? else {
        let gone = view.explain(segment).is_ok();
        return Err(CatalogError::Unknown { segment, gone }.into());
    };
    if entry.segment.deletion.is_none() {
        bail!("segment {segment} is not marked for deletion");
    }
    let hold = match entry.holds.first() {
        Some(hold) => *hold,
        None => catalog.hold_add(&scope_of(segment, &view)?, why)?,
    };
    catalog.unmark(segment, why)?;
    Ok(Outcome::Undeleted(hold))
}

/// As little as a hold can say that has all of a segment.
fn scope_of(segment: SegmentId, view: &View) -> anyhow::Result<Scope> {
    let contents = view.contents(segment)?;
    let events = view.segment(segment)?.map(|entry| entry.segment.events);
    let one = |names: Vec<&String>| names.windows(2).all(|pair| pair[0] == pair[1]).then(|| names[0].clone());
    Ok(Scope {
        device: one(contents.iter().map(|content| &content.device).collect()),
        schema: one(contents.iter().map(|content| &content.schema).collect()),
        from: events.map(|events| events.first),
        to: events.and_then(|events| events.last.checked_add(1)),
    })
}
