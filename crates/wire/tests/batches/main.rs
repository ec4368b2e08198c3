//! What holds for every batch and for every byte string that claims to be one.

mod generate;
mod hostile;
mod memory;
mod round_trip;
