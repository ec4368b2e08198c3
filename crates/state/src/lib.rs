//! Icecore's `state` part.
