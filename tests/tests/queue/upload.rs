//! The uploader against a real Redis that refuses something.
//!
//! Captures nothing: exchanges are handed in.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy::metrics::QueueStatus;
use understudy::model::{Fate, Ledger};
use understudy::pipeline::upload::{Channel, UploadLimits, UploadParts, Uploader};
use understudy::queue::entry::{EntryEncoder, EntryLimits};
use understudy::queue::memory::{MemoryQueueLimits, memory_queue};
use understudy::queue::redis::{AppendLimits, Appender, Keys, ProducerId, Redis};
use understudy::queue::{Offer as _, Offered};
use understudy::select::SessionBy;
use understudy::spool::{Spool, SpoolConfig};
use understudy_tests::redis::Server;

use crate::book::Book;
use crate::connect::config;
use crate::reader::field::exchange;
use crate::reader::options;
use crate::{Case, REDIS, block_on};

pub(crate) const CASES: &[Case] = &[
    Case { name: "an_entry_that_redis_breaks_off_over_is_given_up_alone", needs: REDIS, run: too_long },
    Case { name: "a_stream_at_its_last_id_is_named_and_stops_no_other", needs: REDIS, run: last_id },
];

/// How long Redis may refuse something here.
const REFUSED_WAIT_MAX: Duration = Duration::from_millis(300);
const SHARDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// Uploads small exchanges, and `large` ones of two megabytes, until each has its fate. Gives how many have this fate, and the
/// book.
async fn upload(server: &Server, fate: Fate, large: &[u64]) -> anyhow::Result<(u64, Book)> {
    let redis = Redis::connect(&config(&server.url())?).await?;
    let keys = Keys::new("understudy", "shop");
    // Nothing goes in parts, so that Redis meets what a fellow of another make might send it.
    let limits = AppendLimits { part_bytes_max: 16 << 20, ..AppendLimits::default() };
    let appender = {
        let (redis, keys) = (redis.clone(), keys.clone());
        move |producer| Appender::new(redis.clone(), keys.clone(), limits.clone(), ProducerId::new(producer))
    };
    let folder = tempfile::tempdir()?;
    let (spool, _) =
        Spool::open(SpoolConfig { path: folder.path().join("spool"), ..SpoolConfig::default() })?;
    let (offer, queue) = memory_queue(MemoryQueueLimits::default());
    let ledger = Arc::new(Ledger::default());
    let channel = Channel {
        name: "shop".into(),
        queue,
        appender: appender(1),
        ledger: Arc::clone(&ledger),
        stats: Arc::default(),
    };
    let uploader = Uploader::new(UploadParts {
        limits: UploadLimits {
            refused_wait_max: REFUSED_WAIT_MAX,
            drain_max: Duration::from_secs(20),
            ..UploadLimits::default()
        },
        channels: vec![channel],
        shards: SHARDS,
        session: SessionBy::Connection,
        encoder: EntryEncoder::new(EntryLimits { compress_bytes_min: usize::MAX, ..EntryLimits::default() })?,
        spool,
        spool_stats: Arc::default(),
        producer: 1,
        make_appender: Box::new(move |_, producer| appender(producer)),
        status: Arc::new(QueueStatus::default()),
        secrets: None,
    });
    for number in 0..60 {
        let body_bytes = if large.contains(&number) { 2 << 20 } else { 100 };
        let mut exchange = exchange(number, body_bytes);
        // A connection of its own, so that both shards have some.
        exchange.id.flow = number;
        let offered = Offered { exchange: Arc::new(exchange), route: "/".into(), ticket: ledger.admit() };
        offer.offer(offered).map_err(|ticket| ticket.settle(Fate::Shed)).ok().context("no room")?;
    }
    drop(offer);
    uploader.run(std::future::pending()).await;
    let counts = ledger.snapshot();
    let (queued, given) = (counts.count(Fate::Queued), counts.count(fate));
    ensure!(counts.balances() && queued + given == 60, "{counts:?}");
    let book = Book::read(&redis, &keys, SHARDS.get()).await?;
    ensure!(book.accepted == queued, "{queued} were queued: {book:?}");
    Ok((given, book))
}

fn too_long() -> anyhow::Result<()> {
    let server = Server::start_with(options(&["--proto-max-bulk-len", "1mb"]))?;
    block_on(async {
        let (refused, _book) = upload(&server, Fate::Refused, &[17, 18, 40]).await?;
        ensure!(refused == 3, "{refused} are refused");
        Ok(())
    })
}

fn last_id() -> anyhow::Result<()> {
    let server = Server::start()?;
    let stream = Keys::new("understudy", "shop").shard(1).stream();
    let last = "18446744073709551615-18446744073709551615";
    server.command(&["XADD", &stream, last, "foreign", "entry"])?;
    block_on(async {
        let (refused, book) = upload(&server, Fate::Refused, &[]).await?;
        ensure!(refused > 10 && book.accepted > 10, "{refused} are refused: {book:?}");
        Ok(())
    })
}
