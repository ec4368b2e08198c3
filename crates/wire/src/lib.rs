//! Icecore's `wire` part.
