//! The evidence of how far answers lie apart, at paths where one version differs from itself.
//!
//! Holds no value, and decides nothing about paths where one version always agrees.
//!
//! How far two answers lie apart at a path is a function of both of them ([`Reach`]). Where B does as A does, the pair of
//! one version is as likely to be the further one as the pair A/B is, whatever the two reaches are. So both coins here
//! are fair, and which triples are counted may depend on the past and on the two reaches, not on which is whose.
//!
//! - *Near*: each triple of three different values, by which pair reaches further. Sees a bias in a number that is never
//!   the same twice. Only with a twin, and only where the numbers of one version lie above and below each other by
//!   turns: instances that keep their own level (an uptime, a count since the start) lie on one side.
//! - *Far*: triples in which one pair reaches beyond all that one version has shown so far. Sees a rare fault in a value
//!   that often differs. Only where B stays within now and then: an instance's own name or level always lies beyond. Of
//!   a B that is asked again only triples of three different values, as those are asked for whichever pair is the
//!   further one.

use super::path::{HIT_CHANCES, SHARES_BOLD, SHARES_TIMID};
use super::wealth::{Wealth, ln_add};
use crate::model::EvidenceSource;

/// Triples before the first bet.
const LEARNED_MIN: u64 = 8;

/// A number's reach must be more than this many times the longest one of one version to be beyond it.
const BEYOND: f64 = 2.0;

/// Parts of a path's wealth that go to the near and the far coin when one version first differs from itself.
const NEAR_SHARE: f64 = 0.1;
const FAR_SHARE: f64 = 0.1;

/// How far two answers lie apart at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reach {
    /// The values at some difference there are of two classes.
    pub(super) changes_class: bool,
    /// Differences there, up to the bound for one path.
    pub(super) places: u32,
    /// The second answer's number minus the first one's at the first of them; 0 where these are no numbers.
    pub(super) step: f64,
}

/// Both coins at one path.
#[derive(Clone, Debug)]
pub(super) struct Reaches {
    near: Wealth,
    far: Wealth,
    /// Logarithm of the wealth that was divided.
    ln_start: f64,
    triples: u64,
    /// Steps up and down within one version.
    ups: u64,
    downs: u64,
    /// Triples in which B stayed within what one version had shown.
    within: u64,
    /// The longest reach of one version so far.
    longest: Reach,
}

// === impl Reach ===

impl Reach {
    /// None where neither is.
    fn is_further(&self, other: &Self) -> Option<bool> {
        let length = |reach: &Self| (reach.changes_class, reach.places, reach.step.abs());
        length(self).partial_cmp(&length(other)).and_then(|order| match order {
            std::cmp::Ordering::Less => Some(false),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(true),
        })
    }

    fn is_beyond(&self, longest: &Self) -> bool {
        let whole = |reach: &Self| (reach.changes_class, reach.places);
        whole(self) > whole(longest)
            || (whole(self) == whole(longest) && self.step.abs() > BEYOND * longest.step.abs())
    }
}

// === impl Reaches ===

impl Reaches {
    /// `ln_wealth` is what the path's gambler has now.
    pub(super) fn new(ln_wealth: f64) -> Self {
        Self {
            near: Wealth::default(),
            far: Wealth::default(),
            ln_start: ln_wealth,
            triples: 0,
            ups: 0,
            downs: 0,
            within: 0,
            longest: Reach::default(),
        }
    }

    /// One triple, by the reach of the pair A/B and that of the pair of one version, none where they agree; true when a
    /// coin fell. With `fair` false hits do not count.
    pub(super) fn take(
        &mut self,
        candidate: Option<Reach>,
        same_version: Option<Reach>,
        source: EvidenceSource,
        fair: bool,
    ) -> bool {
        let all_differ = candidate.is_some() && same_version.is_some();
        if source == EvidenceSource::Again && !all_differ {
            return false;
        }
        let mut fell = false;
        let (candidate, same_version) = (candidate.unwrap_or_default(), same_version.unwrap_or_default());
        let factors = |hit: bool| HIT_CHANCES.map(|q| (2.0 * if hit { q } else { 1.0 - q }).ln());
        let is_beyond = candidate.is_beyond(&self.longest);
        if self.triples >= LEARNED_MIN {
            let both_sides =
                self.ups.min(self.downs).saturating_mul(4) >= self.ups.saturating_add(self.downs);
            if let Some(hit) = candidate.is_further(&same_version).filter(|hit| fair || !hit)
                && all_differ
                && source == EvidenceSource::Twin
                && both_sides
                && self.ups > 0
            {
                self.near.bet(factors(hit), SHARES_TIMID);
                fell = true;
            }
            let comes_back = self.within.saturating_mul(4) >= self.triples;
            if is_beyond != same_version.is_beyond(&self.longest) && comes_back && (fair || !is_beyond) {
                self.far.bet(factors(is_beyond), SHARES_BOLD);
                fell = true;
            }
        }
        self.triples = self.triples.saturating_add(1);
        if same_version.step > 0.0 {
            self.ups = self.ups.saturating_add(1);
        } else if same_version.step < 0.0 {
            self.downs = self.downs.saturating_add(1);
        }
        if same_version.is_further(&self.longest) == Some(true) {
            self.longest = same_version;
        }
        if !candidate.is_beyond(&self.longest) {
            self.within = self.within.saturating_add(1);
        }
        fell
    }

    /// Logarithm of the wealth of a path whose main gambler has come to `ln_main`.
    pub(super) fn ln_with(&self, ln_main: f64) -> f64 {
        let kept = ln_main + (1.0 - NEAR_SHARE - FAR_SHARE).ln();
        let near = self.ln_start + NEAR_SHARE.ln() + self.near.ln();
        let far = self.ln_start + FAR_SHARE.ln() + self.far.ln();
        ln_add(kept, ln_add(near, far))
    }
}
