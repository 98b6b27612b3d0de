//! The lab's application: a small HTTP/1.1 server whose answers depend on the request alone, so that two of them
//! agree unless a fault is planted.
//!
//! Shares no HTTP code with the daemon, and answers nothing before it has logged the request. It is written on
//! plain sockets because a framework offers neither 103, nor answers that end with the connection, nor a log of
//! what was on which connection.

mod connection;
mod log;
mod routes;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::Context as _;

pub use log::{LogLine, read_log};

use log::Log;

/// Open connections; one more is closed at once.
const CONNECTIONS_MAX: usize = 2_048;

/// What an instance is told to do.
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What is wrong with it.
    pub faults: Faults,
    /// Where it writes one line of JSON per request.
    pub log: Option<PathBuf>,
}

/// What is wrong with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Faults {
    /// Nothing.
    None,
    /// `/items/{id}` is a cent off, `/search` fails for some inputs, `/quotes/{id}` is 40 ms slower.
    Planted,
    /// Reads requests and never answers.
    Hang,
    /// Reads a request and closes the connection.
    Close,
    /// Sends half of each answer and closes the connection.
    Half,
    /// Answers with bytes that are not HTTP.
    Garbage,
}

/// Serves until the process ends.
///
/// # Errors
/// When the address is taken, or the log cannot be opened.
pub fn serve(config: &AppConfig) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(config.listen).with_context(|| format!("failed to listen on {}", config.listen))?;
    let log = Arc::new(Log::open(config.log.as_deref())?);
    let open = Arc::new(AtomicUsize::new(0));
    let numbers = AtomicU64::new(0);
    for stream in listener.incoming() {
        let stream = stream.context("failed to accept a connection")?;
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let (log, open, faults) = (Arc::clone(&log), Arc::clone(&open), config.faults);
        std::thread::spawn(move || {
            // A client that breaks off is the client's affair: the log has what arrived.
            drop(converse(stream, number, faults, &log));
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

fn converse(stream: TcpStream, number: u64, faults: Faults, log: &Log) -> anyhow::Result<()> {
    // An answer may take several writes; with Nagle's algorithm the last would wait 40 ms for a delayed ACK.
    stream.set_nodelay(true)?;
    connection::Connection::new(stream, number)?.run(faults, log)
}
