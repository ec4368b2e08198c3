//! How far a replay is, on a terminal.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use icecore_replay::Plan;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::table::count;

/// How often the bar is drawn.
const EVERY: Duration = Duration::from_millis(200);

/// A bar on standard error, if that is a terminal, from an estimate of what there is to look at. It goes when this goes.
pub(crate) struct Progress {
    looked_at: Arc<AtomicU64>,
    /// Tells the thread to end, by being dropped, and the thread.
    drawing: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    pub(crate) fn start(plan: &Plan) -> Self {
        let looked_at = Arc::new(AtomicU64::new(0));
        let drawing = std::io::stderr().is_terminal().then(|| draw(plan.events, Arc::clone(&looked_at)));
        Self { looked_at, drawing: drawing.flatten() }
    }

    /// What counts the events that were looked at.
    pub(crate) fn looked_at(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.looked_at)
    }
}

fn draw(events: u64, looked_at: Arc<AtomicU64>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let template = "{wide_bar} {human_pos} of about {human_len} events, {rate}/s, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        // A bar has no way to report that it could not be drawn.
        let _ = out.write_str(&count(state.per_sec() as u64));
    };
    let bar = ProgressBar::new(events).with_style(style.with_key("rate", rate));
    let (end, ended) = channel::<()>();
    let draw = move || {
        while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            bar.set_position(looked_at.load(Ordering::Relaxed));
        }
        bar.finish_and_clear();
    };
    // Without a thread to spare there is no bar.
    thread::Builder::new().name("progress".into()).spawn(draw).ok().map(|thread| (end, thread))
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.drawing.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}
