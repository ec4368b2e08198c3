//! A catalog of as many segments as one likes, as it would be had a server made it: rebuilt from a journal that says how they
//! came and where they went.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use icecore_tier::catalog::{Decision, Found, NewManifest, NewSegment, Rebuild, Sealed, What, Why};
use icecore_tier::journal::{Bucket, BucketError};
use icecore_tier::policy::{Labels, PolicySet};
use icecore_tier::segment::{Content, SegmentId, Span};
use serde_json::json;

const DAY: i64 = 24 * 3_600 * 1_000_000_000;
/// Over how many days the segments came.
const DAYS: i64 = 120;
/// Schemas, each with a policy of its own: what one manifest brings a segment of.
const SCHEMAS: [&str; 4] = ["alarm/heat", "debug/network", "vibration", "weather"];
/// In one of so many segments there are events of the next policy, too.
const SHARED: u64 = 100;
/// Devices in a segment.
const DEVICES: u64 = 4;
const ROWS: u64 = 250_000;
/// Lines of an object of the journal.
const LINES: usize = 1_000;

const POLICIES: &str = r#"
[[policy]]
name   = "alarms"
match  = { schema = "alarm*" }
cold   = [{ after = "6h", store = "archive" }]
delete = "never"

[[policy]]
name   = "debug"
match  = { schema = "debug*" }
cold   = [{ after = "6h", store = "archive" }]
local  = { drop_after = "2d" }
delete = { max_bytes = "1TB", undo = "1d" }

[[policy]]
name   = "vibration"
match  = { schema = "vibration" }
cold   = [{ after = "6h", store = "archive" }, { after = "30d", store = "archive", class = "GLACIER_IR" }]
local  = { drop_after = "2d", max_bytes = "500GB" }
delete = { after = "180d" }

[[policy]]
name   = "default"
cold   = [{ after = "6h", store = "archive" }]
local  = { drop_after = "2d" }
delete = { after = "90d", undo = "7d" }
"#;

/// Makes the catalog of the data directory `data`.
pub(crate) fn make(data: &Path, segments: u64) -> anyhow::Result<()> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let manifests = segments.div_ceil(SCHEMAS.len() as u64);
    let mut found = Found::default();
    let mut journal = Journal::new();
    journal.decide(
        now - DAYS * DAY,
        "policies",
        What::PoliciesApplied { version: 1, text: POLICIES.to_owned() },
    );
    for number in 0..manifests {
        let time = now - DAYS * DAY + i64::try_from(number)? * (DAYS * DAY / i64::try_from(manifests)?);
        let manifest = manifest(number, time);
        let sealed = manifest.segments.iter().map(|new| new.sealed.clone());
        let (from, positions) = (Vec::new(), manifest.positions.clone());
        journal.decide(
            time,
            "sealed",
            What::Registered { manifest: number, from, positions, segments: sealed.collect() },
        );
        let old = |days: i64| time < now - days * DAY;
        for segment in manifest.segments.iter().map(|new| new.sealed.id) {
            // The uploads of the last day wait; what is older than two days is dropped here, except the alarms.
            if old(1) {
                let (store, class) = ("archive".to_owned(), None);
                journal.decide(time + DAY / 4, "it is older than 6h", What::Copied { segment, store, class });
            }
            match old(2) && segment.child != 0 {
                true => journal.decide(time + 2 * DAY, "it is older than 2d", What::LocalDropped { segment }),
                false => _ = found.local.insert(segment),
            }
        }
        found.manifests.insert(number, manifest);
    }
    journal.close();
    let policies = PolicySet::parse("policies", POLICIES)?;
    let labels = Labels::new();
    let why =
        Why { time: now, by: "benchmark".to_owned(), policy: None, reason: "to be measured".to_owned() };
    let rebuild = Rebuild::begin(Some(Arc::new(journal)), [7; 16], why)?;
    let sharing = |bytes, contents: &[Content]| policies.shares(bytes, contents, |_| &labels);
    let (_, rebuilt) = rebuild.build(data, &found, &sharing)?;
    anyhow::ensure!(rebuilt.faults.is_empty() && rebuilt.skipped.is_empty(), "{:?}", rebuilt.faults);
    Ok(())
}

fn manifest(number: u64, time: i64) -> NewManifest {
    let each = SCHEMAS.len() as u64;
    let positions = number * each * ROWS..(number + 1) * each * ROWS;
    let received = Span { first: time, last: time + 1_000_000_000 };
    let new = |child: u64| {
        let content = |schema: u64, device: u64, rows| Content {
            schema: SCHEMAS[(schema % each) as usize].to_owned(),
            device: format!("plant-{}/pump-{device}", number % 50),
            received,
            rows,
        };
        let mut contents: Vec<Content> =
            (0..DEVICES).map(|device| content(child, device, ROWS / DEVICES)).collect();
        if (number * each + child).is_multiple_of(SHARED) {
            contents[0].rows /= 2;
            contents.push(content(child + 1, 0, contents[0].rows));
        }
        let id = SegmentId { manifest: number, child: child as u32 };
        let mut root = [0x5a; 32];
        root[..8].copy_from_slice(&(number * each + child).to_be_bytes());
        let (positions, events) = (positions.clone(), received);
        NewSegment {
            sealed: Sealed { id, bytes: 8 * ROWS, rows: ROWS, root, positions, received, events },
            contents,
        }
    };
    NewManifest {
        number,
        from: Vec::new(),
        positions: positions.clone(),
        lost: 0,
        segments: (0..each).map(new).collect(),
    }
}

/// A journal of one term, as `docs/format.md` describes it.
struct Journal {
    objects: BTreeMap<String, Vec<u8>>,
    /// What is not in an object yet, and how many lines.
    open: (Vec<u8>, usize),
    before: blake3::Hash,
    decided: u64,
}

impl Journal {
    fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            open: (Vec::new(), 0),
            before: blake3::Hash::from_bytes([0; 32]),
            decided: 0,
        }
    }

    fn decide(&mut self, time: i64, reason: &str, what: What) {
        let (by, reason) = ("worker".to_owned(), reason.to_owned());
        let decision =
            Decision { number: self.decided, time, by, policy: None, version: Some(1), reason, what };
        let line = json!({ "journal": 1, "before": self.before.to_hex().as_str(), "decision": decision });
        let line = line.to_string();
        self.before = blake3::hash(line.as_bytes());
        let (object, lines) = &mut self.open;
        object.extend(line.as_bytes());
        object.push(b'\n');
        *lines += 1;
        self.decided += 1;
        if *lines == LINES {
            self.close();
        }
    }

    /// Makes an object of the lines since the last one.
    fn close(&mut self) {
        let (object, lines) = std::mem::take(&mut self.open);
        let first = self.decided - lines as u64;
        self.objects.insert(format!("journal/{:010}/{first:020}.json", 1), object);
    }
}

impl Bucket for Journal {
    fn create(&self, name: &str, _: &[u8]) -> Result<(), BucketError> {
        // The term that a rebuild takes is all that is ever created, and nobody asks for it again.
        if name.starts_with("terms/") { Ok(()) } else { Err(BucketError::Exists) }
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, BucketError> {
        self.objects.get(name).cloned().ok_or(BucketError::Absent)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        Ok(self.objects.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }
}
