//! Settlements that Redis does not take, and entries that no producer of ours has written.
//!
//! Replays nothing: a claim gets the fate that the test gives it.

use std::sync::atomic::Ordering;

use anyhow::{Context as _, ensure};
use understudy::model::Fate;

use crate::reader::field::{Field, finding, until};
use crate::reader::options;
use crate::{Case, REDIS, block_on};

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_key_of_another_type_is_named", needs: REDIS, run: wrong_type },
    Case { name: "a_settlement_that_redis_refuses_is_set_aside_alone", needs: REDIS, run: refused },
    Case {
        name: "what_strangers_wrote_and_was_trimmed_is_in_the_sums",
        needs: REDIS,
        run: strangers_trimmed,
    },
];

fn wrong_type() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(2).await?;
        let key = field.keys.shard(1).stream();
        field.server.command(&["SET", &key, "somebody's"])?;
        let refused = field.worker("w1").await.err().context("it was not refused")?;
        ensure!(refused.to_string().contains(&key), "{refused}");
        field.server.command(&["DEL", &key])?;
        let mut worker = field.worker("w1").await?;
        // While it runs, the other shard goes on, and nothing is counted that could not be.
        let outcomes = field.keys.shard(1).outcomes();
        field.server.command(&["SET", &outcomes, "somebody's"])?;
        field.produce(10).await?;
        worker.finish_all(10, Fate::Matched).await?;
        until("trouble", async || Ok(worker.failing() == 1 && worker.told() == 5)).await?;
        // Not told again and again: after a few times they wait, each for itself.
        until("what is held", async || Ok(worker.stats.held.load(Ordering::Relaxed) == 5)).await?;
        let book = field.book().await?;
        ensure!(book.fates.get("matched") == Some(&5) && book.waiting == 5, "{book:?}");
        field.server.command(&["DEL", &outcomes])?;
        field.settled(&[("matched", 10)]).await?;
        until("an end of trouble", async || Ok(worker.failing() == 0)).await
    })
}

fn refused() -> anyhow::Result<()> {
    block_on(async {
        // Whoever says more in one word than this is not heard to the end.
        let mut field = Field::with(1, options(&["--proto-max-bulk-len", "1mb"])).await?;
        let mut worker = field.worker("w1").await?;
        field.produce(40).await?;
        let claims = worker.claim_all(40).await?;
        for (number, claim) in claims.into_iter().enumerate() {
            let mut finding = finding(claim.exchange.id, &claim.route, Fate::Mismatched);
            if number == 17
                && let Some(cause) = &mut finding.cause
            {
                cause.id = "huge".into();
                cause.example = "x".repeat(2 << 20).into();
            }
            claim.settle(Fate::Mismatched);
            worker.keep([finding]);
        }
        let settled = field.settled(&[("mismatched", 39)]).await;
        let errors: Vec<u64> =
            worker.stats.errors.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        settled.with_context(|| format!("errors by kind: {errors:?}"))?;
        let refused = || worker.stats.refused.load(Ordering::Relaxed);
        until("the refusal of one", async || Ok(refused() == 1 && worker.failing() == 0)).await?;
        let aside = field.server.command(&["XRANGE", &field.keys.shard(0).aside(), "-", "+"])?;
        ensure!(aside.contains("does not take what became of it"), "{aside}");
        Ok(())
    })
}

fn strangers_trimmed() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        field.entries_max(10).await?;
        let stream = field.keys.shard(0).stream();
        for entry in [["foreign", "entry"], ["producer", "x"], ["seq", "1"], ["route", "/"]] {
            field.server.command(&[&["XADD", &stream, "*"][..], &entry].concat())?;
        }
        field.produce(8).await?;
        field.produce(5).await?;
        let mut worker = field.worker("w1").await?;
        worker.finish_all(10, Fate::Matched).await?;
        field.settled(&[("matched", 10)]).await?;
        let book = field.book().await?;
        ensure!(book.accepted == 17 && book.trimmed == 7, "{book:?}");
        ensure!(book.others.get("foreign") == Some(&4), "{book:?}");
        Ok(())
    })
}
