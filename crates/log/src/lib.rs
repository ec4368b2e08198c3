//! Icecore's `log` part.
