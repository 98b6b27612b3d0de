//! Wealth won by betting against a hypothesis: an e-process.
//!
//! Judges nothing. Whoever bets must choose before the coin falls; what the coin shows may not enter the choice.
//!
//! A gambler who begins with 1 and bets on coins that the hypothesis calls fair, or worse than fair, has at every
//! moment of stopping at most 1 in expectation, and ever reaches 1/α with a chance of at most α. Here many gamblers
//! share the first unit. Each trial one more group of them begins, each with one fixed stake for ever; who has not begun
//! holds cash. So what was lost in a long past does not weigh on the evidence of what is new, and a sum of such
//! gamblers is again one.

/// Number of fixed stakes.
pub(super) const STAKES: usize = 4;

/// Wealth above which nobody bets on: e³⁰. Thrown away, so that old evidence can be lost again in finite time.
const LN_WEALTH_MAX: f64 = 30.0;

/// The wealth of all gamblers against one hypothesis; about 50 bytes.
#[derive(Clone, Debug)]
pub(super) struct Wealth {
    /// Logarithm of the wealth of those who have begun, by stake.
    ln_begun: [f64; STAKES],
    trials: u64,
    ln_total: f64,
}

// === impl Wealth ===

impl Default for Wealth {
    fn default() -> Self {
        Self { ln_begun: [f64::NEG_INFINITY; STAKES], trials: 0, ln_total: 0.0 }
    }
}

impl Wealth {
    /// One trial: the logarithms of what each stake wins or loses, and how those who begin now divide over the stakes.
    /// The shares must sum to 1 and be chosen before the outcome.
    pub(super) fn bet(&mut self, ln_factors: [f64; STAKES], shares: [f64; STAKES]) {
        let beginning = cash(self.trials) - cash(self.trials.saturating_add(1));
        self.trials = self.trials.saturating_add(1);
        for ((ln, factor), share) in self.ln_begun.iter_mut().zip(ln_factors).zip(shares) {
            *ln = (ln_add(*ln, (beginning * share).ln()) + factor).min(LN_WEALTH_MAX);
        }
        self.ln_total = self.ln_begun.iter().fold(cash(self.trials).ln(), |sum, ln| ln_add(sum, *ln));
    }

    /// What gamblers came to who bet elsewhere, of which no more is known than the logarithm of their wealth. Nobody
    /// bets with it.
    pub(super) fn won_elsewhere(ln: f64) -> Self {
        Self { ln_total: ln, ..Self::default() }
    }

    /// Logarithm of the wealth: of the e-value.
    pub(super) fn ln(&self) -> f64 {
        self.ln_total
    }
}

/// What those hold who have not begun after this many trials. Half begins at once; who begins at trial t has about
/// 1/(t · log² t), which falls more slowly than any power above one.
fn cash(trials: u64) -> f64 {
    if trials == 0 { 1.0 } else { 1.0 / (2.0 + (trials as f64).log2()) }
}

/// ln(eᵃ + eᵇ).
pub(super) fn ln_add(a: f64, b: f64) -> f64 {
    let (more, less) = if a > b { (a, b) } else { (b, a) };
    if less == f64::NEG_INFINITY { more } else { more + (less - more).exp().ln_1p() }
}
