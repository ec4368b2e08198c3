//! Icecore's `server` part.
