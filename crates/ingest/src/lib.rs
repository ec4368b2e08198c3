//! Icecore's `ingest` part.
