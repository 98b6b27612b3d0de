//! Tests of the way into Redis with a Redis of our own making, and a real spool.
//!
//! Time is paused; what Redis was given is looked at entry by entry.

use std::sync::Mutex;

use super::*;
use crate::model::{Exchange, ExchangeId, LedgerSnapshot, Timestamp, samples};
use crate::queue::Offer as _;
use crate::queue::entry::EntryLimits;
use crate::queue::memory::{MemoryOffer, MemoryQueueLimits, memory_queue};
use crate::spool::SpoolConfig;

/// Takes numbers as Redis does: those that are not above the last are copies.
#[derive(Debug, Default)]
struct Store {
    /// The last number, and what was taken, of each producer and shard.
    taken: HashMap<(u128, u32), Vec<u64>>,
    /// What becomes of the next calls: whether they are taken, and whether that is said. Then all are.
    next: std::collections::VecDeque<(bool, bool)>,
    /// While it is away, nothing is taken.
    away: bool,
    /// How long an answer takes, besides a millisecond.
    slow: Duration,
    /// The next calls that panic.
    panics: u32,
    /// Calls with this entry of any shard panic.
    poison: Option<u64>,
    /// What is refused, and how.
    refuses: Option<Refuses>,
}

/// What is refused.
#[derive(Clone, Copy, Debug)]
enum Refuses {
    /// All of one shard: somebody's key is in the way.
    Shard(u32),
    /// This entry of any shard: the connection breaks each time.
    Entry(u64),
    /// Everything: the user has lost its rights.
    All,
}

#[derive(Clone)]
struct Fake {
    store: Arc<Mutex<Store>>,
    producer: u128,
}

impl Append for Fake {
    async fn append_all(
        &mut self,
        batches: &[(u32, &[Numbered<EncodedEntry>])],
    ) -> Vec<Result<Appended, RedisError>> {
        let slow = self.store.lock().unwrap().slow;
        tokio::time::sleep(Duration::from_millis(1) + slow).await;
        // Panics with the lock would poison it.
        let is_panic = {
            let mut store = self.store.lock().unwrap();
            let is_poison = |entry: &Numbered<EncodedEntry>| store.poison == Some(entry.seq);
            let is_met = batches.iter().any(|(_, entries)| entries.iter().any(is_poison));
            let is_due = store.panics > 0;
            store.panics = store.panics.saturating_sub(1);
            is_met || is_due
        };
        assert!(!is_panic, "planted");
        let mut store = self.store.lock().unwrap();
        let append = |(shard, entries): &(u32, &[Numbered<EncodedEntry>])| {
            let refused = match store.refuses {
                Some(Refuses::Shard(refused)) if refused == *shard => Some(wrong_type()),
                Some(Refuses::Entry(refused)) if entries.iter().any(|entry| entry.seq == refused) => {
                    Some(broken_off())
                }
                Some(Refuses::All) => Some(forbidden()),
                Some(Refuses::Shard(_) | Refuses::Entry(_)) | None => None,
            };
            if let Some(refused) = refused {
                return Err(refused);
            }
            let (takes, says) = match store.away {
                true => (false, false),
                false => store.next.pop_front().unwrap_or((true, true)),
            };
            let mut appended = Appended::default();
            if takes {
                let taken = store.taken.entry((self.producer, *shard)).or_default();
                for entry in *entries {
                    if taken.last().is_none_or(|last| *last < entry.seq) {
                        taken.push(entry.seq);
                        appended.taken += 1;
                    } else {
                        appended.duplicates += 1;
                    }
                }
            }
            let broken = || RedisError::Timeout { address: "test".to_owned(), said: "nothing".to_owned() };
            if says { Ok(appended) } else { Err(broken()) }
        };
        batches.iter().map(append).collect()
    }

    async fn answers(&mut self) -> bool {
        !self.store.lock().unwrap().away
    }
}

fn wrong_type() -> RedisError {
    let (address, key, found) = ("test".to_owned(), "x".to_owned(), "string".to_owned());
    RedisError::WrongType { address, key, expected: "stream", found }
}

fn broken_off() -> RedisError {
    RedisError::Unreachable { address: "test".to_owned(), said: "broken pipe".to_owned() }
}

fn forbidden() -> RedisError {
    RedisError::Permission { address: "test".to_owned(), said: "NOPERM".to_owned() }
}

struct Stage {
    folder: tempfile::TempDir,
    store: Arc<Mutex<Store>>,
    ledger: Arc<Ledger>,
    offer: MemoryOffer,
    uploader: Uploader<Fake>,
}

const LIMITS: UploadLimits = UploadLimits {
    batch_max: 4,
    batch_wait: Duration::from_millis(5),
    in_flight_bytes_max: 1 << 20,
    retry_min: Duration::from_millis(50),
    retry_max: Duration::from_secs(1),
    refused_wait_max: Duration::from_secs(10),
    panics_max: 3,
    drain_max: Duration::from_secs(4),
};

fn stage(folder: tempfile::TempDir, store: Arc<Mutex<Store>>, producer: u128, spool_bytes_max: u64) -> Stage {
    let config = SpoolConfig {
        path: folder.path().join("spool"),
        bytes_max: spool_bytes_max,
        ..SpoolConfig::default()
    };
    let (spool, _) = Spool::open(config).unwrap();
    let (offer, queue) = memory_queue(MemoryQueueLimits::default());
    let ledger = Arc::new(Ledger::default());
    let fake = Fake { store: Arc::clone(&store), producer };
    let channel = Channel {
        name: "x".into(),
        queue,
        appender: fake.clone(),
        ledger: Arc::clone(&ledger),
        stats: Arc::default(),
    };
    let uploader = Uploader::new(UploadParts {
        limits: LIMITS,
        channels: vec![channel],
        shards: NonZeroU32::new(3).unwrap(),
        session: SessionBy::default(),
        encoder: EntryEncoder::new(EntryLimits::default()).unwrap(),
        spool,
        spool_stats: Arc::default(),
        producer,
        make_appender: Box::new(move |_, producer| Fake { producer, ..fake.clone() }),
        status: Arc::default(),
        secrets: None,
    });
    Stage { folder, store, ledger, offer, uploader }
}

fn new_stage(spool_bytes_max: u64) -> Stage {
    stage(tempfile::tempdir().unwrap(), Arc::default(), 1, spool_bytes_max)
}

fn exchange(number: u64) -> Arc<Exchange> {
    let (id, at) = (ExchangeId { flow: number, offset: 0 }, Timestamp(number));
    let mut exchange =
        samples::exchange(id, at, samples::request("GET", "/", &[]), samples::response(200, &[], "x"));
    // Another client each time, so that all shards have something to do.
    let client = std::net::SocketAddr::from(([10, 0, 0, number as u8], 40_000));
    exchange.flow.key.client = client.into();
    Arc::new(exchange)
}

impl Stage {
    fn offer(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let offered =
                Offered { exchange: exchange(number), route: "other".into(), ticket: self.ledger.admit() };
            assert!(self.offer.offer(offered).is_ok());
        }
    }
}

/// The counts, which must add up, without those at zero.
#[track_caller]
fn check(ledger: &LedgerSnapshot, expected: &[(Fate, u64)]) {
    assert!(ledger.balances() && ledger.in_flight == 0, "{ledger:?}");
    let some: Vec<_> = ledger.fates.iter().copied().filter(|(_, count)| *count > 0).collect();
    assert_eq!(some, expected);
}

#[tokio::test(start_paused = true)]
async fn everything_goes_to_redis_once() {
    let stage = new_stage(1 << 20);
    stage.offer(0..100);
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    drop(offer);
    uploader.run(std::future::pending()).await;
    check(&ledger.snapshot(), &[(Fate::Queued, 100)]);
    assert_eq!(store.lock().unwrap().taken.values().map(Vec::len).sum::<usize>(), 100);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_knows_of_is_sent_again_and_counts_once() {
    let stage = new_stage(1 << 20);
    // Taken and not said; not taken; taken and not said again when it comes from the spool.
    stage.store.lock().unwrap().next.extend([(true, false), (false, false), (true, true), (true, false)]);
    stage.offer(0..100);
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    drop(offer);
    uploader.run(std::future::pending()).await;
    check(&ledger.snapshot(), &[(Fate::Queued, 100)]);
    assert_eq!(store.lock().unwrap().taken.values().map(Vec::len).sum::<usize>(), 100);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_bridged_by_the_spool_in_order() {
    let stage = new_stage(1 << 20);
    stage.store.lock().unwrap().away = true;
    stage.offer(0..50);
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    let comes_back = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(ledger.snapshot().in_flight, 50, "it waits for Redis");
        store.lock().unwrap().away = false;
        for number in 50..100 {
            let offered =
                Offered { exchange: exchange(number), route: "other".into(), ticket: ledger.admit() };
            assert!(offer.offer(offered).is_ok());
        }
        drop(offer);
    };
    tokio::join!(uploader.run(std::future::pending()), comes_back);
    check(&ledger.snapshot(), &[(Fate::Queued, 100)]);
    let store = store.lock().unwrap();
    assert_eq!(store.taken.values().map(Vec::len).sum::<usize>(), 100);
    assert!(store.taken.values().all(|taken| taken.is_sorted()));
}

/// What a process that ended without Redis left: 20 entries in the spool of this folder. Redis is back.
async fn left_behind() -> (tempfile::TempDir, Arc<Mutex<Store>>) {
    let stage = new_stage(1 << 20);
    stage.store.lock().unwrap().away = true;
    stage.offer(0..20);
    let Stage { folder, store, ledger, offer, uploader } = stage;
    drop(offer);
    uploader.run(std::future::pending()).await;
    check(&ledger.snapshot(), &[(Fate::Spooled, 20)]);
    store.lock().unwrap().away = false;
    (folder, store)
}

#[tokio::test(start_paused = true)]
async fn what_an_ended_process_left_goes_under_its_own_number() {
    let (folder, store) = left_behind().await;
    let stage = super::tests::stage(folder, store, 2, 1 << 20);
    stage.offer(0..10);
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    drop(offer);
    uploader.run(std::future::pending()).await;
    check(&ledger.snapshot(), &[(Fate::Queued, 10)]);
    let store = store.lock().unwrap();
    let of = |producer: u128| {
        let own = store.taken.iter().filter(|((have, _), _)| *have == producer);
        own.map(|(_, taken)| taken.len()).sum::<usize>()
    };
    assert_eq!((of(1), of(2)), (20, 10));
}

/// What an ended process left is refused, panics, or is damaged on the disk: how many come to Redis, and what the others count as.
#[track_caller]
fn check_given_up(plant: impl FnOnce(&mut Store), damage: bool, sent: usize, expected: [(Fate, u64); 3]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let (folder, store) = left_behind().await;
        if damage {
            let spool = folder.path().join("spool");
            let files = std::fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
            let segment = files.max_by_key(|file| std::fs::metadata(file).unwrap().len()).unwrap();
            let mut bytes = std::fs::read(&segment).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&segment, bytes).unwrap();
        }
        plant(&mut store.lock().unwrap());
        let Stage { folder: _folder, store, ledger, offer, uploader } =
            super::tests::stage(folder, store, 2, 1 << 20);
        let stats = Arc::clone(&uploader.experiments[0].stats);
        let spool = Arc::clone(&uploader.spool_stats);
        tokio::select! {
            () = uploader.run(std::future::pending()) => panic!("it ended by itself"),
            () = tokio::time::sleep(LIMITS.refused_wait_max * 4) => {}
        }
        drop(offer);
        assert_eq!(spool.entries.load(Ordering::Relaxed), 0, "something is left");
        assert_eq!(stats.given_up().collect::<Vec<_>>(), expected);
        assert_eq!(stats.recovered.load(Ordering::Relaxed), sent as u64);
        assert_eq!(store.lock().unwrap().taken.values().map(Vec::len).sum::<usize>(), sent);
        // Its own ledger knows nothing of them: they are another's.
        check(&ledger.snapshot(), &[]);
    });
}

#[test]
fn what_is_given_up_of_an_earlier_process_is_counted_apart() {
    let none = [(Fate::Refused, 0), (Fate::Lost, 0), (Fate::SpoolFull, 0)];
    check_given_up(|_| {}, false, 20, none);
    let refused = [(Fate::Refused, 7), (Fate::Lost, 0), (Fate::SpoolFull, 0)];
    check_given_up(|store| store.refuses = Some(Refuses::Shard(1)), false, 13, refused);
    let lost = [(Fate::Refused, 0), (Fate::Lost, 3), (Fate::SpoolFull, 0)];
    check_given_up(|store| store.poison = Some(2), false, 17, lost);
    let damaged = [(Fate::Refused, 0), (Fate::Lost, 0), (Fate::SpoolFull, 1)];
    check_given_up(|_| {}, true, 19, damaged);
}

#[tokio::test(start_paused = true)]
async fn a_spool_without_room_is_counted_and_what_redis_may_have_is_asked_about() {
    let stage = new_stage(0);
    // Redis has the first batch and nobody knows; then it is away for a while.
    stage.store.lock().unwrap().next.extend([(true, false), (true, false), (true, false), (false, false)]);
    stage.offer(0..40);
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    let later = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        drop(offer);
    };
    tokio::join!(uploader.run(std::future::pending()), later);
    let end = ledger.snapshot();
    let taken = store.lock().unwrap().taken.values().map(Vec::len).sum::<usize>() as u64;
    check(&end, &[(Fate::Queued, taken), (Fate::SpoolFull, 40 - taken)]);
    assert!(taken > 0 && taken < 40, "{taken}");
}

/// A process ends without Redis, with room for so many bytes in the spool: what it calls spooled is what the next one sends.
async fn check_left(spool_bytes_max: u64) -> u64 {
    let stage = new_stage(spool_bytes_max);
    stage.store.lock().unwrap().away = true;
    stage.offer(0..40);
    let Stage { folder, store, ledger, offer, uploader } = stage;
    drop(offer);
    uploader.run(std::future::pending()).await;
    let end = ledger.snapshot();
    let spooled = end.count(Fate::Spooled);
    assert!(end.balances() && spooled + end.count(Fate::SpoolFull) == 40, "{end:?}");
    store.lock().unwrap().away = false;
    let Stage { folder: _folder, store, ledger: _, offer, uploader } =
        super::tests::stage(folder, store, 2, 1 << 20);
    drop(offer);
    uploader.run(std::future::pending()).await;
    let taken = store.lock().unwrap().taken.values().map(Vec::len).sum::<usize>() as u64;
    assert_eq!(taken, spooled, "with {spool_bytes_max} bytes");
    taken
}

#[tokio::test(start_paused = true)]
async fn what_a_full_spool_took_of_a_batch_is_spooled_and_nothing_else() {
    let mut left = BTreeSet::new();
    for step in 0..40 {
        left.insert(check_left(step * 256).await);
    }
    assert!(left.len() > 15, "the room ends within batches: {left:?}");
}

/// A batch that did not fit as a whole goes to Redis from memory: what lies in the spool of it takes nobody's ticket.
#[tokio::test(start_paused = true)]
async fn what_a_full_spool_took_of_a_batch_counts_once() {
    let mut stage = new_stage(1 << 10);
    let mut encoder = EntryEncoder::new(EntryLimits::default()).unwrap();
    let Uploader { experiments, spool, spool_stats, producer, drain, .. } = &mut stage.uploader;
    let [experiment] = experiments.as_mut_slice() else { panic!("there is one experiment") };
    for number in 0..4 {
        let entry = encoder.encode(&exchange(number), &"other".into()).unwrap();
        experiment.lanes[0].push(entry, stage.ledger.admit());
    }
    let batch = experiment.lanes[0].next_batch(0, 4).unwrap();
    experiment.put_back(batch, spool, spool_stats, *producer);
    assert!((1..4).contains(&experiment.strays.len()), "{:?}", experiment.strays);
    // Of another entry that the spool took, which the disk does not give back.
    assert!(experiment.spooled.absorb(stage.ledger.admit()).is_ok());
    *drain = Some(Drain::new(now(), LIMITS.retry_min));
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    drop(offer);
    uploader.run(std::future::pending()).await;
    check(&ledger.snapshot(), &[(Fate::Queued, 4), (Fate::SpoolFull, 1)]);
    assert_eq!(store.lock().unwrap().taken.values().map(Vec::len).sum::<usize>(), 4);
}

/// Between an attempt and its end there may be more time than between two attempts. If the uploader did anything but wait
/// then, the paused clock would stand still for ever.
#[tokio::test(start_paused = true)]
async fn it_waits_for_a_slow_answer_about_what_redis_may_have() {
    let stage = new_stage(0);
    stage.store.lock().unwrap().away = true;
    stage.store.lock().unwrap().slow = LIMITS.retry_max * 5;
    stage.offer(0..3);
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    let later = async {
        tokio::time::sleep(LIMITS.retry_max * 12).await;
        store.lock().unwrap().away = false;
        tokio::time::sleep(LIMITS.retry_max * 12).await;
        drop(offer);
    };
    tokio::join!(uploader.run(std::future::pending()), later);
    check(&ledger.snapshot(), &[(Fate::Queued, 3)]);
}

/// The disk is full when Redis goes away, and has room again before Redis is back: newer entries lie in the spool then, and
/// the older ones must still come first.
#[tokio::test(start_paused = true)]
async fn what_the_spool_did_not_take_goes_before_what_it_took_since() {
    let stage = new_stage(1 << 20);
    stage.store.lock().unwrap().away = true;
    stage.offer(0..6);
    let Stage { folder, store, ledger, offer, uploader } = stage;
    let (spool, elsewhere) = (folder.path().join("spool"), folder.path().join("elsewhere"));
    std::fs::rename(&spool, &elsewhere).unwrap();
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::fs::rename(&elsewhere, &spool).unwrap();
        for number in 6..30 {
            let offered =
                Offered { exchange: exchange(number), route: "other".into(), ticket: ledger.admit() };
            assert!(offer.offer(offered).is_ok());
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(ledger.snapshot().in_flight, 30, "all of it waits for Redis");
        store.lock().unwrap().away = false;
        drop(offer);
    };
    tokio::join!(uploader.run(std::future::pending()), later);
    check(&ledger.snapshot(), &[(Fate::Queued, 30)]);
    let store = store.lock().unwrap();
    assert_eq!(store.taken.values().map(Vec::len).sum::<usize>(), 30);
}

#[track_caller]
fn check_panics(spool_bytes_max: u64, plant: impl FnOnce(&mut Store), expected: &[(Fate, u64)], panics: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let stage = new_stage(spool_bytes_max);
    plant(&mut stage.store.lock().unwrap());
    stage.offer(0..40);
    let Stage { folder: _folder, store: _store, ledger, offer, uploader } = stage;
    let stats = Arc::clone(&uploader.experiments[0].stats);
    runtime.unwrap().block_on(async {
        let later = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(offer);
        };
        tokio::join!(uploader.run(std::future::pending()), later);
    });
    check(&ledger.snapshot(), expected);
    assert_eq!(stats.panics.load(Ordering::Relaxed), panics);
}

#[test]
fn a_panic_in_an_append_stalls_nothing() {
    check_panics(1 << 20, |store| store.panics = 2, &[(Fate::Queued, 40)], 2);
    // Redis may have what it was sent, so that only the rest is refused.
    check_panics(0, |store| store.panics = 2, &[(Fate::Queued, 8), (Fate::SpoolFull, 32)], 2);
}

/// Each shard has an entry with this number.
#[test]
fn an_entry_that_panics_each_time_is_given_up_alone() {
    check_panics(1 << 20, |store| store.poison = Some(6), &[(Fate::Queued, 37), (Fate::Lost, 3)], 13);
    check_panics(0, |store| store.poison = Some(2), &[(Fate::SpoolFull, 32), (Fate::Lost, 8)], 3);
}

/// Offers 20 that are sent, and 30 after others have said something else; the upload is told to stop with these, or later.
async fn check_disagreement(stops_with_them: bool) {
    let stage = new_stage(1 << 20);
    let disagreement = stage.uploader.disagreement.clone();
    stage.offer(0..20);
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let said = RedisError::Settings { address: "test".to_owned(), said: "8 shards".to_owned() };
        disagreement.say(&said);
        for number in 20..50 {
            let offered =
                Offered { exchange: exchange(number), route: "other".into(), ticket: ledger.admit() };
            assert!(offer.offer(offered).is_ok());
        }
        if !stops_with_them {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        stop.send(()).unwrap();
    };
    tokio::join!(uploader.run(async { stopped.await.unwrap() }), later);
    check(&ledger.snapshot(), &[(Fate::Queued, 20), (Fate::Spooled, 30)]);
    assert_eq!(store.lock().unwrap().taken.values().map(Vec::len).sum::<usize>(), 20);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_and_all_is_kept_where_others_have_agreed_on_something_else() {
    check_disagreement(false).await;
    check_disagreement(true).await;
}

/// Offers 60 to a store that refuses something, 60 more when that has lasted for longer than may be waited, and a few when it
/// is over. `ends_early` says whether each has its fate before that.
#[track_caller]
fn check_refusals(refuses: Refuses, spool_bytes_max: u64, expected: &[(Fate, u64)], ends_early: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let stage = new_stage(spool_bytes_max);
    stage.store.lock().unwrap().refuses = Some(refuses);
    stage.offer(0..60);
    let Stage { folder: _folder, store, ledger, offer, uploader } = stage;
    let up = Arc::clone(&uploader.status);
    runtime.unwrap().block_on(async {
        let offer_more = |numbers: std::ops::Range<u64>| {
            for number in numbers {
                let offered =
                    Offered { exchange: exchange(number), route: "other".into(), ticket: ledger.admit() };
                assert!(offer.offer(offered).is_ok());
            }
        };
        let later = async {
            tokio::time::sleep(LIMITS.refused_wait_max / 2).await;
            assert!(ledger.snapshot().in_flight > 0, "it is given up too soon");
            tokio::time::sleep(LIMITS.refused_wait_max * 2).await;
            assert_eq!(ledger.snapshot().in_flight == 0, ends_early, "{:?}", ledger.snapshot());
            offer_more(60..120);
            tokio::time::sleep(LIMITS.refused_wait_max / 10).await;
            assert_eq!(ledger.snapshot().in_flight == 0, ends_early, "what comes later waits again");
            store.lock().unwrap().refuses = None;
            tokio::time::sleep(LIMITS.refused_wait_max * 2).await;
            offer_more(120..130);
            tokio::time::sleep(LIMITS.refused_wait_max).await;
            assert!(up.up.load(Ordering::Relaxed), "it is not said that Redis takes all again");
        };
        tokio::select! {
            () = uploader.run(std::future::pending()) => panic!("it ended by itself"),
            () = later => {}
        }
    });
    check(&ledger.snapshot(), expected);
    let taken = store.lock().unwrap().taken.values().map(Vec::len).sum::<usize>() as u64;
    assert_eq!(taken, ledger.snapshot().count(Fate::Queued), "what is queued is not what Redis has");
}

#[test]
fn a_shard_that_is_refused_holds_up_the_others_for_as_long_as_may_be() {
    check_refusals(Refuses::Shard(1), 1 << 20, &[(Fate::Queued, 96), (Fate::Refused, 34)], true);
}

#[test]
fn an_entry_that_breaks_the_connection_is_given_up_alone() {
    check_refusals(Refuses::Entry(6), 1 << 20, &[(Fate::Queued, 127), (Fate::Refused, 3)], true);
}

/// As long as nothing else could be sent, it is an outage.
#[test]
fn nothing_is_given_up_while_everything_is_forbidden() {
    check_refusals(Refuses::All, 1 << 20, &[(Fate::Queued, 130)], false);
}

#[test]
fn what_the_spool_has_no_room_for_is_given_up_as_well() {
    check_refusals(
        Refuses::Entry(2),
        0,
        &[(Fate::Queued, 75), (Fate::SpoolFull, 52), (Fate::Refused, 3)],
        true,
    );
}
