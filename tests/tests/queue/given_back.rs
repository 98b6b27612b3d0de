//! What a worker gives back, and what it goes on with meanwhile: deliveries are remembered, leases are kept.
//!
//! Replays nothing: a claim gets the fate that the test gives it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy::model::Fate;
use understudy::queue::redis::WorkerLimits;

use crate::reader::field::{Field, limits, now, until, wire};
use crate::{Case, REDIS, block_on};

pub(crate) const CASES: &[Case] = &[
    Case { name: "what_killed_workers_is_done_alone_after_it_was_given_back", needs: REDIS, run: suspect },
    Case { name: "what_nobody_looked_at_keeps_its_earlier_deliveries", needs: REDIS, run: not_looked_at },
    Case { name: "parts_that_cannot_be_had_cost_no_lease_and_hold_up_no_end", needs: REDIS, run: no_parts },
    Case { name: "bounds_that_contradict_each_other_end_no_worker", needs: REDIS, run: contradictory },
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

fn no_parts() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        field.produce_value(&wire(5, 1_000_000)?, 1).await?;
        field.server.command(&["ACL", "SETUSER", "default", "-getrange"])?;
        let lease = Duration::from_secs(4);
        let worker = field.worker_with("w1", WorkerLimits { lease, ..limits() }, 1).await?;
        until("trouble", async || Ok(worker.failing() > 0)).await?;
        // After some seconds the pauses between attempts are longer than a lease.
        let (begun, owner) = (now(), field.keys.shard(0).owner());
        while begun.elapsed() < Duration::from_secs(14) {
            let left: i64 = field.server.command(&["PTTL", &owner])?.parse()?;
            ensure!(left > 0, "the lease ran out after {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let stopping = now();
        worker.stop().await?;
        ensure!(stopping.elapsed() < lease, "it took {:?} to stop", stopping.elapsed());
        field.server.command(&["ACL", "SETUSER", "default", "+getrange"])?;
        let mut other = field.worker("w2").await?;
        other.finish_all(1, Fate::Matched).await?;
        field.settled(&[("matched", 1)]).await
    })
}

fn contradictory() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        let shortest = limits().poll_min / 2;
        let mut worker = field.worker_with("w1", WorkerLimits { poll_max: shortest, ..limits() }, 1).await?;
        // It finds nothing for a while, and looks again.
        ensure!(worker.work(limits().lease).await.is_empty());
        field.produce(3).await?;
        worker.finish_all(3, Fate::Matched).await?;
        field.settled(&[("matched", 3)]).await
    })
}
