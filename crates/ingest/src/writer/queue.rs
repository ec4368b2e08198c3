//! What waits for the writer, taken out fairly: deficit round robin by bytes between devices.

use std::collections::{HashMap, VecDeque};

use icecore_wire::DeviceName;

use super::submission::Submission;

/// Bytes a device may take out of the queue in one turn. Smaller ones make a modest device's wait behind greedy
/// ones shorter; this one is some twenty batches of the size the protocol is laid out for.
const QUANTUM: usize = 64 << 10;

/// Submissions in the order of arrival for each device, and in turns between devices.
///
/// A device that sends a hundred times as much as another one waits behind its own submissions, not the other
/// behind them. Holds one entry per device that has something waiting.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    flows: HashMap<DeviceName, Flow>,
    turns: VecDeque<DeviceName>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Flow {
    waiting: VecDeque<Submission>,
    /// Bytes the device may still take out in its current turn.
    deficit: usize,
}

impl FairQueue {
    /// Bytes waiting, as [`Submission::bytes`] counts them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn push(&mut self, submission: Submission) {
        self.bytes += submission.bytes();
        let device = &submission.from.device;
        if let Some(flow) = self.flows.get_mut(device) {
            flow.waiting.push_back(submission);
        } else {
            self.turns.push_back(device.clone());
            let flow = Flow { deficit: QUANTUM, ..Flow::default() };
            self.flows.entry(device.clone()).or_insert(flow).waiting.push_back(submission);
        }
    }

    /// Takes submissions out until at least `bytes` are taken or none is left, and says how many bytes they were.
    pub(super) fn take(&mut self, bytes: usize, into: &mut Vec<Submission>) -> usize {
        let mut taken = 0;
        while taken < bytes {
            let Some(device) = self.turns.pop_front() else { break };
            let flow = self.flows.get_mut(&device).expect("a device with a turn has a flow");
            while taken < bytes
                && let Some(next) = flow.waiting.front().map(Submission::bytes)
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

    fn submission(device: &str, first: u64, bytes: usize) -> Submission {
        let device = DeviceName::try_from(device).unwrap();
        let body = Body::Invalid(InvalidBatch {
            range: first..first + 1,
            code: Code::MalformedBatch,
            message: String::new(),
            payload: Payload::copy_from(&vec![0; bytes]),
        });
        Submission { from: Attachment::new(1, 1, device, Epoch::from_bytes([0; 16])), body }
    }

    fn order(queue: &mut FairQueue, bytes: usize) -> Vec<(String, u64)> {
        let mut taken = Vec::new();
        queue.take(bytes, &mut taken);
        let describe = |s: &Submission| match &s.body {
            Body::Invalid(batch) => (s.from.device.to_string(), batch.range.start),
            _ => unreachable!(),
        };
        taken.iter().map(describe).collect()
    }

    #[test]
    fn a_modest_device_does_not_wait_behind_a_greedy_one() {
        let mut queue = FairQueue::default();
        for n in 0..1000 {
            queue.push(submission("greedy", n, 16 << 10));
        }
        queue.push(submission("modest", 0, 1000));
        let taken = order(&mut queue, 256 << 10);
        let place = taken.iter().position(|(device, _)| device == "modest").unwrap();
        assert!(place <= QUANTUM / (16 << 10), "came out at place {place}");
    }

    #[test]
    fn each_device_keeps_its_order_and_nothing_is_lost_however_it_is_taken() {
        let mut queue = FairQueue::default();
        for n in 0..200 {
            queue.push(submission("a", n, 100 + (n as usize * 7919) % 90_000));
            queue.push(submission("b", n, 100));
        }
        let mut taken = Vec::new();
        while !queue.is_empty() {
            taken.extend(order(&mut queue, 50_000));
        }
        assert_eq!(queue.bytes(), 0);
        for device in ["a", "b"] {
            let sequences: Vec<u64> = taken.iter().filter(|(d, _)| d == device).map(|(_, n)| *n).collect();
            assert_eq!(sequences, (0..200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn shares_are_equal_by_bytes_not_by_submissions() {
        let mut queue = FairQueue::default();
        for n in 0..400 {
            queue.push(submission("large", n, 40_000));
            for m in 0..10 {
                queue.push(submission("small", n * 10 + m, 4_000));
            }
        }
        let taken = order(&mut queue, 8 << 20);
        let large = taken.iter().filter(|(device, _)| device == "large").count() * 40_000;
        let small = taken.iter().filter(|(device, _)| device == "small").count() * 4_000;
        assert!(large.abs_diff(small) < 4 * QUANTUM, "{large} against {small} bytes");
    }
}
