//! Turns the journal into words and a verdict.
//!
//! Changes nothing.
