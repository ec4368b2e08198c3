//! `icecore bootstrap`: a server made anew from what is in its bucket.

use std::io::Write;

use anyhow::{Context, ensure};
use icecore_tier::store::Store;

use crate::backup::Backup;
use crate::cli::{BootstrapArgs, CatalogCommand};
use crate::config::Config;
use crate::{catalog, stores};

pub(crate) fn run(args: &BootstrapArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let store = Store::of_url(&args.store, &args.store_options)?;
    let backup = Backup::newest(&store, &stores::waiting()?)?;
    backup.restore(&args.dir)?;
    writeln!(out, "{}: configuration and certificates as of {}", args.dir.display(), backup.time)?;

    let file = args.dir.join("icecore.toml");
    let mut rebuild = || -> anyhow::Result<()> {
        let config = Config::load(&file)?;
        ensure!(
            config.data.dir.starts_with(&args.dir),
            "[data] dir is {}, which is not below {}; change it",
            config.data.dir.display(),
            args.dir.display()
        );
        catalog::run(&CatalogCommand::Rebuild, &config, out)
    };
    rebuild().with_context(|| {
        format!(
            "the files are there, the catalog is not: go on with `icecore --config {} catalog rebuild`",
            file.display()
        )
    })?;
    writeln!(out, "next:  icecore --config {} serve", file.display())?;
    Ok(())
}
