//! The evidence at one path.
//!
//! Knows no other path: what is reported follows from all of them, in `model`.

use std::sync::Arc;

use super::super::class::{Course, Trend};
use super::fdr::Order;
use super::reach::Reaches;
use super::triple::{PathDifference, Sign, Signed};
use super::wealth::{STAKES, Wealth};
use crate::model::{EvidenceCounts, EvidenceSource, Transition, ValueClass};

/// Chances of a hit on which fixed stakes are best, if they were true; above one half, which is what chance gives.
pub(super) const HIT_CHANCES: [f64; STAKES] = [0.55, 0.65, 0.8, 0.95];

/// How gamblers divide over them where values are usually stable: most of them expect hits and nothing else.
pub(super) const SHARES_BOLD: [f64; STAKES] = [0.05, 0.1, 0.15, 0.7];

/// And where values are volatile: nothing is expected.
pub(super) const SHARES_TIMID: [f64; STAKES] = [0.25; STAKES];

/// Parts of the wealth that are at stake on noise.
const NOISE_STAKES: [f64; STAKES] = [0.125, 0.25, 0.5, 0.75];

/// How gamblers divide over them where values are usually stable.
const NOISE_SHARES_TIMID: [f64; STAKES] = [0.3, 0.3, 0.3, 0.1];

/// And where values are volatile.
const NOISE_SHARES_BOLD: [f64; STAKES] = [0.1, 0.1, 0.2, 0.6];

/// Odds at which a stretch of trials, or of silence, is no longer that of a path that is still reported: 1,000.
const LN_QUIET_ODDS: f64 = 6.9;

/// How far beyond these odds the count goes, so that it comes back soon.
const LN_QUIET_ODDS_MAX: f64 = 10.0;

/// Where it must come back to, so that no path changes its state with each trial.
const LN_QUIET_ODDS_END: f64 = 2.0;

/// Comparisons without a difference below which no path is called quiet.
const SILENCE_MIN: u64 = 50;

/// Weight that the share of hits loses with each trial.
const SHARE_DECAY: f64 = 0.998;

/// Triples of B asked again in which only B's first answer was odd, from which on that is remarkable.
const STRAYS_MIN: u64 = 8;

/// A sum whose parts lose half their weight every so many comparisons.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faded {
    sum: f64,
    at: u64,
}

/// Comparisons that differ at a path, by the classes of the values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    /// Both of one volatile class.
    pub(super) volatile: u64,
    /// Two numbers.
    pub(super) numbers: u64,
    /// Both of another class.
    pub(super) plain: u64,
    /// Of two classes.
    pub(super) changed: u64,
}

/// One path of one route.
#[derive(Clone, Debug)]
pub(super) struct PathRecord {
    pub(super) route: usize,
    pub(super) path: Arc<str>,
    pub(super) transition: Transition,
    /// Of A's numbers, then of B's.
    pub(super) trends: [Trend; 2],
    /// Comparisons of A and B that differ here, by how their values look.
    pub(super) looks: Looks,
    /// Of those that differ, the ones about which no source of evidence can ever say anything.
    pub(super) unmeasurable: u64,
    /// Numbers of comparisons on the route, from 1; 0 for none.
    pub(super) first_seen: u64,
    pub(super) last_seen: u64,
    pub(super) differing: u64,
    pub(super) differing_recently: Faded,
    pub(super) sources: [EvidenceCounts; 3],
    pub(super) same_recently: Faded,
    /// What counted in the bets against "B does as A does".
    pub(super) hits: u64,
    pub(super) trials: u64,
    pub(super) hits_recently: Faded,
    pub(super) trials_recently: Faded,
    pub(super) against: Wealth,
    /// Since one version first differed from itself.
    reaches: Option<Box<Reaches>>,
    pub(super) noise: Wealth,
    /// Order of its first trial among all paths, from 1.
    pub(super) rank: Option<usize>,
    /// What that rank costs: minus the logarithm of its weight.
    pub(super) ln_price: Option<f64>,
    pub(super) order: Order,
    pub(super) was_reported: bool,
    /// Whether a triple is on its way, or was.
    pub(super) is_awaited: bool,
    /// It is among the news of its model.
    pub(super) is_news: bool,
    last_counted: Option<u64>,
    share_hits: f64,
    share_trials: f64,
    /// Logarithm of the odds that the last trials are those of chance.
    quiet: f64,
    pub(super) quiet_since: u64,
    pub(super) is_quiet: bool,
}

// === impl Faded ===

impl Faded {
    pub(super) fn add(&mut self, now: u64, half_life: u32) {
        *self = Self { sum: self.get(now, half_life) + 1.0, at: now };
    }

    /// What has lost its weight until `at` comparisons already.
    pub(super) fn new(sum: f64, at: u64) -> Self {
        Self { sum, at }
    }

    pub(super) fn get(&self, now: u64, half_life: u32) -> f64 {
        let age = now.saturating_sub(self.at) as f64;
        self.sum * (-age / f64::from(half_life.max(1))).exp2()
    }
}

// === impl Looks ===

impl Looks {
    fn take(&mut self, difference: &PathDifference) {
        let count = match difference.transition {
            transition if difference.class_changed || transition.is_change() => &mut self.changed,
            transition if transition.is_volatile() => &mut self.volatile,
            Transition { control: ValueClass::Number, candidate: _ } => &mut self.numbers,
            Transition { control: _, candidate: _ } => &mut self.plain,
        };
        *count = count.saturating_add(1);
    }

    /// True when what differs here is of volatile classes: no change of class, and no more than one in ten others, since
    /// a random text looks like a word now and then.
    fn are_volatile(&self, with_numbers: bool) -> bool {
        let Self { volatile, numbers, plain, changed } = *self;
        let (numbers, others) =
            if with_numbers { (numbers, plain) } else { (0, plain.saturating_add(numbers)) };
        let volatile = volatile.saturating_add(numbers);
        volatile > 0 && changed == 0 && others.saturating_mul(9) <= volatile
    }
}

// === impl PathRecord ===

impl PathRecord {
    pub(super) fn new(route: usize, path: Arc<str>, transition: Transition) -> Self {
        Self {
            route,
            path,
            transition,
            trends: [Trend::default(); 2],
            looks: Looks::default(),
            unmeasurable: 0,
            first_seen: 0,
            last_seen: 0,
            differing: 0,
            differing_recently: Faded::default(),
            sources: [EvidenceCounts::default(); 3],
            same_recently: Faded::default(),
            hits: 0,
            trials: 0,
            hits_recently: Faded::default(),
            trials_recently: Faded::default(),
            against: Wealth::default(),
            reaches: None,
            noise: Wealth::default(),
            rank: None,
            ln_price: None,
            order: Order::default(),
            was_reported: false,
            is_awaited: false,
            is_news: false,
            last_counted: None,
            share_hits: 0.0,
            share_trials: 0.0,
            quiet: 0.0,
            quiet_since: 0,
            is_quiet: false,
        }
    }

    /// A and B differ here in comparison number `now` of the route, about which a source of evidence may say something
    /// if it is `measurable`.
    pub(super) fn differs(
        &mut self,
        difference: &PathDifference,
        measurable: bool,
        now: u64,
        half_life: u32,
    ) {
        let numbers = [difference.control_number, difference.candidate_number];
        for (trend, number) in self.trends.iter_mut().zip(numbers) {
            number.into_iter().for_each(|number| trend.observe(number));
        }
        self.transition = self.named(difference.transition);
        self.looks.take(difference);
        self.unmeasurable = self.unmeasurable.saturating_add(u64::from(!measurable));
        if self.differing == 0 {
            self.first_seen = now;
        }
        self.last_seen = now;
        self.differing = self.differing.saturating_add(1);
        self.differing_recently.add(now, half_life);
    }

    /// Counts what a triple says here, and bets on it unless the last one that counted is too near.
    ///
    /// `excess_max` is the share of hits from which on this is no noise; `rank` is given to a path that has none.
    pub(super) fn take(&mut self, signed: &Signed<'_>, bet: &Bet, rank: &mut usize) {
        let Bet { source, fair, now, half_life, spacing, excess_max } = *bet;
        let counts = match source {
            EvidenceSource::Twin => self.sources.first_mut(),
            EvidenceSource::Again => self.sources.get_mut(1),
            EvidenceSource::Repeat => self.sources.get_mut(2),
        };
        let Some(counts) = counts else { return };
        let (count, both) = match signed.sign {
            Sign::Hit => (&mut counts.hits, false),
            Sign::Miss => (&mut counts.misses, false),
            Sign::AllDifferent => (&mut counts.all_different, true),
            Sign::MiddleDifferent => (&mut counts.middle_different, true),
        };
        *count = count.saturating_add(1);
        let asked_again = source == EvidenceSource::Again;
        if !asked_again && signed.sign != Sign::Hit {
            self.same_recently.add(now, half_life);
        }
        if self.differing == 0 {
            self.transition = self.named(signed.transition);
        }
        if self.last_counted.is_some_and(|last| now.saturating_sub(last) < u64::from(spacing)) {
            return;
        }
        self.last_counted = Some(now);
        let volatile = self.named(signed.transition).is_volatile();
        self.bet_on_noise(signed.sign, asked_again, volatile, excess_max);
        // Where B was asked again because it differed, a B that differs from itself too is what a miss is elsewhere.
        let hit = signed.sign == Sign::Hit;
        let counts = (!both || asked_again) && (!hit || fair);
        if self.reaches.is_none() && signed.same_version.is_some() {
            self.reaches = Some(Box::new(Reaches::new(self.against.ln())));
        }
        let fell = self
            .reaches
            .as_mut()
            .is_some_and(|reaches| reaches.take(signed.candidate, signed.same_version, source, fair));
        if counts || fell {
            self.rank.get_or_insert_with(|| {
                *rank = rank.saturating_add(1);
                *rank
            });
        }
        if !counts {
            return;
        }
        self.bet_against(hit, volatile);
        self.watch(hit, now);
        self.trials = self.trials.saturating_add(1);
        self.trials_recently.add(now, half_life);
        if hit {
            self.hits = self.hits.saturating_add(1);
            self.hits_recently.add(now, half_life);
        }
    }

    /// Bets on the coin of hits and misses. Fair, or worse, where B does as A does.
    fn bet_against(&mut self, hit: bool, volatile: bool) {
        let factor = |chance: f64| (2.0 * if hit { chance } else { 1.0 - chance }).ln();
        self.against.bet(HIT_CHANCES.map(factor), if volatile { SHARES_TIMID } else { SHARES_BOLD });
    }

    /// Bets on the share of hits among what differs; at most `excess_max` in the mean for noise.
    fn bet_on_noise(&mut self, sign: Sign, asked_again: bool, volatile: bool, excess_max: f64) {
        let share = match sign {
            Sign::Hit => 1.0,
            Sign::Miss => 0.0,
            Sign::AllDifferent | Sign::MiddleDifferent if asked_again => 0.0,
            Sign::AllDifferent | Sign::MiddleDifferent => 0.5,
        };
        let factor = |stake: f64| (stake * (excess_max - share) / (1.0 - excess_max)).ln_1p();
        let shares = if volatile { NOISE_SHARES_BOLD } else { NOISE_SHARES_TIMID };
        self.noise.bet(NOISE_STAKES.map(factor), shares);
    }

    /// Sums up how much likelier chance makes the last trials than the share of hits so far (E. S. Page, "Continuous
    /// inspection schemes", 1954).
    fn watch(&mut self, hit: bool, now: u64) {
        let share = ((self.share_hits + 1.0) / (self.share_trials + 2.0)).clamp(0.5, 0.98);
        let chance = if hit { share } else { 1.0 - share };
        if self.quiet == 0.0 {
            self.quiet_since = now;
        }
        self.quiet = (self.quiet + (0.5 / chance).ln()).clamp(0.0, LN_QUIET_ODDS_MAX);
        self.is_quiet = self.quiet >= if self.is_quiet { LN_QUIET_ODDS_END } else { LN_QUIET_ODDS };
        self.share_trials = self.share_trials * SHARE_DECAY + 1.0;
        self.share_hits = self.share_hits * SHARE_DECAY + if hit { 1.0 } else { 0.0 };
    }

    /// Since which comparison nothing speaks for a difference of B's own any more: no difference at all for so long
    /// that the rate until then would hardly ever have shown none, or as many misses as hits.
    pub(super) fn quiet_since(&self, comparisons: u64) -> Option<u64> {
        let silence = comparisons.saturating_sub(self.last_seen);
        let active = self.last_seen.saturating_sub(self.first_seen).saturating_add(1);
        let rate = self.differing as f64 / active as f64;
        if silence >= SILENCE_MIN && silence as f64 * rate >= LN_QUIET_ODDS {
            return Some(self.last_seen);
        }
        self.is_quiet.then_some(self.quiet_since)
    }

    /// True when all that was seen is a B that strays and comes back when asked again: whether A strays too, nobody saw.
    pub(super) fn only_candidate_strays(&self) -> bool {
        let [twin, again, repeat] = &self.sources;
        let seen_on_a = [twin, repeat]
            .iter()
            .any(|counts| counts.misses > 0 || counts.all_different > 0 || counts.middle_different > 0);
        !seen_on_a
            && again.middle_different >= STRAYS_MIN
            && again.middle_different > again.all_different
            && again.hits.saturating_mul(4) < again.middle_different
    }

    /// True when A and B differed, and only in values of one volatile class: nothing to worry about, nothing measured.
    /// Not in numbers that rise: so does a price when things are asked for in their order.
    pub(super) fn is_volatile(&self) -> bool {
        self.looks.are_volatile(false)
    }

    /// True when nothing can ever be measured here, and all that differed looks volatile. `of`: how many comparisons on
    /// the route nothing can be measured in.
    ///
    /// Numbers look so if A's and B's both keep rising, and while they may still turn out to: where they differ in a
    /// quarter of the comparisons, as an id does and a number that is wrong now and then does not.
    pub(super) fn is_withheld(&self, of: u64) -> bool {
        let courses = self.trends.map(|trend| trend.course());
        let may_rise = match courses {
            [Course::Counter, Course::Counter] => true,
            [Course::Unknown | Course::Counter, Course::Unknown | Course::Counter] => {
                self.unmeasurable.saturating_mul(4) >= of
            }
            [Course::Other, _] | [_, Course::Other] => false,
        };
        // A status is a word of a protocol, not a number.
        self.unmeasurable == self.differing && *self.path != *"status" && self.looks.are_volatile(may_rise)
    }

    /// Logarithm of the e-value against "B does as A does".
    pub(super) fn ln_against(&self) -> f64 {
        let ln_main = self.against.ln();
        self.reaches.as_ref().map_or(ln_main, |reaches| reaches.ln_with(ln_main))
    }

    /// Logarithm of weight times e-value; none before the first trial.
    pub(super) fn ln_weighted(&self) -> Option<f64> {
        Some(self.ln_against() - self.ln_price?)
    }

    /// True when any triple said anything here.
    pub(super) fn is_measured(&self) -> bool {
        self.sources.iter().any(|counts| *counts != EvidenceCounts::default())
    }

    /// A number that keeps rising is a counter.
    fn named(&self, transition: Transition) -> Transition {
        let counter = self.trends.first().is_some_and(Trend::is_counter);
        let named = |class| if counter && class == ValueClass::Number { ValueClass::Counter } else { class };
        Transition { control: named(transition.control), candidate: named(transition.candidate) }
    }
}

/// What a bet depends on besides the sign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bet {
    pub(super) source: EvidenceSource,
    pub(super) fair: bool,
    pub(super) now: u64,
    pub(super) half_life: u32,
    pub(super) spacing: u32,
    pub(super) excess_max: f64,
}

/// How much the logarithm of the evidence would grow with each trial that counts, were things to go on as they did:
/// against "B does as A does", then for noise.
pub(super) fn growth(record: &PathRecord, excess_max: f64) -> (f64, f64) {
    let best = |growths: [f64; STAKES]| growths.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let trials = record.trials as f64;
    let share = (record.hits as f64 + 0.5) / (trials + 1.0);
    let against = best(
        HIT_CHANCES.map(|chance| share * (2.0 * chance).ln() + (1.0 - share) * (2.0 * (1.0 - chance)).ln()),
    );
    let [twin, again, repeat] = &record.sources;
    let sum = |part: fn(&EvidenceCounts) -> u64| (part(twin) as f64, part(again) as f64, part(repeat) as f64);
    let (hits, misses) = (sum(|counts| counts.hits), sum(|counts| counts.misses));
    let both = sum(|counts| counts.all_different.saturating_add(counts.middle_different));
    let (whole, half) = (hits.0 + hits.1 + hits.2, both.0 + both.2);
    let none = misses.0 + misses.1 + misses.2 + both.1;
    let all = whole + half + none;
    let noise = best(NOISE_STAKES.map(|stake| {
        let won = |share: f64| (stake * (excess_max - share) / (1.0 - excess_max)).ln_1p();
        if all == 0.0 { 0.0 } else { (whole * won(1.0) + half * won(0.5) + none * won(0.0)) / all }
    }));
    (against, noise)
}
