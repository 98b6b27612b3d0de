//! The deliveries against a list of what should be in them.
//!
//! Asks no Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::Timestamp;

fn key(number: u64) -> EntryKey {
    EntryKey { shard: (number % 3) as u32, id: StreamId { ms: number, seq: 0 } }
}

fn exchange(number: u64) -> ExchangeId {
    ExchangeId { flow: 7, offset: number }
}

fn finding(number: u64) -> Finding {
    Finding {
        exchange: exchange(number),
        route: Arc::from("/"),
        outcome: "match",
        reason: "",
        compared_at: Timestamp(0),
        cause: None,
    }
}

/// What should be known of one entry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    UnderWay { kept: bool },
    Compared,
    Due { settles: bool },
    Sent { settles: bool },
}

#[derive(Clone, Debug)]
enum Step {
    Take(u64),
    Settle(u64, Fate),
    Keep(u64),
    Batch { shard: u32, max: usize },
    Confirm,
    Retry,
    EndJournal,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0u64..12;
    let fate = prop_oneof![
        4 => Just(Fate::Matched),
        2 => Just(Fate::Mismatched),
        2 => Just(Fate::Overdue),
        1 => Just(Fate::Drained),
        1 => Just(Fate::Lost),
    ];
    prop_oneof![
        6 => number.clone().prop_map(Step::Take),
        6 => (number.clone(), fate).prop_map(|(number, fate)| Step::Settle(number, fate)),
        4 => number.prop_map(Step::Keep),
        4 => (0u32..3, 0usize..4).prop_map(|(shard, max)| Step::Batch { shard, max }),
        3 => Just(Step::Confirm),
        2 => Just(Step::Retry),
        1 => Just(Step::EndJournal),
    ]
}

fn settles(order: &Order) -> bool {
    matches!(order, Order::Settle(_))
}

proptest! {
    /// Whatever comes in whatever order: a compared entry is told only when the journal has it, each entry is told until
    /// it is confirmed and not after, and the counts are those of a list.
    #[test]
    fn they_are_a_list_of_what_is_not_confirmed(steps in proptest::collection::vec(step(), 0..120)) {
        let mut deliveries = Deliveries::default();
        let mut list: BTreeMap<u64, Known> = BTreeMap::new();
        let mut sent: Vec<Order> = Vec::new();
        let mut lost = BTreeSet::new();
        let mut journal_ended = false;
        for step in steps {
            match step {
                Step::Take(number) => {
                    let receipt = Receipt { bytes: number, deliveries: number + 1, ..Receipt::default() };
                    let taken = deliveries.take(key(number), exchange(number), receipt, 10);
                    prop_assert_eq!(taken, !list.contains_key(&number));
                    list.entry(number).or_insert(Known::UnderWay { kept: false });
                }
                Step::Settle(number, fate) => {
                    let told = deliveries.settle(key(number), fate);
                    if let Some(Known::UnderWay { kept }) = list.get(&number).copied() {
                        let compared = matches!(fate, Fate::Matched | Fate::Mismatched);
                        let returned = fate == Fate::Drained || (compared && !kept && journal_ended);
                        prop_assert_eq!(told, if returned { Fate::Returned } else { fate });
                        let known = if compared && !kept && !journal_ended {
                            Known::Compared
                        } else {
                            Known::Due { settles: !returned && fate != Fate::Lost }
                        };
                        list.insert(number, known);
                        if fate == Fate::Lost { lost.insert(number) } else { lost.remove(&number) };
                    }
                }
                Step::Keep(number) => {
                    deliveries.keep(finding(number));
                    match list.get(&number) {
                        Some(Known::UnderWay { kept: _ }) => {
                            list.insert(number, Known::UnderWay { kept: true });
                        }
                        Some(Known::Compared) => { list.insert(number, Known::Due { settles: true }); }
                        Some(Known::Due { .. } | Known::Sent { .. }) | None => {}
                    }
                }
                Step::Batch { shard, max } => {
                    let orders = deliveries.batch(shard, max);
                    let due = list.iter().filter(|(number, known)| {
                        key(**number).shard == shard && matches!(known, Known::Due { .. })
                    }).count();
                    prop_assert_eq!(orders.len(), due.min(max));
                    for order in &orders {
                        let number = order.key().id.ms;
                        prop_assert_eq!(list.get(&number), Some(&Known::Due { settles: settles(order) }));
                        list.insert(number, Known::Sent { settles: settles(order) });
                        match order {
                            Order::Settle(Settlement { key: _, receipt, fate: _, finding: _, why: _ }) => {
                                prop_assert_eq!(receipt.bytes, number);
                            }
                            // Earlier deliveries stay; this one goes, unless a defect of this worker met the entry.
                            Order::HandBack(HandBack { key: _, to: _, deliveries }) => {
                                prop_assert_eq!(*deliveries, (!lost.contains(&number)).then_some(number));
                            }
                        }
                    }
                    sent.extend(orders);
                }
                Step::Confirm => {
                    for order in sent.drain(..) {
                        list.remove(&order.key().id.ms);
                        deliveries.confirm([order.key()]);
                    }
                }
                Step::Retry => {
                    for order in &sent {
                        list.insert(order.key().id.ms, Known::Due { settles: settles(order) });
                    }
                    deliveries.retry(std::mem::take(&mut sent));
                }
                Step::EndJournal => {
                    journal_ended = true;
                    deliveries.end_journal();
                    for known in list.values_mut().filter(|known| **known == Known::Compared) {
                        *known = Known::Due { settles: false };
                    }
                }
            }
            let count = |wanted: fn(&Known) -> bool| list.values().filter(|known| wanted(known)).count();
            let under_way = count(|known| matches!(known, Known::UnderWay { .. }));
            prop_assert_eq!(deliveries.len(), list.len());
            prop_assert_eq!((deliveries.under_way(), deliveries.bytes()), (under_way, under_way * 10));
            prop_assert_eq!(deliveries.compared(), count(|known| *known == Known::Compared));
            let of = |shard: u32, wanted: fn(&Known) -> bool| {
                list.iter().filter(|(number, known)| key(**number).shard == shard && wanted(known)).count()
            };
            for shard in 0..3 {
                prop_assert_eq!(deliveries.taken_of(shard), of(shard, |_| true));
                let under_way = of(shard, |known| matches!(known, Known::UnderWay { .. }));
                prop_assert_eq!(deliveries.under_way_of(shard), under_way);
                let due = of(shard, |known| matches!(known, Known::Due { .. })) > 0;
                prop_assert_eq!(deliveries.due_shards().contains(&shard), due);
            }
        }
    }
}

#[test]
fn a_copy_of_an_exchange_under_way_is_not_taken() {
    let mut deliveries = Deliveries::default();
    assert!(deliveries.take(key(1), exchange(1), Receipt::default(), 1));
    assert!(!deliveries.take(key(2), exchange(1), Receipt::default(), 1));
    assert_eq!((deliveries.len(), deliveries.knows(key(2))), (1, false));
}

#[test]
fn what_failed_comes_first_again() {
    let mut deliveries = Deliveries::default();
    for number in [3, 6, 9] {
        deliveries.take(key(number), exchange(number), Receipt::default(), 1);
        deliveries.settle(key(number), Fate::Overdue);
    }
    let first = deliveries.batch(0, 2);
    deliveries.retry(first);
    let again: Vec<u64> = deliveries.batch(0, 9).iter().map(|order| order.key().id.ms).collect();
    assert_eq!(again, [3, 6, 9]);
}

#[test]
fn an_id_is_what_redis_shows() {
    let id = StreamId { ms: 1_526_919_030_474, seq: 55 };
    assert_eq!(StreamId::parse("1526919030474-55"), Some(id));
    assert_eq!(id.to_string(), "1526919030474-55");
    for text in ["", "1", "-", "1-", "x-1", "1-2-3"] {
        assert_eq!(StreamId::parse(text), None, "{text}");
    }
}
