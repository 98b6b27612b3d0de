//! The metrics that the admin listener exports.
//!
//! Counts nothing itself.
