//! Declared schemas: the versions of a schema in a file, and how events of older versions read as the newest.
//!
//! A file declares one schema, all of its versions, and for each version how events of the one before become events of
//! it. What is stored never changes: an [`Upcast`] is applied to the rows that are read.
//!
//! ```
//! use icecore_schema::Declared;
//!
//! let text = r#"
//!     name = "weather"
//!
//!     [[version]]
//!     number = 1
//!     fields = [{ name = "temp", type = "f64", unit = "[degF]" }]
//!
//!     [[version]]
//!     number = 2
//!     fields = [{ name = "temperature", type = "f64", unit = "Cel" }]
//!     upcast = { temperature = "(temp - 32) / 1.8" }
//! "#;
//! let mut declared = Declared::default();
//! declared.add("weather.toml".as_ref(), text)?;
//! assert_eq!(declared.lineage("weather").unwrap().newest().version(), 2);
//! # Ok::<(), icecore_schema::DeclarationError>(())
//! ```
//!
//! `docs/schemas.md` describes the files and the language of the expressions.

mod cell;
mod declared;
mod document;
mod evolution;
mod expression;
mod upcast;

pub use cell::Cell;
pub use declared::{Declared, Lineage, Misfit};
pub use document::DeclarationError;
pub use evolution::Evolution;
pub use upcast::Upcast;
