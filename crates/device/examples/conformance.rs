//! The Rust SDK behind the conformance suite's protocol: commands and answers as lines of JSON.
//!
//! `crates/server/tests/conformance` says what the commands are and runs this program.
#![expect(clippy::unwrap_used, reason = "whatever goes wrong here is a failure of the suite")]

use std::collections::HashMap;
use std::error::Error;
use std::io::stdin;
use std::sync::Arc;
use std::time::Duration;

use icecore_device::{
    Backoff, BatchPolicy, ColumnType, Config, Device, Epoch, Event, Events, Field, Gateway, Identity, Kind,
    Level, Recorder, Role, Schema, Spool, Value,
};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What every spool here may hold.
const SPOOL_BYTES: usize = 16 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (lines, mut commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        stdin().lines().map_while(std::io::Result::ok).try_for_each(|line| lines.send(line))
    });
    let mut adapter = Adapter::default();
    while let Some(line) = commands.recv().await {
        let command: Json = serde_json::from_str(&line)?;
        let answer = match adapter.obey(&command).await {
            Ok(answer) => json!({ "answer": answer }),
            Err(error) => json!({ "answer": "error", "message": error.to_string() }),
        };
        println!("{answer}");
        if command["do"] == "close" {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Adapter {
    config: Option<Config>,
    gateway: Option<Gateway>,
    devices: HashMap<String, Device>,
    schemas: HashMap<String, Arc<Schema>>,
    recorders: HashMap<(String, String), Recorder>,
}

impl Adapter {
    async fn obey(&mut self, command: &Json) -> Result<&'static str> {
        let name = || command["device"].as_str().unwrap().to_owned();
        match command["do"].as_str().unwrap() {
            "connect" => self.connect(command)?,
            "attach" => self.attach(name(), &command["epoch"])?,
            "schema" => self.schema(command)?,
            "record" => self.record(name(), command).await?,
            "flush" => {
                let patience = Duration::from_millis(command["timeout_ms"].as_u64().unwrap());
                for device in self.devices.values() {
                    if device.flush(Level::Durable, patience).await.is_err() {
                        return Ok("pending");
                    }
                }
            }
            "close" => {
                for device in std::mem::take(&mut self.devices).into_values() {
                    // What is pending at the end is the suite's own doing.
                    let _ = device.close(Duration::ZERO).await;
                }
                if let Some(gateway) = self.gateway.take() {
                    let _ = gateway.close(Duration::ZERO).await;
                }
            }
            other => return Err(format!("there is no command {other}").into()),
        }
        Ok("ok")
    }

    fn connect(&mut self, command: &Json) -> Result<()> {
        let identity = Identity::load(command["identity"].as_str().unwrap())?;
        let is_gateway = matches!(identity.role(), Role::Gateway(_));
        let number = |key: &str| command[key].as_u64().unwrap();
        let batch = BatchPolicy {
            max_rows: number("max_rows") as usize,
            max_bytes: number("max_bytes") as usize,
            max_age: None,
        };
        let backoff = Backoff {
            min: Duration::from_millis(number("backoff_min_ms")),
            max: Duration::from_millis(number("backoff_max_ms")),
        };
        let config = Config::new(command["server"].as_str().unwrap(), identity).batch(batch).backoff(backoff);
        if is_gateway {
            let gateway = Gateway::connect(config)?;
            tell(gateway.events(10_000));
            self.gateway = Some(gateway);
        } else {
            self.config = Some(config);
        }
        Ok(())
    }

    fn attach(&mut self, name: String, epoch: &Json) -> Result<()> {
        let spool = Spool::Memory { max_bytes: SPOOL_BYTES };
        let device = match (&self.gateway, epoch.as_str()) {
            (Some(gateway), Some(epoch)) => {
                let epoch = Epoch::from_bytes(unhex(epoch).try_into().unwrap());
                gateway.device_with_epoch(name.parse()?, epoch, SPOOL_BYTES)?
            }
            (Some(gateway), None) => gateway.device(name.parse()?, spool)?,
            (None, _) => {
                let device = Device::connect(self.config.take().ok_or("no connect")?, spool)?;
                tell(device.events(10_000));
                device
            }
        };
        self.devices.insert(name, device);
        Ok(())
    }

    fn schema(&mut self, command: &Json) -> Result<()> {
        let fields = command["fields"].as_array().unwrap().iter().map(field).collect();
        let (name, version) = (command["name"].as_str().unwrap(), command["version"].as_u64().unwrap());
        let schema = Schema::new(name, u32::try_from(version)?, fields)?;
        self.schemas.insert(command["schema"].as_str().unwrap().to_owned(), Arc::new(schema));
        Ok(())
    }

    async fn record(&mut self, name: String, command: &Json) -> Result<()> {
        let key = command["schema"].as_str().unwrap().to_owned();
        let schema = Arc::clone(&self.schemas[&key]);
        let device = &self.devices[&name];
        let recorder =
            self.recorders.entry((name, key)).or_insert_with(|| device.recorder(Arc::clone(&schema)));
        for row in command["rows"].as_array().unwrap() {
            let [time, cells @ ..] = row.as_array().unwrap().as_slice() else { return Err("no time".into()) };
            let cells: Vec<Cell> =
                schema.fields().iter().zip(cells).map(|(field, cell)| Cell::read(field, cell)).collect();
            let values: Vec<_> = cells.iter().map(Cell::value).collect();
            recorder.row(time.as_i64().unwrap(), &values).await?;
        }
        Ok(())
    }
}

/// Prints what the SDK reports, from here on.
fn tell(mut events: Events) {
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let device = event.device().map(ToString::to_string);
            let mut line = match event {
                Event::Connected { .. } => json!({ "event": "connected" }),
                Event::Disconnected { reason, .. } => {
                    json!({ "event": "disconnected", "reason": reason.to_string() })
                }
                Event::Attached { epoch_number, .. } => {
                    json!({ "event": "attached", "epoch_number": epoch_number })
                }
                Event::Acked { range, level, .. } => {
                    let level = format!("{level:?}").to_lowercase();
                    json!({ "event": "acked", "start": range.start, "end": range.end, "level": level })
                }
                Event::Rejected { range, code, .. } => {
                    json!({ "event": "rejected", "start": range.start, "end": range.end, "code": code.number() })
                }
                Event::Refused { code, .. } => json!({ "event": "refused", "code": code.number() }),
                Event::Renewed { .. } => json!({ "event": "renewed" }),
                Event::NotRenewed { .. } => json!({ "event": "not_renewed" }),
                other => json!({ "event": "other", "what": format!("{other:?}") }),
            };
            line["device"] = json!(device);
            println!("{line}");
        }
    });
}

fn field(json: &Json) -> Field {
    let text = |key: &str| json[key].as_str().unwrap();
    let ty = match text("type") {
        "f64" => ColumnType::F64,
        "f32" => ColumnType::F32,
        "i64" => ColumnType::I64,
        "u64" => ColumnType::U64,
        "bool" => ColumnType::Bool,
        "text" => ColumnType::Text,
        "bytes" => ColumnType::Bytes,
        "timestamp" => ColumnType::Timestamp,
        list => {
            let (of, length) = list.trim_end_matches(']').split_once('[').unwrap();
            let length = length.parse().unwrap();
            if of == "f32" { ColumnType::F32List(length) } else { ColumnType::I16List(length) }
        }
    };
    let kind = match text("kind") {
        "counter" => Kind::Counter,
        "state" => Kind::State,
        "angle" => Kind::Angle,
        _ => Kind::Gauge,
    };
    let field = Field::new(text("name"), ty).with_kind(kind).with_unit(text("unit"));
    if json["nullable"] == true { field.nullable() } else { field }
}

/// A value that its row can borrow from. Floats come as the bits that they are, in hexadecimal; so do bytes.
enum Cell {
    Scalar(Value<'static>),
    Text(String),
    Bytes(Vec<u8>),
    F32List(Vec<f32>),
    I16List(Vec<i16>),
}

impl Cell {
    fn read(field: &Field, json: &Json) -> Self {
        let text = || json.as_str().unwrap();
        let f32_of = |json: &Json| f32::from_bits(u32::from_str_radix(json.as_str().unwrap(), 16).unwrap());
        let items = || json.as_array().unwrap().iter();
        if json.is_null() {
            return Self::Scalar(Value::Null);
        }
        match field.ty() {
            ColumnType::F64 => {
                Self::Scalar(Value::F64(f64::from_bits(u64::from_str_radix(text(), 16).unwrap())))
            }
            ColumnType::F32 => Self::Scalar(Value::F32(f32_of(json))),
            ColumnType::I64 => Self::Scalar(Value::I64(json.as_i64().unwrap())),
            ColumnType::U64 => Self::Scalar(Value::U64(json.as_u64().unwrap())),
            ColumnType::Bool => Self::Scalar(Value::Bool(json.as_bool().unwrap())),
            ColumnType::Timestamp => Self::Scalar(Value::Timestamp(json.as_i64().unwrap())),
            ColumnType::Text => Self::Text(text().to_owned()),
            ColumnType::Bytes => Self::Bytes(unhex(text())),
            ColumnType::F32List(_) => Self::F32List(items().map(f32_of).collect()),
            ColumnType::I16List(_) => {
                Self::I16List(items().map(|item| item.as_i64().unwrap().try_into().unwrap()).collect())
            }
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Scalar(value) => *value,
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::F32List(list) => Value::F32List(list),
            Self::I16List(list) => Value::I16List(list),
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
