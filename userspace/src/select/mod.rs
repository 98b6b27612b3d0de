//! Decides which exchanges an experiment wants.
//!
//! Sends nothing and changes nothing.
