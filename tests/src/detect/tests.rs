use std::collections::{BTreeMap, BTreeSet};

use super::random::mix;
use super::*;
use crate::wire::Reader;

const REQUESTS: usize = 20_000;
/// Milliseconds between requests.
const SPACING_MS: u64 = 3;

/// What an instance answered to a traffic: route, answer, whether it counts as changed.
fn answers(kind: Kind, mutant: Option<&str>, seed: u64) -> Vec<(&'static str, Answer, bool)> {
    let application = kind.application();
    let mut jar: BTreeMap<u64, String> = BTreeMap::new();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
    let mut all = Vec::new();
    for (served, planned) in (0u64..).zip(plan(kind, 11, REQUESTS)) {
        let cookie = jar.get(&planned.visit()).cloned();
        let bytes = planned.bytes(address, &log::trace_parent(1, served), cookie.as_deref());
        let mut reader = Reader::new(&bytes[..]);
        let head = reader.request_head().unwrap().unwrap();
        let body = reader.body_bytes(head.framing().unwrap()).unwrap();
        let mut context = Context {
            mutant,
            changed: false.into(),
            random: Random::new(mix(&[seed, served])),
            now: Duration::from_millis(1_790_000_000_000 + served * SPACING_MS),
            environment: "here",
            served,
        };
        let request = Request::new(&head, &body);
        let answer = application.answer(request, &mut context);
        let route = kind.route(request.path()).unwrap_or_else(|| panic!("no route for {}", request.path()));
        if let Some(cookie) = field(&answer.fields, "set-cookie").and_then(|value| value.split(';').next()) {
            jar.insert(planned.visit(), cookie.to_owned());
        }
        all.push((route, answer, context.changed.get()));
    }
    all
}

#[test]
fn there_are_forty_regressions_and_their_names_differ() {
    let names: Vec<_> = Kind::ALL.into_iter().flat_map(Kind::mutants).map(|mutant| mutant.name).collect();
    assert!(names.len() >= 40, "{}", names.len());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[test]
fn every_regression_changes_the_share_that_it_says() {
    for kind in Kind::ALL {
        for mutant in kind.mutants() {
            let answers = answers(kind, Some(mutant.name), 5);
            let changed = answers.iter().filter(|(_, _, changed)| *changed).count();
            let share = changed as f64 / REQUESTS as f64;
            assert!((0.7..1.4).contains(&(share / mutant.share)), "{}: {share}", mutant.name);
        }
    }
}

/// With the noise of one seed, an answer that counts as changed differs from the unmutated one, and others do not.
/// Regressions at random use noise of their own, and a stale cache changes only what has moved meanwhile.
#[test]
fn exactly_the_answers_that_count_as_changed_differ() {
    for kind in Kind::ALL {
        let clean = answers(kind, None, 5);
        assert!(clean.iter().all(|(_, _, changed)| !changed));
        for mutant in kind.mutants() {
            for ((route, clean, _), (_, answer, changed)) in
                clean.iter().zip(answers(kind, Some(mutant.name), 5))
            {
                let same = format!("{clean:?}") == format!("{answer:?}");
                assert!(
                    same != changed || mutant.name == "stale_cache",
                    "{} {route} {answer:?}",
                    mutant.name
                );
                let spot = |spot: &Spot| match spot {
                    Spot::At { route: at, part: _ } | Spot::Slow { route: at } => at == route,
                };
                assert!(!changed || mutant.spots.iter().any(spot), "{} {route}", mutant.name);
            }
        }
    }
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
