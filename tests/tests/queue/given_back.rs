//! What a worker gives back: how often it was delivered before is remembered.
//!
//! Replays nothing: a claim gets the fate that the test gives it.

use std::sync::atomic::Ordering;

use anyhow::{Context as _, ensure};
use understudy::model::Fate;
use understudy::queue::redis::WorkerLimits;

use crate::reader::field::{Field, limits};
use crate::{Case, REDIS, block_on};

pub(crate) const CASES: &[Case] = &[
    Case { name: "what_killed_workers_is_done_alone_after_it_was_given_back", needs: REDIS, run: suspect },
    Case { name: "what_nobody_looked_at_keeps_its_earlier_deliveries", needs: REDIS, run: not_looked_at },
];

/// How often Redis has counted each entry of the first shard as delivered.
fn deliveries(field: &Field) -> anyhow::Result<Vec<u64>> {
    let stream = field.keys.shard(0).stream();
    let rows = field.server.command(&["XPENDING", &stream, "replay", "-", "+", "100"])?;
    // Each row is an id, a consumer, a time and a count.
    let counts = rows.lines().skip(3).step_by(4);
    counts.map(|count| count.trim().parse().with_context(|| format!("`{count}` in {rows}"))).collect()
}

fn suspect() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        field.produce(1).await?;
        let mut graves = Vec::new();
        for name in ["w1", "w2"] {
            let mut worker = field.worker(name).await?;
            graves.push(worker.claim().await?);
            worker.kill().await;
        }
        ensure!(deliveries(&field)? == [2], "{:?}", deliveries(&field)?);
        // One that is restarted, or whose B is paused, has it and gives it back.
        let mut third = field.worker("w3").await?;
        let claim = third.claim().await?;
        ensure!(third.stats.alone.load(Ordering::Relaxed) == 1);
        claim.settle(Fate::Paused);
        third.stop().await?;
        ensure!(deliveries(&field)? == [2], "what came before is forgotten: {:?}", deliveries(&field)?);
        let mut fourth = field.worker("w4").await?;
        fourth.finish_all(1, Fate::Matched).await?;
        ensure!(fourth.stats.alone.load(Ordering::Relaxed) == 1, "it went along with others");
        field.settled(&[("matched", 1)]).await
    })
}

fn not_looked_at() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        field.produce(2).await?;
        let mut dead = field.worker("dead").await?;
        let had = dead.claim_all(2).await?;
        dead.kill().await;
        // Both are taken over at once, and there is room for what is in one of them.
        let bytes_max = had.first().context("it had both")?.exchange.memory_bytes();
        let narrow = WorkerLimits { bytes_max, ..limits() };
        let mut second = field.worker_with("narrow", narrow, 1).await?;
        let claim = second.claim().await?;
        ensure!(deliveries(&field)? == [2, 2], "{:?}", deliveries(&field)?);
        let bytes = claim.exchange.memory_bytes();
        ensure!(
            second.claim_within(limits().lease).await.is_none(),
            "both were handed over, of {bytes} bytes"
        );
        claim.settle(Fate::Drained);
        second.stop().await?;
        ensure!(deliveries(&field)? == [1, 1], "{:?}", deliveries(&field)?);
        drop(had);
        let mut third = field.worker("w3").await?;
        third.finish_all(2, Fate::Matched).await?;
        field.settled(&[("matched", 2)]).await
    })
}
