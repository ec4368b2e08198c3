//! `icecore state`: what devices looked like at an instant, with or without a running server.

pub(crate) mod json;
mod text;

use std::io::Write;
use std::path::Path;

use anyhow::bail;
use icecore_replay::{AsOf, Explained, States, format_instant};
use icecore_wire::Glob;

use crate::cli::StateArgs;
use crate::replay::source;

/// Prints the states; `config` is the configuration's file.
pub(crate) fn run(args: &StateArgs, config: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let as_of = AsOf { at: args.at, known_at: args.known_at };
    let replay = source::open_now(&source::of_place(&args.place, config)?)?;
    let bases = replay.bases()?;
    let Some(device) = &args.device else {
        return all(args, &replay.states(&Glob::any(), as_of, &bases)?, out);
    };
    let States { devices, explained } = replay.state(device, as_of, &bases)?;
    let Some(state) = devices.get(device) else {
        match as_of.known_at {
            None => bail!("nothing was ever received of {device}"),
            Some(known_at) => bail!("nothing was received of {device} by {}", format_instant(known_at)),
        }
    };
    if args.json {
        let mut answer = json::of(device, as_of, state);
        if args.explain {
            answer["explained"] = json::explained(&explained);
        }
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    text::write(device, as_of, state, out)?;
    if args.explain { explain(&explained, out) } else { Ok(()) }
}

/// One line for each device.
fn all(args: &StateArgs, states: &States, out: &mut impl Write) -> anyhow::Result<()> {
    let as_of = AsOf { at: args.at, known_at: args.known_at };
    if args.json {
        for (device, state) in &states.devices {
            writeln!(out, "{}", json::of(device, as_of, state))?;
        }
        if args.explain {
            eprintln!("{}", json::explained(&states.explained));
        }
        return Ok(());
    }
    text::write_all(&states.devices, out)?;
    if args.explain { explain(&states.explained, out) } else { Ok(()) }
}

fn explain(explained: &Explained, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out)?;
    text::explain(explained, out)?;
    Ok(())
}
