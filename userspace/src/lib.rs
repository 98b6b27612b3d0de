//! Tees production HTTP traffic and finds out whether a new version would have behaved the same.
//!
//! The modules stand in the order in which an exchange passes them:
//!
//! ```text
//! kernel probe ─ring─▶ capture ─Packet─▶ packet ─Segment─▶ stream ─Chunk│Gap─▶ http ─Exchange─▶ select ─▶ queue
//!                                                                                                      │
//!                report ◀─ journal ◀─Comparison─ compare ◀─Observation─ branch ◀─Claim─────────────────┘
//! ```
//!
//! `model` holds the words that all of them share. `pipeline` is the only module that spawns tasks, makes
//! channels and reads the clock; the others take time as an argument. ARCHITECTURE.md says which module may
//! import which, and `cargo xtask tidy` checks it.

pub mod model;
pub mod secret;

pub mod capture;
pub mod packet;

pub mod stream;

pub mod http;

pub mod wire;

pub mod select;

pub mod queue;

pub mod spool;

pub mod branch;

pub mod compare;

pub mod journal;

pub mod recording;

pub mod report;

pub mod metrics;
pub mod serve;

pub mod config;
pub mod pipeline;

pub mod doctor;

pub mod cli;
