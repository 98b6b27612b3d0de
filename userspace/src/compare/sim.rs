//! Random numbers for simulations in tests: the same in every run.
//!
//! Not for anything that needs to be unforeseeable.

/// xorshift64* (S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
pub(super) struct Uniform(u64);

// === impl Uniform ===

impl Uniform {
    pub(super) fn new(seed: u64) -> Self {
        // Spreads small seeds, and is never zero.
        let mut uniform = Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            uniform.next();
        }
        uniform
    }

    fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// In 0..1.
    pub(super) fn next(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.next() < p
    }

    /// In 0..n.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        (self.next() * n as f64) as u64
    }

    /// Skewed as latencies are: mean 1, long tail.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.next()).ln()
    }
}
