//! SQL over an Icecore log.
