//! Entries that go into Redis: each once, whatever happens on the way, and never more than the bounds allow.
//!
//! Reads the streams as a stranger would, not with our reader.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use understudy::queue::entry::{EncodedEntry, Encoding};
use understudy::queue::redis::append::ENTRY_OVERHEAD_BYTES;
use understudy::queue::redis::config::{Location, Mode};
use understudy::queue::redis::{
    AppendLimits, Appender, Keys, Numbered, ProducerId, Redis, RedisConfig, RedisErrorKind,
};
use understudy_tests::redis::{Cluster, Server};

use crate::book::Book;
use crate::connect::config;
use crate::{Case, REDIS, block_on};

pub(crate) const CASES: &[Case] = &[
    Case { name: "what_went_in_is_what_a_list_says", needs: REDIS, run: model },
    Case { name: "what_a_restarted_redis_has_lost_is_known", needs: REDIS, run: restarted },
    Case { name: "an_earlier_process_doubles_nothing", needs: REDIS, run: resumed },
    Case { name: "a_full_redis_takes_all_or_nothing", needs: REDIS, run: full },
    Case { name: "a_foreign_key_stops_a_batch_before_it_changes_anything", needs: REDIS, run: foreign },
    Case { name: "large_entries_go_in_parts_and_leave_with_them", needs: REDIS, run: parts },
    Case { name: "shards_spread_over_a_cluster", needs: REDIS, run: cluster },
];

const SHARDS: u32 = 3;
const ROUTE: &str = "/items/{id}";
/// How often a batch is repeated before a test fails.
const REPEATS_MAX: usize = 20;

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Batches of entries, as (shard, sizes of values); numbers are left out before each.
    Append { batches: BTreeMap<u32, Vec<usize>>, skipped: u64 },
    /// The same, but the answer to the first attempt, if it is made at all, never arrives.
    AppendUnheard { batches: BTreeMap<u32, Vec<usize>>, polls: usize },
    /// The last batches once more, although they were confirmed.
    Repeat,
    /// Redis closes all connections.
    Cut,
    /// Redis loses everything.
    Flush,
}

/// One shard, as a list.
#[derive(Clone, Debug, Default)]
struct Listed {
    stream: VecDeque<(u64, u64)>,
    accepted: u64,
    trimmed: u64,
    confirmed: u64,
    last: u64,
}

type Batches = Vec<(u32, Vec<Numbered<EncodedEntry>>)>;

fn entry(bytes: usize) -> EncodedEntry {
    EncodedEntry { route: ROUTE.into(), encoding: Encoding::Plain, value: Bytes::from(vec![b'v'; bytes]) }
}

fn numbered(seqs: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Numbered<EncodedEntry>> {
    seqs.map(|seq| Numbered { seq, entry: entry(bytes) }).collect()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batches =
        || proptest::collection::btree_map(0..SHARDS, vec(0_usize..400, 1..12), 1..=SHARDS as usize);
    let step = prop_oneof![
        4 => (batches(), 0_u64..3).prop_map(|(batches, skipped)| Step::Append { batches, skipped }),
        3 => (batches(), 0_usize..6).prop_map(|(batches, polls)| Step::AppendUnheard { batches, polls }),
        1 => Just(Step::Repeat),
        1 => Just(Step::Cut),
        1 => Just(Step::Flush),
    ];
    vec(step, 1..25)
}

// === impl Listed ===

impl Listed {
    fn append(&mut self, entries: &[Numbered<EncodedEntry>], limits: &AppendLimits) {
        for Numbered { seq, entry } in entries {
            let size = entry.value.len() + ROUTE.len() + ENTRY_OVERHEAD_BYTES;
            self.stream.push_back((*seq, size as u64));
            self.accepted += 1;
            self.confirmed += 1;
            self.last = *seq;
        }
        while self.stream.len() as u64 > limits.stream_entries_max || self.bytes() > limits.stream_bytes_max {
            self.stream.pop_front();
            self.trimmed += 1;
        }
    }

    fn bytes(&self) -> u64 {
        self.stream.iter().map(|(_, size)| size).sum()
    }
}

/// Appends until all is confirmed.
async fn append(appender: &mut Appender, batches: &Batches) -> anyhow::Result<()> {
    for _ in 0..REPEATS_MAX {
        let slices: Vec<_> = batches.iter().map(|(shard, entries)| (*shard, entries.as_slice())).collect();
        let mut all = true;
        for result in appender.append_all(&slices).await {
            match result {
                Ok(_) => {}
                Err(error) if error.is_unsettled() => all = false,
                Err(error) => return Err(error.into()),
            }
        }
        if all {
            return Ok(());
        }
    }
    bail!("it was never confirmed")
}

/// Begins to append, and stops listening after so many polls.
async fn give_up(appender: &mut Appender, batches: &Batches, polls: usize) {
    let slices: Vec<_> = batches.iter().map(|(shard, entries)| (*shard, entries.as_slice())).collect();
    let mut unheard = pin!(appender.append_all(&slices));
    for _ in 0..polls {
        tokio::select! {
            biased;
            _ = &mut unheard => break,
            () = tokio::task::yield_now() => {}
        }
    }
}

fn model() -> anyhow::Result<()> {
    let server = Server::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let redis = runtime.block_on(Redis::connect(&config(&server.url())?))?;
    let mut experiment = 0;
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    let count = std::cell::RefCell::new(&mut experiment);
    let checked = runner.run(&steps(), |steps| {
        let number = {
            let mut count = count.borrow_mut();
            **count += 1;
            **count
        };
        let keys = Keys::new("model", &number.to_string());
        let followed = runtime.block_on(follow(&server, &redis, &keys, &steps));
        followed.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    checked.map_err(|error| anyhow::anyhow!("{error}"))
}

async fn follow(server: &Server, redis: &Redis, keys: &Keys, steps: &[Step]) -> anyhow::Result<()> {
    let limits = AppendLimits {
        stream_entries_max: 30,
        stream_bytes_max: 9_000,
        call_entries_max: 7,
        ..AppendLimits::default()
    };
    let mut appender = Appender::new(redis.clone(), keys.clone(), limits.clone(), ProducerId::new(7));
    let mut lists: Vec<Listed> = vec![Listed::default(); SHARDS as usize];
    let mut before: Batches = Vec::new();
    let batches_of = |lists: &[Listed], sizes: &BTreeMap<u32, Vec<usize>>, skipped: u64| -> Batches {
        let batch = |(shard, sizes): (&u32, &Vec<usize>)| {
            let first = lists[*shard as usize].last + 1 + skipped;
            let entries =
                sizes.iter().zip(first..).map(|(bytes, seq)| Numbered { seq, entry: entry(*bytes) });
            (*shard, entries.collect())
        };
        sizes.iter().map(batch).collect()
    };
    // The end: every shard hears once more, so that what was lost before is noticed.
    let last = Step::Append { batches: (0..SHARDS).map(|shard| (shard, vec![1])).collect(), skipped: 0 };
    for step in steps.iter().chain([&last]) {
        let batches = match step {
            Step::Append { batches, skipped } => batches_of(&lists, batches, *skipped),
            Step::AppendUnheard { batches, polls } => {
                let batches = batches_of(&lists, batches, 0);
                give_up(&mut appender, &batches, *polls).await;
                batches
            }
            Step::Repeat => {
                append(&mut appender, &before).await?;
                continue;
            }
            Step::Cut => {
                server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])?;
                continue;
            }
            Step::Flush => {
                // What is under way has to arrive before; its answer comes after it on the same connection.
                while redis.ping().await.is_err() {}
                server.command(&["FLUSHALL"])?;
                for list in &mut lists {
                    *list = Listed { confirmed: list.confirmed, last: list.last, ..Listed::default() };
                }
                continue;
            }
        };
        append(&mut appender, &batches).await?;
        for (shard, entries) in &batches {
            lists[*shard as usize].append(entries, &limits);
        }
        before = batches;
    }
    let book = Book::read(redis, keys, SHARDS).await?;
    ensure!(book.balances(), "{book:?}");
    let sum = |count: fn(&Listed) -> u64| lists.iter().map(count).sum::<u64>();
    let expected = Book {
        accepted: sum(|list| list.accepted),
        bytes: sum(Listed::bytes),
        trimmed: sum(|list| list.trimmed),
        forgotten: sum(|list| list.confirmed - list.accepted),
        waiting: sum(|list| list.stream.len() as u64),
        // Not in the list: how often an unheard batch had arrived, and what went in and out again.
        duplicates: book.duplicates,
        accepted_bytes: book.accepted_bytes,
        ..Book::default()
    };
    ensure!(book == expected, "{book:?}, expected {expected:?}");
    let forgotten = appender.forgotten();
    ensure!(forgotten == book.forgotten, "the appender told of {forgotten} forgotten entries: {book:?}");
    for (shard, list) in (0..).zip(&lists) {
        let seqs: Vec<u64> = seqs(redis, keys, shard).await?;
        let expected: Vec<u64> = list.stream.iter().map(|(seq, _)| *seq).collect();
        ensure!(seqs == expected, "shard {shard} holds {seqs:?}, expected {expected:?}");
    }
    Ok(())
}

/// The numbers of what lies in a stream.
async fn seqs(redis: &Redis, keys: &Keys, shard: u32) -> anyhow::Result<Vec<u64>> {
    let mut command = redis::cmd("XRANGE");
    command.arg(keys.shard(shard).stream()).arg("-").arg("+");
    let entries: Vec<(String, BTreeMap<String, redis::Value>)> =
        redis.query("list a stream", &command).await?;
    let seqs = entries.into_iter().map(|(_, mut fields)| {
        let seq = fields.remove("seq").context("an entry without a number")?;
        Ok(redis::from_redis_value(seq)?)
    });
    seqs.collect()
}

/// An appender for one more experiment, with its keys.
async fn appender(server: &Server, limits: AppendLimits) -> anyhow::Result<(Appender, Redis, Keys)> {
    let redis = Redis::connect(&config(&server.url())?).await?;
    let keys = Keys::new("understudy", "checkout");
    Ok((Appender::new(redis.clone(), keys.clone(), limits, ProducerId::new(1)), redis, keys))
}

fn restarted() -> anyhow::Result<()> {
    let mut server = Server::start()?;
    block_on(async {
        let (mut appender, redis, keys) = appender(&server, AppendLimits::default()).await?;
        appender.append(0, &numbered(1..=10, 500)).await?;
        server.kill()?;
        let gone = appender.append(0, &numbered(11..=15, 500)).await.err().context("nobody was there")?;
        ensure!(gone.kind() == RedisErrorKind::Unreachable, "{gone}");
        server.restart()?;
        let appended = appender.append(0, &numbered(11..=15, 500)).await?;
        ensure!((appended.taken, appended.forgotten) == (5, 10), "{appended:?}");
        let book = Book::read(&redis, &keys, 1).await?;
        ensure!((book.accepted, book.forgotten, book.waiting) == (5, 10, 5), "{book:?}");
        Ok(())
    })
}

fn resumed() -> anyhow::Result<()> {
    let server = Server::start()?;
    block_on(async {
        let (mut first, redis, keys) = appender(&server, AppendLimits::default()).await?;
        first.append(0, &numbered(1..=10, 500)).await?;
        // The next process finds 6 to 20 on disk: the first died before it heard of 6 to 10.
        let (mut second, _, _) = appender(&server, AppendLimits::default()).await?;
        let appended = second.append(0, &numbered(6..=20, 500)).await?;
        ensure!((appended.taken, appended.duplicates, appended.forgotten) == (10, 5, 0), "{appended:?}");
        server.command(&["FLUSHALL"])?;
        let appended = second.append(0, &numbered(21..=21, 500)).await?;
        ensure!(appended.forgotten == 20, "{appended:?}");
        let book = Book::read(&redis, &keys, 1).await?;
        ensure!((book.accepted, book.forgotten) == (1, 20), "{book:?}");
        Ok(())
    })
}

fn full() -> anyhow::Result<()> {
    let server = Server::start()?;
    block_on(async {
        let (mut appender, redis, keys) = appender(&server, AppendLimits::default()).await?;
        server.set("maxmemory", "3mb")?;
        let mut seq = 1;
        let error = loop {
            ensure!(seq < 100_000, "it never became full");
            match appender.append(0, &numbered(seq..=seq + 99, 1_000)).await {
                Ok(_) => seq += 100,
                Err(error) => break error,
            }
        };
        ensure!(error.kind() == RedisErrorKind::OutOfMemory && !error.is_unsettled(), "{error}");
        let book = Book::read(&redis, &keys, 1).await?;
        ensure!(book.accepted == seq - 1 && book.balances(), "{book:?}");
        server.set("maxmemory", "100mb")?;
        let appended = appender.append(0, &numbered(seq..=seq + 99, 1_000)).await?;
        ensure!(appended.taken == 100, "{appended:?}");
        Ok(())
    })
}

fn foreign() -> anyhow::Result<()> {
    let server = Server::start()?;
    block_on(async {
        let (mut appender, redis, keys) = appender(&server, AppendLimits::default()).await?;
        let shard = keys.shard(0);
        for key in [shard.stream(), shard.book(), shard.producers()] {
            server.command(&["FLUSHALL"])?;
            server.command(&["SET", &key, "in the way"])?;
            let error = appender.append(0, &numbered(1..=3, 10)).await.err().context("it went in")?;
            let message = error.to_string();
            ensure!(message.contains(&format!("a string lies under the key `{key}`")), "{message}");
            ensure!(server.command(&["DBSIZE"])? == "1", "something was written beside {key}");
        }
        server.command(&["FLUSHALL"])?;
        ensure!(appender.append(0, &numbered(1..=3, 10)).await?.taken == 3);
        ensure!(Book::read(&redis, &keys, 1).await?.accepted == 3);
        Ok(())
    })
}

fn parts() -> anyhow::Result<()> {
    let server = Server::start()?;
    let limits = AppendLimits { part_bytes_max: 1_000, stream_entries_max: 2, ..AppendLimits::default() };
    block_on(async {
        let (mut appender, redis, keys) = appender(&server, limits).await?;
        let value: Vec<u8> = (0..2_500_u32).map(|number| number as u8).collect();
        let large = EncodedEntry { value: value.clone().into(), ..entry(0) };
        appender.append(0, &[Numbered { seq: 1, entry: large }]).await?;
        let mut whole: Vec<u8> = Vec::new();
        let producer = ProducerId::new(1).to_string();
        for number in 0..3 {
            let key = keys.shard(0).part(&producer, 1, number);
            whole.extend(redis.query::<Vec<u8>>("read a part", redis::cmd("GET").arg(&key)).await?);
            let lifetime: i64 = redis.query("ask for a lifetime", redis::cmd("PTTL").arg(&key)).await?;
            ensure!(lifetime > 0, "a part stays for ever");
        }
        ensure!(whole == value, "the parts are not the whole");
        let appended = appender.append(0, &numbered(2..=4, 10)).await?;
        ensure!(appended.trimmed == 2, "{appended:?}");
        let left = server.command(&["KEYS", "*part*"])?;
        ensure!(left.is_empty(), "parts of a trimmed entry are left: {left}");
        Ok(())
    })
}

fn cluster() -> anyhow::Result<()> {
    let cluster = Cluster::start(0)?;
    let mut servers = Vec::new();
    for url in cluster.urls() {
        servers.push(Location::parse(&url)?.server);
    }
    let config = RedisConfig {
        servers,
        mode: Mode::Cluster,
        answer_wait_max: Duration::from_secs(30),
        ..RedisConfig::default()
    };
    block_on(async {
        let redis = Redis::connect(&config).await?;
        let keys = Keys::new("understudy", "checkout");
        let mut appender =
            Appender::new(redis.clone(), keys.clone(), AppendLimits::default(), ProducerId::new(1));
        let entries = numbered(1..=50, 500);
        let batches: Vec<_> = (0..16).map(|shard| (shard, entries.as_slice())).collect();
        for result in appender.append_all(&batches).await {
            ensure!(result?.taken == 50);
        }
        let book = Book::read(&redis, &keys, 16).await?;
        ensure!((book.accepted, book.waiting) == (16 * 50, 16 * 50) && book.balances(), "{book:?}");
        for node in &cluster.nodes {
            let streams = node.command(&["KEYS", "*:stream"])?;
            ensure!(!streams.is_empty(), "a node holds nothing");
        }
        Ok(())
    })
}
