//! The client SDK of Icecore: what runs on a device, or on a gateway in front of devices.
//!
//! Events are recorded into batches, batches wait in a bounded spool, and a connection that is made again as often as it
//! breaks sends them, without waiting for acks. An ack at [`Level::Durable`] means that the server has fsynced the batch;
//! only then does it leave the spool. What the network, the server or the device's own crashes do in between costs
//! neither events nor duplicates: a batch is sent again byte by byte as it was, and the server knows it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use icecore_device::{
//!     ColumnType, Config, Device, Event, Field, Identity, Kind, Level, Schema, Spool, Value, WhenFull,
//! };
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // What `icecore device enroll` wrote.
//!     let identity = Identity::load("/etc/icecore/pump-7")?;
//!     let config = Config::new("telemetry.example.org:4433", identity).when_full(WhenFull::DropOldest);
//!     let spool = Spool::Disk { dir: "/var/lib/icecore/spool".into(), max_bytes: 64 << 20 };
//!     let device = Device::connect(config, spool)?;
//!
//!     let schema = Schema::new("vibration", 1, vec![
//!         Field::new("rms", ColumnType::F64).with_unit("mm/s"),
//!         Field::new("starts", ColumnType::U64).with_kind(Kind::Counter),
//!         Field::new("note", ColumnType::Text).nullable(),
//!     ])?;
//!     let mut recorder = device.recorder(Arc::new(schema));
//!     let mut events = device.events(100);
//!     let now = 1_774_000_000_000_000_000; // nanoseconds since the Unix epoch
//!     recorder.row(now, &[Value::F64(2.7), Value::U64(41), Value::Null]).await?;
//!
//!     if let Err(pending) = device.flush(Level::Durable, Duration::from_secs(5)).await {
//!         eprintln!("{pending}"); // it stays in the spool and goes on being sent
//!     }
//!     while let Some(event) = events.try_next() {
//!         if let Event::Disconnected { reason, retry_in } = event {
//!             eprintln!("{reason}; next attempt in {retry_in:?}");
//!         }
//!     }
//!     device.close(Duration::from_secs(5)).await?;
//!     Ok(())
//! }
//! ```
//!
//! A [`Gateway`] does the same for many devices over one connection. How the parts fit:
//!
//! - [`Recorder`] gathers events and cuts them into batches by the [`BatchPolicy`]
//! - [`Spool`] keeps batches in memory or on disk; it decides when a new epoch begins
//! - the link behind [`Device`] and [`Gateway`] connects, attaches, sends, resends and takes acks
//! - [`Event`] and [`Stats`] tell what becomes of batches and of the connection

mod channel;
mod clock;
mod config;
mod device;
mod error;
mod event;
mod gateway;
mod identity;
mod link;
mod recorder;
mod spool;
pub mod transport;
mod watch;

pub use clock::{BootClock, Clock};
pub use config::{Backoff, BatchPolicy, Compression, Config, WhenFull};
pub use device::Device;
pub use error::{ConnectError, RecordError, SpoolError};
pub use event::{Disconnect, Event, Pending};
pub use gateway::Gateway;
pub use identity::{Identity, IdentityError, Role};
pub use recorder::Recorder;
pub use spool::Spool;
pub use spool::priority::Priority;
pub use watch::{Events, Stats};

pub use icecore_wire::{
    BatchError, Code, Column, ColumnData, ColumnType, DeviceName, Digest, Epoch, Field, Kind, Level, Schema,
    SchemaError, SchemaId, SequenceRanges, Value,
};
