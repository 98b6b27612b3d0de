//! Tells the other hosts of an experiment what this process knows, and reads what all of them know.
//!
//! Waits for nothing else, and nothing waits for it: what cannot be told now is told later, and all of it is at the end.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::link::Agreement;
use super::live::Live;
use super::replaying::LOOPED;
use super::science::Science;
use crate::branch::LoopGuard;
use crate::compare::noise::PathShare;
use crate::journal::RuleTotals;
use crate::metrics::PauseStats;
use crate::model::{AsideEntry, FleetCopy, Ledger};
use crate::queue::entry::{Encoding, EntryDecoder, EntryError, EntryLimits};
use crate::queue::redis::results::{ResultsLimits, listed};
use crate::queue::redis::{Redis, RedisConfig, RedisError, Results, Role};
use crate::report::{CaptureShare, Field, MemberName, PauseShare, RepeatedRequest, WorkerShare};

/// How often to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishLimits {
    /// Time between two tellings. Default one second.
    pub every: Duration,
    /// Fields longer than this are told again after `long_every` at the earliest. Default 64 KiB.
    pub long_bytes: usize,
    /// As above. Default five seconds.
    pub long_every: Duration,
    /// Time after which what has not changed is told again, in case the store lost it. Default one minute.
    pub again: Duration,
    /// Time for the last telling. Default two seconds.
    pub end_max: Duration,
}

/// What one process has to tell.
pub trait Tell: Send {
    /// The fields, and the paths whose evidence is among them in the order in which it began. `ended` when nothing will
    /// follow.
    fn tell(&mut self, ended: bool) -> (Vec<Field>, Vec<String>);
}

/// What a worker has to tell of one experiment.
pub struct WorkerTeller {
    name: MemberName,
    experiment: Arc<str>,
    ledger: Arc<Ledger>,
    science: Arc<Science>,
    live: Arc<Live>,
    loop_guard: Arc<LoopGuard>,
    pauses: Arc<PauseStats>,
}

/// What a capture has to tell of one experiment.
pub struct CaptureTeller<F> {
    /// Who it is.
    pub name: MemberName,
    /// Says what is known now.
    pub share: F,
}

/// Tells what one process knows of one experiment until it ends.
pub struct Publisher<T> {
    results: Results,
    agreement: Option<Agreement>,
    role: Role,
    id: String,
    teller: T,
    limits: PublishLimits,
    told: BTreeMap<&'static str, Told>,
    ranked: HashSet<String>,
    enrolled: Option<tokio::time::Instant>,
    failing: bool,
}

/// What was told last in one field.
#[derive(Clone, Copy)]
struct Told {
    hash: u64,
    at: tokio::time::Instant,
}

// === impl PublishLimits ===

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            long_bytes: 64 << 10,
            long_every: Duration::from_secs(5),
            again: Duration::from_secs(60),
            end_max: Duration::from_secs(2),
        }
    }
}

// === impl WorkerTeller ===

impl WorkerTeller {
    /// The experiment.
    pub fn experiment(&self) -> &Arc<str> {
        &self.experiment
    }

    /// Of an experiment that is replayed.
    pub fn new(
        name: MemberName,
        experiment: Arc<str>,
        ledger: Arc<Ledger>,
        science: Arc<Science>,
        live: Arc<Live>,
        loop_guard: Arc<LoopGuard>,
        pauses: Arc<PauseStats>,
    ) -> Self {
        Self { name, experiment, ledger, science, live, loop_guard, pauses }
    }
}

impl Tell for WorkerTeller {
    fn tell(&mut self, ended: bool) -> (Vec<Field>, Vec<String>) {
        let judging = self.science.judge().judging();
        let counts = judging.comparator().into_iter().flat_map(|comparator| comparator.rule_counts());
        let totals = counts.map(|(rule, counts)| RuleTotals {
            rule: Arc::clone(rule),
            met: counts.met.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
        });
        let totals: Vec<RuleTotals> = totals.collect();
        let of_live =
            self.live.ask(&self.experiment, |live| (live.latency_shares(), live.rule_counts(&totals)));
        let (latency, rules) = of_live.unwrap_or_default();
        let noise = self.science.share();
        let mut ranked: Vec<(usize, String)> = Vec::new();
        for route in &noise.routes {
            let path = |path: &PathShare| Some((path.rank?, format!("{}\u{1f}{}", route.route, path.path)));
            ranked.extend(route.paths.iter().filter_map(path));
        }
        ranked.sort_unstable();
        let stopped = self.loop_guard.is_tripped().then(|| LOOPED.to_owned());
        let (ledger, pause) = (self.ledger.snapshot(), pause_share(&self.pauses));
        let share = WorkerShare { ledger, noise, latency, rules, stopped, pause, ended };
        (share.fields(&self.name), ranked.into_iter().map(|(_, path)| path).collect())
    }
}

// === impl CaptureTeller ===

impl<F: FnMut(bool) -> CaptureShare + Send> Tell for CaptureTeller<F> {
    fn tell(&mut self, ended: bool) -> (Vec<Field>, Vec<String>) {
        ((self.share)(ended).fields(&self.name), Vec::new())
    }
}

// === impl Publisher ===

impl<T: Tell> Publisher<T> {
    /// Has told nothing yet. `id` is the process's name in the store, new at each start.
    pub fn new(results: Results, role: Role, id: String, teller: T, limits: PublishLimits) -> Self {
        Self {
            results,
            agreement: None,
            role,
            id,
            teller,
            limits,
            told: BTreeMap::new(),
            ranked: HashSet::new(),
            enrolled: None,
            failing: false,
        }
    }

    /// Says again and again what all processes agree on: Redis may have been away when it was said first, or be emptied.
    pub(super) fn agreeing(self, agreement: Agreement) -> Self {
        Self { agreement: Some(agreement), ..self }
    }

    /// Tells until `end` does, then once more all of it.
    pub async fn run(mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let told = self.tell(false).await;
            self.note(told);
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(self.limits.every) => {}
            }
        }
        self.told.clear();
        let (limits, experiment) = (self.limits, self.results.experiment().to_owned());
        let told = tokio::time::timeout(limits.end_max, self.tell(true)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::warn!(
                experiment,
                "Redis was not told how it ended; a report shows what it was told last."
            );
        }
    }

    async fn tell(&mut self, ended: bool) -> Result<(), RedisError> {
        let now = super::clock::now();
        if self.enrolled.is_none_or(|at| now.duration_since(at) >= self.limits.again) {
            if let Some(agreement) = &self.agreement {
                agreement.make().await?;
            }
            self.results.enrol().await?;
            self.enrolled = Some(now);
        }
        let (fields, paths) = self.teller.tell(ended);
        // A path has its place before its evidence can be read.
        self.rank(paths).await?;
        let news: Vec<Field> =
            fields.into_iter().filter(|(name, value)| self.is_news(name, value, now)).collect();
        self.results.publish(self.role, &self.id, &news).await?;
        for (name, value) in &news {
            self.told.insert(name, Told { hash: FixedState::default().hash_one(value.as_slice()), at: now });
        }
        Ok(())
    }

    fn is_news(&self, name: &str, value: &[u8], now: tokio::time::Instant) -> bool {
        let Some(Told { hash, at }) = self.told.get(name) else { return true };
        let age = now.duration_since(*at);
        let changed = *hash != FixedState::default().hash_one(value);
        let is_due = value.len() <= self.limits.long_bytes || age >= self.limits.long_every;
        age >= self.limits.again || (changed && is_due)
    }

    async fn rank(&mut self, paths: Vec<String>) -> Result<(), RedisError> {
        if paths.is_empty() {
            return Ok(());
        }
        let known = self.ranked.len() as u64;
        let news: Vec<String> = paths.into_iter().filter(|path| !self.ranked.contains(path)).collect();
        let places = self.results.rank(&news).await?;
        self.ranked.extend(news);
        if places < known {
            // The store was emptied: all of them are asked for next time.
            self.ranked.clear();
        }
        Ok(())
    }

    /// Says when telling begins to fail, and when it works again.
    fn note(&mut self, told: Result<(), RedisError>) {
        let experiment = self.results.experiment();
        match told {
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        experiment,
                        error,
                        "Results cannot be told to other hosts; they are later."
                    );
                }
                // Whether the last ones arrived is not known.
                self.told.clear();
                self.enrolled = None;
            }
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(experiment, "Results are told to other hosts again.");
                }
            }
        }
    }
}

impl<T> std::fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("id", &self.id)
            .field("results", &self.results)
            .finish_non_exhaustive()
    }
}

/// The pauses of this process, for others.
pub(super) fn pause_share(pauses: &PauseStats) -> PauseShare {
    PauseShare { is_paused: pauses.is_paused(), total: pauses.total() }
}

/// This process, as others know it.
pub(super) fn member_name() -> MemberName {
    // By a call: a unit may see nothing of /proc but processes (systemd.exec(5), ProcSubset=).
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    MemberName { host, started_at: super::clock::wall(), version: env!("CARGO_PKG_VERSION").to_owned() }
}

// === Reading ===

/// Experiments that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Redis does not answer, or not as it should.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// There is no memory to read an entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Nobody has written anything there.
    #[error(
        "Redis at {address} holds no experiment under the prefix `{prefix}`: `understudy capture` or `replay` has not \
         run with it yet, or uses another prefix or database number"
    )]
    Nothing {
        /// Where.
        address: String,
        /// Under which prefix.
        prefix: String,
    },
    /// There are others.
    #[error("Redis at {address} holds no experiment `{experiment}`; it holds: {}", known.join(", "))]
    Unknown {
        /// Where.
        address: String,
        /// The name.
        experiment: String,
        /// Those that there are.
        known: Vec<String>,
    },
}

/// Everything that Redis holds of the experiments under a prefix, or of one of them.
///
/// # Errors
/// When Redis does not answer, or holds no such experiment.
pub async fn read_fleet(
    config: &RedisConfig,
    prefix: &str,
    experiment: Option<&str>,
) -> Result<Vec<FleetCopy>, FleetError> {
    let redis = Redis::connect(config).await?;
    let mut copies = Vec::new();
    for name in names(&redis, prefix, experiment).await? {
        let results = Results::new(redis.clone(), prefix, &name, ResultsLimits::default());
        copies.extend(results.read().await?);
    }
    match (copies.is_empty(), experiment) {
        (false, _) => Ok(copies),
        (true, experiment) => Err(missing(&redis, prefix, experiment).await?),
    }
}

/// An entry that stands aside.
#[derive(Debug)]
pub struct Aside {
    /// The experiment.
    pub experiment: String,
    /// The entry as it lies in Redis.
    pub entry: AsideEntry,
    /// Its request, or why it cannot be shown.
    pub request: Result<RepeatedRequest, String>,
}

/// Where a request goes to when nobody has said where the candidate is.
const UNKNOWN_CANDIDATE: &str = "http://CANDIDATE";

/// The request of an entry, for the candidate at `base`.
fn request(decoder: &mut EntryDecoder, entry: &AsideEntry, base: &str) -> Result<RepeatedRequest, String> {
    let value = |encoding: &Encoding| Some((*encoding, entry.fields.get(encoding.field())?));
    let Some((encoding, value)) = Encoding::ALL.iter().find_map(value) else {
        return Err(match entry.fields.contains_key("parts") {
            true => "it was so large that it came in parts, which are not kept".to_owned(),
            false => "nothing of it is kept".to_owned(),
        });
    };
    let exchange = decoder.decode(encoding, value).map_err(|error| error.to_string())?;
    Ok(RepeatedRequest::of(&exchange, base))
}

/// Entries that stand aside, the newest of each shard.
///
/// # Errors
/// As for [`read_fleet`].
pub async fn read_aside(
    config: &RedisConfig,
    prefix: &str,
    experiment: Option<&str>,
    per_shard_max: u32,
) -> Result<Vec<Aside>, FleetError> {
    let redis = Redis::connect(config).await?;
    let mut decoder = EntryDecoder::new(EntryLimits::default())?;
    let mut entries = Vec::new();
    let names = names(&redis, prefix, experiment).await?;
    if names.is_empty() {
        return Err(missing(&redis, prefix, experiment).await?);
    }
    for name in names {
        let results = Results::new(redis.clone(), prefix, &name, ResultsLimits::default());
        let candidate = results.candidate().await?;
        let base = candidate.as_deref().unwrap_or(UNKNOWN_CANDIDATE);
        entries.extend(results.aside(per_shard_max).await?.into_iter().map(|entry| {
            let request = request(&mut decoder, &entry, base);
            Aside { experiment: name.clone(), entry, request }
        }));
    }
    // That nothing stands aside is no answer about an experiment that there is not.
    if entries.is_empty()
        && let Some(name) = experiment
        && !listed(&redis, prefix).await?.iter().any(|have| have == name)
    {
        return Err(missing(&redis, prefix, experiment).await?);
    }
    Ok(entries)
}

async fn names(redis: &Redis, prefix: &str, experiment: Option<&str>) -> Result<Vec<String>, RedisError> {
    match experiment {
        Some(name) => Ok(vec![name.to_owned()]),
        None => listed(redis, prefix).await,
    }
}

async fn missing(redis: &Redis, prefix: &str, experiment: Option<&str>) -> Result<FleetError, RedisError> {
    let (address, known) = (redis.address().to_owned(), listed(redis, prefix).await?);
    Ok(match experiment {
        Some(experiment) if !known.is_empty() => {
            FleetError::Unknown { address, experiment: experiment.to_owned(), known }
        }
        Some(_) | None => FleetError::Nothing { address, prefix: prefix.to_owned() },
    })
}
