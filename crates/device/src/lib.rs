//! Icecore's `device` part.
