//! The client SDK of Icecore: what runs on a device or gateway.

mod channel;
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

pub use config::{Backoff, BatchPolicy, Config, WhenFull};
pub use device::Device;
pub use error::{ConnectError, RecordError, SpoolError};
pub use event::{Disconnect, Event, Pending};
pub use gateway::Gateway;
pub use identity::{Identity, IdentityError, Role};
pub use recorder::Recorder;
pub use spool::Spool;
pub use watch::{Events, Stats};

pub use icecore_wire::{
    BatchError, Code, Column, ColumnData, ColumnType, DeviceName, Digest, Epoch, Field, Kind, Level, Schema,
    SchemaError, SchemaId, SequenceRanges, Value,
};
