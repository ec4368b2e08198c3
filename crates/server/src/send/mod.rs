//! `icecore send`: CSV files streamed as their devices would, through one gateway identity.
//!
//! Epochs and batches are functions of each file alone, so a file can be sent again at any time: what the server has
//! is not stored twice, and what an interrupted call left out is added.

mod epoch;
mod pace;
mod stream;
mod summary;
mod watch;

use std::io::Write;

use anyhow::anyhow;
use icecore_device::{Compression, Config, Gateway, Identity};

use crate::cli::SendArgs;
use crate::csv_file::{DeclaredTypes, Mapping, Scan, scan};
pub(crate) use pace::Pace;
pub(crate) use summary::Summary;
pub(crate) use watch::Watch;

/// pco level of the columns sent: above it, files shrink by less than a hundredth and take much longer.
const COMPRESSION: Compression = Compression::Level(8);

/// Runs the command on a runtime of its own.
pub(crate) fn run(args: &SendArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let identity = Identity::load(&args.identity)?;
    let mapping = Mapping { device_field: args.device_field.clone(), time_field: args.time_field.clone() };
    let declared = args.fields.as_deref().map(DeclaredTypes::read).transpose()?;
    let scan = scan(&args.files, &mapping, declared.as_ref(), &args.schema, args.schema_version).map_err(
        |error| anyhow!("{error} (nothing was sent: files are checked before their first row goes out)"),
    )?;
    summary::describe(&scan, out)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let summary = runtime.block_on(send(args, identity, &scan, &mapping))?;
    summary.write(out)?;
    Ok(())
}

async fn send(
    args: &SendArgs,
    identity: Identity,
    scan: &Scan,
    mapping: &Mapping,
) -> anyhow::Result<Summary> {
    let config = Config::new(&args.server, identity).batch(stream::CUT).compression(COMPRESSION);
    let gateway = Gateway::connect(config)?;
    let mut watch = Watch::start(gateway.clone(), &args.server, args.wait, scan.rows());
    let pace = Pace::new(args.rate, args.speed);
    let sent = tokio::select! {
        biased; // when both are ready, the failure is the one to tell
        failure = watch.failure() => Err(failure),
        sent = stream::send_all(&gateway, scan, mapping, pace) => sent,
    };
    // Recorders that were dropped let go of rows they had not cut into a batch yet: the next attempt cuts there as this
    // one would have.
    let outcome = watch.account(sent);
    drop(gateway);
    watch.goodbye().await;
    outcome
}
