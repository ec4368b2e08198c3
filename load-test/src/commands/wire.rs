//! `wire`: every byte of every datagram, both ways, per event; and the same events over MQTT.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use icecore_device::{Compression, Identity, Level};
use icecore_load::network::{Network, Path};
use icecore_load::server::TestServer;
use serde::Serialize;
use tokio::time::Instant;

use super::{Output, quiet};
use crate::crew::Crew;
use crate::fleet::Pace;
use crate::mqtt::{self, Message};
use crate::options::positive;
use crate::workload::{self, Machine, Readings};

/// How long the last acks may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts bytes per event, datagrams of both directions with their headers, plain and compressed, at a trickle (a batch a
/// second) and streaming (as fast as acks come back); beside the same events as JSON over MQTT.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Events in a batch.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    batch: usize,

    /// Batches at a trickle, one a second.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = positive)]
    trickle: usize,

    /// Seconds of streaming.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    stream: usize,

    #[command(flatten)]
    pub(super) output: Output,
}

/// Bytes, all of them with IP and UDP (or TCP) headers.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    batch: usize,
    trickle_plain: Wire,
    trickle_compressed: Wire,
    stream_plain: Wire,
    stream_compressed: Wire,
    mqtt_event_a_message_bytes_per_event: f64,
    mqtt_array_a_message_bytes_per_event: f64,
}

/// What one way of sending took.
#[derive(Debug, Serialize)]
struct Wire {
    events: u64,
    /// Connecting, until nothing more was said.
    handshake_up_bytes: u64,
    handshake_down_bytes: u64,
    up_bytes_per_event: f64,
    down_bytes_per_event: f64,
    bytes_per_event: f64,
    /// Of these, UDP payload.
    payload_bytes_per_event: f64,
    datagrams_per_batch: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "bytes an event, {} events a batch, acks and headers included", self.batch)?;
        let wires = [
            ("trickle, plain      ", &self.trickle_plain),
            ("trickle, compressed ", &self.trickle_compressed),
            ("streaming, plain    ", &self.stream_plain),
            ("streaming, compressed", &self.stream_compressed),
        ];
        for (name, wire) in wires {
            writeln!(f, "{name:<22} {wire}")?;
        }
        writeln!(f, "MQTT, event a message  {:.1}", self.mqtt_event_a_message_bytes_per_event)?;
        writeln!(f, "MQTT, array a message  {:.1}", self.mqtt_array_a_message_bytes_per_event)
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} ({:.2} up, {:.2} down; UDP payload {:.2}; {:.2} datagrams a batch; connecting {} up, {} down)",
            self.bytes_per_event,
            self.up_bytes_per_event,
            self.down_bytes_per_event,
            self.payload_bytes_per_event,
            self.datagrams_per_batch,
            self.handshake_up_bytes,
            self.handshake_down_bytes,
        )
    }
}

pub(crate) async fn run(options: &Options) -> Result<Figures> {
    let mut server = TestServer::start(options.output.dir())?;
    let identity = Identity::load(server.identity())?;
    let network = Network::start(1)?;
    let mut crew = Crew::new("", identity.clone(), options.batch);
    let mut wires = Vec::new();
    for (number, (streaming, compression)) in [
        (false, Compression::Off),
        (false, Compression::Auto),
        (true, Compression::Off),
        (true, Compression::Auto),
    ]
    .into_iter()
    .enumerate()
    {
        let path = network.path(server.address())?;
        let address = path.address().to_string();
        crew.config = Crew::new(address, identity.clone(), options.batch).config.compression(compression);
        wires.push(measure(&crew, number, &path, streaming, options).await?);
    }
    crew.prove(&mut server)?;
    let [trickle_plain, trickle_compressed, stream_plain, stream_compressed] =
        wires.try_into().expect("four were measured");
    Ok(Figures {
        batch: options.batch,
        trickle_plain,
        trickle_compressed,
        stream_plain,
        stream_compressed,
        mqtt_event_a_message_bytes_per_event: over_mqtt(options, Message::Event),
        mqtt_array_a_message_bytes_per_event: over_mqtt(options, Message::Array),
    })
}

async fn measure(
    crew: &Crew,
    number: usize,
    path: &Path,
    streaming: bool,
    options: &Options,
) -> Result<Wire> {
    let member = crew.connect(number, None).await?;
    let connected = quiet(path).await;
    let begin = Instant::now();
    if streaming {
        member.flood(begin + Duration::from_secs(options.stream as u64)).await?;
    } else {
        let every = Duration::from_secs(1);
        member.stream(Pace::of(0, 1, begin, every, every * options.trickle as u32)).await?;
    }
    member.device.flush(Level::Durable, PATIENCE).await?;
    let end = quiet(path).await;
    let batches = member.batches().len();
    member.close().await?;

    let events = (batches * options.batch) as f64;
    let [up, down] = [0, 1].map(|way| end[way].since(&connected[way]));
    Ok(Wire {
        events: events as u64,
        handshake_up_bytes: connected[0].bytes(),
        handshake_down_bytes: connected[1].bytes(),
        up_bytes_per_event: up.bytes() as f64 / events,
        down_bytes_per_event: down.bytes() as f64 / events,
        bytes_per_event: (up.bytes() + down.bytes()) as f64 / events,
        payload_bytes_per_event: (up.payload_bytes + down.payload_bytes) as f64 / events,
        datagrams_per_batch: (up.datagrams + down.datagrams) as f64 / batches as f64,
    })
}

/// Bytes an event of what the trickle sends, over MQTT.
fn over_mqtt(options: &Options, message: Message) -> f64 {
    let mut machine = Machine::new(0, workload::now());
    let mut readings = Readings::default();
    let mut bytes = 0;
    for _ in 0..options.trickle {
        machine.read(options.batch, &mut readings);
        bytes += mqtt::bytes("load/00000/machine", &readings, message);
    }
    bytes as f64 / (options.trickle * options.batch) as f64
}
