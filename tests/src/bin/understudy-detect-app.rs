//! One instance of an application of the bench of detection, as a program.
//!
//! Holds nothing but its arguments; the applications are in `understudy_tests::detect`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use understudy_tests::detect::{InstanceConfig, Kind, serve};

/// A small application with natural noise, and with one planted regression if asked for
#[derive(Parser)]
struct Arguments {
    /// The application
    #[arg(long, value_enum)]
    kind: Kind,
    /// The planted regression
    #[arg(long)]
    mutant: Option<String>,
    /// Port on loopback
    #[arg(long)]
    port: u16,
    /// Decides the noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the environment is called; it shows in some answers
    #[arg(long, default_value = "production")]
    environment: String,
    /// File that gets one line of JSON per answer
    #[arg(long)]
    log: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let Arguments { kind, mutant, port, seed, environment, log } = Arguments::parse();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    serve(InstanceConfig { kind, mutant, listen, seed, environment, log })
}
