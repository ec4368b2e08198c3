//! The same events as JSON over MQTT 3.1.1 with QoS 1, TLS 1.3 and TCP: packets really encoded, transport by formula.
//!
//! The formula is kind to MQTT: every PUBLISH and PUBACK is a TLS record of its own (22 bytes: header, content type, tag);
//! all that is sent together fills segments of 1,460 bytes with 40 bytes of TCP and IPv4 headers each; the receiver
//! acknowledges every second segment, and at least one of what is sent together, with 40 bytes. No TCP options, no loss, no
//! keep-alive, and neither TCP's nor TLS's handshake.

use serde::Serialize;

use crate::workload::Readings;

/// Header, content type and tag of a TLS 1.3 record.
const TLS_RECORD: usize = 22;
/// TCP and IPv4 headers without options.
const TCP_IP: usize = 40;
/// Payload bytes of a full TCP segment.
const SEGMENT: usize = 1_460;
/// PUBACK: type, remaining length, packet identifier.
const PUBACK: [u8; 4] = [0x40, 2, 0, 1];

/// Events in an MQTT message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// One, as an object.
    Event,
    /// All that are sent together, as an array of objects.
    Array,
}

/// An event as JSON.
#[derive(Debug, Serialize)]
struct Object {
    time: i64,
    temperature: f64,
    vibration: f64,
    revolutions: i64,
}

/// Bytes on the network, both ways, for sending `readings` together to `topic`.
pub(crate) fn bytes(topic: &str, readings: &Readings, message: Message) -> usize {
    let objects = readings.rows().map(|(time, temperature, vibration, revolutions)| Object {
        time,
        temperature,
        vibration,
        revolutions,
    });
    let payloads: Vec<_> = match message {
        Message::Event => objects.map(|object| json(&object)).collect(),
        Message::Array => vec![json(&objects.collect::<Vec<_>>())],
    };
    let sent = payloads.iter().map(|payload| publish(topic, payload).len() + TLS_RECORD).sum::<usize>();
    let answered = payloads.len() * (PUBACK.len() + TLS_RECORD);
    over_tcp(sent) + over_tcp(answered)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("numbers in memory become JSON")
}

/// Bytes that `bytes` sent together become, with the acknowledgements of the other side.
fn over_tcp(bytes: usize) -> usize {
    let segments = bytes.div_ceil(SEGMENT);
    bytes + TCP_IP * (segments + segments.div_ceil(2))
}

/// A PUBLISH packet with QoS 1.
fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    const PUBLISH_QOS_1: u8 = 0x32;
    let mut packet = vec![PUBLISH_QOS_1];
    // Seven bits a byte, the lowest first; the highest bit says that more follow.
    let mut rest = 2 + topic.len() + 2 + payload.len();
    while rest > 0x7F {
        packet.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    packet.push(rest as u8);
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.as_bytes());
    packet.extend([0, 1]);
    packet.extend(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Machine;

    #[test]
    fn a_publish_packet_is_as_the_standard_has_it() {
        assert_eq!(publish("a/b", b"{}"), *b"\x32\x09\x00\x03a/b\x00\x01{}");
        let long = publish("a", &[0; 200]);
        assert_eq!(long[..3], [0x32, 0x80 | (205 & 0x7F), 205 >> 7]);
        assert_eq!(long.len(), 3 + 205);
    }

    #[test]
    fn segments_and_acknowledgements_have_headers() {
        assert_eq!(over_tcp(100), 100 + 40 + 40);
        assert_eq!(over_tcp(1_460 * 4), 1_460 * 4 + 4 * 40 + 2 * 40);
    }

    #[test]
    fn an_array_is_cheaper_than_a_message_an_event() {
        let mut readings = Readings::default();
        Machine::new(0, 1_774_000_000_000_000_000).read(100, &mut readings);
        let [each, array] = [Message::Event, Message::Array].map(|m| bytes("load/00000", &readings, m) / 100);
        assert!((120..250).contains(&each), "{each} bytes an event");
        assert!((80..130).contains(&array), "{array} bytes an event");
    }
}
