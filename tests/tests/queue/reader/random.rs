//! Workers come, work, stop and die as a seed says, while exchanges come; in the end one does the rest.
//!
//! Decides nothing by time: who waits for whom does not change what has to come out.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy::model::Fate;

use super::field::Field;
use crate::block_on;

/// Numbers that follow from a seed (xorshift).
struct Dice(u64);

pub(super) fn random() -> anyhow::Result<()> {
    [1, 7]
        .into_iter()
        .try_for_each(|seed| block_on(run(Dice(seed * 0x9E37_79B9))).with_context(|| format!("seed {seed}")))
}

// === impl Dice ===

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

async fn run(mut dice: Dice) -> anyhow::Result<()> {
    let mut field = Field::new(6).await?;
    let mut workers = Vec::new();
    let mut graves = Vec::new();
    let (mut stopped, mut killed) = (0, 0);
    for step in 0..60 {
        field.produce(dice.throw(60) as u64).await?;
        match dice.throw(6) {
            0 | 1 if workers.len() < 4 => workers.push(field.worker(&format!("w{step}")).await?),
            2 if !workers.is_empty() => {
                let ledger = workers.swap_remove(dice.throw(workers.len())).stop().await?;
                let lost = ledger.count(Fate::Lost);
                ensure!(ledger.balances() && ledger.in_flight == 0 && lost == 0, "{ledger:?}");
                stopped += 1;
            }
            // No more often than an entry may be delivered.
            3 if !workers.is_empty() && killed < 3 => {
                let mut worker = workers.swap_remove(dice.throw(workers.len()));
                // It dies with some of its claims under way, some compared, some told.
                while let Some(claim) = worker.claim_within(Duration::from_millis(5)).await {
                    match dice.throw(3) {
                        0 => worker.finish(claim, Fate::Matched),
                        1 => claim.settle(Fate::Matched),
                        _ => graves.push(claim),
                    }
                }
                worker.kill().await;
                killed += 1;
            }
            _ => {}
        }
        for worker in &mut workers {
            worker.work(Duration::from_millis(8)).await;
        }
    }
    ensure!(stopped > 0 && killed > 0, "{stopped} stopped and {killed} killed");
    for worker in workers {
        worker.stop().await?;
    }
    let mut last = field.worker("last").await?;
    while let Some(claim) = last.claim_if_any(&field).await? {
        last.finish(claim, Fate::Matched);
    }
    drop(graves);
    field.settled(&[("matched", field.made())]).await
}
