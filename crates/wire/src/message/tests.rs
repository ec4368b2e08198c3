use proptest::prelude::*;

use super::*;
use crate::limits::{MAX_RANGES, MAX_TEXT_BYTES};
use crate::{Frame, FrameReader};

fn frame_of(message: &Message) -> Frame {
    let mut bytes = Vec::new();
    message.write_frame(&mut bytes);
    let mut reader = FrameReader::control();
    reader.push(&bytes);
    let frame = reader.next().unwrap().expect("one whole frame");
    assert!(reader.is_at_boundary());
    frame
}

#[test]
fn long_texts_are_cut_between_characters() {
    let message = "ä".repeat(MAX_TEXT_BYTES);
    let frame = frame_of(&Message::GoAway(GoAway { retry_after: Duration::from_micros(1500), message }));
    let Message::GoAway(read) = Message::read(&frame).unwrap() else { panic!("wrong kind") };
    assert_eq!(read.message, "ä".repeat(MAX_TEXT_BYTES / 2));
    assert_eq!(read.retry_after, Duration::from_millis(2), "rounded up");
}

#[test]
fn the_largest_attached_fits_in_a_frame() {
    let full: SequenceRanges = (0..MAX_RANGES as u64).map(|i| 2 * i..2 * i + 1).collect();
    let attached =
        Attached { alias: 1, epoch_number: 0, stored: full.clone(), settled: full.clone(), archived: full };
    let message = Message::Attached(attached);
    assert_eq!(Message::read(&frame_of(&message)), Ok(message));
}

/// Reads a compact ack of alias 7 with this payload.
fn compact_ack(payload: &[u8]) -> Result<Message, String> {
    let payload = crate::Payload::copy_from(payload);
    let read = Message::read(&Frame { kind: crate::FrameKind::CompactAck, alias: 7, payload });
    read.map_err(|error| error.to_string())
}

#[test]
fn a_compact_ack_says_in_few_bytes_what_an_ack_says() {
    let ack = |ranges| Ack { alias: 7, level: Level::Durable, ranges };
    for ranges in [
        SequenceRanges::new(),
        SequenceRanges::from(1_000_000..1_000_100),
        [0..1, 2..u64::MAX - 1].into_iter().collect(),
        (0..MAX_RANGES as u64).map(|i| 3 * i..3 * i + 2).collect(),
    ] {
        let mut bytes = Vec::new();
        ack(ranges.clone()).write_compact_frame(&mut bytes);
        let mut reader = FrameReader::control();
        reader.push(&bytes);
        assert!(reader.is_at_boundary());
        let frame = reader.next().unwrap().expect("one whole frame");
        assert_eq!(Message::read(&frame), Ok(Message::Ack(ack(ranges))));
    }
    assert_eq!(compact_ack(&[2, 200, 1, 100]), Ok(Message::Ack(ack(SequenceRanges::from(200..300)))));
    let refused = |payload: &[u8]| compact_ack(payload).unwrap_err();
    assert!(refused(&[4]).contains("unknown level 4"));
    assert!(refused(&[2, 0]).contains("ends within a number"));
    assert!(refused(&[2, 0, 0x80]).contains("ends within a number"));
    assert!(refused(&[2, 9, 0]).contains("do not ascend"), "an empty range");
    assert!(refused(&[2, 0, 1, 0, 1]).contains("do not ascend"), "two that touch");
    let highest = [[2].as_slice(), &[0xff; 9], &[1, 1]].concat();
    assert!(refused(&highest).contains("above the highest"));
    let many = [[2].as_slice(), &[1; 2 * (MAX_RANGES + 1)]].concat();
    assert!(refused(&many).contains("more than 1024"));
}

#[test]
fn codes_keep_their_numbers_and_names() {
    let names: Vec<_> = (1..=24).map(|number| Code::from_number(number).name()).collect();
    assert_eq!(names[2], "malformed_batch");
    assert_eq!(names[7], "sequence_conflict");
    assert_eq!(names[23], "schema_reserved");
    for number in 0..100 {
        assert_eq!(Code::from_number(number).number(), number);
        assert_eq!(matches!(Code::from_number(number), Code::Unrecognized(_)), !(1..=24).contains(&number));
    }
}

fn ranges() -> impl Strategy<Value = SequenceRanges> {
    prop::collection::vec((any::<u32>(), 1..1000u64), 0..20).prop_map(|ranges| {
        ranges.into_iter().map(|(start, len)| start.into()..u64::from(start) + len).collect()
    })
}

fn device() -> impl Strategy<Value = DeviceName> {
    "\\PC{1,32}".prop_map(|name| DeviceName::try_from(name.as_str()).unwrap())
}

fn attach() -> impl Strategy<Value = Attach> {
    (1..u32::MAX, device(), any::<[u8; 16]>()).prop_map(|(alias, device, epoch)| Attach {
        alias,
        device,
        epoch: Epoch::from_bytes(epoch),
    })
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|millis| Duration::from_millis(millis.into()))
}

prop_compose! {
    fn nack()(
        alias in 1..u32::MAX,
        start in any::<u32>(),
        code: u16,
        retry in prop::option::of(millis()),
        message in "\\PC{0,20}",
    ) -> Nack {
        let start = u64::from(start);
        let disposition = retry.map_or(Disposition::Permanent, Disposition::RetryAfter);
        Nack { alias, range: start..start + 9, code: Code::from_number(code), disposition, message }
    }
}

fn message() -> impl Strategy<Value = Message> {
    let text = || "\\PC{0,20}";
    let alias = || 1..u32::MAX;
    let level = prop_oneof![Just(Level::Settled), Just(Level::Durable), Just(Level::Archived)];
    prop_oneof![
        (any::<u16>(), text(), any::<i64>(), prop::option::of(attach())).prop_map(
            |(protocol, sdk, device_time, attach)| Message::Hello(Hello {
                protocol,
                sdk,
                device_time,
                attach
            })
        ),
        attach().prop_map(Message::Attach),
        alias().prop_map(|alias| Message::Detach { alias }),
        (alias(), ranges()).prop_map(|(alias, ranges)| Message::Dropped(Dropped { alias, ranges })),
        Just(Message::Bye),
        (any::<u16>(), text(), any::<i64>()).prop_map(|(protocol, server, server_time)| Message::Welcome(
            Welcome { protocol, server, server_time, limits: SessionLimits::default() }
        )),
        (alias(), any::<u32>(), ranges(), ranges(), ranges()).prop_map(
            |(alias, epoch_number, stored, settled, archived)| Message::Attached(Attached {
                alias,
                epoch_number,
                stored,
                settled,
                archived
            })
        ),
        (alias(), level, ranges()).prop_map(|(alias, level, ranges)| Message::Ack(Ack {
            alias,
            level,
            ranges
        })),
        nack().prop_map(Message::Nack),
        (prop::option::of(alias()), any::<u16>(), text(), prop::option::of(millis())).prop_map(
            |(alias, code, message, retry_after)| Message::Refuse(Refuse {
                alias,
                code: Code::from_number(code),
                message,
                retry_after
            })
        ),
        (any::<u64>(), millis())
            .prop_map(|(bytes_per_s, retry_after)| Message::Pace(Pace { bytes_per_s, retry_after })),
        (millis(), text())
            .prop_map(|(retry_after, message)| Message::GoAway(GoAway { retry_after, message })),
        Just(Message::Renew),
        prop::collection::vec(any::<u8>(), 1..50)
            .prop_map(|certificate| Message::Renewed(Renewed { certificate })),
        (any::<u16>(), text(), prop::option::of(millis())).prop_map(|(code, message, retry_after)| {
            Message::NotRenewed(NotRenewed { code: Code::from_number(code), message, retry_after })
        }),
    ]
}

proptest! {
    #[test]
    fn messages_round_trip(message in message()) {
        prop_assert_eq!(Message::read(&frame_of(&message)), Ok(message));
    }

    /// Whatever is accepted has exactly one form.
    #[test]
    fn damaged_messages_are_refused_or_say_what_they_say(
        message in message(),
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let frame = frame_of(&message);
        let mut bytes = frame.payload.to_vec();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() * 2 + 1).max(bytes.len() / 2));
        let payload = crate::Payload::copy_from(&bytes);
        if let Ok(read) = Message::read(&Frame { payload: payload.clone(), ..frame }) {
            prop_assert_eq!(frame_of(&read).payload, payload);
        }
    }
}
