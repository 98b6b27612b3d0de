//! Which shards this worker owns.
//!
//! Sends nothing and reads no clock: it says what to ask for, and is told what came of it.
//!
//! All workers see the same list of those that are there, so each knows its share of the shards without asking the others.
//! While the lists differ, for one beat or two, a shard may have no owner. It never has two, as long as the clock of Redis
//! goes on: the lease in Redis decides. Two owners would spoil the order of a session and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// What to ask of lease.lua for one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The lease goes on.
    Keep,
    /// The lease begins, if nobody has it.
    Take,
    /// The lease ends.
    Drop,
    /// Whether somebody has it.
    Look,
}

/// What lease.lua says of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// This worker.
    Us,
    /// Nobody.
    Nobody,
    /// Another worker.
    Another,
}

/// The leases of one worker.
#[derive(Debug)]
pub(super) struct Leases {
    shards: u32,
    lease: Duration,
    owned: BTreeMap<u32, Owned>,
    /// Shards of others, as far as is known.
    others: Vec<bool>,
}

/// A shard that this worker owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    /// When the lease ends unless it is renewed, by our clock and not later than by that of Redis.
    until: Instant,
    /// It is given up as soon as what is under way is done: nothing new is read.
    pub(super) leaving: bool,
    /// Entries that others have left there were taken over, so that new ones may be read.
    pub(super) looked_through: bool,
}

/// Shards that a worker should own, of `shards` in all: the same for everybody but for the remainder, which goes to those
/// who stand first. None for one that is not in the list.
pub(super) fn share(shards: u32, workers: &[String], worker: &str) -> u32 {
    let Some(place) = workers.iter().position(|other| other == worker) else { return 0 };
    let count = u32::try_from(workers.len()).unwrap_or(u32::MAX);
    let each = shards.checked_div(count).unwrap_or(0);
    let rest = shards.checked_rem(count).unwrap_or(0);
    each.saturating_add(u32::from(u32::try_from(place).is_ok_and(|place| place < rest)))
}

// === impl Want ===

impl Want {
    /// The word for it in lease.lua.
    pub(super) fn word(self) -> &'static str {
        match self {
            Want::Keep => "keep",
            Want::Take => "take",
            Want::Drop => "drop",
            Want::Look => "look",
        }
    }
}

// === impl Leases ===

impl Leases {
    /// Of a worker that owns nothing yet.
    pub(super) fn new(shards: u32, lease: Duration) -> Self {
        let others = std::iter::repeat_n(false, usize::try_from(shards).unwrap_or(0)).collect();
        Self { shards, lease, owned: BTreeMap::new(), others }
    }

    /// Shards that may be read.
    pub(super) fn readable(&self, now: Instant) -> impl Iterator<Item = u32> {
        self.owned
            .iter()
            .filter(move |(_, owned)| !owned.leaving && owned.looked_through && owned.until > now)
            .map(|(shard, _)| *shard)
    }

    /// Shards of which left entries may be taken over.
    pub(super) fn staying(&self, now: Instant) -> impl Iterator<Item = u32> {
        self.owned
            .iter()
            .filter(move |(_, owned)| !owned.leaving && owned.until > now)
            .map(|(shard, _)| *shard)
    }

    /// True when the shard is owned.
    pub(super) fn owns(&self, shard: u32) -> bool {
        self.owned.contains_key(&shard)
    }

    /// Shards that are owned.
    pub(super) fn len(&self) -> usize {
        self.owned.len()
    }

    /// What others have left in the shard was taken over, or nothing was left.
    pub(super) fn look_through(&mut self, shard: u32) {
        if let Some(owned) = self.owned.get_mut(&shard) {
            owned.looked_through = true;
        }
    }

    /// What to ask for every shard, so that this worker comes to own `target`. `is_busy` says of which shard something
    /// is under way. `first` is where to begin to look for a free one, so that workers do not all grasp at the same.
    pub(super) fn plan(
        &mut self,
        target: u32,
        first: u32,
        is_busy: impl Fn(u32) -> bool,
    ) -> Vec<(u32, Want)> {
        let target = usize::try_from(target).unwrap_or(usize::MAX);
        // Those that are kept are the first ones, always the same while the target is.
        for (place, owned) in self.owned.values_mut().enumerate() {
            owned.leaving = place >= target;
        }
        let mut free = target.saturating_sub(self.owned.len());
        let mut wants = Vec::new();
        let numbers = (0..self.shards).map(|step| {
            let number = u64::from(first).saturating_add(u64::from(step));
            u32::try_from(number.checked_rem(u64::from(self.shards)).unwrap_or(0)).unwrap_or(0)
        });
        for shard in numbers {
            let is_others = usize::try_from(shard).ok().and_then(|at| self.others.get(at)).copied();
            let want = match self.owned.get(&shard) {
                Some(owned) if owned.leaving && !is_busy(shard) => Want::Drop,
                Some(_) => Want::Keep,
                None if free > 0 && is_others != Some(true) => {
                    free = free.saturating_sub(1);
                    Want::Take
                }
                None => Want::Look,
            };
            wants.push((shard, want));
        }
        wants
    }

    /// What came of it; `asked` is when it was asked for. True when another round would take more: what was thought to
    /// be free was not, and something else is.
    pub(super) fn note(&mut self, asked: Instant, answers: &[(u32, Want, Holder)]) -> bool {
        let (mut missed, mut free) = (false, false);
        for (shard, want, holder) in answers {
            if let Some(other) = usize::try_from(*shard).ok().and_then(|at| self.others.get_mut(at)) {
                *other = *holder == Holder::Another;
            }
            let until = asked.checked_add(self.lease).unwrap_or(asked);
            match holder {
                Holder::Us => {
                    let owned = self.owned.entry(*shard);
                    owned.or_insert(Owned { until, leaving: false, looked_through: false }).until = until;
                }
                Holder::Nobody | Holder::Another => {
                    self.owned.remove(shard);
                }
            }
            missed |= *want == Want::Take && *holder != Holder::Us;
            free |= *want == Want::Look && *holder == Holder::Nobody;
        }
        missed && free
    }

    /// Every shard is given up: what to ask for.
    pub(super) fn give_up(&mut self) -> Vec<(u32, Want)> {
        std::mem::take(&mut self.owned).into_keys().map(|shard| (shard, Want::Drop)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(5);

    proptest! {
        #[test]
        fn shares_are_even_and_make_the_whole(shards in 0u32..200, count in 1usize..40) {
            let workers: Vec<String> = (0..count).map(|number| format!("w{number:02}")).collect();
            let shares: Vec<u32> = workers.iter().map(|worker| share(shards, &workers, worker)).collect();
            prop_assert_eq!(shares.iter().sum::<u32>(), shards);
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
            prop_assert_eq!(share(shards, &workers, "nobody"), 0);
        }

        /// Workers come and go, each with its own view of who is there for a while; when all see the same, every shard
        /// has one owner and everybody has its share, after some rounds.
        #[test]
        fn everybody_comes_to_own_its_share(
            shards in 1u32..20,
            changes in proptest::collection::vec((0usize..6, any::<bool>(), any::<u8>()), 1..20),
        ) {
            let now = tokio_instant();
            let mut redis: BTreeMap<u32, usize> = BTreeMap::new();
            let mut all: Vec<Leases> = (0..6).map(|_| Leases::new(shards, LEASE)).collect();
            let mut there = BTreeSet::from([0usize]);
            let name = |number: usize| format!("w{number}");
            let mut round = |all: &mut Vec<Leases>, seen: &BTreeSet<usize>, number: usize, busy: u8| {
                let names: Vec<String> = seen.iter().map(|number| name(*number)).collect();
                let target = share(shards, &names, &name(number));
                let wants = all[number].plan(target, number as u32, |shard| busy >> (shard % 8) & 1 == 1);
                let answers: Vec<_> = wants.into_iter().map(|(shard, want)| {
                    let owner = redis.get(&shard).copied();
                    match want {
                        Want::Drop if owner == Some(number) => { redis.remove(&shard); }
                        Want::Take | Want::Keep if owner.is_none() => { redis.insert(shard, number); }
                        Want::Drop | Want::Take | Want::Keep | Want::Look => {}
                    }
                    let holder = match redis.get(&shard) {
                        None => Holder::Nobody,
                        Some(owner) if *owner == number => Holder::Us,
                        Some(_) => Holder::Another,
                    };
                    (shard, want, holder)
                }).collect();
                all[number].note(now, &answers);
            };
            for (number, comes, busy) in changes {
                if comes { there.insert(number); } else if there.len() > 1 { there.remove(&number); }
                if !there.contains(&number) {
                    // It dies without a word; its leases run out.
                    round(&mut all, &BTreeSet::new(), number, 0);
                    all[number] = Leases::new(shards, LEASE);
                }
                for other in there.clone() {
                    round(&mut all, &there, other, busy);
                }
            }
            for _ in 0..8 {
                for number in there.clone() {
                    round(&mut all, &there, number, 0);
                }
            }
            let owned: Vec<usize> = there.iter().map(|number| all[*number].len()).collect();
            prop_assert_eq!(owned.iter().sum::<usize>(), shards as usize);
            prop_assert!(owned.iter().max().unwrap() - owned.iter().min().unwrap() <= 1, "{:?}", owned);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn tokio_instant() -> Instant {
        Instant::now()
    }

    fn with(shards: u32, now: Instant) -> Leases {
        let mut leases = Leases::new(shards, LEASE);
        let wants = leases.plan(shards, 0, |_| false);
        let got: Vec<_> = wants.into_iter().map(|(shard, want)| (shard, want, Holder::Us)).collect();
        leases.note(now, &got);
        (0..shards).for_each(|shard| leases.look_through(shard));
        leases
    }

    #[test]
    fn a_lease_that_was_not_renewed_is_not_read_under() {
        let now = tokio_instant();
        let leases = with(2, now);
        assert_eq!(leases.readable(now).count(), 2);
        assert_eq!(leases.readable(now + LEASE).count(), 0);
    }

    #[test]
    fn a_busy_shard_is_given_up_when_it_is_done() {
        let now = tokio_instant();
        let mut leases = with(2, now);
        let wants = leases.plan(1, 0, |_| true);
        assert_eq!(wants, [(0, Want::Keep), (1, Want::Keep)]);
        assert_eq!(leases.readable(now).collect::<Vec<_>>(), [0]);
        assert_eq!(leases.plan(1, 0, |_| false), [(0, Want::Keep), (1, Want::Drop)]);
    }

    #[test]
    fn whoever_grasped_in_vain_looks_again() {
        let now = tokio_instant();
        let mut leases = Leases::new(3, LEASE);
        assert_eq!(leases.plan(1, 2, |_| false), [(2, Want::Take), (0, Want::Look), (1, Want::Look)]);
        let answers = [
            (2, Want::Take, Holder::Another),
            (0, Want::Look, Holder::Another),
            (1, Want::Look, Holder::Nobody),
        ];
        assert!(leases.note(now, &answers));
        assert_eq!(leases.plan(1, 2, |_| false), [(2, Want::Look), (0, Want::Look), (1, Want::Take)]);
    }
}
