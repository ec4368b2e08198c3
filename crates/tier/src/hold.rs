//! Holds: what may not be deleted, whatever the policies say.

use std::fmt;

use icecore_wire::Glob;
use serde::{Deserialize, Serialize};

use crate::instant;
use crate::segment::{Content, Span};

/// Freezes events of some devices, schemas and times: a segment that has one of them is not deleted while the hold stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its number, by which it is removed.
    pub number: u64,
    /// What it freezes.
    pub scope: Scope,
}

/// Which events a hold freezes: those that fit all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Glob of the device names; `None` is every device.
    pub device: Option<String>,
    /// Glob of the schema names; `None` is every schema.
    pub schema: Option<String>,
    /// Event time of the first, in nanoseconds since the Unix epoch; `None` is the beginning.
    #[serde(with = "instant::optional")]
    pub from: Option<i64>,
    /// Event time behind the last, in nanoseconds since the Unix epoch; `None` is for ever.
    #[serde(with = "instant::optional")]
    pub to: Option<i64>,
}

impl Scope {
    /// Whether a segment with these event times may have an event of this scope among `contents`. Event times are known for
    /// the segment as a whole, so it may hold more than it must, never less.
    #[must_use]
    pub fn covers<'c>(&self, events: Span, contents: impl IntoIterator<Item = &'c Content>) -> bool {
        let in_time =
            self.from.is_none_or(|from| events.last >= from) && self.to.is_none_or(|to| events.first < to);
        let device = self.device.as_deref().map(Glob::new);
        let schema = self.schema.as_deref().map(Glob::new);
        let fits = |glob: &Option<Glob>, name: &str| glob.as_ref().is_none_or(|glob| glob.matches(name));
        in_time
            && contents
                .into_iter()
                .any(|content| fits(&device, &content.device) && fits(&schema, &content.schema))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "devices `{}`", self.device.as_deref().unwrap_or("*"))?;
        write!(f, ", schemas `{}`", self.schema.as_deref().unwrap_or("*"))?;
        if let Some(from) = self.from {
            write!(f, ", from {}", instant::text(from))?;
        }
        if let Some(to) = self.to {
            write!(f, ", before {}", instant::text(to))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_covers_what_fits_all_of_it() {
        let content = |schema: &str, device: &str| Content {
            schema: schema.to_owned(),
            device: device.to_owned(),
            received: Span { first: 0, last: 9 },
            rows: 1,
        };
        let contents = [content("heat", "oslo/1"), content("flow", "bergen/1")];
        let events = Span { first: 100, last: 199 };
        let covers = |device: Option<&str>, schema: Option<&str>, from, to| {
            let scope = Scope { device: device.map(Into::into), schema: schema.map(Into::into), from, to };
            scope.covers(events, &contents)
        };
        assert!(covers(None, None, None, None));
        assert!(covers(Some("oslo/*"), Some("heat"), None, None));
        assert!(
            !covers(Some("oslo/*"), Some("flow"), None, None),
            "of one device one, of the other the other"
        );
        assert!(covers(None, None, Some(199), None) && !covers(None, None, Some(200), None));
        assert!(covers(None, None, None, Some(101)) && !covers(None, None, None, Some(100)));
    }
}
