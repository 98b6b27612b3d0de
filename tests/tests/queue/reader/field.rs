//! One experiment in a Redis of its own: a producer, and workers that do what a test says.
//!
//! Checks nothing but that the book balances.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use understudy::model::{
    Body, Change, Endpoint, Exchange, ExchangeId, Fate, Finding, Flow, FlowKey, FoundCause, Headers, Ledger,
    LedgerSnapshot, Marks, Request, Response, Times, Timestamp, Version,
};
use understudy::queue::entry::{EncodedEntry, Encoding, EntryEncoder, EntryLimits};
use understudy::queue::redis::{
    AppendLimits, Appender, Kept, Keys, Numbered, ProducerId, QueueStats, Redis, RedisConfig, RedisError,
    RedisQueue, SettleLimits, WorkerConfig, WorkerLimits, redis_queue,
};
use understudy::queue::{Claim, Queue as _};
use understudy::wire::{self as form, WireLimits};
use understudy_tests::redis::{Options, Server};

use crate::book::Book;
use crate::connect::config;

/// How long anything may take here.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The producer of all entries.
const PRODUCER: u128 = 1;

/// One experiment.
pub(crate) struct Field {
    pub(crate) server: Server,
    pub(crate) keys: Keys,
    /// Workers that were killed, as far as a test counts them.
    pub(crate) deaths: usize,
    redis: Redis,
    shards: u32,
    appender: Appender,
    made: u64,
}

/// One worker: what runs for it, and what it has.
pub(crate) struct Worker {
    name: String,
    queue: RedisQueue,
    kept: Option<Kept>,
    run: JoinHandle<()>,
    ledger: Arc<Ledger>,
    pub(crate) stats: Arc<QueueStats>,
}

#[expect(clippy::disallowed_methods, reason = "a test that needs a real server needs a real clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Short times, so that tests are.
pub(crate) fn limits() -> WorkerLimits {
    WorkerLimits {
        lease: Duration::from_millis(600),
        claim_after: Duration::from_millis(1_500),
        settle: SettleLimits {
            refusals_max: 2,
            refused_pause: Duration::from_secs(1),
            ..SettleLimits::default()
        },
        ..WorkerLimits::default()
    }
}

/// Waits until it is so.
pub(crate) async fn until(
    what: &str,
    mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = now() + WAIT_MAX;
    while !is_so().await? {
        ensure!(now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The wire form of an exchange with this number.
pub(crate) fn wire(number: u64, body_bytes: usize) -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    form::encode(&exchange(number, body_bytes), &WireLimits::default(), &mut value)?;
    Ok(value)
}

/// What the journal says of an exchange that had this fate; its number stands for its size.
pub(crate) fn finding(exchange: ExchangeId, route: &Arc<str>, fate: Fate) -> Finding {
    let bytes = exchange.offset;
    let cause = FoundCause {
        id: "c1".into(),
        signature: "status \"value\"".into(),
        changes: vec![Change { path: "status".into(), kind: "value".into(), classes: None }],
        example: format!("{{\"exchange\":\"{exchange}\",\"bytes\":{bytes}}}").into(),
        example_bytes: bytes,
    };
    Finding {
        exchange,
        route: Arc::clone(route),
        outcome: if fate == Fate::Mismatched { "mismatch" } else { "match" },
        reason: "",
        compared_at: Timestamp(1_700_000_000_000_000_000 + bytes),
        cause: (fate == Fate::Mismatched).then_some(cause),
    }
}

/// An exchange with this number, all of one connection.
pub(crate) fn exchange(number: u64, body_bytes: usize) -> Exchange {
    let at = Timestamp(number);
    let end = |last, port| Endpoint::from(std::net::SocketAddr::from(([10, 0, 0, last], port)));
    let key = FlowKey { client: end(1, 40_000), server: end(2, 80), scope: 0 };
    let version = Version::Http11;
    let (headers, trailers) = (Headers::default(), Headers::default());
    let body = Body::whole((0..body_bytes).map(|at| (at * 7 % 251) as u8).collect::<Vec<_>>());
    Exchange {
        id: ExchangeId { flow: 7, offset: number },
        flow: Flow { key, opened: at },
        request: Request {
            method: "GET".into(),
            target: "/".into(),
            version,
            headers: headers.clone(),
            trailers: trailers.clone(),
            body: Body::whole(""),
        },
        response: Some(Response { status: 200, version, headers, trailers, body }),
        interim: Vec::new(),
        times: Times { request_first: at, request_last: at, response: Some((at, at)) },
        marks: Marks::default(),
    }
}

// === impl Field ===

impl Field {
    pub(crate) async fn new(shards: u32) -> anyhow::Result<Self> {
        Self::with(shards, Options::default()).await
    }

    pub(crate) async fn with(shards: u32, options: Options) -> anyhow::Result<Self> {
        let server = Server::start_with(options)?;
        // A huge entry keeps a busy machine's Redis from answering for seconds.
        let config = RedisConfig { answer_wait_max: WAIT_MAX, ..config(&server.url())? };
        let redis = Redis::connect(&config).await?;
        let keys = Keys::new("understudy", "shop");
        let appender =
            Appender::new(redis.clone(), keys.clone(), AppendLimits::default(), ProducerId::new(PRODUCER));
        Ok(Self { server, keys, deaths: 0, redis, shards, appender, made: 0 })
    }

    /// From now on streams hold no more entries than this.
    pub(crate) async fn entries_max(&mut self, entries: u64) -> anyhow::Result<()> {
        let limits = AppendLimits { stream_entries_max: entries, ..AppendLimits::default() };
        let (redis, keys) = (self.redis.clone(), self.keys.clone());
        self.appender = Appender::new(redis, keys, limits, ProducerId::new(PRODUCER));
        Ok(())
    }

    pub(crate) fn producer(&self) -> String {
        ProducerId::new(PRODUCER).to_string()
    }

    /// Exchanges that were produced so far.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Puts so many exchanges into the shards in turn, numbered from where it stopped last.
    pub(crate) async fn produce(&mut self, count: u64) -> anyhow::Result<()> {
        let mut encoder = EntryEncoder::new(EntryLimits::default())?;
        let route = Arc::from("/");
        let mut shards = vec![Vec::new(); self.shards as usize];
        for number in self.made..self.made + count {
            let entry = encoder.encode(&exchange(number, 200), &route)?;
            shards[(number % u64::from(self.shards)) as usize].push(Numbered { seq: number + 1, entry });
        }
        self.made += count;
        let batches: Vec<_> = (0u32..).zip(&shards).map(|(shard, entries)| (shard, &entries[..])).collect();
        for appended in self.appender.append_all(&batches).await {
            appended?;
        }
        Ok(())
    }

    /// Puts a value into the first shard as it is.
    pub(crate) async fn produce_value(&mut self, value: &[u8], seq: u64) -> anyhow::Result<()> {
        let value = value.to_vec().into();
        let entry = EncodedEntry { route: "/".into(), encoding: Encoding::Plain, value };
        self.appender.append(0, &[Numbered { seq, entry }]).await?;
        self.made = self.made.max(seq);
        Ok(())
    }

    pub(crate) async fn worker(&self, name: &str) -> Result<Worker, RedisError> {
        self.worker_with(name, limits(), 1).await
    }

    pub(crate) async fn worker_with(
        &self,
        name: &str,
        limits: WorkerLimits,
        reads_major: u16,
    ) -> Result<Worker, RedisError> {
        let (ledger, stats) = (Arc::new(Ledger::default()), Arc::new(QueueStats::default()));
        let worker = WorkerConfig {
            experiment: "shop".into(),
            keys: self.keys.clone(),
            worker: name.into(),
            shards: self.shards,
            together: true,
            reads_major,
            limits,
            ledger: Arc::clone(&ledger),
            stats: Arc::clone(&stats),
            clock: now,
        };
        let (queue, worker, kept) = redis_queue(self.redis.clone(), worker).await?;
        #[expect(clippy::disallowed_methods, reason = "this is what the pipeline does")]
        let run = tokio::spawn(worker.run());
        Ok(Worker { name: name.to_owned(), queue, kept: Some(kept), run, ledger, stats })
    }

    pub(crate) async fn book(&self) -> anyhow::Result<Book> {
        Book::read(&self.redis, &self.keys, self.shards).await
    }

    /// Waits until all that came in has its fate, and checks that it adds up to these fates.
    pub(crate) async fn settled(&self, fates: &[(&str, u64)]) -> anyhow::Result<()> {
        // Redis may be away when it is asked. What a dead worker had of trimmed entries is let go when somebody looks.
        let rests = |book: Book| book.waiting == 0 && book.pending == 0;
        until("an empty stream", async || Ok(self.book().await.is_ok_and(rests))).await?;
        let book = self.book().await?;
        ensure!(book.balances() && book.bytes == 0 && book.pending == 0, "{book:?}");
        let expected = fates.iter().map(|(fate, count)| ((*fate).to_owned(), *count)).collect();
        ensure!(book.fates == expected, "{book:?} instead of {expected:?}");
        Ok(())
    }
}

// === impl Worker ===

impl Worker {
    pub(crate) async fn claim_within(&mut self, wait_max: Duration) -> Option<Claim> {
        tokio::time::timeout(wait_max, self.queue.claim()).await.ok().flatten()
    }

    pub(crate) async fn claim(&mut self) -> anyhow::Result<Claim> {
        self.claim_within(WAIT_MAX).await.with_context(|| format!("{} got nothing", self.name))
    }

    pub(crate) async fn claim_all(&mut self, count: usize) -> anyhow::Result<Vec<Claim>> {
        let mut claims = Vec::new();
        while claims.len() < count {
            claims.push(self.claim().await?);
        }
        Ok(claims)
    }

    pub(crate) fn keep(&self, findings: impl IntoIterator<Item = Finding>) {
        if let Some(kept) = &self.kept {
            kept.keep(findings);
        }
    }

    pub(crate) fn finish(&self, claim: Claim, fate: Fate) {
        let finding = finding(claim.exchange.id, &claim.route, fate);
        claim.settle(fate);
        self.keep([finding]);
    }

    pub(crate) async fn finish_all(&mut self, count: usize, fate: Fate) -> anyhow::Result<()> {
        for _ in 0..count {
            let claim = self.claim().await?;
            self.finish(claim, fate);
        }
        Ok(())
    }

    /// Does so many; gives the numbers of the exchanges.
    pub(crate) async fn do_all(&mut self, count: usize) -> anyhow::Result<Vec<u64>> {
        let mut done = Vec::new();
        for _ in 0..count {
            let claim = self.claim().await?;
            done.push(claim.exchange.id.offset);
            self.finish(claim, Fate::Matched);
        }
        Ok(done)
    }

    /// The next claim, or none once nothing is left to do for anybody.
    pub(crate) async fn claim_if_any(&mut self, field: &Field) -> anyhow::Result<Option<Claim>> {
        let end = now() + WAIT_MAX;
        loop {
            if let Some(claim) = self.claim_within(Duration::from_millis(100)).await {
                return Ok(Some(claim));
            }
            if field.book().await?.waiting == 0 {
                return Ok(None);
            }
            ensure!(now() < end, "{} gets nothing of what waits", self.name);
        }
    }

    /// Does what comes until nothing has come for a while; gives the numbers of the exchanges.
    pub(crate) async fn work(&mut self, quiet: Duration) -> Vec<u64> {
        let mut done = Vec::new();
        while let Some(claim) = self.claim_within(quiet).await {
            done.push(claim.exchange.id.offset);
            self.finish(claim, Fate::Matched);
        }
        done
    }

    /// Ends as a worker does that is told to.
    pub(crate) async fn stop(mut self) -> anyhow::Result<LedgerSnapshot> {
        self.queue.close();
        while let Some(claim) = self.queue.claim().await {
            claim.settle(Fate::Drained);
        }
        self.kept = None;
        tokio::time::timeout(WAIT_MAX, self.run).await.context("the worker does not end")??;
        Ok(self.ledger.snapshot())
    }

    /// Ends as one that is killed: nothing of it is told to anybody.
    pub(crate) async fn kill(self) {
        self.run.abort();
        drop(self.run.await);
    }

    pub(crate) fn count(&self, fate: Fate) -> u64 {
        self.ledger.snapshot().count(fate)
    }

    pub(crate) fn shards(&self) -> u64 {
        self.stats.shards.load(Ordering::Relaxed)
    }

    pub(crate) fn failing(&self) -> u64 {
        self.stats.failing.load(Ordering::Relaxed)
    }

    /// Settlements that Redis has answered.
    pub(crate) fn told(&self) -> u64 {
        self.stats.settled.load(Ordering::Relaxed) + self.stats.settled_before.load(Ordering::Relaxed)
    }
}
