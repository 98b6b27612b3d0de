//! The admin listener.
//!
//! Serves nothing of the captured traffic.
