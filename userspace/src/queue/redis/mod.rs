//! The queue between hosts: Redis Streams, one for each shard of an experiment.
//!
//! Knows Redis and the form of what lies in it; knows nothing of capture, replay or comparison. Spawns nothing, and
//! whatever Redis holds is bounded in number, in bytes or in time.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod agree;
pub mod append;
pub mod config;
pub mod connect;
mod deliveries;
pub mod error;
pub mod health;
mod hold;
pub mod keys;
mod lease;
mod pending;
mod raw;
mod reader;
pub mod results;
pub mod script;
mod settle;
mod stats;
mod trouble;
mod worker;

pub use agree::agree;
pub use append::{AppendLimits, Appended, Appender, Numbered, ProducerId};
pub use config::RedisConfig;
pub use connect::Redis;
pub use error::{RedisError, RedisErrorKind};
pub use hold::{Delivery, Kept};
pub use keys::Keys;
pub use results::{Results, Role};
pub use script::Script;
pub use settle::SettleLimits;
pub use stats::QueueStats;
pub use worker::{RedisQueue, RedisWorker, WorkerConfig, WorkerLimits, redis_queue};
