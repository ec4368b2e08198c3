//! `icecore segments verify`: reads everything, and names what is damaged.

use std::io::Write;
use std::sync::Arc;

use anyhow::{bail, ensure};
use icecore_ingest::Registry;
use icecore_log::{LogError, LogReader, RealDisk, SegmentId};
use icecore_tier::catalog::{Catalog, CatalogError};

use super::{Known, all, hex, manifested, open};
use crate::cli::VerifyArgs;
use crate::config::Config;
use crate::table::counted;

pub(super) fn run(args: &VerifyArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(id) = args.id else { return verify_all(config, out) };
    let known = all(config)?;
    let one = known.get(&id);
    let state = verify(id, one, args.root, config)?;
    tell(id, &state, one, out)?;
    match state {
        State::Whole { .. } => Ok(()),
        State::Missing => bail!("segment {id} is missing"),
        State::Damaged(_) => bail!("segment {id} is damaged"),
    }
}

/// What came of reading a segment.
enum State {
    Whole {
        rows: u64,
        root: [u8; 32],
    },
    /// What is wrong, each with its place.
    Damaged(Vec<String>),
    /// It is nowhere.
    Missing,
}

fn verify_all(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let (mut whole, mut elsewhere, mut bad) = (0, 0, 0);
    let reader = LogReader::open(Arc::new(RealDisk), &config.data.dir)?;
    for damage in reader.verify()? {
        writeln!(out, "{damage}")?;
        bad += 1;
    }
    if let Err(damage) = Registry::open(config.data.dir.join("registry.jsonl")) {
        writeln!(out, "{damage}")?;
        bad += 1;
    }
    let mut only_manifests = false;
    let known = match Catalog::verify(&config.data.dir) {
        Ok(()) | Err(CatalogError::Absent { .. }) => all(config)?,
        Err(damage) => {
            writeln!(out, "{damage}")?;
            bad += 1;
            only_manifests = true;
            manifested(&reader)
        }
    };
    for (id, one) in &known {
        // What is in object storage only is a matter of `--store`: reading all of it costs time and money.
        if one.entry.as_ref().is_some_and(|entry| !entry.segment.local && !entry.missing) {
            elsewhere += 1;
            continue;
        }
        match verify(*id, Some(one), None, config)? {
            State::Whole { .. } => whole += 1,
            // Where it is, or whether a policy deleted it, only the catalog knows.
            State::Missing if only_manifests => elsewhere += 1,
            state => {
                tell(*id, &state, Some(one), out)?;
                bad += 1;
            }
        }
    }
    write!(out, "{} whole", counted(whole, "segment"))?;
    if elsewhere > 0 {
        write!(out, ", {} in object storage only, not read", counted(elsewhere, "segment"))?;
    }
    writeln!(out)?;
    ensure!(bad == 0, "{} damaged or missing", counted(bad, "file"));
    Ok(())
}

/// Reads a segment from where it is.
fn verify(
    id: SegmentId,
    known: Option<&Known>,
    root: Option<[u8; 32]>,
    config: &Config,
) -> anyhow::Result<State> {
    let segment = match open(id, known, config).map_err(anyhow::Error::downcast::<LogError>) {
        Ok(Some(segment)) => segment,
        Ok(None) if known.is_none() => bail!("there is no segment {id}"),
        Ok(None) => return Ok(State::Missing),
        Err(Ok(LogError::Damaged(damage))) => return Ok(State::Damaged(vec![damage.to_string()])),
        Err(Ok(error)) => return Err(error.into()),
        Err(Err(error)) => return Err(error),
    };
    let mut wrong: Vec<String> = segment.verify()?.iter().map(ToString::to_string).collect();
    let summary = segment.summary();
    let expected = [
        ("its manifest has", known.and_then(|known| known.child.as_ref()).map(|child| child.root)),
        ("the catalog has", known.and_then(|known| known.entry.as_ref()).map(|entry| entry.segment.root)),
        ("you expect", root),
    ];
    for (who, root) in expected {
        if root.is_some_and(|root| root != summary.root) {
            let root = root.map(hex).unwrap_or_default();
            wrong.push(format!("this is another segment: {who} root {root}, the file {}", hex(summary.root)));
        }
    }
    Ok(match wrong.is_empty() {
        true => State::Whole { rows: summary.rows, root: summary.root },
        false => State::Damaged(wrong),
    })
}

fn tell(id: SegmentId, state: &State, known: Option<&Known>, out: &mut impl Write) -> anyhow::Result<()> {
    match state {
        State::Whole { rows, root } => {
            writeln!(out, "{id}: whole, {}, root {}", counted(*rows, "event"), hex(*root))?;
        }
        State::Damaged(wrong) => {
            wrong.iter().try_for_each(|wrong| writeln!(out, "{id}: {wrong}"))?;
            let entry = known.and_then(|known| known.entry.as_ref()).filter(|entry| entry.segment.local);
            if let Some(copy) = entry.and_then(|entry| entry.segment.copies.last()) {
                let store = &copy.store;
                writeln!(
                    out,
                    "{id}: store `{store}` has a verified copy, which is read once this file is moved away"
                )?;
            }
        }
        State::Missing => writeln!(out, "{id}: its file is missing")?,
    }
    Ok(())
}
