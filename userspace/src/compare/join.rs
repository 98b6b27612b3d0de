//! Pairs two lists that are sorted by name.
//!
//! Compares nothing but names.

use std::cmp::Ordering;
use std::iter;

/// The members of both lists by name, in its order: a member of A, one of B, or one of each that have one name. Members
/// of one name pair up in their order. Both lists must be sorted by what `name` gives.
pub(super) fn by_name<'x, T: 'x, N: Ord>(
    a: impl IntoIterator<Item = &'x T>,
    b: impl IntoIterator<Item = &'x T>,
    name: impl Fn(&'x T) -> N,
) -> impl Iterator<Item = (Option<&'x T>, Option<&'x T>)> {
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    iter::from_fn(move || {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(x), Some(y)) => name(x).cmp(&name(y)),
        };
        let x = if order.is_le() { a.next() } else { None };
        let y = if order.is_ge() { b.next() } else { None };
        Some((x, y))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &[(char, u8)], b: &[(char, u8)], expected: &str) {
        let shown = |one: Option<&(char, u8)>| one.map_or("-".to_owned(), |(name, at)| format!("{name}{at}"));
        let pairs: Vec<_> =
            by_name(a, b, |(name, _)| *name).map(|(x, y)| format!("{}/{}", shown(x), shown(y))).collect();
        assert_eq!(pairs.join(" "), expected);
    }

    #[test]
    fn members_of_one_name_pair_up_in_their_order() {
        check(&[], &[], "");
        check(&[('a', 1), ('c', 1)], &[('b', 1), ('c', 2)], "a1/- -/b1 c1/c2");
        check(&[('a', 1), ('a', 2), ('b', 1)], &[('a', 3)], "a1/a3 a2/- b1/-");
        check(&[], &[('a', 1), ('a', 2)], "-/a1 -/a2");
    }
}
