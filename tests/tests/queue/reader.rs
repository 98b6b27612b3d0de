//! The replay side: who owns what, who takes over what, and that every entry counts once.
//!
//! Replays nothing: a claim gets the fate that the test gives it.

#[path = "reader/field.rs"]
pub(crate) mod field;
#[path = "reader/random.rs"]
mod random;

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy::model::Fate;
use understudy::queue::redis::WorkerLimits;
use understudy_tests::redis::Options;

use crate::{Case, REDIS, block_on};
use field::{Field, finding, limits, now, until, wire};

pub(crate) const CASES: &[Case] = &[
    Case { name: "every_entry_is_settled_once_in_its_order", needs: REDIS, run: in_order },
    Case { name: "shards_are_shared_when_workers_come_and_go", needs: REDIS, run: shares },
    Case { name: "a_dead_workers_entries_are_taken_over", needs: REDIS, run: takes_over },
    Case { name: "entries_of_a_lost_answer_are_taken_soon", needs: REDIS, run: lost_answer },
    Case { name: "what_two_workers_did_counts_once", needs: REDIS, run: counts_once },
    Case { name: "what_was_not_begun_goes_back_at_once", needs: REDIS, run: goes_back },
    Case { name: "nothing_counts_before_the_journal_has_it", needs: REDIS, run: waits_for_the_journal },
    Case { name: "a_deleted_group_is_made_again", needs: REDIS, run: group_deleted },
    Case { name: "garbage_is_counted_and_set_aside", needs: REDIS, run: garbage },
    Case { name: "a_huge_value_is_not_transferred", needs: REDIS, run: huge },
    Case { name: "a_newer_version_is_left_for_others", needs: REDIS, run: newer },
    Case { name: "parts_make_a_whole_or_are_unreadable", needs: REDIS, run: parts },
    Case { name: "what_was_trimmed_and_done_counts_as_done", needs: REDIS, run: trimmed },
    Case { name: "settlements_outlive_a_restart_of_redis", needs: REDIS, run: restarted },
    Case { name: "a_redis_without_memory_takes_settlements", needs: REDIS, run: out_of_memory },
    Case { name: "a_silent_redis_makes_nothing_pile_up", needs: REDIS, run: silent },
    Case { name: "only_the_culprit_is_set_aside", needs: REDIS, run: culprit },
    Case { name: "whoever_comes_goes_or_dies_the_book_balances", needs: REDIS, run: random::random },
];

pub(crate) fn options(arguments: &[&str]) -> Options {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Options { arguments, ..Options::default() }
}

fn in_order() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(3).await?;
        field.produce(300).await?;
        let mut worker = field.worker("w1").await?;
        let done = worker.do_all(300).await?;
        for shard in 0..3 {
            let of_shard: Vec<u64> = done.iter().copied().filter(|number| number % 3 == shard).collect();
            ensure!(of_shard.is_sorted() && of_shard.len() == 100, "shard {shard}: {of_shard:?}");
        }
        field.settled(&[("matched", 300)]).await?;
        field.produce(30).await?;
        worker.finish_all(30, Fate::Mismatched).await?;
        field.settled(&[("matched", 300), ("mismatched", 30)]).await?;
        for shard in 0..3 {
            let keys = field.keys.shard(shard);
            let hash = |key: &str, name: &str| field.server.command(&["HGET", key, name]);
            ensure!(hash(&keys.outcomes(), "/\u{1f}mismatch\u{1f}")? == "10");
            let (first, last) = (300 + u64::from(shard), 327 + u64::from(shard));
            let cause = hash(&keys.causes(), "/\u{1f}c1")?;
            let at = |number: u64| 1_700_000_000_000_000_000 + number;
            let expected = format!(
                "{{\"count\":10,\"first_seen_ns\":{},\"last_seen_ns\":{},\"signature\":\"status \\\"value\\\"\",\"changes\":[[\"status\",\"value\",null]]}}",
                at(first),
                at(last)
            );
            ensure!(cause == expected, "{cause} is not {expected}");
            let example = hash(&keys.examples(), "/\u{1f}c1")?;
            ensure!(example.contains(&format!("\"bytes\":{first}}}")), "not the smallest: {example}");
        }
        let ledger = worker.stop().await?;
        ensure!(ledger.balances() && ledger.in_flight == 0, "{ledger:?}");
        Ok(())
    })
}

fn shares() -> anyhow::Result<()> {
    block_on(async {
        // All workers share a thread here, and none may come too late with a sign of life.
        let lease = Duration::from_secs(3);
        let limits = || WorkerLimits { lease, ..limits() };
        let mut field = Field::new(8).await?;
        let first = field.worker_with("w1", limits(), 1).await?;
        until("all shards", async || Ok(first.shards() == 8)).await?;
        let second = field.worker_with("w2", limits(), 1).await?;
        until("halves", async || Ok((first.shards(), second.shards()) == (4, 4))).await?;
        let mut third = field.worker_with("w3", limits(), 1).await?;
        until("thirds", async || Ok((first.shards(), second.shards(), third.shards()) == (3, 3, 2))).await?;
        second.stop().await?;
        until("halves again", async || Ok((first.shards(), third.shards()) == (4, 4))).await?;
        first.kill().await;
        until("all again", async || Ok(third.shards() == 8)).await?;
        // A shard in which something is under way is not given up before that is done.
        field.produce(8).await?;
        let held = third.claim_all(8).await?;
        let fourth = field.worker_with("w4", limits(), 1).await?;
        tokio::time::sleep(lease).await;
        ensure!((third.shards(), fourth.shards()) == (8, 0), "{} {}", third.shards(), fourth.shards());
        held.into_iter().for_each(|claim| third.finish(claim, Fate::Matched));
        until("halves at last", async || Ok((third.shards(), fourth.shards()) == (4, 4))).await?;
        field.settled(&[("matched", 8)]).await
    })
}

fn takes_over() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(4).await?;
        field.produce(400).await?;
        let mut dead = field.worker("dead").await?;
        let had = dead.claim_all(400).await?;
        let died = now();
        dead.kill().await;
        let mut heir = field.worker("heir").await?;
        heir.do_all(400).await?;
        ensure!(died.elapsed() >= limits().claim_after, "taken before its time");
        ensure!(heir.stats.alone.load(Ordering::Relaxed) == 0, "one death makes no suspect");
        drop(had);
        field.settled(&[("matched", 400)]).await?;
        // Whoever has nothing and is gone is forgotten.
        let stream = field.keys.shard(0).stream();
        until("a forgotten consumer", async || {
            Ok(!field.server.command(&["XINFO", "CONSUMERS", &stream, "replay"])?.contains("dead"))
        })
        .await
    })
}

fn lost_answer() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        field.produce(20).await?;
        let stream = field.keys.shard(0).stream();
        // Redis gave the worker these, and the worker does not know.
        field.server.command(&["XGROUP", "CREATE", &stream, "replay", "0"])?;
        field.server.command(&[
            "XREADGROUP",
            "GROUP",
            "replay",
            "w1",
            "COUNT",
            "15",
            "STREAMS",
            &stream,
            ">",
        ])?;
        let patient = WorkerLimits { claim_after: Duration::from_secs(60), ..limits() };
        let mut worker = field.worker_with("w1", patient, 1).await?;
        let mut done = worker.do_all(20).await?;
        done.sort_unstable();
        ensure!(done == (0..20).collect::<Vec<_>>(), "{done:?}");
        field.settled(&[("matched", 20)]).await
    })
}

fn counts_once() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(2).await?;
        let mut first = field.worker("w1").await?;
        field.produce(2).await?;
        let held = first.claim_all(2).await?;
        let mut second = field.worker("w2").await?;
        // The second becomes the owner while the first is at work: as when the first was cut off for a time.
        for shard in 0..2 {
            field.server.command(&["SET", &field.keys.shard(shard).owner(), "w2", "PX", "60000"])?;
        }
        let taken_over = second.do_all(1).await?.len();
        let done = (taken_over + second.work(limits().claim_after * 2).await.len()) as u64;
        held.into_iter().for_each(|claim| first.finish(claim, Fate::Matched));
        until("both to be told", async || Ok(first.told() == 2 && second.told() == done)).await?;
        field.settled(&[("matched", 2)]).await?;
        ensure!(first.stats.settled_before.load(Ordering::Relaxed) == done);
        Ok(())
    })
}

fn goes_back() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(4).await?;
        field.produce(100).await?;
        // Whoever had to wait for this would wait in vain.
        let patient = || WorkerLimits { claim_after: Duration::from_secs(600), ..limits() };
        let mut first = field.worker_with("w1", patient(), 1).await?;
        first.finish_all(40, Fate::Matched).await?;
        let ledger = first.stop().await?;
        ensure!(ledger.balances() && ledger.in_flight == 0 && ledger.count(Fate::Lost) == 0, "{ledger:?}");
        ensure!(ledger.count(Fate::Matched) == 40, "{ledger:?}");
        let mut second = field.worker_with("w2", patient(), 1).await?;
        second.finish_all(60, Fate::Matched).await?;
        ensure!(second.stats.alone.load(Ordering::Relaxed) == 0, "giving back makes no suspect");
        field.settled(&[("matched", 100)]).await
    })
}

fn waits_for_the_journal() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        field.produce(3).await?;
        let mut worker = field.worker("w1").await?;
        let [first, second, third] = [worker.claim().await?, worker.claim().await?, worker.claim().await?];
        // The journal may be quicker than the replay.
        worker.keep([finding(second.exchange.id, &second.route, Fate::Matched)]);
        first.settle(Fate::Matched);
        second.settle(Fate::Matched);
        third.settle(Fate::Overdue);
        until("what has its fate", async || Ok(field.book().await?.waiting == 1)).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let fates = field.book().await?.fates;
        ensure!(fates.get("matched") == Some(&1) && fates.get("overdue") == Some(&1), "{fates:?}");
        ensure!(worker.count(Fate::Matched) == 2);
        worker.stop().await?;
        let pending = field.server.command(&["XPENDING", &field.keys.shard(0).stream(), "replay"])?;
        ensure!(pending.contains("returned"), "{pending}");
        let mut other = field.worker("w2").await?;
        ensure!(other.do_all(1).await? == [0]);
        field.settled(&[("matched", 2), ("overdue", 1)]).await
    })
}

fn group_deleted() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(2).await?;
        let mut worker = field.worker("w1").await?;
        field.produce(20).await?;
        let held = worker.claim_all(20).await?;
        for shard in 0..2 {
            field.server.command(&["XGROUP", "DESTROY", &field.keys.shard(shard).stream(), "replay"])?;
        }
        until("both groups", async || Ok(worker.stats.groups_made.load(Ordering::Relaxed) == 2)).await?;
        // What is under way comes again, and is not done again.
        until("the second delivery", async || Ok(worker.count(Fate::Duplicate) == 20)).await?;
        held.into_iter().for_each(|claim| worker.finish(claim, Fate::Matched));
        field.produce(20).await?;
        worker.finish_all(20, Fate::Matched).await?;
        field.settled(&[("matched", 40)]).await
    })
}

fn garbage() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        let mut worker = field.worker("w1").await?;
        let keys = field.keys.shard(0);
        let add = |fields: &[&str]| {
            let stream = keys.stream();
            field.server.command(&[&["XADD", stream.as_str(), "*"], fields].concat())
        };
        add(&["foreign", "entry"])?;
        add(&["route", "/", "exchange", "\u{1}\u{2}"])?;
        add(&["route", "/", "exchange.zst", "no zstd"])?;
        add(&["route", "", "parts", "99999999999", "encoding", "exchange", "producer", "x", "seq", "-1"])?;
        field.produce_value(b"\xc1 is no MessagePack", 1).await?;
        field.produce(1).await?;
        worker.finish_all(1, Fate::Matched).await?;
        field.settled(&[("matched", 1), ("unreadable", 5)]).await?;
        ensure!(field.book().await?.others.get("foreign") == Some(&4), "{:?}", field.book().await?);
        ensure!(worker.count(Fate::Unreadable) == 5);
        let aside = field.server.command(&["XRANGE", &keys.aside(), "-", "+"])?;
        for part in ["foreign", "why", "deliveries", "first_id", "no zstd", "failed to decompress"] {
            ensure!(aside.contains(part), "no {part} in {aside}");
        }
        let left = field.server.command(&["TTL", &keys.aside()])?;
        ensure!(left.parse::<i64>()? > 0, "it is kept for ever");
        Ok(())
    })
}

fn huge() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::with(1, options(&["--proto-max-bulk-len", "1gb"])).await?;
        let keys = field.keys.shard(0);
        let script = "return redis.call('XADD', KEYS[1], '*', 'route', '/', 'exchange', string.rep('x', 200 * 1024 * 1024))";
        field.server.command(&["EVAL", script, "1", &keys.stream()])?;
        let before = field.server.number("total_net_output_bytes")?;
        let mut worker = field.worker("w1").await?;
        field.produce(1).await?;
        worker.finish_all(1, Fate::Matched).await?;
        field.settled(&[("matched", 1), ("unreadable", 1)]).await?;
        let sent = field.server.number("total_net_output_bytes")? - before;
        ensure!(sent < 1 << 20, "{sent} bytes were sent");
        let kept = field.server.command(&["MEMORY", "USAGE", &keys.aside()])?;
        ensure!(kept.parse::<u64>()? < 1 << 20, "{kept} bytes are kept");
        Ok(())
    })
}

fn newer() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(2).await?;
        let mut value = wire(5, 0)?;
        let at = value.windows(3).position(|bytes| bytes == [0x92, 1, 1]).context("no version 1.1")?;
        value[at + 1] = 9;
        field.produce_value(&value, 1).await?;
        let mut old = field.worker("old").await?;
        let stream = field.keys.shard(0).stream();
        let pending = || field.server.command(&["XPENDING", &stream, "replay"]);
        until("an entry that is left", async || Ok(pending()?.contains("newer:9"))).await?;
        ensure!(old.count(Fate::Returned) == 1);
        // It stays there, and stays out of the way.
        ensure!(old.work(limits().claim_after * 2).await.is_empty());
        ensure!(pending()?.contains("newer:9") && old.stats.newer.load(Ordering::Relaxed) == 1);
        // One that reads that version takes it, whoever owns the shard. This one only says that it does, and finds that
        // it cannot.
        let new = field.worker_with("zz-new", limits(), 9).await?;
        until("whoever reads it", async || Ok(new.count(Fate::Unreadable) == 1)).await?;
        field.settled(&[("unreadable", 1)]).await
    })
}

fn parts() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        let value = wire(5, 1_000_000)?;
        field.produce_value(&value, 1).await?;
        field.produce_value(&value, 2).await?;
        let keys = field.keys.shard(0);
        field.server.command(&["DEL", &keys.part(&field.producer(), 2, 1)])?;
        let mut worker = field.worker("w1").await?;
        let claim = worker.claim().await?;
        let bytes = claim.exchange.response.as_ref().map(|response| response.body.kept.len());
        ensure!(bytes == Some(1_000_000), "{bytes:?}");
        worker.finish(claim, Fate::Matched);
        field.settled(&[("matched", 1), ("unreadable", 1)]).await?;
        let left = field.server.command(&["KEYS", "*:part:*"])?;
        ensure!(left.is_empty(), "parts are left: {left}");
        Ok(())
    })
}

fn trimmed() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(1).await?;
        field.entries_max(10).await?;
        let mut worker = field.worker("w1").await?;
        field.produce(10).await?;
        let held = worker.claim_all(10).await?;
        field.produce(6).await?;
        ensure!(field.book().await?.trimmed == 6, "{:?}", field.book().await?);
        held.into_iter().for_each(|claim| worker.finish(claim, Fate::Matched));
        worker.finish_all(6, Fate::Matched).await?;
        field.settled(&[("matched", 16)]).await?;
        ensure!(field.book().await?.trimmed == 0, "{:?}", field.book().await?);
        ensure!(worker.stats.settled_trimmed.load(Ordering::Relaxed) == 6);
        // What a dead worker had, and what nobody had, stays trimmed.
        field.produce(5).await?;
        let had = worker.claim_all(5).await?;
        worker.kill().await;
        field.produce(20).await?;
        let mut heir = field.worker("w2").await?;
        heir.do_all(10).await?;
        drop(had);
        field.settled(&[("matched", 26)]).await?;
        ensure!(field.book().await?.trimmed == 15, "{:?}", field.book().await?);
        Ok(())
    })
}

fn restarted() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::with(2, options(&["--appendonly", "yes", "--appendfsync", "always"])).await?;
        let mut worker = field.worker("w1").await?;
        field.produce(50).await?;
        let held = worker.claim_all(50).await?;
        field.server.kill()?;
        held.into_iter().for_each(|claim| worker.finish(claim, Fate::Matched));
        until("trouble", async || Ok(worker.failing() > 0)).await?;
        ensure!(worker.told() == 0);
        field.server.restart()?;
        field.settled(&[("matched", 50)]).await?;
        until("the worker to know", async || Ok(worker.told() == 50)).await?;
        field.produce(10).await?;
        worker.finish_all(10, Fate::Matched).await?;
        field.settled(&[("matched", 60)]).await?;
        until("an end of trouble", async || Ok(worker.failing() == 0)).await
    })
}

fn out_of_memory() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(2).await?;
        let mut worker = field.worker("w1").await?;
        field.produce(40).await?;
        let first = worker.claim().await?;
        field.server.set("maxmemory", "1")?;
        worker.finish(first, Fate::Mismatched);
        worker.finish_all(39, Fate::Mismatched).await?;
        field.settled(&[("mismatched", 40)]).await?;
        // Leases go on as well.
        tokio::time::sleep(limits().lease * 2).await;
        ensure!(worker.shards() == 2 && worker.failing() == 0);
        Ok(())
    })
}

fn silent() -> anyhow::Result<()> {
    block_on(async {
        let mut field = Field::new(4).await?;
        let mut worker = field.worker("w1").await?;
        field.produce(40).await?;
        let held = worker.claim_all(40).await?;
        field.server.freeze()?;
        held.into_iter().for_each(|claim| worker.finish(claim, Fate::Matched));
        let before = worker.stats.reads.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let reads = worker.stats.reads.load(Ordering::Relaxed) - before;
        field.server.thaw()?;
        ensure!(reads <= 2, "{reads} reads while nothing was answered");
        field.settled(&[("matched", 40)]).await
    })
}

fn culprit() -> anyhow::Result<()> {
    block_on(async {
        const POISON: u64 = 31;
        let mut field = Field::new(2).await?;
        field.produce(60).await?;
        let mut graves = Vec::new();
        loop {
            ensure!(graves.len() < 200, "workers die for ever");
            let deaths = field.deaths;
            let mut worker = field.worker(&format!("w{deaths}")).await?;
            let mut died = false;
            while let Some(claim) = worker.claim_if_any(&field).await? {
                died = claim.exchange.id.offset == POISON;
                // At first nothing is done before it dies, so that all are under suspicion.
                if died || deaths < 2 {
                    graves.push(claim);
                } else {
                    worker.finish(claim, Fate::Matched);
                }
                if died {
                    break;
                }
            }
            if !died {
                worker.stop().await?;
                break;
            }
            worker.kill().await;
            field.deaths += 1;
        }
        field.settled(&[("matched", 59)]).await?;
        let book = field.book().await?;
        ensure!(field.deaths == 4 && book.set_aside == 1, "{} deaths: {book:?}", field.deaths);
        let mut aside = String::new();
        for shard in 0..2 {
            aside += &field.server.command(&["XRANGE", &field.keys.shard(shard).aside(), "-", "+"])?;
        }
        ensure!(aside.contains("4 workers had it") && aside.contains("first_id"), "{aside}");
        Ok(())
    })
}
