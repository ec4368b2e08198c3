//! Icecore's `sim` part.
