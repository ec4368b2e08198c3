//! The command line of what is about sealed segments.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use icecore_log::SegmentId;
use icecore_tier::plan::MAX_DAYS;

use super::parse_time;

#[derive(Debug, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Read a policy file, and say what each policy applies to and what may not have been meant.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Show what the policies would do, and cost; nothing is done.
    Plan(PlanArgs),
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
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The segment.
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub(crate) id: Option<SegmentId>,

    /// Every segment of which there is a local file, and all manifests.
    #[arg(long, conflicts_with = "id")]
    pub(crate) all: bool,

    /// The root that the segment has to have, as it was kept elsewhere.
    #[arg(long, value_name = "HASH", value_parser = parse_root, conflicts_with = "all")]
    pub(crate) root: Option<[u8; 32]>,
}

fn parse_root(text: &str) -> Result<[u8; 32], String> {
    let expected = |_| "expected the 64 hexadecimal digits that `segments inspect` shows".to_owned();
    blake3::Hash::from_hex(text).map(Into::into).map_err(expected)
}
