//! What happens to the rows on their way, and when to give up.

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{anyhow, bail};
use hdrhistogram::Histogram;
use icecore_device::{Code, Disconnect, Event, Events, Gateway};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tokio::time::{Instant, timeout, timeout_at};

use super::summary::Summary;
use crate::instant::display_duration;
use crate::table::count;

/// Events of the connection that may wait to be read here: some seconds of acks at full speed.
const EVENT_BUFFER: usize = 65_536;

/// The longest latency told apart from longer ones: an hour, in microseconds.
const LONGEST_LATENCY: u64 = 3_600_000_000;

/// Time for the end of the connection to be told.
const GOODBYE: Duration = Duration::from_secs(1);

/// Follows the connection from its start.
pub(crate) struct Watch {
    gateway: Gateway,
    events: Events,
    server: String,
    /// How long the server may be away.
    patience: Duration,
    /// When the server was lost or first looked for; `None` while it is there.
    away_since: Option<Instant>,
    last_problem: Option<String>,
    bar: ProgressBar,
    rows: u64,
    started: Instant,
    latencies: Histogram<u64>,
}

impl Watch {
    pub(crate) fn start(gateway: Gateway, server: &str, patience: Duration, rows: u64) -> Self {
        let started = Instant::now();
        Self {
            events: gateway.events(EVENT_BUFFER),
            gateway,
            server: server.to_owned(),
            patience,
            away_since: Some(started),
            last_problem: None,
            bar: progress_bar(rows),
            rows,
            started,
            latencies: Histogram::new_with_max(LONGEST_LATENCY, 3).expect("the bounds are in order"),
        }
    }

    /// Waits for a reason to give up; there may never be one.
    pub(crate) async fn failure(&mut self) -> anyhow::Error {
        loop {
            let next = match self.away_since {
                Some(since) => timeout_at(since + self.patience, self.events.next()).await,
                None => Ok(self.events.next().await),
            };
            match next {
                Err(_) => return self.gave_up(),
                Ok(None) => std::future::pending().await,
                Ok(Some(event)) => {
                    if let Some(failure) = self.note(event) {
                        return failure;
                    }
                }
            }
        }
    }

    /// Says how many rows there are, once that is known.
    pub(crate) fn expect(&mut self, rows: u64) {
        self.rows = rows;
    }

    /// Accounts for what was sent; an error says what is stored all the same.
    pub(crate) fn account(&mut self, sent: anyhow::Result<()>) -> anyhow::Result<Summary> {
        let mut failure = sent.err();
        while let Some(event) = self.events.try_next() {
            let noted = self.note(event);
            failure = failure.or(noted);
        }
        self.bar.finish_and_clear();
        let stats = self.gateway.stats();
        let summary = Summary {
            rows: self.rows,
            new: stats.events_acked,
            known: stats.events_already_stored,
            elapsed: self.started.elapsed(),
            wire_bytes: stats.wire_bytes_sent,
            latencies: self.latencies.clone(),
        };
        let (durable, rows) = (summary.new + summary.known, self.rows);
        if failure.is_none() && durable == rows {
            return Ok(summary);
        }
        let [durable, rows] = [durable, rows].map(count);
        let stored =
            format!("{durable} of {rows} rows are stored; running the command again adds what is missing");
        match failure {
            Some(failure) => bail!("{failure:#} ({stored})"),
            None => bail!("{stored}"),
        }
    }

    /// Lets the connection end, so that the server need not wait for one that fell silent.
    pub(crate) async fn goodbye(self) {
        let Self { gateway, mut events, .. } = self;
        drop(gateway);
        let ended = async { while events.next().await.is_some() {} };
        let _ = timeout(GOODBYE, ended).await;
    }

    /// Takes an event into account; returns an error for one that waiting does not help.
    fn note(&mut self, event: Event) -> Option<anyhow::Error> {
        match event {
            Event::Connected { .. } => {
                if self.last_problem.take().is_some() {
                    self.say(&format!("connected to {}", self.server));
                }
                self.away_since = None;
                None
            }
            Event::Disconnected { reason, .. } => self.disconnected(&reason),
            Event::Acked { latency, .. } => {
                if let Some(latency) = latency {
                    let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                    self.latencies.saturating_record(microseconds.max(1));
                }
                let stats = self.gateway.stats();
                self.bar.set_position(stats.events_acked + stats.events_already_stored);
                None
            }
            Event::Rejected { device, range, code, message, .. } => {
                let (start, end) = (range.start, range.end);
                Some(anyhow!(
                    "the server refused events {start}..{end} of {device} ({}): {message}",
                    code.name()
                ))
            }
            Event::Refused { device, code, message, .. } => {
                let whom = device.map_or_else(|| "this identity".to_owned(), |name| format!("device {name}"));
                let problem = format!("the server refused {whom} ({}): {message}", code.name());
                self.unless_passing(code, problem)
            }
            Event::Attached { .. }
            | Event::Dropped { .. }
            | Event::Renewed { .. }
            | Event::NotRenewed { .. }
            | Event::Missed { .. } => None,
        }
    }

    fn disconnected(&mut self, reason: &Disconnect) -> Option<anyhow::Error> {
        let problem = reason.to_string();
        self.away_since.get_or_insert_with(Instant::now);
        match reason {
            Disconnect::ServerNotTrusted { .. }
            | Disconnect::CertificateRefused { .. }
            | Disconnect::Protocol { .. } => Some(anyhow!(problem)),
            Disconnect::Refused { code, .. } => self.unless_passing(*code, problem),
            Disconnect::Unresolved { .. }
            | Disconnect::Unreachable { .. }
            | Disconnect::Silent
            | Disconnect::Idle
            | Disconnect::GoAway { .. }
            | Disconnect::Lost { .. } => {
                self.wait_because(problem);
                None
            }
        }
    }

    /// A refusal is a reason to give up unless it is about the server's state rather than about what is sent.
    fn unless_passing(&mut self, code: Code, problem: String) -> Option<anyhow::Error> {
        match code {
            Code::Overloaded | Code::DiskFull | Code::ShuttingDown | Code::TakenOver | Code::Internal => {
                self.wait_because(problem);
                None
            }
            _ => Some(anyhow!(problem)),
        }
    }

    /// Says what is being waited for, once for each reason.
    fn wait_because(&mut self, problem: String) {
        if self.last_problem.as_ref() == Some(&problem) {
            return;
        }
        let left = self.away_since.map_or_else(String::new, |since| {
            let left = (since + self.patience).saturating_duration_since(Instant::now());
            format!(" ({} left)", display_duration(left))
        });
        self.say(&format!("waiting for {}{left}: {problem}", self.server));
        self.last_problem = Some(problem);
    }

    fn gave_up(&self) -> anyhow::Error {
        let problem = self.last_problem.clone().unwrap_or_else(|| format!("no answer from {}", self.server));
        anyhow!("gave up after {} (--wait): {problem}", display_duration(self.patience))
    }

    fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

/// A bar on standard error if that is a terminal.
fn progress_bar(rows: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{wide_bar} {human_pos} of {human_len} rows durable, {rate}/s, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        // A bar has no way to report that it could not be drawn.
        let _ = out.write_str(&count(state.per_sec() as u64));
    };
    ProgressBar::new(rows).with_style(style.with_key("rate", rate))
}
