//! Serves one application on a port: HTTP/1.1 on plain sockets, a thread per connection.
//!
//! Adds the natural noise of time to every answer, and writes down what it answered before it answers.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};

use super::log::{Log, Observed, number_of};
use super::random::mix;
use super::{Answer, Application, Context, Kind, Random, Request};
use crate::clock;
use crate::wire::{Reader, field};

/// Open connections; one more is closed at once.
const CONNECTIONS_MAX: usize = 1_024;
/// What an answer takes anyway, in microseconds: this at least, and up to as much again and again.
const BASE_US: u64 = 600;

/// What an instance is told.
#[derive(Clone, Debug)]
pub struct InstanceConfig {
    /// The application.
    pub kind: Kind,
    /// The planted regression; none in A and A′.
    pub mutant: Option<String>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Decides its noise.
    pub seed: u64,
    /// What its environment is called.
    pub environment: String,
    /// Where its answers are written down.
    pub log: Option<PathBuf>,
}

struct Instance {
    config: InstanceConfig,
    application: Box<dyn Application>,
    log: Log,
    served: AtomicU64,
}

/// Serves until the process ends.
///
/// # Errors
/// When the application has no such regression, the address is taken, or the log cannot be opened.
pub fn serve(config: InstanceConfig) -> anyhow::Result<()> {
    if let Some(mutant) = &config.mutant {
        let known = config.kind.mutants().iter().any(|known| known.name == mutant);
        ensure!(known, "`{}` has no regression `{mutant}`", config.kind.name());
    }
    let listener =
        TcpListener::bind(config.listen).with_context(|| format!("failed to listen on {}", config.listen))?;
    let log = Log::open(config.log.as_deref())?;
    let application = config.kind.application();
    let instance = Arc::new(Instance { config, application, log, served: AtomicU64::new(0) });
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = stream.context("failed to accept a connection")?;
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (instance, open) = (Arc::clone(&instance), Arc::clone(&open));
        std::thread::spawn(move || {
            // A client that breaks off is the client's affair.
            drop(instance.converse(stream));
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

// === impl Instance ===

impl Instance {
    fn converse(&self, stream: TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut writer = stream.try_clone()?;
        let mut reader = Reader::new(stream);
        while let Some(head) = reader.request_head()? {
            let body = reader.body_bytes(head.framing()?)?;
            let served = self.served.fetch_add(1, Ordering::Relaxed);
            let mut random = Random::new(mix(&[self.config.seed, served]));
            let base = Duration::from_micros(BASE_US + random.below(BASE_US));
            let now = clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let mut context = Context {
                mutant: self.config.mutant.as_deref(),
                changed: false.into(),
                random,
                now,
                environment: &self.config.environment,
                served,
            };
            let answer = self.application.answer(Request::new(&head, &body), &mut context);
            if let Some(number) = number_of(&head) {
                self.log.write(&Observed {
                    number,
                    request: format!("{} {}", head.method, head.target),
                    status: answer.status,
                    fields: answer.fields.clone(),
                    body: String::from_utf8_lossy(&answer.body).into_owned(),
                    changed: context.changed.get(),
                })?;
            }
            clock::pause(base + answer.before);
            send(&mut writer, answer, &head.method)?;
            if field(&head.fields, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn send(writer: &mut TcpStream, answer: Answer, method: &str) -> anyhow::Result<()> {
    let Answer { status, fields, body, before: _, midway } = answer;
    // The reason phrase has no meaning (RFC 9112 section 4).
    let mut out = format!("HTTP/1.1 {status} -\r\n").into_bytes();
    for (name, value) in &fields {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(format!("Date: {}\r\n", httpdate::fmt_http_date(clock::wall())).as_bytes());
    // An answer without content has no length either (RFC 9110 section 8.6).
    if status != 204 {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if method != "HEAD" && status != 204 {
        let (first, second) = body.split_at(if midway.is_zero() { body.len() } else { body.len() / 2 });
        out.extend_from_slice(first);
        if !second.is_empty() {
            writer.write_all(&out)?;
            clock::pause(midway);
            out = second.to_vec();
        }
    }
    writer.write_all(&out).context("failed to answer")
}
