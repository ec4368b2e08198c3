//! The command line of what is about sealed segments.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use icecore_log::SegmentId;
use icecore_tier::plan::MAX_DAYS;

use super::{parse_label, parse_time};

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Read a policy file, and say what each policy applies to and what may not have been meant.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Show what the policies would do, and cost; nothing is done.
    Plan(PlanArgs),
    /// Put a policy file into force.
    Apply(ApplyArgs),
    /// List the policies that ever applied, or show those of one version.
    History {
        /// The version whose text is shown.
        version: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Plan by this file instead of the policies that apply, and say what it would delete sooner than they do.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// Say what would be to do if it were this time: RFC 3339, integer nanoseconds, or relative such as `+90d`. Without this
    /// and without `--days`: now.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time, conflicts_with = "days")]
    pub(crate) at: Option<i64>,

    /// Go through so many days ahead, with as much new data as came in the last week.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS)))]
    pub(crate) days: Option<u32>,

    /// Write one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The file.
    pub(crate) file: PathBuf,

    /// Apply it even if it deletes data sooner than the policies that apply now.
    #[arg(long)]
    pub(crate) yes: bool,

    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SegmentsCommand {
    /// List the sealed segments.
    List,
    /// Show one segment: what is in it, where it is, and what is to become of it.
    Inspect {
        /// The segment.
        #[arg(value_name = "ID")]
        id: SegmentId,
    },
    /// Read segments whole and compare them with their checksums, hashes and manifests; ends with 1 if anything is damaged.
    Verify(VerifyArgs),
    /// Say why a segment is where it is: every decision about it.
    Explain {
        /// The segment.
        #[arg(value_name = "ID")]
        id: SegmentId,
    },
    /// Keep a segment that is marked for deletion, with a hold.
    Undelete(UndeleteArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UndeleteArgs {
    /// The segment.
    #[arg(value_name = "ID")]
    pub(crate) id: SegmentId,

    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommand {
    /// Keep data from being deleted; what fits all that is said is held, now and later.
    Add(AddHoldArgs),
    /// Let a hold go.
    Remove {
        /// Its number, as `hold list` shows it.
        number: u64,

        /// Why, for the history.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// List the holds that stand.
    List,
}

#[derive(Debug, Args)]
pub(crate) struct AddHoldArgs {
    /// Only devices matching this glob; `*` crosses `/`.
    #[arg(long, value_name = "GLOB")]
    pub(crate) device: Option<String>,

    /// Only schemas whose name matches this glob.
    #[arg(long, value_name = "GLOB")]
    pub(crate) schema: Option<String>,

    /// Only events from this time on: RFC 3339, integer nanoseconds, or relative such as `-2h`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub(crate) from: Option<i64>,

    /// Only events before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time)]
    pub(crate) to: Option<i64>,

    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The segment.
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(crate) id: Option<SegmentId>,

    /// Every segment, and all else there is: manifests, the log, the registry and the catalog, or with `--store` manifests,
    /// terms and the journal.
    #[arg(long, conflicts_with = "id")]
    pub(crate) all: bool,

    /// Read from this store instead, `s3://bucket/prefix` or `file:///directory`; neither a server nor a catalog is needed.
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,

    /// An option of the store's client, `region=eu-north-1` (repeatable).
    #[arg(long = "store-option", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) store_options: Vec<(String, String)>,

    /// What policies call that store; to be said where copies went to several, so that one that is gone is noticed.
    #[arg(long, value_name = "NAME", requires = "store")]
    pub(crate) store_name: Option<String>,

    /// The root that the segment has to have, as it was kept elsewhere.
    #[arg(long, value_name = "HASH", value_parser = parse_root, conflicts_with = "all")]
    pub(crate) root: Option<[u8; 32]>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Make the catalog anew from the data directory and the stores; the server must not run. Another machine that used the
    /// same stores may not write there any more.
    Rebuild,
    /// Let policies delete again, after a rebuild that could not read the whole journal.
    AllowDeletions {
        /// Why, for the history.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BootstrapArgs {
    /// The store that kept the journal: `s3://bucket/prefix` or `file:///directory`.
    #[arg(long, value_name = "URL")]
    pub(crate) store: String,

    /// An option of the store's client, `region=eu-north-1` (repeatable).
    #[arg(long = "store-option", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) store_options: Vec<(String, String)>,

    /// Directory to make the server in; it must have none of the server's files.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

fn parse_root(text: &str) -> Result<[u8; 32], String> {
    let expected = |_| "expected the 64 hexadecimal digits that `segments inspect` shows".to_owned();
    blake3::Hash::from_hex(text).map(Into::into).map_err(expected)
}
