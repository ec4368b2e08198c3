//! `icecore sql`: statements over a data directory or a bucket, with or without a running server.

mod prompt;

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use futures_util::TryStreamExt;
use icecore_ingest::Registry;
use icecore_log::OnDamage;
use icecore_log::sealed::Footers;
use icecore_sql::{Database, Format, Labels, Opened, Output, Settings, SqlError};
use tokio::runtime::{self, Runtime};

use crate::cli::{PlaceArgs, SqlArgs, SqlFormat};
use crate::config::Config;
use crate::replay::destination::Destination;
use crate::replay::{self, source};

/// Bytes of footers that are kept from one statement to the next.
const FOOTERS: usize = 64 << 20;

/// Answers the statement, or those of standard input; `config` is the configuration's file.
pub(crate) fn run(args: &SqlArgs, config: &Path) -> anyhow::Result<()> {
    let engine = Engine::open(args, config)?;
    match &args.statement {
        Some(statement) => {
            engine.runtime.block_on(engine.answer(statement, &args.out, args.require_complete))
        }
        None => prompt::run(&engine, args.require_complete),
    }
}

/// Answers statements.
struct Engine {
    runtime: Runtime,
    database: Database,
    format: Format,
}

impl Engine {
    fn open(args: &SqlArgs, config: &Path) -> anyhow::Result<Self> {
        let data = data_directory(&args.source.place, config)?;
        let spill_directory = std::env::var_os("TMPDIR").map(PathBuf::from).or_else(|| data.clone());
        let settings = Settings {
            memory: usize::try_from(args.memory.as_u64()).unwrap_or(usize::MAX),
            spill_directory,
            on_damage: if args.skip_damaged { OnDamage::Skip } else { OnDamage::Fail },
            ..Settings::default()
        };
        let (source, footers) = (source::of(&args.source, config)?, Arc::new(Footers::new(FOOTERS)));
        let open = move || {
            let replay = source::open_now(&source)?.with_footers(Arc::clone(&footers));
            Ok(Opened { replay: Arc::new(replay), labels: data.as_deref().map(labels).transpose()? })
        };
        let runtime =
            runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
        Ok(Self { runtime, database: Database::new(open, settings)?, format: format(args.format) })
    }

    /// Answers a statement, and says what the answer covers.
    async fn answer(&self, statement: &str, out: &Path, require_complete: bool) -> anyhow::Result<()> {
        let mut answer = self.database.query(statement).await.map_err(explain)?;
        let destination = Destination::open(out)?;
        let mut output = Output::new(self.format, BufWriter::new(destination), &answer.schema)?;
        while let Some(rows) = answer.rows.try_next().await.map_err(|error| explain(error.into()))? {
            output.write(&rows)?;
        }
        drop(answer.rows);
        let coverage = answer.covered.coverage().await.map_err(explain)?;
        let destination = output.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        destination.keep()?;
        match answer.covered.is_of_events() {
            true => replay::tell(&coverage, require_complete),
            false => Ok(()),
        }
    }
}

fn format(format: SqlFormat) -> Format {
    match format {
        SqlFormat::Table => Format::Table,
        SqlFormat::Csv => Format::Csv,
        SqlFormat::Json => Format::Json,
        SqlFormat::Arrow => Format::Arrow,
    }
}

/// Adds what can be done about an error.
fn explain(error: SqlError) -> anyhow::Error {
    match error {
        SqlError::Replay(error) => replay::explain(error),
        error => error.into(),
    }
}

/// The data directory that is read; `None` where it is a bucket.
fn data_directory(args: &PlaceArgs, config: &Path) -> anyhow::Result<Option<PathBuf>> {
    match (&args.store, &args.data) {
        (Some(_), _) => Ok(None),
        (None, Some(data)) => Ok(Some(data.clone())),
        (None, None) => Ok(Some(Config::load(config)?.data.dir)),
    }
}

fn labels(data: &Path) -> anyhow::Result<Labels> {
    let labels = Registry::open(data.join("registry.jsonl"))?.labels();
    let now = |name: &str| Some((name.to_owned(), labels.now(name)?.clone()));
    Ok(labels.names().filter_map(now).collect())
}
