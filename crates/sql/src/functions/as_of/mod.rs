//! `ASOF JOIN`: to each row of one table the newest row of another that is not later.
//!
//! `a ASOF JOIN b MATCH_CONDITION (a.event_time >= b.event_time) ON a.device = b.device` is parsed, but not planned by the engine. [`nest`]
//! puts such a join into parentheses, which makes it a relation of its own; [`AsOfSyntax`] plans that relation as an [`AsOf`] node;
//! and [`AsOfExec`] merges both sides, sorted by key and time, so that it holds a few batches however long they are.

mod exec;
mod filters;
mod merge;
mod node;
mod syntax;
#[cfg(test)]
mod tests;

use exec::AsOfExec;
pub(super) use filters::AsOfFilters;
pub(super) use node::AsOf;
pub(super) use syntax::AsOfSyntax;
pub(crate) use syntax::nest;
