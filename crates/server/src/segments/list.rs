//! `icecore segments list`: one line per live segment.

use std::io::Write;

use bytesize::ByteSize;
use icecore_tier::catalog::Entry;

use super::{Known, all};
use crate::config::Config;
use crate::instant::display_seconds;
use crate::table::{Align, Table, count};

pub(super) fn run(config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        ("segment", Align::Left),
        ("policy", Align::Left),
        ("events", Align::Right),
        ("size", Align::Right),
        ("received from", Align::Left),
        ("to", Align::Left),
        ("where", Align::Left),
        ("decided", Align::Left),
    ]);
    for (id, known) in all(config)? {
        let (rows, bytes, first, last) = known.extent();
        table.row([
            id.to_string(),
            known.policy(),
            count(rows),
            ByteSize::b(bytes).display().si().to_string(),
            display_seconds(first),
            display_seconds(last),
            known.place(),
            known.entry.as_ref().map(decided).unwrap_or_default(),
        ]);
    }
    match table.is_empty() {
        true => writeln!(out, "nothing is sealed yet")?,
        false => table.write(out)?,
    }
    Ok(())
}

impl Known {
    /// Events, bytes, and the received times of the first and last event.
    fn extent(&self) -> (u64, u64, i64, i64) {
        match (&self.entry, &self.child) {
            (Some(Entry { segment, .. }), _) => {
                (segment.rows, segment.bytes, segment.received.first, segment.received.last)
            }
            (None, Some(child)) => (child.rows, child.bytes, *child.received.start(), *child.received.end()),
            (None, None) => unreachable!("one of them made it known"),
        }
    }

    /// The policy that most of it belongs to, and whether there are others.
    fn policy(&self) -> String {
        match (&self.entry, &self.child) {
            (Some(Entry { segment, .. }), _) => match &*segment.shares {
                [] => "-".to_owned(),
                [one] => one.policy.clone(),
                [first, others @ ..] => format!("{} +{}", first.policy, others.len()),
            },
            (None, Some(child)) => child.class.clone(),
            (None, None) => unreachable!("one of them made it known"),
        }
    }

    /// Where its bytes are.
    pub(super) fn place(&self) -> String {
        let Some(Entry { segment, missing, .. }) = &self.entry else { return "local".to_owned() };
        if *missing {
            return "missing".to_owned();
        }
        let copies = segment.copies.iter().map(|copy| match &copy.class {
            Some(class) => format!("{} as {class}", copy.store),
            None => copy.store.clone(),
        });
        let local = segment.local.then(|| "local".to_owned());
        local.into_iter().chain(copies).collect::<Vec<_>>().join(", ")
    }
}

/// What is to become of it, where that is decided.
pub(super) fn decided(entry: &Entry) -> String {
    let deleted = entry.segment.deletion.as_ref();
    let deleted = deleted.map(|deletion| format!("deleted from {} on", display_seconds(deletion.due)));
    let numbers: Vec<String> = entry.holds.iter().map(u64::to_string).collect();
    let held = (!numbers.is_empty()).then(|| format!("held by {}", numbers.join(", ")));
    deleted.into_iter().chain(held).collect::<Vec<_>>().join("; ")
}
