//! Tells Redis what became of entries, until Redis has confirmed it.
//!
//! Decides nothing about an entry. One order that is told twice counts once: settle.lua sees to that, and so nothing is
//! told to nobody for fear of telling it twice.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::Value;

use super::connect::Redis;
use super::deliveries::{HandBack, Order, Recipient, Settlement};
use super::error::RedisError;
use super::hold::Shared;
use super::keys::{GROUP, Keys};
use super::script::{Call, Script};
use super::stats::add;
use super::trouble::Trouble;
use crate::model::{Change, Fate, FoundCause};

/// Bounds of what is kept in Redis about what was settled, and of one message to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleLimits {
    /// How long orders are gathered before they are told. Default: 10 ms.
    pub gather: Duration,
    /// Orders of one shard in one message. Default: 256.
    pub batch_max: usize,
    /// Causes of mismatches kept for one shard; more are counted as omitted. Default: 1,000.
    pub causes_max: usize,
    /// Examples kept for one shard. Default: 100.
    pub examples_max: usize,
    /// Entries set aside that are kept for one shard. Default: 1,000.
    pub aside_max: usize,
    /// Bytes of one entry that are kept when it is set aside. Default: 256 KiB.
    pub aside_entry_bytes_max: usize,
    /// Bytes of all entries set aside of one shard, as Redis estimates them. Default: 16 MiB.
    pub aside_bytes_max: usize,
    /// How long entries that were set aside are kept after the last one. Default: 7 days.
    pub aside_kept: Duration,
}

/// Tells Redis what became of entries.
#[derive(Debug)]
pub(super) struct Settler {
    pub(super) redis: Redis,
    pub(super) keys: Keys,
    /// The name of this worker.
    pub(super) worker: Arc<str>,
    pub(super) limits: SettleLimits,
    pub(super) shared: Arc<Shared>,
    pub(super) trouble: Trouble,
}

/// The name of the consumer that has what anybody may take.
pub(super) const RETURNED: &str = "returned";

/// What the names of consumers begin with that have what only a newer program reads; the major version follows.
pub(super) const NEWER: &str = "newer:";

static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new("settle", include_str!("lua/settle.lua")));

static HAND_BACK: LazyLock<Script> =
    LazyLock::new(|| Script::new("hand back", include_str!("lua/hand_back.lua")));

// === impl SettleLimits ===

impl Default for SettleLimits {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(10),
            batch_max: 256,
            causes_max: 1_000,
            examples_max: 100,
            aside_max: 1_000,
            aside_entry_bytes_max: 256 << 10,
            aside_bytes_max: 16 << 20,
            aside_kept: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

// === impl Settler ===

impl Settler {
    /// Runs until nothing more is wanted and everything is told and confirmed.
    pub(super) async fn run(mut self) {
        while !self.shared.is_over() {
            self.shared.due.notified().await;
            loop {
                tokio::time::sleep(self.limits.gather).await;
                if !self.tell().await {
                    break;
                }
            }
        }
    }

    /// Tells what is due, a batch of each shard; true when there may be more.
    async fn tell(&mut self) -> bool {
        let batches: Vec<(u32, Vec<Order>)> = {
            let mut deliveries = self.shared.deliveries();
            let shards = deliveries.due_shards();
            shards.into_iter().map(|shard| (shard, deliveries.batch(shard, self.limits.batch_max))).collect()
        };
        if batches.is_empty() {
            return false;
        }
        let mut settle_calls = Vec::new();
        let mut hand_back_calls = Vec::new();
        let mut settled = Vec::new();
        let mut handed_back = Vec::new();
        for (shard, orders) in batches {
            let (settlements, hand_backs): (Vec<Order>, Vec<Order>) =
                orders.into_iter().partition(|order| matches!(order, Order::Settle(_)));
            if !settlements.is_empty() {
                settle_calls.push(self.settle_call(shard, &settlements));
                settled.push(settlements);
            }
            if !hand_backs.is_empty() {
                hand_back_calls.push(self.hand_back_call(shard, &hand_backs));
                handed_back.push(hand_backs);
            }
        }
        let answers = self.redis.invoke_all(&SETTLE, settle_calls).await;
        let mut failed = Ok(());
        for (orders, answer) in settled.into_iter().zip(answers) {
            let outcome = answer.and_then(|answer| self.note_settled(&answer));
            failed = self.conclude(orders, outcome).and(failed);
        }
        let answers = self.redis.invoke_all(&HAND_BACK, hand_back_calls).await;
        for (orders, answer) in handed_back.into_iter().zip(answers) {
            let outcome = answer.map(|_given| add(&self.shared.stats.handed_back, orders.len()));
            failed = self.conclude(orders, outcome).and(failed);
        }
        self.shared.publish(&self.shared.deliveries());
        self.shared.changed.notify_one();
        match failed {
            Ok(()) => self.trouble.pass(&self.shared.stats),
            Err(error) => {
                let pause = self.trouble.meet(&self.shared.stats, &error);
                tokio::time::sleep(pause).await;
            }
        }
        true
    }

    fn conclude(&self, orders: Vec<Order>, outcome: Result<(), RedisError>) -> Result<(), RedisError> {
        let mut deliveries = self.shared.deliveries();
        match &outcome {
            Ok(()) => deliveries.confirm(orders.iter().map(Order::key)),
            Err(_) => deliveries.retry(orders),
        }
        outcome
    }

    fn note_settled(&self, answer: &Value) -> Result<(), RedisError> {
        let stats = &self.shared.stats;
        let Some([counted, trimmed, before]) = three(answer) else {
            return Err(RedisError::answer(self.redis.address(), "settle", answer));
        };
        add(&stats.settled, counted);
        add(&stats.settled_trimmed, trimmed);
        add(&stats.settled_before, before);
        Ok(())
    }

    fn hand_back_call(&self, shard: u32, orders: &[Order]) -> Call {
        let mut call = HAND_BACK.call(vec![self.keys.shard(shard).stream()]);
        call.arg(GROUP).arg(&*self.worker);
        for order in orders {
            let Order::HandBack(HandBack { key, to, counts }) = order else { continue };
            let to = match to {
                Recipient::Anybody => RETURNED.to_owned(),
                Recipient::Newer(major) => format!("{NEWER}{major}"),
            };
            call.arg(key.id.to_string()).arg(to).arg(if *counts { -1 } else { 0 });
        }
        call
    }

    fn settle_call(&self, shard: u32, orders: &[Order]) -> Call {
        let keys = self.keys.shard(shard);
        let SettleLimits {
            gather: _,
            batch_max: _,
            causes_max,
            examples_max,
            aside_max,
            aside_entry_bytes_max,
            aside_bytes_max,
            aside_kept,
        } = &self.limits;
        let mut call = SETTLE.call(vec![
            keys.stream(),
            keys.book(),
            keys.outcomes(),
            keys.causes(),
            keys.examples(),
            keys.aside(),
        ]);
        call.arg(GROUP).arg(keys.any_part()).arg(causes_max).arg(examples_max);
        call.arg(aside_max).arg(aside_entry_bytes_max).arg(aside_bytes_max).arg(aside_kept.as_secs());
        let mut table = Table::default();
        let settlements = orders.iter().filter_map(|order| match order {
            Order::Settle(settlement) => Some(settlement),
            Order::HandBack(_) => None,
        });
        let entries: Vec<_> = settlements.map(|settlement| (settlement, table.note(settlement))).collect();
        table.write(&mut call);
        for (settlement, [label, outcome, cause]) in entries {
            let Settlement { key, receipt, fate: _, finding, why } = settlement;
            let at = finding.as_ref().map_or(0, |finding| finding.compared_at.0);
            call.arg(key.id.to_string()).arg(receipt.bytes).arg(label).arg(outcome).arg(cause).arg(at);
            let (text, fields) = why.as_ref().map_or(("", false), |why| (why.text.as_str(), why.with_fields));
            call.arg(receipt.parts).arg(&receipt.part_of).arg(text).arg(u8::from(fields));
            call.arg(receipt.deliveries).arg(u8::from(receipt.is_foreign));
        }
        call
    }
}

/// What many settlements of one message have in common, each said once.
#[derive(Debug, Default)]
struct Table<'a> {
    labels: Vec<Fate>,
    outcomes: Vec<String>,
    outcome_places: HashMap<(&'a str, &'a str, &'a str), usize>,
    causes: Vec<(String, &'a FoundCause)>,
    cause_places: HashMap<(&'a str, &'a str), usize>,
}

// === impl Table ===

impl<'a> Table<'a> {
    /// The places, from 1, of its label, outcome and cause; 0 for none.
    fn note(&mut self, settlement: &'a Settlement) -> [usize; 3] {
        let fate = settlement.fate;
        let label = self.labels.iter().position(|have| *have == fate).unwrap_or_else(|| {
            self.labels.push(fate);
            self.labels.len().saturating_sub(1)
        });
        let Some(finding) = &settlement.finding else { return [label.saturating_add(1), 0, 0] };
        let route = &*finding.route;
        let outcomes = &mut self.outcomes;
        let outcome =
            *self.outcome_places.entry((route, finding.outcome, finding.reason)).or_insert_with(|| {
                outcomes.push(format!("{route}\x1f{}\x1f{}", finding.outcome, finding.reason));
                outcomes.len()
            });
        let cause = finding.cause.as_ref().map_or(0, |cause| {
            let causes = &mut self.causes;
            let place = *self.cause_places.entry((route, cause.id.as_str())).or_insert_with(|| {
                causes.push((format!("{route}\x1f{}", cause.id), cause));
                causes.len()
            });
            // Any of them says what the cause is; the smallest example of them is the one to send.
            if let Some((_, kept)) = causes.get_mut(place.saturating_sub(1))
                && !cause.example.is_empty()
                && (kept.example.is_empty() || cause.example_bytes < kept.example_bytes)
            {
                *kept = cause;
            }
            place
        });
        [label.saturating_add(1), outcome, cause]
    }

    fn write(&self, call: &mut Call) {
        call.arg(self.labels.len());
        self.labels.iter().for_each(|fate| {
            call.arg(fate.label());
        });
        call.arg(self.outcomes.len());
        self.outcomes.iter().for_each(|outcome| {
            call.arg(outcome);
        });
        call.arg(self.causes.len());
        for (field, cause) in &self.causes {
            call.arg(field).arg(rest_of_json(cause)).arg(&cause.example[..]).arg(cause.example_bytes);
        }
    }
}

/// What stands behind the counts in the JSON of a cause, as settle.lua puts it together.
fn rest_of_json(cause: &FoundCause) -> String {
    let changes: Vec<_> =
        cause.changes.iter().map(|Change { path, kind, classes }| (path, kind, classes)).collect();
    let signature = serde_json::Value::from(cause.signature.as_str());
    format!("\"signature\":{signature},\"changes\":{}}}", serde_json::json!(changes))
}

fn three(answer: &Value) -> Option<[usize; 3]> {
    let Value::Array(values) = answer else { return None };
    let [Value::Int(first), Value::Int(second), Value::Int(third)] = values.as_slice() else { return None };
    Some([usize::try_from(*first).ok()?, usize::try_from(*second).ok()?, usize::try_from(*third).ok()?])
}
