use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::{HELLO_TIMEOUT, MAX_RANGES, MAX_STREAM_SCHEMAS};
use crate::{
    Ack, Attached, Batch, BatchError, ColumnData, ColumnType, DeviceName, Disposition, EncodeOptions, Epoch,
    Field, Hello, Level, Message, Nack, NotRenewed, Payload, Refuse, Renewed, Schema, SequenceRanges,
    SessionLimits, append_frame, encode,
};

const START: Duration = Duration::from_secs(100);

fn name(text: &str) -> DeviceName {
    DeviceName::try_from(text).unwrap()
}

/// Both ends, with a wire that delivers in pieces of 7 bytes.
struct Pair {
    client: ClientSession,
    server: ServerSession,
}

impl Pair {
    fn new() -> Self {
        Self::with_limits(SessionLimits::default())
    }

    fn with_limits(limits: SessionLimits) -> Self {
        Self { client: ClientSession::new("test 1", 5, START), server: ServerSession::new(limits, START) }
    }

    /// A pair that is past `Hello` and `Welcome`, with both events taken.
    fn open() -> Self {
        let mut pair = Self::new();
        pair.deliver_to_server();
        pair.server.poll_event().expect("Hello");
        pair.server.welcome("server 1", 6);
        pair.deliver_to_client();
        pair.client.poll_event().expect("Welcome");
        pair
    }

    /// As [`Self::open`], with one device attached.
    fn attached() -> (Self, u32) {
        let mut pair = Self::open();
        let alias = pair.client.attach(name("pump"), Epoch::from_bytes([1; 16]));
        pair.deliver_to_server();
        pair.server.poll_event().expect("Attach");
        pair.server.attached(answer(alias));
        pair.deliver_to_client();
        pair.client.poll_event().expect("Attached");
        (pair, alias)
    }

    fn deliver_to_server(&mut self) {
        for piece in self.client.take_control().chunks(7) {
            self.server.control_received(piece).unwrap();
        }
    }

    fn deliver_to_client(&mut self) {
        for piece in self.server.take_control().chunks(7) {
            self.client.control_received(piece).unwrap();
        }
    }
}

fn answer(alias: u32) -> Attached {
    let stored = SequenceRanges::from(0..10);
    Attached {
        alias,
        epoch_number: 3,
        stored,
        settled: SequenceRanges::new(),
        archived: SequenceRanges::new(),
    }
}

fn bytes_of(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.write_frame(&mut bytes);
    bytes
}

#[test]
fn a_plain_device_attaches_in_its_hello() {
    let mut pair = Pair::new();
    let alias = pair.client.attach(name("pump"), Epoch::from_bytes([1; 16]));
    pair.deliver_to_server();
    assert!(
        matches!(pair.server.poll_event(), Some(ServerEvent::Hello { sdk, device_time: 5 }) if sdk == "test 1")
    );
    assert!(matches!(pair.server.poll_event(), Some(ServerEvent::Attach(attach)) if attach.alias == alias));
    assert!(!pair.server.is_attached(alias));

    pair.server.welcome("server 1", 6);
    pair.server.attached(answer(alias));
    pair.deliver_to_client();
    assert!(
        matches!(pair.client.poll_event(), Some(ClientEvent::Welcome(welcome)) if welcome.server == "server 1")
    );
    assert_eq!(pair.client.poll_event(), Some(ClientEvent::Attached(answer(alias))));
    assert!(pair.server.is_attached(alias));
    assert_eq!((pair.client.deadline(), pair.server.deadline()), (None, None));
}

#[test]
fn silence_times_out_on_both_sides() {
    let mut pair = Pair::new();
    let late = START + HELLO_TIMEOUT;
    assert_eq!((pair.client.deadline(), pair.server.deadline()), (Some(late), Some(late)));
    assert_eq!(pair.client.handle_timeout(late - Duration::from_nanos(1)), Ok(()));
    assert_eq!(pair.client.handle_timeout(late), Err(SessionError::Timeout { expected: "Welcome" }));
    assert_eq!(pair.server.handle_timeout(late), Err(SessionError::Timeout { expected: "Hello" }));
}

#[test]
fn acks_are_joined_and_split() {
    let (mut pair, alias) = Pair::attached();
    for start in [10, 20, 15] {
        pair.server.ack(alias, start..start + 5, Level::Durable);
    }
    pair.server.ack(alias, 100..101, Level::Settled);
    pair.deliver_to_client();
    let ack = |level, ranges| Some(ClientEvent::Acked(Ack { alias, level, ranges }));
    assert_eq!(pair.client.poll_event(), ack(Level::Settled, SequenceRanges::from(100..101)));
    assert_eq!(pair.client.poll_event(), ack(Level::Durable, SequenceRanges::from(10..25)));
    assert_eq!(pair.client.poll_event(), None);

    (0..=MAX_RANGES as u64).for_each(|i| pair.server.ack(alias, 2 * i..2 * i + 1, Level::Archived));
    pair.deliver_to_client();
    let counts: Vec<_> = std::iter::from_fn(|| match pair.client.poll_event()? {
        ClientEvent::Acked(ack) => Some(ack.ranges.len()),
        other => panic!("{other:?}"),
    })
    .collect();
    assert_eq!(counts, [MAX_RANGES, 1]);
}

#[test]
fn nothing_is_heard_of_a_detached_device() {
    let (mut pair, alias) = Pair::attached();
    pair.server.ack(alias, 10..20, Level::Durable);
    pair.client.detach(alias);
    pair.deliver_to_client();
    assert_eq!(pair.client.poll_event(), None, "the ack crossed the detach");

    pair.server.ack(alias, 20..30, Level::Durable);
    pair.deliver_to_server();
    assert_eq!(pair.server.poll_event(), Some(ServerEvent::Detach { alias }));
    pair.server.ack(alias, 30..40, Level::Durable);
    assert_eq!(pair.server.take_control(), []);
    assert_eq!(
        pair.client.attach(name("pump"), Epoch::from_bytes([2; 16])),
        alias + 1,
        "aliases are not used again"
    );
}

#[test]
fn one_device_too_many_is_refused_and_the_others_go_on() {
    let mut pair = Pair::with_limits(SessionLimits { max_aliases: 2, ..SessionLimits::default() });
    for i in 0..3 {
        pair.client.attach(name(&format!("pump {i}")), Epoch::from_bytes([1; 16]));
    }
    pair.deliver_to_server();
    pair.server.welcome("server", 0);
    pair.server.attached(answer(2));
    pair.deliver_to_client();
    let events: Vec<_> = std::iter::from_fn(|| pair.client.poll_event()).collect();
    assert!(matches!(
        &events[0],
        ClientEvent::Refused(Refuse { alias: Some(3), code: Code::TooManyAliases, .. })
    ));
    assert!(matches!(
        &events[1..],
        [ClientEvent::Welcome(_), ClientEvent::Attached(Attached { alias: 2, .. })]
    ));
}

#[test]
fn messages_out_of_order_end_the_session() {
    let hello = |protocol| Hello { protocol, sdk: String::new(), device_time: 0, attach: None };
    let server = || ServerSession::new(SessionLimits::default(), START);
    let early = server().control_received(&bytes_of(&Message::Bye)).unwrap_err();
    assert!(matches!(early, SessionError::Unexpected { kind: FrameKind::Bye, .. }));
    let foreign = server().control_received(&bytes_of(&Message::Hello(hello(2)))).unwrap_err();
    assert_eq!((foreign.clone(), foreign.code()), (SessionError::Version(2), Code::UnsupportedVersion));

    let mut pair = Pair::open();
    let twice = pair.server.control_received(&bytes_of(&Message::Hello(hello(1)))).unwrap_err();
    assert!(matches!(twice, SessionError::Unexpected { kind: FrameKind::Hello, .. }));
    let ack = Message::Ack(Ack { alias: 9, level: Level::Durable, ranges: SequenceRanges::from(0..1) });
    let stranger = pair.client.control_received(&bytes_of(&ack)).unwrap_err();
    assert!(matches!(stranger, SessionError::Unexpected { kind: FrameKind::Ack, .. }));
    let (mut pair, alias) = Pair::attached();
    pair.client.detach(alias);
    pair.deliver_to_server();
    let attach = crate::Attach { alias, device: name("other"), epoch: Epoch::from_bytes([9; 16]) };
    let reused = pair.server.control_received(&bytes_of(&Message::Attach(attach))).unwrap_err();
    assert!(matches!(reused, SessionError::Unexpected { kind: FrameKind::Attach, .. }));
}

fn schema(version: u32) -> Arc<Schema> {
    Arc::new(Schema::new("readings", version, vec![Field::new("t", ColumnType::F64)]).unwrap())
}

fn batch(schema: &Schema, first_sequence: u64) -> Payload {
    let column = ColumnData::F64(&[1.0, 2.0]).into();
    encode(schema, first_sequence, &[1, 2], &[column], EncodeOptions::default()).unwrap()
}

fn stream_bytes(writer: &mut BatchStreamWriter, schema: &Schema, payload: &Payload) -> Vec<u8> {
    let mut bytes = Vec::new();
    writer.append(4, schema, payload, &mut bytes);
    bytes
}

#[test]
fn schemas_are_announced_once_and_anew_when_forgotten() {
    let mut writer = BatchStreamWriter::new();
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    let versions = (0..=MAX_STREAM_SCHEMAS as u32).chain([0, 0, 1]);
    for (i, version) in versions.enumerate() {
        let (schema, first_sequence) = (schema(version), 2 * i as u64);
        reader.push(&stream_bytes(&mut writer, &schema, &batch(&schema, first_sequence)));
        let Some(Incoming::Batch { alias: 4, header, schema: found, payload }) = reader.next().unwrap()
        else {
            panic!("no batch {i}");
        };
        assert_eq!((found.id(), header.first_sequence), (schema.id(), first_sequence));
        assert!(Batch::validate(payload, found).is_ok());
    }
    assert!(reader.is_at_boundary());
}

#[test]
fn small_batches_travel_in_the_compact_form_and_arrive_as_they_were() {
    let schemas = [schema(1), schema(2)];
    let mut writer = BatchStreamWriter::new();
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    for (i, which) in [0, 1, 1, 0, 1].into_iter().enumerate() {
        assert_eq!(reader.is_compact(), i > 0);
        let schema = &schemas[which];
        let sent = batch(schema, 2 * i as u64);
        let bytes = stream_bytes(&mut writer, schema, &sent);
        reader.push(&bytes);
        assert!(i < 2 || bytes.len() < sent.len() / 2, "{} bytes of {}", bytes.len(), sent.len());
        let Some(Incoming::Batch { schema: found, payload, .. }) = reader.next().unwrap() else {
            panic!("no batch {i}");
        };
        assert_eq!((found.id(), payload), (schema.id(), sent));
    }
    assert!(reader.is_compact() && reader.is_at_boundary());
}

#[test]
fn a_compact_batch_that_cannot_be_expanded_harms_no_other() {
    let schema = schema(1);
    let compact = |bytes: &[u8]| {
        let mut frame = Vec::new();
        append_frame(FrameKind::CompactBatch, 4, &mut frame, |frame| frame.extend_from_slice(bytes));
        frame
    };
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    reader.push(&stream_bytes(&mut BatchStreamWriter::new(), &schema, &batch(&schema, 0)));
    reader.push(&compact(&[0, 7, 2, 0]));
    reader.push(&compact(&[0, 7, 0, 0]));
    reader.push(&stream_bytes_after(&schema, &batch(&schema, 2)));
    reader.push(&compact(&[1, 7, 2, 0]));
    let mut next = || reader.next();
    assert!(matches!(next().unwrap(), Some(Incoming::Batch { .. })));
    let Some(Incoming::Unreadable { alias: 4, header: Some(header), error, .. }) = next().unwrap() else {
        panic!("wrong kind")
    };
    assert_eq!((header.range(), error), (7..9, BatchError::Compact("ends too early")));
    assert!(matches!(next().unwrap(), Some(Incoming::Unreadable { header: None, .. })));
    assert!(matches!(next().unwrap(), Some(Incoming::Batch { .. })));
    let unknown = next().unwrap_err();
    assert!(matches!(unknown, SessionError::Unexpected { kind: FrameKind::CompactBatch, .. }));
}

/// A batch of a schema that its stream knows.
fn stream_bytes_after(schema: &Schema, payload: &Payload) -> Vec<u8> {
    let mut writer = BatchStreamWriter::new();
    stream_bytes(&mut writer, schema, payload);
    stream_bytes(&mut writer, schema, payload)
}

#[test]
fn acks_are_compact_for_a_client_that_reads_it() {
    let (mut pair, alias) = Pair::attached();
    let mut lengths = Vec::new();
    for range in [100..200, 300..400] {
        pair.server.ack(alias, range.clone(), Level::Durable);
        let bytes = pair.server.take_control();
        lengths.push(bytes.len());
        pair.client.control_received(&bytes).unwrap();
        let ack = Ack { alias, level: Level::Durable, ranges: range.into() };
        assert_eq!(pair.client.poll_event(), Some(ClientEvent::Acked(ack)));
        pair.server.ack_compactly();
    }
    assert_eq!(lengths, [48, 20]);
}

#[test]
fn only_a_streams_first_frame_marks_it_as_backlog() {
    let schema = schema(1);
    let mut reader = BatchStreamReader::new(&SessionLimits::default());
    reader.push(&BatchStreamWriter::backlog_mark());
    reader.push(&stream_bytes(&mut BatchStreamWriter::new(), &schema, &batch(&schema, 0)));
    assert!(matches!(reader.next().unwrap(), Some(Incoming::Batch { .. })));
    assert!(reader.is_backlog());
    reader.push(&BatchStreamWriter::backlog_mark());
    let twice = reader.next().unwrap_err();
    assert!(matches!(twice, SessionError::Unexpected { kind: FrameKind::Backlog, .. }));
    assert!(!BatchStreamReader::new(&SessionLimits::default()).is_backlog());
}

#[test]
fn certificates_are_renewed_over_the_session() {
    let mut pair = Pair::open();
    pair.client.renew();
    pair.deliver_to_server();
    assert_eq!(pair.server.poll_event(), Some(ServerEvent::Renew));
    pair.server.renewed(vec![0x30, 0x82]);
    let not_renewed =
        NotRenewed { code: Code::Internal, message: "no CA key here".into(), retry_after: Some(START) };
    pair.server.not_renewed(not_renewed.clone());
    pair.deliver_to_client();
    let renewed = Renewed { certificate: vec![0x30, 0x82] };
    assert_eq!(pair.client.poll_event(), Some(ClientEvent::Renewed(renewed)));
    assert_eq!(pair.client.poll_event(), Some(ClientEvent::NotRenewed(not_renewed)));
}

#[test]
fn a_batch_may_be_refused_before_its_device_is_attached() {
    let mut pair = Pair::open();
    let alias = pair.client.attach(name("pump"), Epoch::from_bytes([1; 16]));
    assert!(pair.server.is_ahead(alias));
    pair.deliver_to_server();
    assert!(!pair.server.is_ahead(alias));
    let disposition = Disposition::RetryAfter(START);
    let nack = Nack { alias, range: 0..5, code: Code::RateLimited, disposition, message: String::new() };
    pair.server.nack(nack.clone());
    pair.deliver_to_client();
    assert_eq!(pair.client.poll_event(), Some(ClientEvent::Nacked(nack)));
}

#[test]
fn a_bad_batch_harms_no_other() {
    let (known, unknown) = (schema(1), schema(2));
    let mut writer = BatchStreamWriter::new();
    let mut reader = BatchStreamReader::new(&SessionLimits { max_rows: 2, ..SessionLimits::default() });
    reader.push(&stream_bytes(&mut writer, &known, &batch(&known, 0)));
    reader.push(&stream_bytes(&mut writer, &known, &Payload::copy_from(&[7; 99])));
    reader.push(&stream_bytes(&mut writer, &known, &batch(&unknown, 2)));
    let long =
        encode(&known, 4, &[0; 3], &[ColumnData::F64(&[0.0; 3]).into()], EncodeOptions::default()).unwrap();
    reader.push(&stream_bytes(&mut writer, &known, &long));
    reader.push(&stream_bytes(&mut writer, &known, &batch(&known, 7)));

    let mut next = || reader.next().unwrap().expect("five frames");
    assert!(matches!(next(), Incoming::Batch { .. }));
    assert!(matches!(next(), Incoming::Unreadable { header: None, error: BatchError::Archive(_), .. }));
    let Incoming::Unreadable { header: Some(header), error, .. } = next() else { panic!("wrong kind") };
    assert_eq!((header.range(), error), (2..4, BatchError::UnknownSchema(unknown.id())));
    assert!(matches!(next(), Incoming::Unreadable { header: Some(_), error: BatchError::RowCount(3), .. }));
    assert!(matches!(next(), Incoming::Batch { header, .. } if header.first_sequence == 7));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut pair = Pair::open();
        let _ = pair.client.control_received(&bytes);
        let _ = pair.server.control_received(&bytes);
        let mut reader = BatchStreamReader::new(&SessionLimits::default());
        reader.push(&bytes);
        let _ = reader.next();
    }
}
