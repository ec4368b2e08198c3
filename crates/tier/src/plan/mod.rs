//! What is to be done with the segments there are: a pure function of segments, policies, the clock and the disk.
//!
//! [`Books`] keeps what the planner needs of each segment. [`Books::plan`] says what is to be done now; the worker does
//! just that and nothing else. [`Books::rehearse`] runs the same planner on its books with the clock moved ahead, does on
//! paper what it says, and adds up bytes, requests and money per policy and day: so the plan for a day ahead is what
//! happens on that day, as long as nothing else comes between.
//!
//! The rules, for every segment, by the policies of its shares:
//!
//! - It goes to the last cold stage whose age it has reached, from wherever it is, and never back to an earlier one.
//! - A copy in another store than that goes once the one there was verified.
//! - The local copy goes when the policy says so, and only while a verified copy is in object storage. Where room is to be made
//!   and there is no copy yet, it is uploaded early.
//! - It is marked at the age or size at which its policy deletes it, and deleted when the undo window is over and it is still
//!   to be deleted. A policy that keeps it longer, or a hold, takes the mark away.
//! - It is deleted only when a snapshot is kept that goes past it, so that the state of its devices outlives it. Its local copy stays
//!   until the state is saved past it, unless room is to be made.
//! - If its shares differ in what is due, it is split first; until then nothing of it is deleted.
//! - What its policy wants rolled up is not marked before it is: [`Plan::unrolled`] tells what waits for that.
//! - What a hold freezes is not marked, deleted, split or moved out of a store. Its local copy may go.
//! - While the clock is not trusted, nothing is marked, unmarked, deleted or split, and only first copies are made.

mod action;
mod books;
mod copies;
mod decide;
mod execute;
mod prices;
mod rehearsal;
mod report;
mod room;
mod snapshots;
mod tally;
mod upkeep;

pub use action::{Action, Destination, Kind, Moment, OffPeak, Plan, Reason};
pub use books::{Books, UnknownPolicy};
pub use prices::{Prices, Rates};
pub use rehearsal::{Arrivals, Costs, Day, NewData, NoSuchPolicy, Rehearsal, Requests};
pub use snapshots::{Need, Saved, SnapshotPlan, Waiting};
pub use upkeep::{Stores, Upkeep};

/// Days a rehearsal may look ahead: ten years.
pub const MAX_DAYS: u32 = 3_653;

#[cfg(test)]
mod tests;
