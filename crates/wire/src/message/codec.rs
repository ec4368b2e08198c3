//! Control messages as bytes: fields one after the other, little-endian, without gaps.

use std::ops::Range;
use std::time::Duration;

use super::{
    Ack, Attach, Attached, Code, Disposition, Dropped, GoAway, Hello, Level, Message, Nack, NotRenewed, Pace,
    Refuse, Renewed, SessionLimits, Welcome,
};
use crate::frame::append_frame;
use crate::limits::{
    MAX_ALIASES, MAX_BATCH_BYTES, MAX_DEVICE_NAME_BYTES, MAX_RANGES, MAX_ROWS, MAX_TEXT_BYTES,
};
use crate::{DeviceName, Epoch, Frame, FrameKind, SequenceRanges, varint};

/// Why a control message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind:?} message: {reason}")]
pub struct MessageError {
    kind: FrameKind,
    reason: String,
}

impl Message {
    /// Appends the message as one complete frame: header, payload, padding. Texts that are too long are cut.
    ///
    /// Ranges must number at most [`MAX_RANGES`].
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        append_frame(self.kind(), self.alias(), out, |out| self.write_payload(out));
    }

    /// Reads a control message; every field is checked.
    pub fn read(frame: &Frame) -> Result<Self, MessageError> {
        let mut fields = Fields { bytes: &frame.payload };
        let message =
            Self::read_payload(frame, &mut fields).and_then(|message| fields.end().map(|()| message));
        message.map_err(|reason| MessageError { kind: frame.kind, reason })
    }

    /// The kind of frame it travels in.
    pub(crate) fn kind(&self) -> FrameKind {
        match self {
            Self::Hello(_) => FrameKind::Hello,
            Self::Attach(_) => FrameKind::Attach,
            Self::Detach { .. } => FrameKind::Detach,
            Self::Dropped(_) => FrameKind::Dropped,
            Self::Bye => FrameKind::Bye,
            Self::Renew => FrameKind::Renew,
            Self::Welcome(_) => FrameKind::Welcome,
            Self::Attached(_) => FrameKind::Attached,
            Self::Ack(_) => FrameKind::Ack,
            Self::Nack(_) => FrameKind::Nack,
            Self::Refuse(_) => FrameKind::Refuse,
            Self::Pace(_) => FrameKind::Pace,
            Self::GoAway(_) => FrameKind::GoAway,
            Self::Renewed(_) => FrameKind::Renewed,
            Self::NotRenewed(_) => FrameKind::NotRenewed,
        }
    }

    /// The alias in the frame's header.
    fn alias(&self) -> u32 {
        match self {
            Self::Hello(_)
            | Self::Bye
            | Self::Renew
            | Self::Welcome(_)
            | Self::Pace(_)
            | Self::GoAway(_)
            | Self::Renewed(_)
            | Self::NotRenewed(_) => 0,
            Self::Detach { alias } => *alias,
            Self::Attach(attach) => attach.alias,
            Self::Dropped(dropped) => dropped.alias,
            Self::Attached(attached) => attached.alias,
            Self::Ack(ack) => ack.alias,
            Self::Nack(nack) => nack.alias,
            Self::Refuse(refuse) => refuse.alias.unwrap_or(0),
        }
    }

    fn write_payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => {
                out.extend_from_slice(&hello.protocol.to_le_bytes());
                put_text(out, &hello.sdk);
                out.extend_from_slice(&hello.device_time.to_le_bytes());
                out.push(u8::from(hello.attach.is_some()));
                if let Some(attach) = &hello.attach {
                    out.extend_from_slice(&attach.alias.to_le_bytes());
                    put_attach(out, attach);
                }
            }
            Self::Attach(attach) => put_attach(out, attach),
            Self::Dropped(dropped) => put_ranges(out, &dropped.ranges),
            Self::Detach { .. } | Self::Bye | Self::Renew => {}
            Self::Welcome(welcome) => {
                out.extend_from_slice(&welcome.protocol.to_le_bytes());
                put_text(out, &welcome.server);
                out.extend_from_slice(&welcome.server_time.to_le_bytes());
                let SessionLimits { max_batch_bytes, max_rows, max_aliases } = welcome.limits;
                for limit in [max_batch_bytes, max_rows, max_aliases] {
                    out.extend_from_slice(&limit.to_le_bytes());
                }
            }
            Self::Attached(attached) => {
                out.extend_from_slice(&attached.epoch_number.to_le_bytes());
                for ranges in [&attached.stored, &attached.settled, &attached.archived] {
                    put_ranges(out, ranges);
                }
            }
            Self::Ack(ack) => {
                out.push(ack.level as u8);
                put_ranges(out, &ack.ranges);
            }
            Self::Nack(nack) => {
                put_range(out, &nack.range);
                put_refusal(out, nack.code, nack.disposition.retry_after(), &nack.message);
            }
            Self::Refuse(refuse) => put_refusal(out, refuse.code, refuse.retry_after, &refuse.message),
            Self::Pace(pace) => {
                out.extend_from_slice(&pace.bytes_per_s.to_le_bytes());
                put_millis(out, pace.retry_after);
            }
            Self::GoAway(go_away) => {
                put_millis(out, go_away.retry_after);
                put_text(out, &go_away.message);
            }
            Self::Renewed(renewed) => {
                out.extend_from_slice(&(renewed.certificate.len() as u32).to_le_bytes());
                out.extend_from_slice(&renewed.certificate);
            }
            Self::NotRenewed(NotRenewed { code, message, retry_after }) => {
                put_refusal(out, *code, *retry_after, message);
            }
        }
    }

    fn read_payload(frame: &Frame, fields: &mut Fields<'_>) -> Result<Self, String> {
        let message = match frame.kind {
            FrameKind::Hello => Self::Hello(Hello {
                protocol: fields.u16()?,
                sdk: fields.text()?,
                device_time: fields.i64()?,
                attach: if fields.flag()? {
                    let alias = alias(fields.u32()?)?;
                    Some(fields.attach(alias)?)
                } else {
                    None
                },
            }),
            FrameKind::Attach => Self::Attach(fields.attach(alias(frame.alias)?)?),
            FrameKind::Detach => Self::Detach { alias: alias(frame.alias)? },
            FrameKind::Dropped => {
                Self::Dropped(Dropped { alias: alias(frame.alias)?, ranges: fields.ranges()? })
            }
            FrameKind::Bye => Self::Bye,
            FrameKind::Renew => Self::Renew,
            FrameKind::Welcome => Self::Welcome(Welcome {
                protocol: fields.u16()?,
                server: fields.text()?,
                server_time: fields.i64()?,
                limits: fields.limits()?,
            }),
            FrameKind::Attached => Self::Attached(Attached {
                alias: alias(frame.alias)?,
                epoch_number: fields.u32()?,
                stored: fields.ranges()?,
                settled: fields.ranges()?,
                archived: fields.ranges()?,
            }),
            FrameKind::Ack => Self::Ack(Ack {
                alias: alias(frame.alias)?,
                level: fields.level()?,
                ranges: fields.ranges()?,
            }),
            FrameKind::CompactAck => Self::Ack(Ack {
                alias: alias(frame.alias)?,
                level: fields.level()?,
                ranges: fields.compact_ranges()?,
            }),
            FrameKind::Nack => Self::Nack(Nack {
                alias: alias(frame.alias)?,
                range: fields.range()?,
                code: fields.code()?,
                disposition: fields.retry()?.map_or(Disposition::Permanent, Disposition::RetryAfter),
                message: fields.text()?,
            }),
            FrameKind::Refuse => {
                let (code, retry_after, message) = (fields.code()?, fields.retry()?, fields.text()?);
                Self::Refuse(Refuse { alias: alias(frame.alias).ok(), code, message, retry_after })
            }
            FrameKind::Pace => Self::Pace(Pace { bytes_per_s: fields.u64()?, retry_after: fields.millis()? }),
            FrameKind::GoAway => {
                Self::GoAway(GoAway { retry_after: fields.millis()?, message: fields.text()? })
            }
            FrameKind::Renewed => Self::Renewed(Renewed { certificate: fields.certificate()? }),
            FrameKind::NotRenewed => {
                let (code, retry_after, message) = (fields.code()?, fields.retry()?, fields.text()?);
                Self::NotRenewed(NotRenewed { code, message, retry_after })
            }
            FrameKind::Schema | FrameKind::Batch | FrameKind::CompactBatch | FrameKind::Backlog => {
                return Err("it belongs on a batch stream".to_owned());
            }
        };
        Ok(message)
    }
}

impl Ack {
    /// Appends the ack as one complete frame in the compact form, for a client that reads it.
    ///
    /// Ranges must number at most [`MAX_RANGES`].
    pub fn write_compact_frame(&self, out: &mut Vec<u8>) {
        assert!(self.ranges.len() <= MAX_RANGES, "the sender splits or bounds range lists");
        append_frame(FrameKind::CompactAck, self.alias, out, |out| {
            out.push(self.level as u8);
            let mut end = 0;
            for range in &self.ranges {
                varint::put(out, range.start - end);
                varint::put(out, range.end - range.start);
                end = range.end;
            }
        });
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_refusal(out: &mut Vec<u8>, code: Code, retry_after: Option<Duration>, message: &str) {
    out.extend_from_slice(&code.number().to_le_bytes());
    put_retry(out, retry_after);
    put_text(out, message);
}

fn put_attach(out: &mut Vec<u8>, attach: &Attach) {
    put_text(out, attach.device.as_str());
    out.extend_from_slice(attach.epoch.as_bytes());
}

fn put_range(out: &mut Vec<u8>, range: &Range<u64>) {
    out.extend_from_slice(&range.start.to_le_bytes());
    out.extend_from_slice(&range.end.to_le_bytes());
}

fn put_ranges(out: &mut Vec<u8>, ranges: &SequenceRanges) {
    assert!(ranges.len() <= MAX_RANGES, "the sender splits or bounds range lists");
    out.extend_from_slice(&(ranges.len() as u32).to_le_bytes());
    for range in ranges {
        put_range(out, &range);
    }
}

/// Milliseconds, rounded up, at most 2^32 - 1 (49 days).
fn put_millis(out: &mut Vec<u8>, time: Duration) {
    let millis = u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
    out.extend_from_slice(&millis.to_le_bytes());
}

fn put_retry(out: &mut Vec<u8>, retry_after: Option<Duration>) {
    out.push(u8::from(retry_after.is_some()));
    put_millis(out, retry_after.unwrap_or_default());
}

fn alias(number: u32) -> Result<u32, String> {
    if number == 0 { Err("alias 0 stands for no device".to_owned()) } else { Ok(number) }
}

/// What is left of a payload.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn end(&self) -> Result<(), String> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(format!("{left} bytes after the last field")),
        }
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (slice, rest) = self.bytes.split_at_checked(length).ok_or("it ends early")?;
        self.bytes = rest;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or("it ends early")?;
        self.bytes = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, String> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("a flag is 0 or 1, not {other}")),
        }
    }

    fn str(&mut self, max: usize) -> Result<&'a str, String> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(format!("a text of {length} bytes is longer than {max}"));
        }
        std::str::from_utf8(self.slice(length)?).map_err(|_| "a text that is not UTF-8".to_owned())
    }

    fn text(&mut self) -> Result<String, String> {
        self.str(MAX_TEXT_BYTES).map(str::to_owned)
    }

    fn certificate(&mut self) -> Result<Vec<u8>, String> {
        match self.u32()? as usize {
            0 => Err("an empty certificate".to_owned()),
            length => self.slice(length).map(<[u8]>::to_vec),
        }
    }

    fn attach(&mut self, alias: u32) -> Result<Attach, String> {
        let device =
            DeviceName::try_from(self.str(MAX_DEVICE_NAME_BYTES)?).map_err(|error| error.to_string())?;
        Ok(Attach { alias, device, epoch: Epoch::from_bytes(self.array()?) })
    }

    fn limits(&mut self) -> Result<SessionLimits, String> {
        let mut limit = |what: &str, max: usize| match self.u32()? {
            limit if limit == 0 || limit as usize > max => Err(format!("{what} is 1 to {max}, not {limit}")),
            limit => Ok(limit),
        };
        Ok(SessionLimits {
            max_batch_bytes: limit("max_batch_bytes", MAX_BATCH_BYTES)?,
            max_rows: limit("max_rows", MAX_ROWS)?,
            max_aliases: limit("max_aliases", MAX_ALIASES)?,
        })
    }

    fn level(&mut self) -> Result<Level, String> {
        match self.u8()? {
            1 => Ok(Level::Settled),
            2 => Ok(Level::Durable),
            3 => Ok(Level::Archived),
            other => Err(format!("unknown level {other}")),
        }
    }

    fn code(&mut self) -> Result<Code, String> {
        self.u16().map(Code::from_number)
    }

    fn millis(&mut self) -> Result<Duration, String> {
        self.u32().map(|millis| Duration::from_millis(millis.into()))
    }

    fn retry(&mut self) -> Result<Option<Duration>, String> {
        match (self.flag()?, self.millis()?) {
            (true, after) => Ok(Some(after)),
            (false, Duration::ZERO) => Ok(None),
            (false, _) => Err("a retry time without retry".to_owned()),
        }
    }

    fn range(&mut self) -> Result<Range<u64>, String> {
        let (start, end) = (self.u64()?, self.u64()?);
        if start < end { Ok(start..end) } else { Err(format!("range {start}..{end} is empty")) }
    }

    fn ranges(&mut self) -> Result<SequenceRanges, String> {
        let count = self.u32()? as usize;
        if count > MAX_RANGES {
            return Err(format!("{count} ranges are more than {MAX_RANGES}"));
        }
        let ranges = (0..count).map(|_| self.range()).collect::<Result<Vec<_>, _>>()?;
        SequenceRanges::from_ascending(ranges).ok_or_else(|| "ranges that do not ascend apart".to_owned())
    }

    /// Ranges up to the end, each as its distance from the one before and its length.
    fn compact_ranges(&mut self) -> Result<SequenceRanges, String> {
        let (mut ranges, mut end) = (Vec::new(), 0);
        while !self.bytes.is_empty() {
            if ranges.len() == MAX_RANGES {
                return Err(format!("more than {MAX_RANGES} ranges"));
            }
            let start = self.sum(end)?;
            end = self.sum(start)?;
            ranges.push(start..end);
        }
        SequenceRanges::from_ascending(ranges).ok_or_else(|| "ranges that do not ascend apart".to_owned())
    }

    /// A sequence, given by its distance from `from`.
    fn sum(&mut self, from: u64) -> Result<u64, String> {
        let distance = varint::take(&mut self.bytes).ok_or("it ends within a number")?;
        from.checked_add(distance).ok_or_else(|| "a sequence above the highest".to_owned())
    }
}
