//! Icecore's `replay` part.
