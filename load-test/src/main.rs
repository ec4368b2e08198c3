//! The fleet generator.
fn main() {}
