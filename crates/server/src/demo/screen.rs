//! What the demo shows while it runs: a few living lines on a terminal, one plain line a second elsewhere.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::table::count;

/// Columns of the rate's history.
const HISTORY: usize = 48;
/// Heights of its bars, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One moment of the demo.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// Since the fleet started.
    pub(super) elapsed: Duration,
    /// Events acked so far.
    pub(super) acked: u64,
    /// Events acked per second, of late.
    pub(super) rate: f64,
    /// Median and 99th percentile of late; `None` while no acks come.
    pub(super) latency: Option<(Duration, Duration)>,
    /// Readings of the weather recorded so far.
    pub(super) readings: usize,
    /// The day they have come to.
    pub(super) day: String,
    /// What the server is doing.
    pub(super) server: String,
}

/// Where the demo is shown.
pub(super) enum Screen {
    /// Lines that are drawn over and over.
    Terminal(Box<Lines>),
    /// Lines that are printed once.
    Plain,
}

/// The living lines.
pub(super) struct Lines {
    all: MultiProgress,
    time: ProgressBar,
    rate: ProgressBar,
    weather: ProgressBar,
    server: ProgressBar,
    history: VecDeque<f64>,
}

impl Screen {
    /// A screen on standard output, for a run of `duration`.
    pub(super) fn new(duration: Duration) -> Self {
        if io::stdout().is_terminal() { Self::Terminal(Box::new(Lines::new(duration))) } else { Self::Plain }
    }

    /// How often [`Screen::show`] wants to be called.
    pub(super) fn interval(&self) -> Duration {
        match self {
            Self::Terminal(_) => Duration::from_millis(200),
            Self::Plain => Duration::from_secs(1),
        }
    }

    /// Prints a line that stays.
    pub(super) fn say(&self, line: &str) {
        match self {
            // Fails only where the terminal is gone, and then there is nobody to tell.
            Self::Terminal(lines) => drop(lines.all.println(line)),
            Self::Plain => println!("{line}"),
        }
    }

    /// Shows how things stand.
    pub(super) fn show(&mut self, moment: &Moment) {
        match self {
            Self::Terminal(lines) => lines.draw(moment),
            Self::Plain => println!(
                "{:>4.0} s  {:>10.0} events/s  {:>12} acked  {}  weather {}  server {}",
                moment.elapsed.as_secs_f64(),
                moment.rate,
                count(moment.acked),
                latency(moment.latency),
                moment.day,
                moment.server,
            ),
        }
    }

    /// Takes the living lines away.
    pub(super) fn clear(&self) {
        if let Self::Terminal(lines) = self {
            drop(lines.all.clear());
        }
    }
}

impl Lines {
    fn new(duration: Duration) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stdout_with_hz(10));
        let style = |template| ProgressStyle::with_template(template).expect("the template is well-formed");
        let line = |template| all.add(ProgressBar::no_length().with_style(style(template)));
        let time =
            all.add(ProgressBar::new(millis(duration)).with_style(style("  time     [{bar:48}] {msg}")));
        Self {
            time,
            rate: line("  events   {msg}"),
            weather: line("  weather  {msg}"),
            server: line("  server   {msg}"),
            history: VecDeque::with_capacity(HISTORY),
            all,
        }
    }

    fn draw(&mut self, moment: &Moment) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(moment.rate);
        self.time.set_position(millis(moment.elapsed));
        self.time.set_message(format!("{:.0} s", moment.elapsed.as_secs_f64()));
        self.rate.set_message(format!(
            "{} {:.2} M/s, {} acked, {}",
            sparkline(&self.history),
            moment.rate / 1e6,
            count(moment.acked),
            latency(moment.latency),
        ));
        self.weather.set_message(format!(
            "New York, {}: {} readings of three airports",
            moment.day,
            count(moment.readings as u64)
        ));
        self.server.set_message(moment.server.clone());
    }
}

/// The history as bars, the highest at full height.
fn sparkline(history: &VecDeque<f64>) -> String {
    let highest = history.iter().copied().fold(1.0, f64::max);
    let bar = |rate: &f64| BARS[((rate / highest) * (BARS.len() - 1) as f64).round() as usize];
    let empty = std::iter::repeat_n(' ', HISTORY - history.len());
    empty.chain(history.iter().map(bar)).collect()
}

fn latency(latency: Option<(Duration, Duration)>) -> String {
    match latency {
        Some((p50, p99)) => {
            format!("ack p50 {:.1} ms p99 {:.1} ms", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3)
        }
        None => "no acks".to_owned(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sparkline_scales_to_its_highest_rate() {
        let line = sparkline(&VecDeque::from([0.0, 2e6, 4e6]));
        assert_eq!(line.trim_start(), "▁▅█");
        assert_eq!(line.chars().count(), HISTORY);
    }
}
