//! Finds out in what two observations differ.
//!
//! Does no input or output.
