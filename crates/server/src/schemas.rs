//! `icecore schemas`: what files declare, what the log holds, and what reads as what.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use icecore_replay::{Query, Replay};
use icecore_schema::{Declared, Evolution, Lineage};
use icecore_wire::Schema;

use crate::cli::SchemasCommand;
use crate::config::Config;
use crate::table::{Align, Table, counted};

pub(crate) fn run(command: &SchemasCommand, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let directory = match command {
        SchemasCommand::Check { dir: Some(directory) } if !directory.is_dir() => {
            bail!("{} is no directory", directory.display())
        }
        SchemasCommand::Check { dir: Some(directory) } => directory,
        SchemasCommand::Check { dir: None } | SchemasCommand::List => &config.schemas.dir,
    };
    let declared = Declared::load(directory)?;
    let stored = stored(&config.data.dir)?;
    let versions: Vec<Arc<Schema>> =
        declared.lineages().flat_map(Lineage::versions).chain(&stored).cloned().collect();
    let evolution = Evolution::new(&declared, &versions).context(
        "the log holds other definitions than are declared; give the changed definition a new version",
    )?;
    match command {
        SchemasCommand::Check { .. } => check(&declared, &stored, directory, out),
        SchemasCommand::List => list(&declared, &stored, &evolution, out),
    }
}

/// The schemas of the log, if there is one.
fn stored(data: &Path) -> anyhow::Result<Vec<Arc<Schema>>> {
    if !data.join("hot").is_dir() {
        return Ok(Vec::new());
    }
    Ok(Replay::open(data)?.schemas(&Query { as_written: true, ..Query::default() })?)
}

fn check(
    declared: &Declared,
    stored: &[Arc<Schema>],
    directory: &Path,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    for lineage in declared.lineages() {
        let newest = lineage.newest();
        let versions = counted(lineage.versions().len() as u64, "version");
        writeln!(out, "{}: {versions}; the newest is {newest}", newest.name())?;
    }
    if declared.lineages().next().is_none() {
        writeln!(out, "there are no schema files in {}", directory.display())?;
    }
    let undeclared = stored.iter().filter(|schema| declared.check(schema, true).is_err()).count();
    writeln!(
        out,
        "the log agrees: it holds {}, {undeclared} of them not declared",
        counted(stored.len() as u64, "version")
    )?;
    Ok(())
}

fn list(
    declared: &Declared,
    stored: &[Arc<Schema>],
    evolution: &Evolution,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    // By name and version: the schema, whether it is declared, whether it is stored.
    let mut versions: BTreeMap<(&str, u32), (&Schema, bool, bool)> = BTreeMap::new();
    for schema in declared.lineages().flat_map(Lineage::versions) {
        versions.insert((schema.name(), schema.version()), (schema, true, false));
    }
    for schema in stored {
        versions.entry((schema.name(), schema.version())).or_insert((schema, false, true)).2 = true;
    }
    let columns = ["schema", "version", "declared", "stored", "reads as", "fields"];
    let mut table = Table::new(&columns.map(|title| {
        let align = if title == "version" { Align::Right } else { Align::Left };
        (title, align)
    }));
    for (&(name, version), (schema, is_declared, is_stored)) in &versions {
        let yes = |yes: &bool| if *yes { "yes" } else { "no" }.to_owned();
        let reads_as = evolution.upcast(schema.id()).map_or(version, |upcast| upcast.to().version());
        let fields: Vec<String> = schema.fields().iter().map(ToString::to_string).collect();
        let (declared, stored) = (yes(is_declared), yes(is_stored));
        let reads_as = format!("version {reads_as}");
        table.row([name.to_owned(), version.to_string(), declared, stored, reads_as, fields.join(", ")]);
    }
    match table.is_empty() {
        true => writeln!(out, "no schemas yet: none is declared, and no device has sent events")?,
        false => table.write(out)?,
    }
    Ok(())
}
