//! The queue between hosts, against real Redis servers of the distribution's package.
//!
//! Starts no daemon: it calls the parts of the library.

#[path = "queue/append.rs"]
mod append;
#[path = "queue/book.rs"]
mod book;
#[path = "queue/connect.rs"]
mod connect;
#[path = "queue/given_back.rs"]
mod given_back;
mod harness;
#[path = "queue/reader.rs"]
mod reader;
#[path = "queue/refusals.rs"]
mod refusals;
#[path = "queue/results.rs"]
mod results;
#[path = "queue/upload.rs"]
mod upload;

use std::process::ExitCode;

use harness::Case;
use understudy_tests::prereq::Prerequisite;

/// What all of these tests need.
const REDIS: &[Prerequisite] =
    &[Prerequisite::Tool("redis-server"), Prerequisite::Tool("redis-cli"), Prerequisite::Tool("setpriv")];
/// What tests with TLS need besides.
const TLS: &[Prerequisite] = &[
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
    Prerequisite::Tool("setpriv"),
    Prerequisite::Tool("openssl"),
];

fn main() -> ExitCode {
    harness::run(&[
        ("connect", connect::CASES),
        ("append", append::CASES),
        ("reader", reader::CASES),
        ("given_back", given_back::CASES),
        ("refusals", refusals::CASES),
        ("results", results::CASES),
        ("upload", upload::CASES),
    ])
}

/// Runs a future to its end, on one thread.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
