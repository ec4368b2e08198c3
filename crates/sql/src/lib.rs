//! SQL over an Icecore log.
//!
//! A [`Database`] opens the log anew for every statement, so that it runs beside ingestion. Every schema of the log is a table: what every
//! event has, then its fields. Beside them there are tables about the log itself, and functions for what sensor people ask:
//! `docs/sql.md` describes them. What a statement asks for by device, time, position and number is asked of the log: segments, row groups and
//! pages that hold nothing of it are not read.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use futures_util::TryStreamExt;
//! use icecore_replay::Replay;
//! use icecore_sql::{Database, Opened, Settings};
//!
//! let open = || Ok(Opened::new(Replay::open("data".as_ref())?.into()));
//! let database = Database::new(open, Settings::default())?;
//! let mut answer = database.query("SELECT device, avg(temp) FROM weather GROUP BY device").await?;
//! while let Some(rows) = answer.rows.try_next().await? {
//!     println!("{} rows", rows.num_rows());
//! }
//! println!("{}", answer.covered.coverage().await?);
//! # Ok(())
//! # }
//! ```
//!
//! - `database`, `statement`, `names`: from a text to a plan
//! - `view`, `catalog`: the log as one statement sees it, and its tables
//! - `events`, `pushdown`: the table of a schema, and what it takes over of a statement's conditions
//! - `reading`: how what blocks becomes a stream
//! - `rollups`, `states`, `system`: the other tables
//! - `codes`: grouping by devices, quickly
//! - `functions`: functions for time series
//! - `output`: rows as text
//! - [`flight`]: statements over the network

mod catalog;
mod codes;
mod covered;
mod database;
mod error;
mod events;
pub mod flight;
mod functions;
mod instants;
mod known;
mod names;
mod output;
mod pushdown;
mod reading;
mod rollups;
mod statement;
mod states;
mod system;
mod view;

pub use covered::Covered;
pub use database::{Answer, Database, Prepared, Settings, Table, TableKind};
pub use datafusion::common::ParamValues;
pub use error::{Place, SqlError};
pub use output::{Format, Output};
pub use view::{Labels, Opened};
