//! Keeping an eye on sessions that are open: what was right when they began may not be right any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Hub;
use crate::session::Session;
use crate::writer::wall_time;

/// How often the registry is looked at: twice within the second in which a revocation is to take effect.
const EVERY: Duration = Duration::from_millis(500);
const _: () = assert!(2 * EVERY.as_millis() <= 1_000);

/// Ends sessions whose identity was revoked, enrolled anew or has expired, and refuses devices whose grant is gone.
pub(super) async fn review_all(hub: Arc<Hub>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complaint = String::new();
    loop {
        ticks.tick().await;
        let found = hub.registry.refresh().map_or_else(|e| e.to_string(), |()| String::new());
        if found != complaint {
            if !found.is_empty() {
                tracing::error!(error = %found, "cannot read the newest part of the registry");
            }
            complaint = found;
        }
        let (changed, now) = (hub.registry.take_changed(), wall_time());
        for session in affected(&hub, &changed, now) {
            session.review(&hub.registry, now);
        }
    }
}

fn affected(hub: &Hub, changed: &BTreeSet<String>, now: i64) -> Vec<Arc<Session>> {
    let affected = |session: &&Arc<Session>| {
        let identity = session.identity();
        identity.has_expired(now) || changed.contains(identity.name.as_str())
    };
    hub.sessions().values().map(|open| &open.session).filter(affected).cloned().collect()
}
