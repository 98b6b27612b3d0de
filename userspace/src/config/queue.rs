//! `[queue]` and `[spool]` word by word, and their check.
//!
//! Opens no file: a configuration with a queue can be checked, and used for `run`, by somebody who may not read the
//! password.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::error::Fault;
use super::raw::{set, set_duration};
use crate::pipeline::settings::{QueueAccess, QueueConfig};
use crate::queue::redis::config::{Location, Mode};
use crate::spool::SpoolConfig;

/// `[queue]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQueue {
    redis: Spanned<OneOrMany>,
    mode: Option<Spanned<String>>,
    sentinel_master: Option<Spanned<String>>,
    credentials: Option<PathBuf>,
    ca: Option<Spanned<PathBuf>>,
    client_cert: Option<Spanned<PathBuf>>,
    client_key: Option<Spanned<PathBuf>>,
    prefix: Option<Spanned<String>>,
    shards: Option<Spanned<u32>>,
    session: Option<Spanned<String>>,
    stream_entries_max: Option<Spanned<u64>>,
    stream_bytes_max: Option<Spanned<u64>>,
    part_lifetime: Option<Spanned<String>>,
    batch_max: Option<Spanned<usize>>,
    batch_wait: Option<Spanned<String>>,
    in_flight_bytes_max: Option<Spanned<usize>>,
    retry_min: Option<Spanned<String>>,
    retry_max: Option<Spanned<String>>,
    refused_wait_max: Option<Spanned<String>>,
    drain_max: Option<Spanned<String>>,
    lease: Option<Spanned<String>>,
    claim_after: Option<Spanned<String>>,
    deliveries_max: Option<Spanned<u64>>,
    poll_max: Option<Spanned<String>>,
    held_bytes_max: Option<Spanned<usize>>,
    causes_max: Option<Spanned<usize>>,
    examples_max: Option<usize>,
    set_aside_max: Option<Spanned<usize>>,
    set_aside_bytes_max: Option<usize>,
    set_aside_kept: Option<Spanned<String>>,
    exchange_bytes_max: Option<usize>,
    compress_bytes_min: Option<usize>,
    compress_level: Option<Spanned<i32>>,
    connect_wait_max: Option<Spanned<String>>,
    answer_wait_max: Option<Spanned<String>>,
}

/// `[spool]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpool {
    path: Option<PathBuf>,
    bytes_max: Option<u64>,
    free_bytes_min: Option<u64>,
    segment_bytes: Option<Spanned<u64>>,
}

/// `"redis://host"`, or a list of them.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an address such as \"redis://redis.internal:6379/0\", or a list of them")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Most shards: each is a stream and some keys in Redis, and a batch of its own.
const SHARDS_MAX: u32 = 1024;

/// Shortest lease: a worker renews its leases three times as often, and one answer of Redis may take that long.
const LEASE_MIN: Duration = Duration::from_millis(100);

/// Longest prefix of keys.
const PREFIX_BYTES_MAX: usize = 128;

fn fault<T>(key: &str, at: &Spanned<T>, problem: impl Into<String>) -> Fault {
    Fault { key: format!("queue.{key}"), span: at.span(), problem: problem.into() }
}

fn at_least_one<T: Copy + Default + PartialEq>(
    key: &str,
    given: Option<Spanned<T>>,
) -> Result<Option<T>, Fault> {
    match given {
        Some(given) if *given.get_ref() == T::default() => Err(fault(key, &given, "must be at least 1")),
        given => Ok(given.map(Spanned::into_inner)),
    }
}

/// Refuses a duration from the file that is shorter than this.
fn not_below(
    key: &str,
    given: Option<&Spanned<String>>,
    value: Duration,
    min: Duration,
) -> Result<(), Fault> {
    match given {
        Some(given) if value < min => {
            Err(fault(key, given, format!("must be at least {}", humantime::format_duration(min))))
        }
        Some(_) | None => Ok(()),
    }
}

// === impl RawQueue ===

impl RawQueue {
    pub(super) fn finish(self) -> Result<QueueConfig, Fault> {
        let access = self.access()?;
        let mut config = QueueConfig::new(access);
        if let Some(prefix) = self.prefix {
            let sound = !prefix.get_ref().is_empty() && prefix.get_ref().len() <= PREFIX_BYTES_MAX;
            if !sound || prefix.get_ref().chars().any(|c| c.is_control() || c.is_whitespace()) {
                let problem = format!("must be 1 to {PREFIX_BYTES_MAX} bytes without white space");
                return Err(fault("prefix", &prefix, problem));
            }
            config.prefix = prefix.into_inner();
        }
        if let Some(shards) = self.shards {
            let number = NonZeroU32::new(*shards.get_ref()).filter(|number| number.get() <= SHARDS_MAX);
            let wrong = || fault("shards", &shards, format!("must be from 1 to {SHARDS_MAX}"));
            config.shards = number.ok_or_else(wrong)?;
        }
        if let Some(session) = self.session {
            config.session =
                session.get_ref().parse().map_err(|error| fault("session", &session, format!("{error}")))?;
        }
        let append = &mut config.append;
        set(&mut append.stream_entries_max, at_least_one("stream_entries_max", self.stream_entries_max)?);
        set(&mut append.stream_bytes_max, at_least_one("stream_bytes_max", self.stream_bytes_max)?);
        set_duration(&mut append.part_lifetime, "queue.part_lifetime", self.part_lifetime.as_ref())?;
        let upload = &mut config.upload;
        set(&mut upload.batch_max, at_least_one("batch_max", self.batch_max)?);
        set_duration(&mut upload.batch_wait, "queue.batch_wait", self.batch_wait.as_ref())?;
        set(&mut upload.in_flight_bytes_max, at_least_one("in_flight_bytes_max", self.in_flight_bytes_max)?);
        set_duration(&mut upload.retry_min, "queue.retry_min", self.retry_min.as_ref())?;
        set_duration(&mut upload.retry_max, "queue.retry_max", self.retry_max.as_ref())?;
        set_duration(&mut upload.refused_wait_max, "queue.refused_wait_max", self.refused_wait_max.as_ref())?;
        set_duration(&mut upload.drain_max, "queue.drain_max", self.drain_max.as_ref())?;
        let worker = &mut config.worker;
        set_duration(&mut worker.lease, "queue.lease", self.lease.as_ref())?;
        not_below("lease", self.lease.as_ref(), worker.lease, LEASE_MIN)?;
        set_duration(&mut worker.claim_after, "queue.claim_after", self.claim_after.as_ref())?;
        set(&mut worker.deliveries_max, at_least_one("deliveries_max", self.deliveries_max)?);
        set_duration(&mut worker.poll_max, "queue.poll_max", self.poll_max.as_ref())?;
        not_below("poll_max", self.poll_max.as_ref(), worker.poll_max, worker.poll_min)?;
        set(&mut worker.bytes_max, at_least_one("held_bytes_max", self.held_bytes_max)?);
        let settle = &mut worker.settle;
        set(&mut settle.causes_max, at_least_one("causes_max", self.causes_max)?);
        set(&mut settle.examples_max, self.examples_max);
        set(&mut settle.aside_max, at_least_one("set_aside_max", self.set_aside_max)?);
        set(&mut settle.aside_bytes_max, self.set_aside_bytes_max);
        set_duration(&mut settle.aside_kept, "queue.set_aside_kept", self.set_aside_kept.as_ref())?;
        // Redis counts it in seconds.
        let kept_min = Duration::from_secs(1);
        not_below("set_aside_kept", self.set_aside_kept.as_ref(), settle.aside_kept, kept_min)?;
        set(&mut config.entry.wire.exchange_bytes_max, self.exchange_bytes_max);
        set(&mut config.entry.compress_bytes_min, self.compress_bytes_min);
        if let Some(level) = self.compress_level {
            if !(-7..=19).contains(level.get_ref()) {
                return Err(fault("compress_level", &level, "must be from -7 (fast) to 19 (small)"));
            }
            config.entry.compress_level = level.into_inner();
        }
        Ok(config)
    }

    /// Where Redis is, and who we are to it.
    fn access(&self) -> Result<QueueAccess, Fault> {
        let texts = match self.redis.get_ref() {
            OneOrMany::One(text) => std::slice::from_ref(text),
            OneOrMany::Many(texts) => texts,
        };
        let mode = self.mode()?;
        let (mut servers, mut database, mut tls) = (Vec::new(), None, None);
        for text in texts {
            let wrong = |problem: String| fault("redis", &self.redis, problem);
            let location = Location::parse(text).map_err(|error| wrong(error.to_string()))?;
            if tls.is_some_and(|tls| tls != location.tls) {
                return Err(wrong(
                    "all addresses must begin alike, with `redis://` or `rediss://`".to_owned(),
                ));
            }
            if database.is_some() && location.database.is_some() && database != location.database {
                return Err(wrong("the addresses name several databases".to_owned()));
            }
            tls = Some(location.tls);
            database = database.or(location.database);
            servers.push(location.server);
        }
        let one = servers.len() == 1;
        match &mode {
            _ if servers.is_empty() => return Err(fault("redis", &self.redis, "names no address")),
            Mode::Single if !one => {
                let problem = "names several addresses: set `mode` to \"cluster\" or \"sentinel\"";
                return Err(fault("redis", &self.redis, problem));
            }
            Mode::Cluster if database.is_some_and(|database| database != 0) => {
                let problem = "a cluster has no database but 0: leave the number out of the address";
                return Err(fault("redis", &self.redis, problem));
            }
            Mode::Single | Mode::Cluster | Mode::Sentinel { master: _ } => {}
        }
        let tls = tls.unwrap_or_default();
        for (key, path) in
            [("ca", &self.ca), ("client_cert", &self.client_cert), ("client_key", &self.client_key)]
        {
            if let Some(path) = path
                && !tls
            {
                return Err(fault(key, path, "is for TLS: begin the address with `rediss://`"));
            }
        }
        let path = |given: &Option<Spanned<PathBuf>>| given.as_ref().map(|path| path.get_ref().clone());
        let client = match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => Some((cert.get_ref().clone(), key.get_ref().clone())),
            (Some(cert), None) => return Err(fault("client_cert", cert, "needs its `client_key`")),
            (None, Some(key)) => return Err(fault("client_key", key, "needs its `client_cert`")),
            (None, None) => None,
        };
        let mut access = QueueAccess {
            servers,
            mode,
            database: database.unwrap_or_default(),
            tls,
            credentials: self.credentials.clone(),
            ca: path(&self.ca),
            client,
            ..QueueAccess::default()
        };
        let waits = [
            (&mut access.connect_wait_max, "connect_wait_max", &self.connect_wait_max),
            (&mut access.answer_wait_max, "answer_wait_max", &self.answer_wait_max),
        ];
        for (place, key, given) in waits {
            set_duration(place, &format!("queue.{key}"), given.as_ref())?;
        }
        Ok(access)
    }

    fn mode(&self) -> Result<Mode, Fault> {
        let named = self.mode.as_ref().map(|mode| mode.get_ref().as_str());
        match (named, &self.sentinel_master) {
            (Some("sentinel"), Some(master)) if !master.get_ref().is_empty() => {
                Ok(Mode::Sentinel { master: master.get_ref().clone() })
            }
            (Some("sentinel"), _) => {
                let at = self.mode.as_ref().map_or(0..0, Spanned::span);
                let problem = "\"sentinel\" needs `sentinel_master`, the name of the server there".to_owned();
                Err(Fault { key: "queue.mode".to_owned(), span: at, problem })
            }
            (_, Some(master)) => Err(fault("sentinel_master", master, "is for mode = \"sentinel\"")),
            (None | Some("single"), None) => Ok(Mode::Single),
            (Some("cluster"), None) => Ok(Mode::Cluster),
            (Some(other), None) => {
                let at = self.mode.as_ref().map_or(0..0, Spanned::span);
                let problem = format!("must be \"single\", \"cluster\" or \"sentinel\", not `{other}`");
                Err(Fault { key: "queue.mode".to_owned(), span: at, problem })
            }
        }
    }
}

// === impl RawSpool ===

impl RawSpool {
    pub(super) fn finish(self) -> Result<SpoolConfig, Fault> {
        let Self { path, bytes_max, free_bytes_min, segment_bytes } = self;
        let mut config = SpoolConfig::default();
        set(&mut config.path, path);
        set(&mut config.bytes_max, bytes_max);
        set(&mut config.free_bytes_min, free_bytes_min);
        if let Some(bytes) = segment_bytes {
            if *bytes.get_ref() < 4096 {
                let problem = "must be at least 4096".to_owned();
                return Err(Fault { key: "spool.segment_bytes".to_owned(), span: bytes.span(), problem });
            }
            config.segment_bytes = bytes.into_inner();
        }
        Ok(config)
    }
}
