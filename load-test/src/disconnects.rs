//! Connections that ended before they should have: counted by reason, instead of a line each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use icecore_device::{Disconnect, Event};

/// Reasons told apart; further ones are counted as other.
const MAX_REASONS: usize = 16;

/// Disconnects so far. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disconnects(Arc<Mutex<BTreeMap<String, u64>>>);

impl Disconnects {
    /// Counts `event` if it is a disconnect or a refusal.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            // No fault, where the connection is made on demand; and a refusal was counted when it was said.
            Event::Disconnected { reason: Disconnect::Idle | Disconnect::Refused { .. }, .. } => {}
            // Devices may have ways of their own to the server.
            Event::Disconnected { reason: Disconnect::Unreachable { .. }, .. } => {
                self.count_as("no answer".to_owned());
            }
            Event::Disconnected { reason, .. } => self.count_as(reason.to_string()),
            Event::Refused { code, .. } => self.count_as(format!("refused: {}", code.name())),
            _ => {}
        }
    }

    fn count_as(&self, reason: String) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.len() < MAX_REASONS || counts.contains_key(&reason);
        *counts.entry(if known { reason } else { "other reasons".to_owned() }).or_default() += 1;
    }
}

/// Nothing when there were none, else a line that ends.
impl fmt::Display for Disconnects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.is_empty() {
            return Ok(());
        }
        write!(f, "disconnects            {}:", counts.values().sum::<u64>())?;
        for (number, (reason, count)) in counts.iter().enumerate() {
            let separator = if number > 0 { "," } else { "" };
            write!(f, "{separator} {count} × {reason}")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disconnects_are_summed_up_in_a_line() {
        let disconnects = Disconnects::default();
        assert_eq!(disconnects.to_string(), "");
        let silent = Event::Disconnected { reason: Disconnect::Silent, retry_in: std::time::Duration::ZERO };
        disconnects.note(&silent);
        disconnects.note(&silent);
        for server in ["here:1", "there:1"] {
            let reason = Disconnect::Unreachable { server: server.to_owned() };
            disconnects.note(&Event::Disconnected { reason, retry_in: std::time::Duration::ZERO });
        }
        let line = "disconnects            4: 2 × no answer, 2 × the connection fell silent\n";
        assert_eq!(disconnects.to_string(), line);
        for number in 0..100 {
            disconnects.count_as(format!("reason {number}"));
        }
        assert!(disconnects.0.lock().unwrap().len() <= MAX_REASONS + 1);
    }
}
