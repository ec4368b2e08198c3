//! What goes into the writer, and what comes out of it.

use std::ops::Range;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use icecore_log::Source;
use icecore_wire::{Batch, Code, DeviceName, Epoch, Payload, SequenceRanges};

/// One (device, epoch) as one session speaks for it. Shared by everything that is submitted under its alias.
#[derive(Debug)]
pub struct Attachment {
    /// Number of the session, unique within the process.
    pub session: u64,
    /// What the session's messages call it.
    pub alias: u32,
    /// The device.
    pub device: DeviceName,
    /// The incarnation of its spool.
    pub epoch: Epoch,
    /// As the log knows it. The core fills it in with the first record, when the epoch's number is certain.
    pub(super) source: OnceLock<Arc<Source>>,
    /// Where answers go that are for no session: of what the server itself writes.
    own: Option<Sender<Reply>>,
}

impl Attachment {
    /// A new attachment; nobody has checked anything about it.
    #[must_use]
    pub fn new(session: u64, alias: u32, device: DeviceName, epoch: Epoch) -> Arc<Self> {
        Arc::new(Self { session, alias, device, epoch, source: OnceLock::new(), own: None })
    }

    /// An attachment for what the server itself writes; `answers` gets the replies.
    pub(super) fn own(device: DeviceName, epoch: Epoch, answers: Sender<Reply>) -> Arc<Self> {
        let own = Some(answers);
        Arc::new(Self { session: 0, alias: 0, device, epoch, source: OnceLock::new(), own })
    }

    /// Whether the server itself writes under it.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

/// Something that a session wants the writer to know.
#[derive(Debug)]
pub struct Submission {
    /// For whom.
    pub from: Arc<Attachment>,
    /// What.
    pub body: Body,
}

/// The kinds of [`Submission`].
#[derive(Debug)]
pub enum Body {
    /// Asks for what is known of the device's epoch; the answer is [`Reply::Attached`].
    Attach,
    /// A batch that passed validation.
    Batch(Batch),
    /// A batch that did not: it is to be refused for good.
    Invalid(InvalidBatch),
    /// Sequences that the device will never send.
    Dropped(SequenceRanges),
}

/// A batch that must not be stored, of which at least the sequences are known.
#[derive(Debug)]
pub struct InvalidBatch {
    /// The sequences it claims.
    pub range: Range<u64>,
    /// What it breaks.
    pub code: Code,
    /// What is wrong, for the device's operator.
    pub message: String,
    /// Its bytes, for the quarantine.
    pub payload: Payload,
}

impl Submission {
    /// Bytes it counts for in the queue: its payload, what that was decoded to, and what surrounds it in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        /// The structs themselves, their share of the queue's, and the payload's allocation; rounded up.
        const OVERHEAD: usize = 256;
        OVERHEAD
            + match &self.body {
                Body::Attach => 0,
                Body::Batch(batch) => batch.payload().len() + batch.decoded_bytes(),
                Body::Invalid(batch) => batch.payload.len(),
                Body::Dropped(ranges) => ranges.len() * size_of::<Range<u64>>(),
            }
    }
}

/// What the core made of a submission. What the device is told is an [`Answer`], and may come later.
#[derive(Debug)]
pub enum Decision {
    /// The attachment will be answered.
    Attached,
    /// The batch is in the block being built.
    Stored,
    /// The batch is stored already, byte for byte; it will be acked again.
    Duplicate,
    /// The sequences will be acked as settled.
    Dropped,
    /// The batch will never be stored.
    Refused(Box<Refusal>),
    /// The submission was turned away for now, and may come again.
    Deferred(Code),
}

/// A batch that was refused for good, and why.
#[derive(Debug)]
pub struct Refusal {
    /// Who sent it.
    pub from: Arc<Attachment>,
    /// The sequences it claims.
    pub range: Range<u64>,
    /// The rule it breaks.
    pub code: Code,
    /// What is wrong, for people.
    pub message: String,
    /// Its bytes.
    pub payload: Payload,
}

/// What a session may tell its client now: everything it says is durable.
#[derive(Debug)]
pub struct Answer {
    /// To whom.
    pub to: Arc<Attachment>,
    /// What.
    pub reply: Reply,
}

impl Answer {
    /// The answer, if it is for a session. Any other is handed over.
    pub(super) fn for_session(self) -> Option<Self> {
        let Some(own) = &self.to.own else { return Some(self) };
        // Whoever does not wait for it any more does not need it.
        let _ = own.send(self.reply);
        None
    }
}

/// The kinds of [`Answer`].
#[derive(Debug)]
pub enum Reply {
    /// What is known of the attached epoch.
    Attached {
        /// The epoch's number. Of an epoch without any record it is the number it would get now.
        epoch_number: u32,
        /// Sequences that are stored.
        stored: SequenceRanges,
        /// Sequences that are refused or dropped.
        settled: SequenceRanges,
    },
    /// These sequences are stored.
    Durable(Range<u64>),
    /// These sequences are durably known to be dropped.
    Settled(Range<u64>),
    /// This batch will never be stored.
    Refused {
        /// Its sequences.
        range: Range<u64>,
        /// The rule it breaks.
        code: Code,
        /// What is wrong, for people.
        message: String,
    },
    /// This batch, or this report, may be sent again after a while.
    Deferred {
        /// Its sequences.
        range: Range<u64>,
        /// What is in the way.
        code: Code,
        /// What is in the way, for people.
        message: String,
        /// For how long.
        retry_after: Duration,
    },
}
