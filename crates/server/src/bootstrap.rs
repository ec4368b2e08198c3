//! `icecore bootstrap`: a server made anew from what is in its bucket.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use icecore_tier::catalog::Rebuild;

use crate::backup::Backup;
use crate::catalog;
use crate::cli::BootstrapArgs;
use crate::config::Config;
use crate::stores;

pub(crate) fn run(args: &BootstrapArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let waiting = stores::waiting()?;
    let store = stores::at(&args.store, &args.store_options)?;
    let backup = Backup::newest(&store, &waiting)?;
    backup.restore(&args.dir)?;
    writeln!(out, "{}: configuration, certificates and registry as of {}", args.dir.display(), backup.time)?;

    let file = args.dir.join("icecore.toml");
    let config = Config::load(&file)?;
    ensure!(
        config.data.dir.starts_with(&args.dir),
        "{} has its data in {}, which is not below {}: change [data] dir there, then `icecore catalog rebuild`",
        file.display(),
        config.data.dir.display(),
        args.dir.display()
    );
    let data = &config.data.dir;
    fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
    let stores = stores::open(&config)?;
    for store in stores.values() {
        stores::fetch_manifests(store, &waiting, data)?;
    }
    let rebuild = catalog::begin(&config, &stores, &waiting)?;
    add_identities(&rebuild, data)?;
    let (segments, rebuilt) = catalog::rebuild(rebuild, &config, &stores, &waiting)?;
    catalog::tell(segments, &rebuilt, out)?;
    writeln!(out, "next:  icecore --config {} serve", file.display())?;
    Ok(())
}

/// Adds to the registry what came after the backup.
fn add_identities(rebuild: &Rebuild, data: &Path) -> anyhow::Result<()> {
    let path = data.join("registry.jsonl");
    let failed = || format!("cannot write {}", path.display());
    let known = if path.exists() { fs::read_to_string(&path).with_context(failed)? } else { String::new() };
    let known: HashSet<&str> = known.lines().collect();
    let mut registry = OpenOptions::new().create(true).append(true).open(&path).with_context(failed)?;
    for line in rebuild.identities().filter(|line| !known.contains(line)) {
        writeln!(registry, "{line}").with_context(failed)?;
    }
    registry.sync_all().with_context(failed)
}
