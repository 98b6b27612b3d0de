//! The lab's application as a program, so that it can run in a network namespace of its own.
//!
//! Holds nothing but its arguments; the application is `understudy_tests::app`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use understudy_tests::app::{AppConfig, Faults, serve};

/// A small HTTP/1.1 application for tests and the demo
#[derive(Parser)]
struct Arguments {
    /// Address and port to listen on
    #[arg(long)]
    listen: SocketAddr,
    /// What is wrong with this instance
    #[arg(long, value_enum, default_value = "none")]
    faults: Faults,
    /// File that gets one line of JSON per received request
    #[arg(long)]
    log: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { listen, faults, log } = Arguments::parse();
    serve(&AppConfig { listen, faults, log })
}
