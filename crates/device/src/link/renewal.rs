//! When to ask for a new certificate, and what to do with it.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::dial::Dialer;
use super::{Link, client_config, locked};
use crate::event::Event;
use crate::identity::Identity;

/// The shortest time between two questions.
const HOUR: Duration = Duration::from_secs(3600);

/// When to ask again a server that said not to, before something was changed: an operator may have.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The identity that connections are made with.
pub(super) struct Renewal {
    identity: Identity,
    /// Whether the dialer does not use it yet.
    is_new: bool,
    /// Not to be asked for before.
    not_before: Option<Instant>,
}

impl Renewal {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, is_new: false, not_before: None }
    }

    /// When to ask, if the server's clock now shows `server_time` nanoseconds since the Unix epoch.
    pub(super) fn due(&self, server_time: i64, now: Instant) -> Option<Instant> {
        let until = self.identity.until_renewal(server_time / 1_000_000_000)?;
        // A certificate for longer than the clock can tell need not be renewed.
        Some(now.checked_add(until)?.max(self.not_before.unwrap_or(now)))
    }

    pub(super) fn asked(&mut self, now: Instant) {
        self.not_before = Some(now + HOUR);
    }

    /// The server said no, and when to ask again.
    pub(super) fn refused(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.not_before = Some(now + retry_after.unwrap_or(DAY).clamp(HOUR, DAY));
    }
}

impl Link {
    pub(super) fn renewal(&self) -> MutexGuard<'_, Renewal> {
        locked(&self.renewal)
    }

    /// Takes a new certificate into use for the next connection, and keeps it.
    pub(super) fn renewed(self: &Arc<Self>, certificate: Vec<u8>) {
        let renewed = self.renewal().identity.renewed(certificate);
        let identity = match renewed {
            Ok(identity) => identity,
            Err(reason) => {
                return self.not_renewed(format!("the server's new certificate is no use: {reason}"));
            }
        };
        let mut renewal = self.renewal();
        (renewal.identity, renewal.is_new) = (identity.clone(), true);
        drop(renewal);
        let link = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let kept = identity.store();
            if let (Err(error), Some(dir)) = (&kept, identity.dir()) {
                let problem = format!("the new certificate cannot be kept in {}: {error}", dir.display());
                tracing::error!("{problem}; it is used until this process ends");
                link.set_error(problem);
            }
            let stored = kept.is_ok() && identity.dir().is_some();
            link.watchers.event(Event::Renewed { certificate: identity.certificate_pem(), stored });
        });
    }

    /// Has the next connection made with a new certificate, if there is one.
    pub(super) fn use_renewed(&self, dialer: &mut Dialer) {
        let mut renewal = self.renewal();
        if std::mem::take(&mut renewal.is_new) {
            match client_config(&self.config, &renewal.identity, &self.clock) {
                Ok(config) => dialer.use_config(config),
                Err(error) => self.not_renewed(format!("the new certificate is no use for TLS: {error}")),
            }
        }
    }

    /// Tells that there is no new certificate, or none that lasts.
    pub(super) fn not_renewed(&self, reason: String) {
        tracing::warn!(%reason, "the certificate was not renewed");
        self.watchers.event(Event::NotRenewed { reason });
    }
}
