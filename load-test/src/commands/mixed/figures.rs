//! What a run of a mixed fleet gives, for people and as JSON.

use std::fmt;

use anyhow::Result;
use icecore_load::server::metric;
use serde::Serialize;

use super::Options;
use super::account::Account;
use super::kind::Kind;
use super::memory::Memory;
use crate::spread::Spread;

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    devices: usize,
    clients: usize,
    seconds: u64,
    events_per_s_and_device: usize,
    batch_every_s: f64,
    kinds: Vec<OfKind>,
    /// From a revocation to the end of the session.
    turned_out: Spread,
    told: Told,
    /// Processor cores that the server used while the fleet sent.
    server_cores: f64,
    memory: Memory,
}

/// All devices of a kind.
#[derive(Debug, Serialize)]
struct OfKind {
    kind: Kind,
    devices: usize,
    clients: usize,
    events_cut: u64,
    events_stored: u64,
    reconnects: u64,
    moves: u64,
    /// From cut to ack, once the fleet was warm; of cloned and revoked devices there is none.
    acks: Spread,
}

/// What the server told in its metrics.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    full_handshakes: u64,
    resumed_handshakes: u64,
    early_handshakes: u64,
    failed_handshakes: u64,
    takeovers: u64,
    identity_conflicts: u64,
    sequence_conflicts: u64,
    duplicate_batches: u64,
}

impl Told {
    /// What is in `metrics`; what is not there has not happened.
    pub(super) fn by(metrics: &str) -> Self {
        let count = |name: &str| metric(metrics, name).unwrap_or_default() as u64;
        Self {
            full_handshakes: count("icecore_handshakes_total{kind=\"full\"}"),
            resumed_handshakes: count("icecore_handshakes_total{kind=\"resumed\"}"),
            early_handshakes: count("icecore_handshakes_total{kind=\"0rtt\"}"),
            failed_handshakes: count("icecore_failed_handshakes_total"),
            takeovers: count("icecore_takeovers_total"),
            identity_conflicts: count("icecore_identity_conflicts_total"),
            sequence_conflicts: count("icecore_refused_batches_total{code=\"sequence_conflict\"}"),
            duplicate_batches: count("icecore_duplicate_batches_total"),
        }
    }
}

impl OfKind {
    fn of(kind: Kind, accounts: &[Account]) -> Self {
        let of_kind = || accounts.iter().filter(|account| account.kind == kind);
        let sum = |value: fn(&Account) -> u64| of_kind().map(value).sum();
        Self {
            kind,
            devices: of_kind().count(),
            clients: of_kind().map(|account| account.clients).sum(),
            events_cut: sum(|account| account.events_cut),
            events_stored: sum(|account| account.events_stored),
            reconnects: sum(|account| account.reconnects),
            moves: sum(|account| account.moves),
            acks: Spread::of(of_kind().flat_map(|account| account.latencies.iter().copied())),
        }
    }
}

impl Figures {
    pub(super) fn of(
        options: &Options,
        accounts: &[Account],
        told: Told,
        memory: Memory,
        server_cores: f64,
    ) -> Self {
        let kinds = Kind::ALL.map(|kind| OfKind::of(kind, accounts));
        Self {
            devices: accounts.len(),
            clients: kinds.iter().map(|kind| kind.clients).sum(),
            seconds: options.seconds,
            events_per_s_and_device: options.rate,
            batch_every_s: options.batch_every.as_secs_f64(),
            kinds: kinds.into(),
            turned_out: Spread::of(accounts.iter().filter_map(|account| account.turned_out)),
            told,
            server_cores,
            memory,
        }
    }

    /// # Errors
    /// When the server's memory was not flat.
    pub(crate) fn check(&self) -> Result<()> {
        self.memory.check()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { devices, clients, seconds, events_per_s_and_device, batch_every_s, told, .. } = self;
        writeln!(
            f,
            "fleet                  {devices} devices, {clients} clients, {seconds} s, {events_per_s_and_device} \
             events/s in a batch every {batch_every_s} s"
        )?;
        writeln!(
            f,
            "{:<10}{:>9}{:>9}{:>13}{:>15}{:>12}{:>8}  acks",
            "kind", "devices", "clients", "events cut", "events stored", "reconnects", "moves"
        )?;
        self.kinds.iter().try_for_each(|kind| write!(f, "{kind}"))?;
        writeln!(f, "revoked, turned out    {}", self.turned_out)?;
        writeln!(
            f,
            "handshakes             {} full, {} resumed, {} with 0-RTT, {} failed or refused",
            told.full_handshakes, told.resumed_handshakes, told.early_handshakes, told.failed_handshakes
        )?;
        writeln!(
            f,
            "takeovers              {}, {} identity conflicts",
            told.takeovers, told.identity_conflicts
        )?;
        writeln!(
            f,
            "batches                {} refused as sequence conflicts, {} came again and were acked again",
            told.sequence_conflicts, told.duplicate_batches
        )?;
        writeln!(f, "server processor       {:.2} cores", self.server_cores)?;
        writeln!(f, "server memory          {}", self.memory)
    }
}

impl fmt::Display for OfKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, devices, clients, events_cut, events_stored, reconnects, moves, acks } = self;
        write!(
            f,
            "{kind:<10}{devices:>9}{clients:>9}{events_cut:>13}{events_stored:>15}{reconnects:>12}{moves:>8}  "
        )?;
        if acks.count > 0 { writeln!(f, "{acks}") } else { writeln!(f, "-") }
    }
}
