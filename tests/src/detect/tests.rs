//! That each planted regression changes what its table says, without a socket.
//!
//! Does not ask whether anybody finds it.

use std::collections::{BTreeMap, BTreeSet};

use super::random::mix;
use super::*;

const REQUESTS: usize = 2_500;
/// Milliseconds between requests.
const SPACING_MS: u64 = 3;

/// What an instance answered to one request: the route, the answer, whether it counts as changed.
type Answered = (&'static str, Answer, bool);

fn answers(kind: Kind, mutant: Option<&str>, traffic: &[Planned]) -> Vec<Answered> {
    let application = kind.application();
    let mut jar: BTreeMap<u64, String> = BTreeMap::new();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
    let mut answer = |(served, planned): (u64, &Planned)| {
        let cookie = jar.get(&planned.visit()).cloned();
        let (head, body) = planned.message(address, &log::trace_parent(1, served), cookie.as_deref());
        let mut context = Context {
            mutant,
            changed: false.into(),
            random: Random::new(mix(&[5, served])),
            now: Duration::from_millis(1_790_000_000_000 + served * SPACING_MS),
            environment: "here",
            served,
        };
        let request = Request::new(&head, body);
        let answer = application.answer(request, &mut context);
        let route = kind.route(request.path()).unwrap_or_else(|| panic!("no route for {}", request.path()));
        if let Some(cookie) = field(&answer.fields, "set-cookie").and_then(|value| value.split(';').next()) {
            jar.insert(planned.visit(), cookie.to_owned());
        }
        (route, answer, context.changed.get())
    };
    (0u64..).zip(traffic).map(&mut answer).collect()
}

/// The share of changed answers is the one that the table says, within four standard deviations; it is exactly the
/// changed answers that differ from the unmutated ones with the same noise; and each is on a route of a spot.
#[track_caller]
fn check(mutant: &Mutant, clean: &[Answered], answered: &[Answered]) {
    let name = mutant.name;
    let changed = answered.iter().filter(|(_, _, changed)| *changed).count() as f64;
    let expected = mutant.share * REQUESTS as f64;
    // Repeats and visits bind requests together, so the spread is a little wider than the binomial one.
    assert!((changed - expected).abs() <= 5.0 * expected.sqrt() + 2.0, "{name}: {changed}, not {expected}");
    for ((route, clean, _), (_, answer, changed)) in clean.iter().zip(answered) {
        let same = clean == answer;
        // Two moments of a cached value can be equal by chance.
        assert!(same != *changed || name == "stale_cache", "{name}: {route} {answer:?}");
        let is_at = |spot: &Spot| match spot {
            Spot::At { route: at, part: _ } | Spot::Slow { route: at } => at == route,
        };
        assert!(!changed || mutant.spots.iter().any(is_at), "{name}: {route}");
    }
}

#[test]
fn every_regression_changes_what_it_says_and_nothing_else() {
    for kind in Kind::ALL {
        let traffic = plan(kind, 11, REQUESTS);
        let clean = answers(kind, None, &traffic);
        assert!(clean.iter().all(|(_, _, changed)| !changed));
        for mutant in kind.mutants() {
            check(mutant, &clean, &answers(kind, Some(mutant.name), &traffic));
        }
    }
}

#[test]
fn there_are_forty_regressions_and_their_names_differ() {
    let names: Vec<_> = Kind::ALL.into_iter().flat_map(Kind::mutants).map(|mutant| mutant.name).collect();
    assert!(names.len() >= 40, "{}", names.len());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn a_traffic_is_decided_by_its_seed_and_repeats_itself() {
    for kind in Kind::ALL {
        let traffic = plan(kind, 3, 2_000);
        assert_eq!(traffic, plan(kind, 3, 2_000));
        assert_ne!(traffic, plan(kind, 4, 2_000));
        assert_eq!(traffic.len(), 2_000);
    }
}

#[test]
fn times_are_written_as_people_read_them() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(rfc3339(1_709_251_199_001), "2024-02-29T23:59:59.001Z");
    assert_eq!(rfc3339(1_795_348_800_000), "2026-11-22T12:00:00.000Z");
}
