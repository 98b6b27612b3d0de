//! Reads HTTP/1.x messages out of ordered bytes and pairs requests with responses.
//!
//! Knows nothing of TCP.
