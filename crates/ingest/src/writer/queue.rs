//! What waits for the writer, taken out fairly: deficit round robin by bytes, between devices and between classes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use icecore_wire::DeviceName;

use super::inbox::Room;
use super::submission::Submission;

/// Bytes a device may take out of the queue in one turn: some five batches of the size the protocol is laid out for, so
/// that a modest device's batch goes out in its first turn, and what greedy ones take in between is small beside a block.
const QUANTUM: usize = 16 << 10;

/// How many bytes of live data go out for one byte of backlog while there are both.
const LIVE_WEIGHT: usize = 4;

/// How urgent a submission is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// What devices say and measure now.
    Live,
    /// Old data, which piled up while a device could not send.
    Backlog,
}

/// Submissions in the order of arrival for each device and class, and in turns between devices and classes.
///
/// A device that sends a hundred times as much as another one waits behind its own submissions, not the other behind
/// them; and however many devices bring a backlog, together they take a fifth of what goes out while live data waits.
/// Holds one entry per device and class that has something waiting.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    live: Turns,
    backlog: Turns,
    /// Bytes that live data took out beyond its share since both classes wait; below 0 when the backlog did.
    ahead: isize,
}

/// The devices that have something waiting, in the order of their turns.
#[derive(Debug, Default)]
struct Turns {
    flows: HashMap<DeviceName, Flow>,
    turns: VecDeque<DeviceName>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Flow {
    waiting: VecDeque<Waiting>,
    /// Bytes the device may still take out in its current turn.
    deficit: usize,
}

/// A submission, and its group's claim on the room it takes.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) submission: Submission,
    #[expect(dead_code, reason = "it is kept to be dropped")]
    pub(super) room: Arc<Room>,
}

impl FairQueue {
    /// Bytes waiting in a class, as [`Submission::bytes`] counts them.
    pub(super) fn bytes(&self, class: Class) -> usize {
        match class {
            Class::Live => self.live.bytes,
            Class::Backlog => self.backlog.bytes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty() && self.backlog.is_empty()
    }

    pub(super) fn push(&mut self, class: Class, waiting: Waiting) {
        match class {
            Class::Live => self.live.push(waiting),
            Class::Backlog => self.backlog.push(waiting),
        }
    }

    /// Takes submissions out until at least `bytes` are taken or none is left.
    pub(super) fn take(&mut self, bytes: usize, into: &mut Vec<Waiting>) {
        let mut left = bytes;
        while left > 0 && !self.is_empty() {
            let live_is_next = match (self.live.is_empty(), self.backlog.is_empty()) {
                (live_is_empty, backlog_is_empty) if live_is_empty || backlog_is_empty => {
                    // What a class did not take while it had nothing is not saved up.
                    self.ahead = 0;
                    backlog_is_empty
                }
                _ => self.ahead < (LIVE_WEIGHT * QUANTUM) as isize,
            };
            let taken = if live_is_next {
                let taken = self.live.take_turn(left, into);
                self.ahead += taken as isize;
                taken
            } else {
                let taken = self.backlog.take_turn(left, into);
                self.ahead -= (LIVE_WEIGHT * taken) as isize;
                taken
            };
            left = left.saturating_sub(taken);
        }
    }
}

impl Turns {
    fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.submission.bytes();
        let device = &waiting.submission.from.device;
        if let Some(flow) = self.flows.get_mut(device) {
            flow.waiting.push_back(waiting);
        } else {
            self.turns.push_back(device.clone());
            let flow = Flow { deficit: QUANTUM, ..Flow::default() };
            self.flows.entry(device.clone()).or_insert(flow).waiting.push_back(waiting);
        }
    }

    /// Gives the next device its turn, which ends early when at least `bytes` are taken; says how many were. That may be
    /// none: a submission larger than a turn takes several.
    fn take_turn(&mut self, bytes: usize, into: &mut Vec<Waiting>) -> usize {
        let Some(device) = self.turns.pop_front() else { return 0 };
        let flow = self.flows.get_mut(&device).expect("a device with a turn has a flow");
        let mut taken = 0;
        while taken < bytes
            && let Some(next) = flow.waiting.front().map(|waiting| waiting.submission.bytes())
            && next <= flow.deficit
        {
            flow.deficit -= next;
            taken += next;
            into.extend(flow.waiting.pop_front());
        }
        if flow.waiting.is_empty() {
            // What is left of the turn is not saved up: an idle device has no claim on the past.
            self.flows.remove(&device);
        } else if taken < bytes {
            flow.deficit += QUANTUM;
            self.turns.push_back(device);
        } else {
            self.turns.push_front(device);
        }
        self.bytes -= taken;
        taken
    }
}

#[cfg(test)]
mod tests {
    use icecore_wire::{Code, Epoch, Payload};

    use super::*;
    use crate::writer::submission::{Attachment, Body, InvalidBatch};

    fn waiting(device: &str, first: u64, bytes: usize) -> Waiting {
        let device = DeviceName::try_from(device).unwrap();
        let body = Body::Invalid(InvalidBatch {
            range: first..first + 1,
            code: Code::MalformedBatch,
            message: String::new(),
            payload: Payload::copy_from(&vec![0; bytes]),
        });
        let submission = Submission { from: Attachment::new(1, 1, device, Epoch::from_bytes([0; 16])), body };
        Waiting { submission, room: Arc::default() }
    }

    /// A queue of live submissions.
    fn push(queue: &mut FairQueue, device: &str, first: u64, bytes: usize) {
        queue.push(Class::Live, waiting(device, first, bytes));
    }

    fn order(queue: &mut FairQueue, bytes: usize) -> Vec<(String, u64)> {
        let mut taken = Vec::new();
        queue.take(bytes, &mut taken);
        let describe = |waiting: &Waiting| match &waiting.submission.body {
            Body::Invalid(batch) => (waiting.submission.from.device.to_string(), batch.range.start),
            _ => unreachable!(),
        };
        taken.iter().map(describe).collect()
    }

    #[test]
    fn a_modest_device_does_not_wait_behind_a_greedy_one() {
        let mut queue = FairQueue::default();
        for n in 0..1000 {
            push(&mut queue, "greedy", n, 4 << 10);
        }
        push(&mut queue, "modest", 0, 1000);
        let taken = order(&mut queue, 256 << 10);
        let place = taken.iter().position(|(device, _)| device == "modest").unwrap();
        assert!(place <= QUANTUM / (4 << 10), "came out at place {place}");
    }

    #[test]
    fn each_device_keeps_its_order_and_nothing_is_lost_however_it_is_taken() {
        let mut queue = FairQueue::default();
        for n in 0..200 {
            let large = 100 + (n as usize * 7919) % 90_000;
            for (class, device, bytes) in [
                (Class::Live, "a", large),
                (Class::Live, "b", 100),
                (Class::Backlog, "b-old", large),
                (Class::Backlog, "c", 500),
            ] {
                queue.push(class, waiting(device, n, bytes));
            }
        }
        let mut taken = Vec::new();
        while !queue.is_empty() {
            taken.extend(order(&mut queue, 50_000));
        }
        assert_eq!((queue.bytes(Class::Live), queue.bytes(Class::Backlog)), (0, 0));
        for device in ["a", "b", "b-old", "c"] {
            let sequences: Vec<u64> = taken.iter().filter(|(d, _)| d == device).map(|(_, n)| *n).collect();
            assert_eq!(sequences, (0..200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn shares_are_equal_by_bytes_not_by_submissions() {
        let mut queue = FairQueue::default();
        for n in 0..400 {
            push(&mut queue, "large", n, 40_000);
            for m in 0..10 {
                push(&mut queue, "small", n * 10 + m, 4_000);
            }
        }
        let taken = order(&mut queue, 8 << 20);
        let large = taken.iter().filter(|(device, _)| device == "large").count() * 40_256;
        let small = taken.iter().filter(|(device, _)| device == "small").count() * 4_256;
        assert!(large.abs_diff(small) < 2 * 40_000, "{large} against {small} bytes");
    }

    #[test]
    fn all_backlogs_together_take_a_fifth_and_are_never_starved() {
        for backlog_bytes in [1_000, 10_000, 300_000] {
            let mut queue = FairQueue::default();
            for n in 0..2_000 {
                push(&mut queue, "live", n, 10_000);
            }
            for device in 0..10 {
                for n in 0..10_000_000 / backlog_bytes / 10 {
                    queue.push(Class::Backlog, waiting(&format!("old {device}"), n, backlog_bytes as usize));
                }
            }
            // In pieces, as the writer takes it.
            let taken: Vec<_> = (0..100).flat_map(|_| order(&mut queue, 100_000)).collect();
            let live = taken.iter().filter(|(device, _)| device == "live").count() * 10_256;
            let backlog =
                taken.iter().filter(|(device, _)| device != "live").count() * (backlog_bytes as usize + 256);
            let slack = 5 * (QUANTUM + backlog_bytes as usize);
            assert!((4 * backlog).abs_diff(live) < slack, "{live} of live against {backlog} of backlog");
        }
    }

    #[test]
    fn a_class_that_waited_alone_has_neither_debt_nor_credit() {
        let mut queue = FairQueue::default();
        for n in 0..100 {
            queue.push(Class::Backlog, waiting("old", n, 10_000));
        }
        order(&mut queue, 500_000);
        push(&mut queue, "live", 0, 100);
        assert_eq!(order(&mut queue, 1), [("live".to_owned(), 0)], "live data goes first");
        for n in 1..100 {
            push(&mut queue, "live", n, 10_000);
        }
        let taken = order(&mut queue, 200_000);
        let backlog = taken.iter().filter(|(device, _)| device == "old").count();
        assert!((2..=6).contains(&backlog), "{backlog} of {}", taken.len());
    }
}
