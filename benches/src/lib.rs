//! Icecore benches.
