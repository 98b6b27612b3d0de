//! Entry points of the probe.
//!
//! Lets every packet pass.
#![no_std]
#![no_main]
