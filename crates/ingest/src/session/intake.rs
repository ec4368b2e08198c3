//! From one stream's batches to the writer's queue, or back to the client with a reason.

use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore_wire::{BatchHeader, Code, Incoming};
use metrics::counter;
use tokio::time::{sleep_until, timeout};

use super::Session;
use crate::endpoint::Hub;
use crate::limits::{Admission, Load, Pause};
use crate::writer::{
    Attachment, Body, Class, Closed, Health, Lane, MAX_GROUP_BYTES, Reservation, Submission,
};

/// Bytes of batches submitted together. One more batch always fits below the largest group.
const GROUP_BYTES: usize = MAX_GROUP_BYTES / 4;
const _: () = assert!(GROUP_BYTES + icecore_wire::limits::MAX_BATCH_BYTES + 4096 <= MAX_GROUP_BYTES);

/// How long live batches wait for room in the queue before they are sent back. Longer than any fsync of a disk that
/// works; a device that hears nothing for so long should know why.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// When batches may come again that found no room; up to as much again is added by chance, so that not all come at once.
const RETRY_AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// When batches may come again that found the disk full.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(1);

/// Batches that were read from one stream and not submitted.
pub(super) struct Intake {
    hub: Arc<Hub>,
    session: Arc<Session>,
    /// The stream's way into the queue; made with the first batch, when the stream has told of what class it is.
    lane: Option<Lane>,
    submissions: Vec<Submission>,
    bytes: usize,
    /// Whether there is a limit to keep.
    limited: bool,
    /// The pause that the batches taken lately have earned.
    pause: Option<Pause>,
}

/// Why batches are not taken for now.
struct Obstacle {
    code: Code,
    message: String,
    retry_after: Duration,
}

impl Intake {
    pub(super) fn new(hub: Arc<Hub>, session: Arc<Session>) -> Self {
        let limited = hub.limiter.applies_to(&session.identity);
        Self { hub, session, lane: None, submissions: Vec::new(), bytes: 0, limited, pause: None }
    }

    /// Counts a batch against the limits. One of a device that is beyond its own, behind a gateway that is not, is sent
    /// back; then this says `false`.
    pub(super) fn admits(&mut self, from: &Arc<Attachment>, incoming: &Incoming) -> bool {
        if !self.limited {
            return true;
        }
        let (Incoming::Batch { payload, .. } | Incoming::Unreadable { payload, .. }) = incoming;
        let header = match incoming {
            Incoming::Batch { header, .. } => Some(header),
            Incoming::Unreadable { header, .. } => header.as_ref(),
        };
        let load = Load { events: header.map_or(0, |header| header.count), bytes: payload.len() };
        match self.hub.limiter.admit(&self.session.identity, &from.device, load, Instant::now()) {
            Admission::Free => true,
            Admission::Paced(pause) => {
                self.pause = Some(pause);
                true
            }
            Admission::Refused(wait) => {
                self.hub.metrics.rate_limited.increment(1);
                let range = header.map_or(0..0, BatchHeader::range);
                let message = "the device sends more than it is allowed".to_owned();
                self.session.defer(Arc::clone(from), range, Code::RateLimited, message, wait);
                false
            }
        }
    }

    /// Pauses where a limit wants it. The stream is not read meanwhile.
    pub(super) async fn pause(&mut self) {
        if let Some(Pause { until, bytes_per_s }) = self.pause.take() {
            if self.session.pace(bytes_per_s) {
                self.hub.metrics.paced.increment(1);
            }
            sleep_until(until.into()).await;
        }
    }

    /// Takes a batch of a stream of this class.
    pub(super) fn push(&mut self, class: Class, submission: Submission) {
        self.lane.get_or_insert_with(|| Lane::new(class));
        self.bytes += submission.bytes();
        self.submissions.push(submission);
    }

    /// Whether there is enough for a group.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= GROUP_BYTES
    }

    /// Submits what was taken, or sends it back when there is no room for it. Meanwhile the stream is not read, and QUIC's
    /// flow control stops the client.
    pub(super) async fn submit(&mut self) {
        let Some(lane) = self.lane.as_ref().filter(|_| !self.submissions.is_empty()) else { return };
        match self.hub.find_room(lane, self.bytes).await {
            Ok(room) => room.submit(self.submissions.drain(..)),
            Err(obstacle) => self.send_back(&obstacle),
        }
        self.bytes = 0;
    }

    fn send_back(&mut self, obstacle: &Obstacle) {
        let Obstacle { code, retry_after, .. } = *obstacle;
        counter!("icecore_deferred_batches_total", "code" => code.name())
            .increment(self.submissions.len() as u64);
        for submission in self.submissions.drain(..) {
            let range = match submission.body {
                Body::Batch(batch) => batch.range(),
                Body::Invalid(batch) => batch.range,
                Body::Attach | Body::Dropped(_) => unreachable!("only batches come on batch streams"),
            };
            self.session.defer(submission.from, range, code, obstacle.message.clone(), retry_after);
        }
    }
}

impl Hub {
    /// Waits for room: live batches for a while, a backlog as long as it takes, because that is its pace. When the writer
    /// has ended and the server is about to, there is neither room nor an obstacle, and this never returns: nothing would
    /// be acked any more, and to say anything would tell the client that it did something wrong.
    async fn find_room(&self, lane: &Lane, bytes: usize) -> Result<Reservation<'_>, Obstacle> {
        if let Some(obstacle) = self.obstacle() {
            return Err(obstacle);
        }
        let room = self.inbox.reserve_in(lane, bytes);
        let found = match lane.class() {
            Class::Live => timeout(ROOM_TIMEOUT, room).await,
            Class::Backlog => Ok(room.await),
        };
        match found {
            Ok(Ok(room)) => Ok(room),
            Err(_) if !self.inbox.is_closed() => Err(self.obstacle().unwrap_or_else(Obstacle::overload)),
            Ok(Err(Closed)) | Err(_) => std::future::pending().await,
        }
    }

    /// What keeps all batches out at the moment.
    fn obstacle(&self) -> Option<Obstacle> {
        match &*self.health.borrow() {
            Health::DiskFull { message } => Some(Obstacle {
                code: Code::DiskFull,
                message: message.clone(),
                retry_after: RETRY_AFTER_FULL,
            }),
            _ => None,
        }
    }
}

impl Obstacle {
    fn overload() -> Self {
        // Without randomness, all come at once.
        let chance = Duration::from_millis(u64::from(getrandom::u32().unwrap_or(0) % 1_000));
        let message = format!("the server found no room for the batch within {ROOM_TIMEOUT:?}");
        Self { code: Code::Overloaded, message, retry_after: RETRY_AFTER_OVERLOAD + chance }
    }
}
