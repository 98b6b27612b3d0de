//! Bytes of a packet to a TCP segment.
//!
//! Keeps no state.
