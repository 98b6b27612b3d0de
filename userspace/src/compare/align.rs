//! Decides which elements of two sequences belong together.
//!
//! Knows no JSON: it is told how much two elements have in common. Its work is paid from a budget.

/// Work that is left for aligning in one comparison.
#[derive(Debug)]
pub(super) struct Budget {
    steps_left: usize,
}

/// Best totals for all pairs of endings of two sequences.
struct Totals {
    width: usize,
    cells: Vec<u32>,
}

// === impl Budget ===

impl Budget {
    pub(super) fn new(steps: usize) -> Self {
        Self { steps_left: steps }
    }

    /// Takes `n × m × price` steps; false, and nothing taken, when there are not as many left.
    pub(super) fn pay(&mut self, n: usize, m: usize, price: usize) -> bool {
        let cost = n.saturating_mul(m).saturating_mul(price);
        match self.steps_left.checked_sub(cost) {
            Some(left) => {
                self.steps_left = left;
                true
            }
            None => false,
        }
    }
}

/// Pairs positions of two sequences of `n` and `m` elements in order, so that the sum of `score` is largest.
///
/// Only pairs with a score above zero are made. With a score of 1 for equal elements this is a longest common
/// subsequence (Wagner and Fischer, "The string-to-string correction problem", 1974). Takes n × m steps.
pub(super) fn in_order(n: usize, m: usize, score: impl Fn(usize, usize) -> u32) -> Vec<(usize, usize)> {
    let width = m.saturating_add(1);
    let mut best = Totals { width, cells: vec![0; n.saturating_add(1).saturating_mul(width)] };
    let next = |at: usize| at.saturating_add(1);
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            let skip = best.get(next(i), j).max(best.get(i, next(j)));
            let total = match score(i, j) {
                0 => skip,
                score => skip.max(best.get(next(i), next(j)).saturating_add(score)),
            };
            best.set(i, j, total);
        }
    }
    let mut pairs = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < n && j < m {
        let score = score(i, j);
        if score > 0 && best.get(i, j) == best.get(next(i), next(j)).saturating_add(score) {
            pairs.push((i, j));
            (i, j) = (next(i), next(j));
        } else if best.get(next(i), j) >= best.get(i, next(j)) {
            i = next(i);
        } else {
            j = next(j);
        }
    }
    pairs
}

// === impl Totals ===

impl Totals {
    fn index(&self, i: usize, j: usize) -> usize {
        i.saturating_mul(self.width).saturating_add(j)
    }

    fn get(&self, i: usize, j: usize) -> u32 {
        self.cells.get(self.index(i, j)).copied().unwrap_or(0)
    }

    fn set(&mut self, i: usize, j: usize, total: u32) {
        let index = self.index(i, j);
        if let Some(cell) = self.cells.get_mut(index) {
            *cell = total;
        }
    }
}
