//! The client SDK of Icecore: what runs on a device or gateway.

mod config;
mod device;
mod error;
mod event;
mod gateway;
mod identity;
mod recorder;
mod spool;
pub mod transport;

pub use config::{Backoff, BatchPolicy, Config, WhenFull};
pub use device::Device;
pub use error::{ConnectError, RecordError, SpoolError};
pub use event::{Disconnect, Event, Events, Pending, Stats};
pub use gateway::Gateway;
pub use identity::{Identity, IdentityError, Role};
pub use recorder::Recorder;
pub use spool::Spool;

pub use icecore_wire::{
    BatchError, Code, Column, ColumnData, ColumnType, DeviceName, Digest, Epoch, Field, Kind, Level, Schema,
    SchemaError, SchemaId, SequenceRanges, Value,
};
