//! `understudy observe`: hands exchanges from a file to an understudy that runs.
//!
//! Needs no privileges, and keeps nothing. That one has to have `observe = true` under [admin].

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Exit, output};
use crate::pipeline::observe::{ClientConfig, hand_in};
use crate::pipeline::protect::remote::AdminConfig;

/// What to hand in, and to whom.
#[derive(Debug, Args)]
#[command(after_help = "Example: understudy observe exchanges.jsonl --url http://127.0.0.1:9469\n\
                        One line of JSON is one exchange, as `understudy inspect --json --body` prints it; see docs/adapters.md.")]
pub(super) struct Arguments {
    /// The exchanges; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    listener: ListenerFlags,
}

/// Which admin listener, and who asks.
#[derive(Debug, Args)]
pub(super) struct ListenerFlags {
    /// Admin listener of the understudy that runs: `http://…`, or `https://…` where it speaks TLS.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9469")]
    url: String,
    /// File with its token, which nobody but its owner can read. A token itself does not belong on a command line.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Who signed its certificate, as PEM; with https.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Our own certificate, as PEM, where it asks for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

// === impl ListenerFlags ===

impl ListenerFlags {
    /// What these flags say.
    pub(super) fn config(&self) -> ClientConfig {
        let Self { url, token, ca, cert, key } = self;
        let own = cert.clone().zip(key.clone());
        ClientConfig { url: url.clone(), token: token.clone(), ca: ca.clone(), own }
    }

    /// The listener of another understudy of this host, which is configured so; flags say the rest.
    pub(super) fn config_for(&self, admin: &AdminConfig) -> ClientConfig {
        let scheme = if admin.tls.is_some() { "https" } else { "http" };
        let mut address = admin.listen;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            });
        }
        let flags = self.config();
        let token = flags.token.or_else(|| admin.token.clone());
        ClientConfig { url: format!("{scheme}://{address}"), token, ..flags }
    }
}

/// Hands all of it in and says how many.
pub(super) fn observe(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Arguments { file, listener } = arguments;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the async runtime")?;
    let mut lines: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(stdin().lock())
    } else {
        let file = File::open(file).with_context(|| format!("failed to open `{}`", file.display()))?;
        Box::new(BufReader::new(file))
    };
    let taken = runtime.block_on(hand_in(&listener.config(), &mut lines))?;
    output::print(&format!("{taken} exchanges were taken.\n"))?;
    Ok(Exit::Success)
}
