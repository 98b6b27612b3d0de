//! Tests of the replay with a candidate that follows a script, in paused time.
//!
//! They open no socket and wait for no real time.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::super::handover::{HandoverLimits, handover};
use super::super::judge::Judge;
use super::super::science::NoiseSettings;
use super::*;
use crate::branch::{Inexpressible, OwnFields, Returned, Sent};
use crate::compare::CompareLimits;
use crate::compare::noise::{AgainConfig, NoiseModel};
use crate::model::{
    Difference, DifferenceKind, Exchange, ExchangeId, IncomparableReason, Ledger, LedgerSnapshot,
    Observation, Request, Response, Timestamp, samples,
};
use crate::queue::memory::{MemoryQueueLimits, memory_queue};
use crate::queue::{Offer, Offered};

const WALL: Timestamp = Timestamp(1_700_000_000_000_000_000);

/// What the candidate does with a request.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer {
        after_ms: u64,
    },
    /// Answers at once, and hangs when it is asked again.
    AnswerOnce,
    /// The same, and a second time the client cannot say it.
    SentOnce,
    Fail(BranchFailure),
    Hang,
    NotSent,
}

/// One captured exchange: when A got it, when the replayer can claim it, and what B will do.
#[derive(Clone, Copy, Debug)]
struct Item {
    request_ms: u64,
    offered_ms: u64,
    act: Act,
}

/// A candidate that does with request `n` what item `n` says.
struct Script {
    items: Vec<Item>,
    start: Instant,
    /// Milliseconds at which each was sent, by its number.
    sent: Mutex<Vec<(u64, u64)>>,
    now_in_flight: AtomicU64,
    most_in_flight: AtomicU64,
}

#[derive(Default)]
struct Setup {
    limits: ReplayLimits,
    stop_ms: Option<u64>,
    trip_ms: Option<u64>,
    /// From when to when the process pauses.
    pause_ms: Option<(u64, u64)>,
    journal_is_gone: bool,
    /// Whether every answer of B differs from A's, and is asked for again.
    differs: bool,
}

struct Ran {
    end: ReplayEnd,
    ended_ms: u64,
    /// Number and milliseconds.
    sent: Vec<(u64, u64)>,
    most_in_flight: u64,
    compared: usize,
    not_sent: u64,
    ledger: LedgerSnapshot,
}

impl Branch for Script {
    async fn send(&self, id: ExchangeId, _: &Request, _: &OwnFields, deadline: Duration) -> Sent {
        let at = now().duration_since(self.start).as_millis() as u64;
        let is_first = {
            let mut sent = self.sent.lock().expect("no test panics here");
            let is_first = sent.iter().all(|(number, _)| *number != id.offset);
            sent.push((id.offset, at));
            is_first
        };
        let act = match (self.items[id.offset as usize].act, is_first) {
            (Act::AnswerOnce | Act::SentOnce, true) => Act::Answer { after_ms: 0 },
            (Act::AnswerOnce, false) => Act::Hang,
            (Act::SentOnce, false) => Act::NotSent,
            (act @ (Act::Answer { .. } | Act::Fail(_) | Act::Hang | Act::NotSent), _) => act,
        };
        self.most_in_flight
            .fetch_max(self.now_in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let sent = match act {
            Act::Answer { after_ms } if Duration::from_millis(after_ms) < deadline => {
                let served = Duration::from_millis(after_ms);
                tokio::time::sleep(served).await;
                Sent::Observed(Observation::Answered { response: Box::new(response()), ttfb: served, served })
            }
            Act::Answer { .. } | Act::Hang => {
                tokio::time::sleep(deadline).await;
                Sent::Observed(Observation::Failed(BranchFailure::TimedOut))
            }
            Act::Fail(failure) => Sent::Observed(Observation::Failed(failure)),
            Act::NotSent | Act::AnswerOnce | Act::SentOnce => Sent::NotSent(Inexpressible::Target),
        };
        self.now_in_flight.fetch_sub(1, Ordering::SeqCst);
        sent
    }
}

fn response() -> Response {
    samples::response(200, &[], "")
}

/// Every answer is like every other and is asked for once; or differs, and is asked for again.
fn science(differs: bool) -> Science {
    let judge = Judge::by(move |_, observation| match observation {
        Observation::Answered { .. } if differs => {
            let difference = Difference {
                path: "status".to_owned(),
                kind: DifferenceKind::Value,
                place: "status".to_owned(),
                control: None,
                candidate: None,
            };
            Outcome::Mismatch { differences: vec![difference], ignored: Vec::new(), omitted: 0 }
        }
        Observation::Answered { .. } => Outcome::Match,
        Observation::Failed(failure) => Outcome::Incomparable(IncomparableReason::from(*failure)),
    });
    let again = differs.then(AgainConfig::default);
    let settings = NoiseSettings { again, repeats: None, ..NoiseSettings::default() };
    let model = NoiseModel::new(settings.model.clone()).expect("the default is in range");
    Science::new(judge, CompareLimits::default(), false, settings, model)
}

fn exchange(offset: u64, request_ms: u64) -> Exchange {
    let first = WALL.after(Duration::from_millis(request_ms));
    samples::exchange(ExchangeId { flow: 0, offset }, first, samples::request("GET", "/", &[]), response())
}

/// Runs the items through a replay in paused time, and checks that every one has exactly one fate.
fn run(items: &[Item], setup: Setup) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime with a timer");
    runtime.block_on(run_paused(items, setup))
}

async fn run_paused(items: &[Item], setup: Setup) -> Ran {
    let Setup { limits, stop_ms, trip_ms, pause_ms, journal_is_gone, differs } = setup;
    let (pause, is_paused) = tokio::sync::watch::channel(false);
    let start = now();
    let sleep_ms = move |ms: u64| tokio::time::sleep_until(start + Duration::from_millis(ms));
    let ledger = Arc::new(Ledger::default());
    let (offer, queue) = memory_queue(MemoryQueueLimits::default());
    let (comparisons, mut journal) = handover(HandoverLimits { waiting_max: 4, ..HandoverLimits::default() });
    let branch = Arc::new(Script {
        items: items.to_vec(),
        start,
        sent: Mutex::default(),
        now_in_flight: AtomicU64::new(0),
        most_in_flight: AtomicU64::new(0),
    });
    let loop_guard = Arc::new(LoopGuard::default());
    let anchor = Anchor { wall: WALL, at: start };
    let stats = Arc::new(ReplayStats::default());
    let replayer = Replayer {
        experiment: "test".into(),
        branch: Arc::clone(&branch),
        twin: None,
        queue,
        pace: Pace::live(anchor, Duration::from_millis(200)),
        anchor,
        limits,
        science: Arc::new(science(differs)),
        comparisons,
        pause: PauseFlag::of(is_paused),
        loop_guard: Arc::clone(&loop_guard),
        stats: Arc::clone(&stats),
    };

    let capture = async {
        let mut in_order: Vec<_> = (0u64..).zip(items).collect();
        in_order.sort_by_key(|(_, item)| item.offered_ms);
        for (number, item) in in_order {
            sleep_ms(item.offered_ms).await;
            let exchange = Arc::new(exchange(number, item.request_ms));
            let offered = Offered { exchange, route: "other".into(), ticket: ledger.admit() };
            if let Err(ticket) = offer.offer(offered) {
                ticket.settle(Fate::Shed);
            }
        }
        drop(offer);
    };
    let stop = async {
        match stop_ms {
            Some(ms) => sleep_ms(ms).await,
            None => std::future::pending().await,
        }
    };
    let trip = async {
        if let Some(ms) = trip_ms {
            sleep_ms(ms).await;
            let id = exchange(0, 0).id;
            loop_guard.note_sent(id);
            loop_guard.note_taken(1);
            assert_eq!(loop_guard.saw(id, 1), Returned::Looped);
        }
    };
    let pausing = async {
        if let Some((from_ms, to_ms)) = pause_ms {
            sleep_ms(from_ms).await;
            pause.send_replace(true);
            sleep_ms(to_ms).await;
            pause.send_replace(false);
        }
    };
    let collect = async {
        let mut compared = 0;
        let mut batch = Vec::new();
        while !journal_is_gone && journal.recv_many(&mut batch, 1).await > 0 {
            compared += batch.drain(..).count();
        }
        drop(journal);
        compared
    };
    let replay = async {
        let end = replayer.run(stop).await;
        (end, now().duration_since(start).as_millis() as u64)
    };
    let ((end, ended_ms), (), (), (), compared) = tokio::join!(replay, capture, trip, pausing, collect);

    let ledger = ledger.snapshot();
    assert!(ledger.balances(), "{ledger:?}");
    assert_eq!((ledger.seen, ledger.in_flight, ledger.count(Fate::Lost)), (items.len() as u64, 0, 0));
    let fates = [Fate::Matched, Fate::Mismatched, Fate::Incomparable]
        .map(|fate| ledger.count(fate))
        .iter()
        .sum::<u64>();
    assert_eq!(fates, compared as u64, "each comparison that was handed over has its fate, and no other");
    let sent = branch.sent.lock().expect("no test panics here").clone();
    Ran {
        end,
        ended_ms,
        sent,
        most_in_flight: branch.most_in_flight.load(Ordering::SeqCst),
        compared,
        not_sent: stats.not_sent.load(Ordering::Relaxed),
        ledger,
    }
}

fn item(request_ms: u64, act: Act) -> Item {
    Item { request_ms, offered_ms: request_ms + 5, act }
}

fn answers(count: u64, every_ms: u64, after_ms: u64) -> Vec<Item> {
    (0..count).map(|n| item(n * every_ms, Act::Answer { after_ms })).collect()
}

/// Fates other than zero, as `label count`.
fn fates(ran: &Ran) -> Vec<String> {
    let all = ran.ledger.fates.iter().filter(|(_, count)| *count > 0);
    all.map(|(fate, count)| format!("{} {count}", fate.label())).collect()
}

#[test]
fn the_candidate_sees_the_spacing_of_a() {
    let items: Vec<Item> =
        [0, 7, 7, 100, 350].into_iter().map(|ms| item(ms, Act::Answer { after_ms: 3 })).collect();
    let ran = run(&items, Setup::default());
    assert_eq!(ran.sent, [(0, 200), (1, 207), (2, 207), (3, 300), (4, 550)]);
    assert_eq!((ran.end, fates(&ran)), (ReplayEnd::Finished, vec!["matched 5".to_owned()]));
}

#[test]
fn what_becomes_due_during_a_pause_is_not_sent_and_what_is_under_way_is_finished() {
    let ran = run(&answers(10, 100, 40), Setup { pause_ms: Some((430, 750)), ..Setup::default() });
    // The third is under way when the pause begins; those that are due at 500, 600 and 700 fall into it.
    let sent: Vec<u64> = ran.sent.iter().map(|(_, ms)| *ms).collect();
    assert_eq!(sent, [200, 300, 400, 800, 900, 1_000, 1_100]);
    assert_eq!(fates(&ran), ["paused 3", "matched 7"]);
}

#[test]
fn nothing_is_asked_again_during_a_pause() {
    let items = answers(3, 10_000, 1);
    let setup = |pause_ms| Setup { differs: true, pause_ms, ..Setup::default() };
    // Second answers are due some four seconds after the first ones; for the last one nobody waits.
    let numbers = |ran: Ran| ran.sent.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    assert_eq!(numbers(run(&items, setup(None))), [0, 0, 1, 1, 2]);
    assert_eq!(numbers(run(&items, setup(Some((300, 9_000))))), [0, 1, 1, 2]);
}

#[test]
fn a_slow_answer_of_a_delays_only_its_own_exchange() {
    // The first was paired 350 ms after it began; the second waits for its time when the first comes in.
    let items = [
        Item { request_ms: 0, offered_ms: 350, act: Act::Answer { after_ms: 1 } },
        Item { request_ms: 300, offered_ms: 310, act: Act::Answer { after_ms: 1 } },
    ];
    assert_eq!(run(&items, Setup::default()).sent, [(0, 350), (1, 500)]);
}

#[test]
fn a_slow_candidate_does_not_slow_the_requests_down() {
    let ran = run(&answers(20, 10, 500), Setup::default());
    assert_eq!(
        ran.sent.iter().map(|(_, ms)| *ms).collect::<Vec<_>>(),
        (0..20).map(|n| 200 + 10 * n).collect::<Vec<_>>()
    );
    assert_eq!(ran.most_in_flight, 20);
}

#[test]
fn what_finds_no_room_in_flight_in_time_is_overdue() {
    let limits = ReplayLimits {
        in_flight_max: 2,
        slot_wait_max: Duration::from_millis(100),
        ..ReplayLimits::default()
    };
    let ran = run(&answers(6, 0, 60), Setup { limits, ..Setup::default() });
    assert_eq!(ran.most_in_flight, 2);
    assert_eq!(fates(&ran), ["overdue 2", "matched 4"]);
}

#[test]
fn a_hung_candidate_holds_no_more_than_the_in_flight_limit() {
    let limits = ReplayLimits { in_flight_max: 4, ..ReplayLimits::default() };
    let hung: Vec<Item> = (0..400).map(|n| item(n * 50, Act::Hang)).collect();
    let ran = run(&hung, Setup { limits, ..Setup::default() });
    assert_eq!(ran.most_in_flight, 4);
    assert!(
        ran.ledger.count(Fate::Overdue) > 0 && ran.ledger.count(Fate::Incomparable) > 0,
        "{:?}",
        fates(&ran)
    );
}

#[test]
fn the_rate_limit_sheds_what_is_above_it() {
    let limits = ReplayLimits { requests_per_second_max: NonZeroU32::new(10), ..ReplayLimits::default() };
    let ran = run(&answers(100, 10, 1), Setup { limits, ..Setup::default() });
    assert_eq!(fates(&ran), ["rate_limited 90", "matched 10"]);
}

#[test]
fn the_breaker_opens_after_failures_and_closes_after_an_answer() {
    // Fails for 3.0 s, one request every 10 ms; pauses of 1 s and 2 s follow, and the second probe is answered.
    let items: Vec<Item> = (0..600)
        .map(|n| {
            let failing = n < 300;
            item(
                n * 10,
                if failing { Act::Fail(BranchFailure::Unreachable) } else { Act::Answer { after_ms: 1 } },
            )
        })
        .collect();
    let ran = run(&items, Setup::default());
    // 10 that open it at 290 ms, a probe at 1,290 ms that fails, one at 3,290 ms that is answered.
    assert_eq!(ran.ledger.count(Fate::Incomparable), 11);
    let times: Vec<u64> = ran.sent.iter().map(|(_, ms)| *ms).collect();
    assert_eq!(times[9..13], [290, 1290, 3290, 3300]);
    assert_eq!(fates(&ran), ["breaker_open 298", "matched 291", "incomparable 11"]);
}

#[test]
fn second_questions_let_nothing_past_an_open_breaker() {
    // Asked again from 4.2 s on; each hangs for two seconds, and ends while the first probe does the same.
    let asked_twice = (0..20).map(|n| item(n * 20, Act::AnswerOnce));
    let opening = (0..10).map(|n| item(4_900 + n * 10, Act::Fail(BranchFailure::Unreachable)));
    let hanging = (0..1_000).map(|n| item(5_000 + n * 10, Act::Hang));
    let items: Vec<Item> = asked_twice.chain(opening).chain(hanging).collect();
    let limits = ReplayLimits { response_wait_max: Duration::from_secs(2), ..ReplayLimits::default() };
    let ran = run(&items, Setup { limits, differs: true, ..Setup::default() });
    let times: Vec<u64> = ran.sent.iter().map(|(_, ms)| *ms).collect();
    assert_eq!(times[20..40], (0..20).map(|n| 4_200 + n * 20).collect::<Vec<_>>());
    // It opens at 5,190 ms, after ten failures. Pauses of one second and of two, and a probe after each.
    assert_eq!(times[49..], [5_190, 6_190, 10_190]);
}

#[test]
fn what_cannot_be_expressed_does_not_count_against_the_candidate() {
    let items: Vec<Item> = (0..30).map(|n| item(n, Act::NotSent)).collect();
    let ran = run(&items, Setup::default());
    assert_eq!((fates(&ran), ran.not_sent), (vec!["not_replayable 30".to_owned()], 30));
}

#[test]
fn what_cannot_be_said_again_has_its_fate_already() {
    let limits = ReplayLimits { drain_max: Duration::from_secs(60), ..ReplayLimits::default() };
    let items: Vec<Item> = (0..3).map(|n| item(n * 100, Act::SentOnce)).collect();
    let ran = run(&items, Setup { limits, differs: true, ..Setup::default() });
    assert_eq!((ran.sent.len(), ran.not_sent), (6, 0));
    assert_eq!(fates(&ran), ["mismatched 3"]);
}

#[test]
fn stopping_lets_finish_what_ends_in_time() {
    // Told to stop at 100 ms, before the first is due; what comes later is refused by the queue.
    let ran = run(&answers(20, 10, 50), Setup { stop_ms: Some(102), ..Setup::default() });
    assert_eq!((ran.end, ran.ended_ms), (ReplayEnd::Stopped, 340));
    assert_eq!(fates(&ran), ["shed 10", "matched 10"]);
}

#[test]
fn stopping_cuts_off_what_does_not_end_in_time() {
    let hung: Vec<Item> = (0..100).map(|n| item(n, Act::Hang)).collect();
    let limits = ReplayLimits { slot_wait_max: Duration::from_secs(1), ..ReplayLimits::default() };
    let ran = run(&hung, Setup { limits, stop_ms: Some(400), ..Setup::default() });
    assert_eq!((ran.end, ran.ended_ms), (ReplayEnd::Stopped, 4400));
    assert_eq!(fates(&ran), ["overdue 36", "drained 64"]);
}

#[test]
fn a_loop_stops_it_at_once() {
    let ran = run(&answers(100, 10, 1), Setup { trip_ms: Some(305), ..Setup::default() });
    assert_eq!((ran.end, ran.ended_ms), (ReplayEnd::Loop, 305));
    assert_eq!(ran.ledger.count(Fate::Matched), 11);
    assert!(ran.sent.iter().all(|(_, ms)| *ms <= 305));
}

#[test]
fn without_a_journal_nothing_counts_as_compared() {
    let ran = run(&answers(5, 1, 1), Setup { journal_is_gone: true, ..Setup::default() });
    assert_eq!((ran.compared, fates(&ran)), (0, vec!["drained 5".to_owned()]));
}

#[test]
fn what_differs_is_asked_again_once_its_wait_is_over() {
    let limits = ReplayLimits { drain_max: Duration::from_secs(60), ..ReplayLimits::default() };
    let ran = run(&answers(3, 100, 1), Setup { limits, differs: true, ..Setup::default() });
    let first: Vec<_> = ran.sent.iter().take(3).copied().collect();
    assert_eq!(first, [(0, 200), (1, 300), (2, 400)]);
    // A answered a millisecond after the request; a twentieth of the wait has to be longer than that.
    let again: Vec<_> = ran.sent.iter().skip(3).map(|(number, ms)| (*number, *ms / 1_000)).collect();
    assert_eq!((again.len(), ran.compared), (3, 3), "{again:?}");
    assert!(ran.sent.iter().skip(3).zip(&first).all(|((_, again), (_, first))| *again >= first + 1_500));
    assert_eq!((ran.end, fates(&ran)), (ReplayEnd::Finished, vec!["mismatched 3".to_owned()]));
}

#[test]
fn nobody_waits_for_second_answers_longer_than_a_drain_may_take() {
    let limits = ReplayLimits { drain_max: Duration::from_secs(1), ..ReplayLimits::default() };
    let ran = run(&answers(3, 100, 1), Setup { limits, differs: true, ..Setup::default() });
    assert_eq!((ran.sent.len(), ran.compared), (3, 3));
    assert!(ran.ended_ms <= 1_500, "{}", ran.ended_ms);
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::AnswerOnce),
        1 => Just(Act::SentOnce),
        6 => (0u64..3_000).prop_map(|after_ms| Act::Answer { after_ms }),
        2 => (0usize..4).prop_map(|n| Act::Fail(BranchFailure::ALL[n])),
        1 => Just(Act::Hang),
        1 => Just(Act::NotSent),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Random exchanges, candidates, limits and ends: `run` checks that the ledger balances and nothing is lost.
    #[test]
    fn each_exchange_has_exactly_one_fate(
        items in proptest::collection::vec((0u64..3_000, 0u64..500, act()), 0..120),
        in_flight_max in 1usize..8,
        waiting_max in 1usize..40,
        rate in proptest::option::of(1u32..100),
        stop_ms in proptest::option::of(0u64..6_000),
        trip_ms in proptest::option::weighted(0.2, 0u64..6_000),
        differs in any::<bool>(),
    ) {
        let items: Vec<Item> = items
            .into_iter()
            .map(|(request_ms, later, act)| Item { request_ms, offered_ms: request_ms + later, act })
            .collect();
        let limits = ReplayLimits {
            in_flight_max,
            waiting_max,
            requests_per_second_max: rate.and_then(NonZeroU32::new),
            response_wait_max: Duration::from_secs(2),
            ..ReplayLimits::default()
        };
        let ran = run(&items, Setup { limits, stop_ms, trip_ms, pause_ms: None, journal_is_gone: false, differs });
        prop_assert!(ran.most_in_flight <= in_flight_max as u64);
        for (number, ms) in &ran.sent {
            let Item { request_ms, offered_ms, act: _ } = items[*number as usize];
            prop_assert!(*ms >= offered_ms.max(request_ms + 200), "request {} at {} ms", number, ms);
        }
        if let Some(stop_ms) = stop_ms {
            prop_assert!(ran.ended_ms <= stop_ms + 4_000, "{}", ran.ended_ms);
        }
    }
}
