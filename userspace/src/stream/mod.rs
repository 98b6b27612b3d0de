//! Puts the bytes of TCP connections back in order.
//!
//! Knows nothing of HTTP.
