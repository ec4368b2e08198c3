//! What devices and server say to each other, without saying it: ids, limits, schemas, columnar batches, frames,
//! messages, and the session machines of both ends.
//!
//! Nothing here opens a socket, reads a clock or spawns a task: bytes and `now` go in; bytes, events and deadlines
//! come out. Every byte is specified in `docs/protocol.md` and frozen by golden files.
//!
//! - [`limits`]: every bound of the protocol, with their relations asserted at compile time
//! - [`DeviceName`], [`Epoch`], [`SchemaId`], [`Digest`], [`SequenceRanges`]: names and numbers
//! - [`Glob`]: patterns over names
//! - [`Schema`]: a named, versioned event type; its id is the hash of its canonical form
//! - [`Payload`], [`BatchBuilder`], [`encode`], [`Batch`]: columns on the wire, read where they lie
//! - [`FrameReader`], [`Message`]: what travels on a stream
//! - [`ClientSession`], [`ServerSession`] and the batch streams beside them
#[cfg(target_endian = "big")]
compile_error!("columns are read where they lie, in little-endian order: big-endian hosts are not supported");

mod batch;
mod frame;
mod glob;
mod ids;
pub mod limits;
mod message;
mod payload;
mod ranges;
mod schema;
mod session;
mod varint;

pub use batch::{
    Batch, BatchBuilder, BatchError, BatchHeader, Bitmap, BytesValues, Column, ColumnData, ColumnError,
    ColumnView, EncodeOptions, TextValues, Value, Values, check_pco_claims, encode, fits_plain, rebase,
};
pub use frame::{
    FRAME_HEADER_BYTES, Frame, FrameError, FrameKind, FrameProblem, FrameReader, append_frame, write_header,
};
pub use glob::Glob;
pub use ids::{DeviceName, Digest, Epoch, InvalidHex, InvalidName, SchemaId};
pub use message::{
    Ack, Attach, Attached, Code, Disposition, Dropped, GoAway, Hello, Level, Message, MessageError, Nack,
    NotRenewed, Pace, Refuse, Renewed, SessionLimits, Welcome,
};
pub use payload::Payload;
pub use ranges::SequenceRanges;
pub use schema::{ColumnType, Field, Incompatible, InvalidColumnType, Kind, Schema, SchemaError};
pub use session::{
    BatchStreamReader, BatchStreamWriter, ClientEvent, ClientSession, Incoming, PROTOCOL_VERSION,
    ServerEvent, ServerSession, SessionError,
};
