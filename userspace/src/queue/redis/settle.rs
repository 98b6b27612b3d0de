//! Tells Redis what became of entries, until Redis has confirmed it.
//!
//! Decides nothing about an entry. One order that is told twice counts once: settle.lua sees to that, and so nothing is
//! told to nobody for fear of telling it twice.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::Value;
use tokio::time::Sleep;

use super::connect::Redis;
use super::deliveries::{HandBack, Order, Recipient, Settlement, Why};
use super::error::{RedisError, RedisErrorKind};
use super::hold::Shared;
use super::keys::{GROUP, Keys};
use super::script::{Call, Script};
use super::stats::{add, set};
use super::trouble::Trouble;
use super::worker::WorkerConfig;
use crate::model::{Change, Fate, FoundCause};

/// Bounds of what is kept in Redis about what was settled, and of one message to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettleLimits {
    /// How long orders are gathered before they are told. Default: 10 ms.
    pub gather: Duration,
    /// Orders of one shard in one message. Default: 256.
    pub batch_max: usize,
    /// Messages of a shard in a row that Redis may refuse for a reason that does not pass, or break off. Then its orders are
    /// told one by one; where Redis takes others, the entry of one that it does not take is set aside instead. Default: 5.
    pub refusals_max: u32,
    /// How long orders are held that Redis refuses whatever is tried, before they are told again. Default: 30 s.
    pub refused_pause: Duration,
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
    redis: Redis,
    keys: Keys,
    /// The name of this worker.
    worker: Arc<str>,
    limits: SettleLimits,
    shared: Arc<Shared>,
    trouble: Trouble,
    /// Messages in a row that Redis refused, of each shard where it did.
    refusals: HashMap<u32, u32>,
    held: Option<Held>,
}

/// Orders that Redis refuses whatever is tried, until they are told again.
#[derive(Debug)]
struct Held {
    orders: Vec<Order>,
    over: Pin<Box<Sleep>>,
}

/// What Redis did not take, and why.
type Failed = (Order, RedisError);

/// Failures in a row of orders told one by one after which Redis itself is to blame.
const ALONE_FAILURES_MAX: usize = 3;

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
            refusals_max: 5,
            refused_pause: Duration::from_secs(30),
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
    /// Has told nothing yet.
    pub(super) fn new(redis: Redis, config: &WorkerConfig, shared: Arc<Shared>) -> Self {
        Self {
            redis,
            keys: config.keys.clone(),
            worker: Arc::clone(&config.worker),
            limits: config.limits.settle.clone(),
            shared,
            trouble: Trouble::new("settle", &config.experiment),
            refusals: HashMap::new(),
            held: None,
        }
    }

    /// Runs until nothing more is wanted and everything is told and confirmed.
    pub(super) async fn run(mut self) {
        while !self.shared.is_over() {
            let is_holding = self.held.is_some();
            tokio::select! {
                () = self.shared.due.notified() => {}
                () = over(&mut self.held), if is_holding => self.release(),
            }
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
        let (mut together, mut hand_backs, mut failure) = (Vec::new(), Vec::new(), None);
        for (shard, orders) in batches {
            let (settled, handed_back): (Vec<Order>, Vec<Order>) =
                orders.into_iter().partition(|order| matches!(order, Order::Settle(_)));
            let refusals = self.refusals.get(&shard).copied().unwrap_or_default();
            if refusals >= self.limits.refusals_max {
                self.refusals.remove(&shard);
                failure = self.tell_one_by_one(shard, settled).await.or(failure);
            } else if !settled.is_empty() {
                together.push((shard, settled));
            }
            if !handed_back.is_empty() {
                hand_backs.push((shard, handed_back));
            }
        }
        failure = self.tell_together(together).await.or(failure);
        failure = self.tell_hand_backs(hand_backs).await.or(failure);
        self.shared.publish(&self.shared.deliveries());
        self.shared.changed.notify_one();
        match failure {
            None if self.held.is_some() => {}
            None => self.trouble.pass(&self.shared.stats),
            Some(error) => {
                let pause = self.trouble.meet(&self.shared.stats, &error);
                tokio::time::sleep(pause).await;
            }
        }
        true
    }

    /// Tells a batch of each shard. Says what is tried again.
    async fn tell_together(&mut self, batches: Vec<(u32, Vec<Order>)>) -> Option<RedisError> {
        let calls = batches.iter().map(|(shard, orders)| self.settle_call(*shard, orders)).collect();
        let answers = self.redis.invoke_all(&SETTLE, calls).await;
        let mut failure = None;
        for ((shard, orders), answer) in batches.into_iter().zip(answers) {
            match answer.and_then(|answer| self.note_settled(&answer)) {
                Ok(()) => {
                    self.confirm(&orders);
                    self.refusals.remove(&shard);
                }
                Err(error) => {
                    // Redis also breaks the connection off when a word is longer than it takes.
                    if error.is_refusal() || error.kind() == RedisErrorKind::Unreachable {
                        let refusals = self.refusals.entry(shard).or_default();
                        *refusals = refusals.saturating_add(1);
                    }
                    self.shared.deliveries().retry(orders);
                    failure = Some(error);
                }
            }
        }
        failure
    }

    /// Finds out which of these orders Redis does not take. Says what is tried again.
    async fn tell_one_by_one(&mut self, shard: u32, orders: Vec<Order>) -> Option<RedisError> {
        let (mut failed, mut left) = (Vec::<Failed>::new(), Vec::new());
        let (mut in_a_row, mut is_taking) = (0_usize, orders.len() == 1);
        for order in orders {
            if in_a_row >= ALONE_FAILURES_MAX {
                left.push(order);
                continue;
            }
            match self.tell_one(shard, &order).await {
                Ok(()) => {
                    self.confirm(&[order]);
                    (in_a_row, is_taking) = (0, true);
                }
                Err(error) => {
                    in_a_row = if error.is_refusal() { 0 } else { in_a_row.saturating_add(1) };
                    failed.push((order, error));
                }
            }
        }
        self.shared.deliveries().retry(left);
        let (mut held, mut failure) = (Vec::new(), None);
        for (order, error) in failed {
            let error = if is_taking { self.set_aside(shard, &order, error).await } else { Err(error) };
            match error {
                Ok(()) => self.confirm(&[order]),
                Err(error) if error.is_refusal() => held.push((order, error)),
                Err(error) => {
                    self.shared.deliveries().retry(vec![order]);
                    failure = Some(error);
                }
            }
        }
        self.hold(held);
        failure
    }

    async fn tell_one(&self, shard: u32, order: &Order) -> Result<(), RedisError> {
        let call = self.settle_call(shard, std::slice::from_ref(order));
        self.redis.invoke(&SETTLE, call).await.and_then(|answer| self.note_settled(&answer))
    }

    /// Tells an order once more, and where Redis still does not take it, that its entry is set aside.
    async fn set_aside(&self, shard: u32, order: &Order, error: RedisError) -> Result<(), RedisError> {
        let Order::Settle(settlement) = order else { return Err(error) };
        let Err(error) = self.tell_one(shard, order).await else { return Ok(()) };
        let text = format!("Redis does not take what became of it: {error}");
        let Settlement { key, receipt, fate: _, finding: _, why: _ } = settlement.clone();
        let why = Some(Why { text, with_fields: true });
        let bare = Order::Settle(Settlement { key, receipt, fate: Fate::SetAside, finding: None, why });
        self.tell_one(shard, &bare).await?;
        add(&self.shared.stats.refused, 1);
        Ok(())
    }

    fn hold(&mut self, refused: Vec<Failed>) {
        let Some((_, error)) = refused.first() else { return };
        // Says it once, and lets the gauge show that something is wrong; there is nothing to wait for here.
        self.trouble.meet(&self.shared.stats, error);
        let pause = self.limits.refused_pause;
        let held = self
            .held
            .get_or_insert_with(|| Held { orders: Vec::new(), over: Box::pin(tokio::time::sleep(pause)) });
        held.orders.extend(refused.into_iter().map(|(order, _)| order));
        set(&self.shared.stats.held, held.orders.len());
    }

    /// What was held is due again.
    fn release(&mut self) {
        let Some(Held { mut orders, over: _ }) = self.held.take() else { return };
        orders.sort_by_key(Order::key);
        self.shared.deliveries().retry(orders);
        set(&self.shared.stats.held, 0);
    }

    async fn tell_hand_backs(&self, batches: Vec<(u32, Vec<Order>)>) -> Option<RedisError> {
        let calls = batches.iter().map(|(shard, orders)| self.hand_back_call(*shard, orders)).collect();
        let answers = self.redis.invoke_all(&HAND_BACK, calls).await;
        let mut failure = None;
        for ((_, orders), answer) in batches.into_iter().zip(answers) {
            match answer {
                Ok(_given) => {
                    add(&self.shared.stats.handed_back, orders.len());
                    self.confirm(&orders);
                }
                Err(error) => {
                    self.shared.deliveries().retry(orders);
                    failure = Some(error);
                }
            }
        }
        failure
    }

    fn confirm(&self, orders: &[Order]) {
        self.shared.deliveries().confirm(orders.iter().map(Order::key));
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
            let Order::HandBack(HandBack { key, to, deliveries }) = order else { continue };
            let to = match to {
                Recipient::Anybody => RETURNED.to_owned(),
                Recipient::Newer(major) => format!("{NEWER}{major}"),
            };
            call.arg(key.id.to_string()).arg(to);
            match deliveries {
                Some(deliveries) => call.arg(deliveries),
                None => call.arg(-1),
            };
        }
        call
    }

    fn settle_call(&self, shard: u32, orders: &[Order]) -> Call {
        let keys = self.keys.shard(shard);
        let SettleLimits {
            gather: _,
            batch_max: _,
            refusals_max: _,
            refused_pause: _,
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

/// Ends when what is held is to be told again; never when nothing is.
async fn over(held: &mut Option<Held>) {
    match held {
        Some(held) => held.over.as_mut().await,
        None => std::future::pending().await,
    }
}

fn three(answer: &Value) -> Option<[usize; 3]> {
    let Value::Array(values) = answer else { return None };
    let [Value::Int(first), Value::Int(second), Value::Int(third)] = values.as_slice() else { return None };
    Some([usize::try_from(*first).ok()?, usize::try_from(*second).ok()?, usize::try_from(*third).ok()?])
}
