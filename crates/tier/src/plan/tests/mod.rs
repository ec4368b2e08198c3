//! The planner against a world that does what it says.

mod clocks;
mod fixtures;
mod properties;
mod rehearsals;
mod snapshots;
mod stages;
mod world;
