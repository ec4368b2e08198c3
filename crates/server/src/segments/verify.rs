//! `icecore segments verify`: reads everything, and names what is damaged.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use anyhow::{bail, ensure};
use icecore_log::{LogError, LogReader, RealDisk, SegmentId};

use super::{Known, all, hex, open};
use crate::cli::VerifyArgs;
use crate::config::Config;
use crate::table::counted;

pub(super) fn run(args: &VerifyArgs, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let known = all(config)?;
    match args.id {
        Some(id) => {
            let one = known.get(&id);
            let state = verify(id, one, args.root, config)?;
            tell(id, &state, out)?;
            match state {
                State::Whole { .. } => Ok(()),
                State::Missing => bail!("segment {id} is missing"),
                State::Damaged(_) => bail!("segment {id} is damaged"),
            }
        }
        None => verify_all(&known, config, out),
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

fn verify_all(
    known: &BTreeMap<SegmentId, Known>,
    config: &Config,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (mut whole, mut elsewhere, mut bad) = (0, 0, 0);
    if let Some(damage) = manifests(config)? {
        writeln!(out, "manifests: {damage}")?;
        bad += 1;
    }
    for (id, one) in known {
        // What is in object storage only is a matter of `--store`: reading all of it costs time and money.
        if one.entry.as_ref().is_some_and(|entry| !entry.segment.local && !entry.missing) {
            elsewhere += 1;
            continue;
        }
        let state = verify(*id, Some(one), None, config)?;
        match state {
            State::Whole { .. } => whole += 1,
            State::Damaged(_) | State::Missing => {
                tell(*id, &state, out)?;
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

/// Reads the manifests, and what the log says in them; returns the first damage.
fn manifests(config: &Config) -> anyhow::Result<Option<String>> {
    let reader = LogReader::open(Arc::new(RealDisk), &config.data.dir)?;
    match reader.facts(&mut |_| ()) {
        Ok(()) => Ok(None),
        Err(LogError::Damaged(damage)) => Ok(Some(damage.to_string())),
        Err(error) => Err(error.into()),
    }
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

fn tell(id: SegmentId, state: &State, out: &mut impl Write) -> anyhow::Result<()> {
    match state {
        State::Whole { rows, root } => {
            writeln!(out, "{id}: whole, {}, root {}", counted(*rows, "event"), hex(*root))?;
        }
        State::Damaged(wrong) => wrong.iter().try_for_each(|wrong| writeln!(out, "{id}: {wrong}"))?,
        State::Missing => writeln!(out, "{id}: its file is missing")?,
    }
    Ok(())
}
