//! Decides which elements of two sequences belong together.
//!
//! Knows no JSON and no markup: an element tells its hash and what it is made of. Hashes only guide; what is paired
//! is compared in full by the caller. Work is paid from a budget, and what the budget cannot pay is done in time
//! that grows as n log n, with a coarser result.

use std::collections::HashMap;

/// Features looked at of one element.
pub(super) const FEATURES_MAX: usize = 32;

/// Steps that it costs to ask how much two elements have in common.
pub(super) const LIKENESS_PRICE: usize = 64;

/// An element of a sequence.
pub(super) trait Element {
    /// The same for equal elements; but for chance, different for others.
    fn hash(&self) -> u64;

    /// Hashes of what it is made of, at most [`FEATURES_MAX`]: two elements are alike when they share some.
    fn features(&self) -> Vec<u64>;
}

/// The position of an element in A's sequence and in B's, as far as it is in them.
pub(super) type Paired = (Option<usize>, Option<usize>);

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

/// A part of a sequence: from and to, without the last.
type Stretch = (usize, usize);

/// Which elements belong together. Covers all elements, in order.
///
/// Equal elements come first: as many as can be paired in order, where the budget pays for that; else those that
/// stand once in both sequences (the anchors of Bram Cohen's "patience diff"). What lies between is paired by
/// likeness, and what is like nothing by position.
pub(super) fn pair_up<E: Element>(a: &[E], b: &[E], budget: &mut Budget) -> Vec<Paired> {
    let hashes = |elements: &[E]| elements.iter().map(Element::hash).collect::<Vec<u64>>();
    let mut paired = Vec::with_capacity(a.len().max(b.len()));
    let (mut i, mut j) = (0, 0);
    let ends = std::iter::once((a.len(), b.len()));
    for (next_i, next_j) in equal_in_order(&hashes(a), &hashes(b), budget).into_iter().chain(ends) {
        pair_unequal(a, (i, next_i), b, (j, next_j), budget, &mut paired);
        if next_i < a.len() && next_j < b.len() {
            paired.push((Some(next_i), Some(next_j)));
        }
        (i, j) = (next(next_i), next(next_j));
    }
    paired
}

/// Pairs equal values of two sequences in order: the longest common subsequence, or a long one where that costs too
/// much.
pub(super) fn equal_in_order(a: &[u64], b: &[u64], budget: &mut Budget) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    equal_between(a, (0, a.len()), b, (0, b.len()), budget, true, &mut pairs);
    pairs
}

fn equal_between(
    a: &[u64],
    (a_from, a_to): Stretch,
    b: &[u64],
    (b_from, b_to): Stretch,
    budget: &mut Budget,
    may_anchor: bool,
    pairs: &mut Vec<(usize, usize)>,
) {
    let (in_a, in_b) = (stretch(a, (a_from, a_to)), stretch(b, (b_from, b_to)));
    let start = in_a.iter().zip(in_b).take_while(|(x, y)| x == y).count();
    let rest = in_a.len().min(in_b.len()).saturating_sub(start);
    let end = in_a.iter().rev().zip(in_b.iter().rev()).take(rest).take_while(|(x, y)| x == y).count();
    pairs.extend((0..start).map(|at| (a_from.saturating_add(at), b_from.saturating_add(at))));

    let (a_from, b_from) = (a_from.saturating_add(start), b_from.saturating_add(start));
    let (a_stop, b_stop) = (a_to.saturating_sub(end), b_to.saturating_sub(end));
    let (in_a, in_b) = (stretch(a, (a_from, a_stop)), stretch(b, (b_from, b_stop)));
    let (n, m) = (in_a.len(), in_b.len());
    if n > 0 && m > 0 && n.max(m) > 1 {
        if budget.pay(n, m, 1) {
            let found = in_order(n, m, |i, j| u32::from(in_a.get(i) == in_b.get(j)));
            pairs
                .extend(found.into_iter().map(|(i, j)| (a_from.saturating_add(i), b_from.saturating_add(j))));
        } else if may_anchor {
            let anchors = anchors(in_a.iter().map(|x| vec![*x]), in_b.iter().map(|y| vec![*y]));
            let (mut i, mut j) = (a_from, b_from);
            for (to_i, to_j) in anchors {
                let (to_i, to_j) = (a_from.saturating_add(to_i), b_from.saturating_add(to_j));
                equal_between(a, (i, to_i), b, (j, to_j), budget, false, pairs);
                pairs.push((to_i, to_j));
                (i, j) = (next(to_i), next(to_j));
            }
            equal_between(a, (i, a_stop), b, (j, b_stop), budget, false, pairs);
        }
    }
    pairs.extend((0..end).map(|at| (a_stop.saturating_add(at), b_stop.saturating_add(at))));
}

/// Pairs the elements of a stretch in which no two are equal: the most alike ones, the rest by position.
fn pair_unequal<E: Element>(
    a: &[E],
    (a_from, a_to): Stretch,
    b: &[E],
    (b_from, b_to): Stretch,
    budget: &mut Budget,
    paired: &mut Vec<Paired>,
) {
    let (n, m) = (a_to.saturating_sub(a_from), b_to.saturating_sub(b_from));
    let alike = if n == 0 || m == 0 || n.max(m) == 1 {
        Vec::new()
    } else {
        let features = |elements: &[E], of: Stretch| {
            let sorted = |element: &E| {
                let mut features = element.features();
                features.sort_unstable();
                features
            };
            stretch(elements, of).iter().map(sorted).collect::<Vec<_>>()
        };
        let (in_a, in_b) = (features(a, (a_from, a_to)), features(b, (b_from, b_to)));
        if budget.pay(n, m, LIKENESS_PRICE) {
            in_order(n, m, |i, j| shared(in_a.get(i), in_b.get(j)))
        } else {
            anchors(in_a.into_iter(), in_b.into_iter())
        }
    };
    let (mut i, mut j) = (a_from, b_from);
    let alike = alike.into_iter().map(|(i, j)| (a_from.saturating_add(i), b_from.saturating_add(j)));
    for (next_i, next_j) in alike.chain([(a_to, b_to)]) {
        let (rest_a, rest_b) = (next_i.saturating_sub(i), next_j.saturating_sub(j));
        for at in 0..rest_a.max(rest_b) {
            let in_a = (at < rest_a).then(|| i.saturating_add(at));
            let in_b = (at < rest_b).then(|| j.saturating_add(at));
            paired.push((in_a, in_b));
        }
        if next_i < a_to && next_j < b_to {
            paired.push((Some(next_i), Some(next_j)));
        }
        (i, j) = (next(next_i), next(next_j));
    }
}

/// Pairs elements, in order, that alone in their sequences have some feature, and share it.
///
/// Where such features contradict each other the element with more of them in common wins. Of pairs that cross, the
/// most that do not are kept: a longest increasing subsequence (Fredman, "On computing the length of longest
/// increasing subsequences", 1975). Takes n log n steps.
fn anchors(a: impl Iterator<Item = Vec<u64>>, b: impl Iterator<Item = Vec<u64>>) -> Vec<(usize, usize)> {
    /// Where a feature stands; nothing when it stands more than once.
    #[derive(Default)]
    struct Standing {
        in_a: Option<Option<usize>>,
        in_b: Option<Option<usize>>,
    }
    let once = |seen: Option<Option<usize>>, at: usize| Some(seen.is_none().then_some(at));
    // Seeded anew, since what is compared may be made to collide; the order of the map is sorted out below.
    let mut standing: HashMap<u64, Standing, foldhash::fast::RandomState> = HashMap::default();
    for (at, features) in a.enumerate() {
        for feature in features {
            let standing = standing.entry(feature).or_default();
            standing.in_a = once(standing.in_a, at);
        }
    }
    for (at, features) in b.enumerate() {
        for feature in features {
            // What A does not have pairs nothing.
            if let Some(standing) = standing.get_mut(&feature) {
                standing.in_b = once(standing.in_b, at);
            }
        }
    }
    let mut links: Vec<(usize, usize)> = standing
        .into_values()
        .filter_map(|standing| Some((standing.in_a.flatten()?, standing.in_b.flatten()?)))
        .collect();
    links.sort_unstable();
    let mut best: Vec<(usize, usize)> = Vec::new();
    let mut best_count = 0;
    for link in links.chunk_by(|x, y| x == y) {
        let Some((i, j)) = link.first().copied() else { continue };
        match best.last_mut() {
            Some(last) if last.0 == i => {
                if link.len() > best_count {
                    (*last, best_count) = ((i, j), link.len());
                }
            }
            Some(_) | None => {
                best.push((i, j));
                best_count = link.len();
            }
        }
    }
    increasing(&best)
}

/// The longest part of `pairs`, which are sorted by their first numbers, whose second numbers increase.
fn increasing(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let second = |at: usize| pairs.get(at).map(|pair| pair.1);
    // `ends[n]` is the pair that ends the best run of n + 1 pairs so far; `before` leads back through each run.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (at, (_, j)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| second(*end).is_some_and(|end| end < *j));
        before.push(length.checked_sub(1).and_then(|last| ends.get(last)).copied());
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(index) = at {
        run.extend(pairs.get(index));
        at = before.get(index).copied().flatten();
    }
    run.reverse();
    run
}

/// How many numbers two sorted lists have in common.
fn shared(a: Option<&Vec<u64>>, b: Option<&Vec<u64>>) -> u32 {
    let (Some(a), Some(b)) = (a, b) else { return 0 };
    let (mut i, mut j, mut count) = (0, 0, 0_u32);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let order = x.cmp(y);
        if order.is_le() {
            i = next(i);
        }
        if order.is_ge() {
            j = next(j);
        }
        count = count.saturating_add(u32::from(order.is_eq()));
    }
    count
}

fn stretch<T>(elements: &[T], (from, to): Stretch) -> &[T] {
    elements.get(from..to).unwrap_or_default()
}

fn next(at: usize) -> usize {
    at.saturating_add(1)
}

/// Pairs positions of two sequences of `n` and `m` elements in order, so that the sum of `score` is largest.
///
/// Only pairs with a score above zero are made. With a score of 1 for equal elements this is a longest common
/// subsequence (Wagner and Fischer, "The string-to-string correction problem", 1974). Takes n × m steps.
pub(super) fn in_order(n: usize, m: usize, score: impl Fn(usize, usize) -> u32) -> Vec<(usize, usize)> {
    let width = m.saturating_add(1);
    let mut best = Totals { width, cells: vec![0; n.saturating_add(1).saturating_mul(width)] };
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
