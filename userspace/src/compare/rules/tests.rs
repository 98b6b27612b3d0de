//! Tests of rules as a whole, through the comparator.
//!
//! Touch the API in `check` only; the rest is data.

use std::time::Duration;

use proptest::prelude::*;

use super::super::tests::{JSON, answered, exchange, lines};
use super::super::{Comparator, CompareConfig, External, ExternalDifference, Purpose};
use super::{CleanRule, CompareErrors, IgnoreRule, MatchRule, ToleranceRule, When};
use crate::model::samples::response;
use crate::model::{BranchFailure, DifferenceKind, IncomparableReason, Observation, Outcome};

/// Compares two JSON documents; then says what each rule met, hid and failed at.
#[track_caller]
fn check(config: CompareConfig, a: &str, b: &str, expected: &[&str], counts: &[[u64; 3]]) {
    let comparator = Comparator::new(config).unwrap();
    let (a, b) = (response(200, JSON, a), response(200, JSON, b));
    let outcome = comparator.compare(&exchange(Some(a)), &answered(b));
    assert_eq!(lines(&outcome), expected);
    assert_eq!(counts_of(&comparator), counts, "met, hid, failed");
}

fn counts_of(comparator: &Comparator) -> Vec<[u64; 3]> {
    let load = |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    comparator.rule_counts().map(|(_, counts)| [&counts.met, &counts.hid, &counts.failed].map(load)).collect()
}

#[track_caller]
fn refused(config: CompareConfig, expected: &str) {
    let error = Comparator::new(config).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}\nshould say: {expected}");
}

fn ignore(at: &str, when: When) -> CompareConfig {
    CompareConfig { ignore: vec![IgnoreRule { at: at.into(), when }], ..CompareConfig::default() }
}

fn clean(rule: CleanRule) -> CompareConfig {
    CompareConfig { clean: vec![rule], ..CompareConfig::default() }
}

fn clean_at(at: &str) -> CleanRule {
    CleanRule { at: at.into(), ..CleanRule::default() }
}

fn within(at: &str, within: &str) -> CompareConfig {
    let rule = ToleranceRule { at: at.into(), within: Some(within.into()), within_time: None };
    CompareConfig { tolerance: vec![rule], ..CompareConfig::default() }
}

fn within_time(at: &str, time: Duration) -> CompareConfig {
    let rule = ToleranceRule { at: at.into(), within: None, within_time: Some(time) };
    CompareConfig { tolerance: vec![rule], ..CompareConfig::default() }
}

fn match_by(at: &str, keys: &[&str]) -> CompareConfig {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    CompareConfig { match_by: vec![MatchRule { at: at.into(), keys }], ..CompareConfig::default() }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

// === ignore ===

#[test]
fn a_class_hides_a_change_within_it_and_nothing_else() {
    let class = |class| ignore("json:$.**", When { class: some(class), ..When::default() });
    let (a, b) = (r#"{"t":"2026-11-22T10:00:00Z"}"#, r#"{"t":"2026-11-22T10:00:05+01:00"}"#);
    check(class("timestamp"), a, b, &["hidden json:$.** (class timestamp) 1"], &[[1, 1, 0]]);
    let expected = [r#"json:$.t value "2026-11-22T10:00:00Z" "never""#];
    check(class("timestamp"), a, r#"{"t":"never"}"#, &expected, &[[1, 0, 0]]);
    let (a, b) = (
        r#"{"id":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}"#,
        r#"{"id":"6ba7b811-9dad-11d1-80b4-00c04fd430c8"}"#,
    );
    check(class("uuid"), a, b, &["hidden json:$.** (class uuid) 1"], &[[1, 1, 0]]);
    check(class("ip"), r#"["10.0.0.1"]"#, r#"["::1"]"#, &["hidden json:$.** (class ip) 1"], &[[1, 1, 0]]);
}

#[test]
fn a_predicate_asks_both_values_and_all_of_it_has_to_hold() {
    let both = || When { both_match: some("[0-9a-f]{8}"), ..When::default() };
    let hidden = ["hidden json:$.s (both_match \"[0-9a-f]{8}\") 1"];
    check(ignore("json:$.s", both()), r#"{"s":"0123abcd"}"#, r#"{"s":"feedbeef"}"#, &hidden, &[[1, 1, 0]]);
    // The whole value has to match, not a part of it.
    let expected = [r#"json:$.s value "0123abcd" "feedbeef0""#];
    check(ignore("json:$.s", both()), r#"{"s":"0123abcd"}"#, r#"{"s":"feedbeef0"}"#, &expected, &[[1, 0, 0]]);
    let is = When { control_is: some("null"), candidate_is: some(""), ..When::default() };
    let hidden = ["hidden json:$.s (control_is \"null\", candidate_is \"\") 1"];
    check(ignore("json:$.s", is.clone()), r#"{"s":null}"#, r#"{"s":""}"#, &hidden, &[[1, 1, 0]]);
    check(
        ignore("json:$.s", is),
        r#"{"s":null}"#,
        r#"{"s":"x"}"#,
        &[r#"json:$.s type null "x""#],
        &[[1, 0, 0]],
    );
}

#[test]
fn a_kind_lets_a_candidate_add_members_and_lose_none() {
    let added = || ignore("json:$.**", When { kind: some("added"), ..When::default() });
    check(added(), r#"{"a":1}"#, r#"{"a":1,"b":2}"#, &["hidden json:$.** (kind added) 1"], &[[1, 1, 0]]);
    check(added(), r#"{"a":1,"b":2}"#, r#"{"a":1}"#, &["json:$.b missing 2 -"], &[[1, 0, 0]]);
    // An absent value is of no class.
    let class = ignore("json:$.t", When { class: some("timestamp"), ..When::default() });
    let expected = [r#"json:$.t missing "2026-11-22T10:00:00Z" -"#];
    check(class, r#"{"t":"2026-11-22T10:00:00Z"}"#, "{}", &expected, &[[1, 0, 0]]);
}

#[test]
fn the_first_rule_that_hides_counts_and_a_rule_behind_it_meets_nothing() {
    let config = CompareConfig {
        ignore: vec!["json:$.a".into(), "json:$.**".into(), "json:$.z".into()],
        ..CompareConfig::default()
    };
    let hidden = ["hidden json:$.a 1", "hidden json:$.** 1"];
    check(config, r#"{"a":1,"b":1}"#, r#"{"a":2,"b":2}"#, &hidden, &[[1, 1, 0], [1, 1, 0], [0, 0, 0]]);
}

#[test]
fn a_value_too_long_for_a_rule_is_an_error_of_the_rule_and_no_verdict() {
    let mut config = ignore("json:$.a", When { both_match: some(".*"), ..When::default() });
    config.limits.rule_value_bytes_max = 64;
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(100));
    check(config.clone(), &long, r#"{"a":1}"#, &["incomparable rule_error"], &[[0, 0, 1]]);
    // What is certain stays certain.
    let long = format!(r#"{{"a":"{}","b":1}}"#, "x".repeat(100));
    check(config, &long, r#"{"a":1,"b":2}"#, &["json:$.b value 1 2"], &[[0, 0, 1]]);
}

// === clean ===

#[test]
fn values_are_rewritten_on_both_sides_before_they_are_compared() {
    let replace = CleanRule { replace: some("-[0-9]+$"), with: some("-N"), ..clean_at("json:$.host") };
    let hidden = [r#"hidden clean json:$.host (replace "-[0-9]+$" with "-N") 1"#];
    check(clean(replace.clone()), r#"{"host":"web-3"}"#, r#"{"host":"web-11"}"#, &hidden, &[[1, 1, 0]]);
    // What still differs is shown as it was compared.
    let expected = [r#"json:$.host value "web-N" "db-N""#];
    check(clean(replace), r#"{"host":"web-3"}"#, r#"{"host":"db-11"}"#, &expected, &[[1, 0, 0]]);
    let tidy = CleanRule { trim: true, lower: true, ..clean_at("json:$.n") };
    let hidden = ["hidden clean json:$.n (trim, lower) 1"];
    check(clean(tidy), r#"{"n":" Ada "}"#, r#"{"n":"ada"}"#, &hidden, &[[1, 1, 0]]);
}

#[test]
fn rounding_is_decimal_and_keeps_types_apart() {
    let round = || clean(CleanRule { round: Some(2), ..clean_at("json:$.p") });
    let hidden = ["hidden clean json:$.p (round 2) 1"];
    check(round(), r#"{"p":1.005}"#, r#"{"p":1.01}"#, &hidden, &[[1, 1, 0]]);
    check(round(), r#"{"p":1.50}"#, r#"{"p":1.5}"#, &hidden, &[[1, 1, 0]]);
    check(round(), r#"{"p":1.004}"#, r#"{"p":1.006}"#, &["json:$.p value 1 1.01"], &[[1, 0, 0]]);
    check(round(), r#"{"p":1.00}"#, r#"{"p":"1.00"}"#, &[r#"json:$.p type 1 "1""#], &[[1, 0, 0]]);
    check(round(), r#"{"p":1}"#, r#"{"p":"n/a"}"#, &[r#"json:$.p type 1 "n/a""#], &[[1, 0, 0]]);
}

#[test]
fn sorted_arrays_have_no_order() {
    let sort = || clean(CleanRule { sort: true, ..clean_at("json:$.tags") });
    let hidden = ["hidden clean json:$.tags (sort) 1"];
    check(sort(), r#"{"tags":["a","b"]}"#, r#"{"tags":["b","a"]}"#, &hidden, &[[1, 1, 0]]);
    let expected = [r#"json:$.tags[0] missing "a" -"#, r#"json:$.tags[0] added - "c""#];
    check(sort(), r#"{"tags":["a"]}"#, r#"{"tags":["c"]}"#, &expected, &[[0, 0, 0]]);
}

#[test]
fn rewritten_and_ignored_values_do_not_disturb_the_alignment_of_arrays() {
    let config = CompareConfig { ignore: vec!["json:$[*].at".into()], ..CompareConfig::default() };
    let a = r#"[{"at":1},{"at":2,"n":[1,2]},{"at":3,"m":1}]"#;
    let b = r#"[{"at":9,"x":1},{"at":8},{"at":7,"n":[1,2]},{"at":6,"m":1}]"#;
    check(config, a, b, &[r#"json:$[0] added - {"at":9,"x":1}"#, "hidden json:$[*].at 3"], &[[3, 3, 0]]);
    let config = clean(CleanRule { replace: some("#[0-9]+"), ..clean_at("json:$[*]") });
    let hidden = r##"hidden clean json:$[*] (replace "#[0-9]+" with "") 2"##;
    let expected = [r#"json:$[1] missing "b" -"#, hidden];
    check(config, r##"["a#1","b#2","c#3"]"##, r##"["a#7","c#8"]"##, &expected, &[[3, 2, 0]]);
}

// === match_by ===

#[test]
fn elements_pair_by_their_key_whatever_their_order() {
    let by_id = || match_by("json:$.items", &["id"]);
    let a = r#"{"items":[{"id":1,"v":"a"},{"id":2,"v":"b"},{"id":3,"v":"c"}]}"#;
    let b = r#"{"items":[{"id":3,"v":"c"},{"id":1,"v":"x"},{"id":4,"v":"d"}]}"#;
    let expected = [
        r#"json:$.items[0].v value "a" "x""#,
        r#"json:$.items[1] missing {"id":2,"v":"b"} -"#,
        r#"json:$.items[2] added - {"id":4,"v":"d"}"#,
        "hidden match_by json:$.items (id) 1",
    ];
    check(by_id(), a, b, &expected, &[[1, 1, 0]]);
    check(
        by_id(),
        r#"{"items":[{"no":1}]}"#,
        r#"{"items":[{"no":2}]}"#,
        &["incomparable rule_error"],
        &[[0, 0, 1]],
    );
    let two = match_by("json:$", &["r", "n"]);
    let hidden = ["hidden match_by json:$ (r, n) 1"];
    check(two, r#"[{"r":1,"n":1},{"r":1,"n":2}]"#, r#"[{"r":1,"n":2},{"r":1,"n":1}]"#, &hidden, &[[1, 1, 0]]);
}

#[test]
fn repeated_keys_pair_in_order_and_none_is_lost() {
    let a = r#"[{"id":1,"v":1},{"id":1,"v":2},{"x":1}]"#;
    let b = r#"[{"id":1,"v":1},{"id":1,"v":3},{"id":1,"v":4},{"x":2}]"#;
    let expected = ["json:$[1].v value 2 3", "json:$[2].x value 1 2", r#"json:$[2] added - {"id":1,"v":4}"#];
    check(match_by("json:$", &["id"]), a, b, &expected, &[[0, 0, 0]]);
}

// === tolerance ===

#[test]
fn numbers_within_the_tolerance_are_one_and_the_bound_is_exact() {
    let hidden = ["hidden tolerance json:$.x (within 0.01) 1"];
    check(within("json:$.x", "0.01"), r#"{"x":10.01}"#, r#"{"x":10.02}"#, &hidden, &[[1, 1, 0]]);
    let expected = ["json:$.x value 10.01 10.0200001"];
    check(within("json:$.x", "0.01"), r#"{"x":10.01}"#, r#"{"x":10.0200001}"#, &expected, &[[1, 0, 0]]);
    let hidden = ["hidden tolerance json:$.x (within 1%) 1"];
    check(within("json:$.x", "1%"), r#"{"x":-100}"#, r#"{"x":-99}"#, &hidden, &[[1, 1, 0]]);
    check(within("json:$.x", "1%"), r#"{"x":1e300}"#, r#"{"x":1.001e300}"#, &hidden, &[[1, 1, 0]]);
    check(within("json:$.x", "1%"), r#"{"x":0}"#, r#"{"x":1e-9}"#, &["json:$.x value 0 1e-9"], &[[1, 0, 0]]);
    check(within("json:$.x", "1%"), r#"{"x":1}"#, r#"{"x":null}"#, &["json:$.x type 1 null"], &[[1, 0, 0]]);
    let huge = ["incomparable rule_error"];
    check(within("json:$.x", "1%"), r#"{"x":1e999}"#, r#"{"x":1}"#, &huge, &[[1, 0, 1]]);
}

#[test]
fn times_within_the_tolerance_are_one_in_every_form() {
    let near = [
        (r#""2026-11-22T10:00:00Z""#, r#""2026-11-22T11:00:04.9+01:00""#),
        (r#""Sun, 06 Nov 1994 08:49:37 GMT""#, r#""Sun, 06 Nov 1994 08:49:40 GMT""#),
        (r#""2026-11-22 10:00:00""#, r#""2026-11-22T10:00:03""#),
        ("1795340000", "1795340005"),
        ("1795340000.25", "1795340004"),
        ("1795340000000", "1795340004999"),
    ];
    let five = || within_time("json:$.t", Duration::from_secs(5));
    for (a, b) in near {
        let (a, b) = (format!(r#"{{"t":{a}}}"#), format!(r#"{{"t":{b}}}"#));
        check(five(), &a, &b, &["hidden tolerance json:$.t (within_time 5s) 1"], &[[1, 1, 0]]);
    }
    let expected = ["json:$.t value 1795340000 1795340006"];
    check(five(), r#"{"t":1795340000}"#, r#"{"t":1795340006}"#, &expected, &[[1, 0, 0]]);
    let expected = [r#"json:$.t value "2026-11-22T10:00:00Z" "soon""#];
    check(five(), r#"{"t":"2026-11-22T10:00:00Z"}"#, r#"{"t":"soon"}"#, &expected, &[[1, 0, 0]]);
}

// === compare_errors ===

#[track_caller]
fn check_errors(errors: CompareErrors, (a, b): (u16, u16), expected: &[&str]) {
    let comparator =
        Comparator::new(CompareConfig { compare_errors: errors, ..CompareConfig::default() }).unwrap();
    let (a, b) = (response(a, JSON, r#"{"e":"A"}"#), response(b, JSON, r#"{"e":"B"}"#));
    assert_eq!(lines(&comparator.compare(&exchange(Some(a)), &answered(b))), expected, "{errors:?}");
}

#[test]
fn errors_of_one_kind_are_one_as_configured() {
    use CompareErrors::{Class, Failure, Full, Status};
    let body = r#"json:$.e value "A" "B""#;
    check_errors(Full, (500, 500), &[body]);
    check_errors(Status, (500, 500), &["hidden compare_errors status 1"]);
    check_errors(Status, (500, 503), &["status value 500 503", "hidden compare_errors status 1"]);
    check_errors(Class, (500, 503), &["hidden compare_errors class 2"]);
    check_errors(Class, (404, 500), &["status value 404 500"]);
    check_errors(Class, (200, 500), &["status value 200 500"]);
    check_errors(Failure, (404, 410), &["hidden compare_errors failure 2"]);
    check_errors(Status, (200, 200), &[body]);
}

#[test]
fn a_candidate_without_an_answer_failed_likewise_where_the_service_answered_5xx() {
    let compare = |errors, status| {
        let config = CompareConfig { compare_errors: errors, ..CompareConfig::default() };
        let control = exchange(Some(response(status, JSON, "{}")));
        let failed = Observation::Failed(BranchFailure::TimedOut);
        lines(&Comparator::new(config).unwrap().compare(&control, &failed))
    };
    assert_eq!(compare(CompareErrors::Failure, 504), ["hidden compare_errors failure 1"]);
    assert_eq!(compare(CompareErrors::Failure, 200), ["incomparable candidate_timed_out"]);
    assert_eq!(compare(CompareErrors::Class, 504), ["incomparable candidate_timed_out"]);
}

// === An external comparator ===

#[test]
fn differences_of_an_external_comparator_pass_the_rules() {
    let difference = |path: &str| ExternalDifference {
        path: path.into(),
        kind: DifferenceKind::Value,
        control: some("1"),
        candidate: some("2"),
    };
    let check = |ignore: &[&str], external: External, expected: &[&str]| {
        let ignore = ignore.iter().map(|rule| (*rule).into()).collect();
        let comparator = Comparator::new(CompareConfig { ignore, ..CompareConfig::default() }).unwrap();
        let (a, b) = (response(200, JSON, r#"{"a":1}"#), response(200, JSON, r#"{"a":2}"#));
        let outcome =
            comparator.compare_with(&exchange(Some(a)), &answered(b), Some(&external), Purpose::Outcome);
        assert_eq!(lines(&outcome), expected);
    };
    let found = vec![difference("json:$.items[3].n"), difference("total price")];
    let also = External { instead: false, answer: Ok(found.clone()) };
    let instead = External { instead: true, answer: Ok(found) };
    let own = "json:$.a value 1 2";
    let theirs = ["json:$.items[3].n value 1 2", "comparator:total price value 1 2"];
    check(&[], also, &[own, theirs[0], theirs[1]]);
    check(&[], instead.clone(), &theirs);
    let hidden = ["hidden json:$.items[*].n 1", "hidden comparator:total price 1"];
    check(&["json:$.items[*].n", "comparator:total price"], instead, &hidden);
    let failed = External { instead: true, answer: Err(IncomparableReason::RuleError) };
    check(&[], failed, &["incomparable rule_error"]);
}

// === Purpose ===

#[test]
fn what_is_compared_for_evidence_counts_for_no_rule() {
    let ignore = vec!["json:$.a".into()];
    let comparator = Comparator::new(CompareConfig { ignore, ..CompareConfig::default() }).unwrap();
    let (a, b) = (response(200, JSON, r#"{"a":1}"#), answered(response(200, JSON, r#"{"a":2}"#)));
    for (purpose, expected) in [(Purpose::Evidence, [0, 0, 0]), (Purpose::Outcome, [1, 1, 0])] {
        let outcome = comparator.compare_with(&exchange(Some(a.clone())), &b, None, purpose);
        assert_eq!(lines(&outcome), ["hidden json:$.a 1"]);
        assert_eq!(counts_of(&comparator), [expected]);
    }
}

// === Reloading ===

#[test]
fn counts_go_on_where_a_rule_stays() {
    let with = |rules: &[&str]| {
        let ignore = rules.iter().map(|rule| (*rule).into()).collect();
        Comparator::new(CompareConfig { ignore, ..CompareConfig::default() }).unwrap()
    };
    let (a, b) = (response(200, JSON, r#"{"a":1}"#), response(200, JSON, r#"{"a":2}"#));
    let compare =
        |comparator: &Comparator| comparator.compare(&exchange(Some(a.clone())), &answered(b.clone()));
    let before = with(&["json:$.a", "json:$.old"]);
    compare(&before);
    let mut after = with(&["json:$.new", "json:$.a"]);
    after.take_over_counts(&before);
    compare(&after);
    assert_eq!(counts_of(&after), [[0, 0, 0], [2, 2, 0]]);
}

#[test]
fn rules_that_make_no_sense_are_refused_with_the_reason() {
    refused(
        ignore("json:$.a", When { class: some("colour"), ..When::default() }),
        "`colour` is no class of values",
    );
    refused(
        ignore("json:$.a", When { kind: some("other"), ..When::default() }),
        "`other` is no kind of difference",
    );
    refused(ignore("json:$.a", When { both_match: some("("), ..When::default() }), "does not parse");
    refused(clean(clean_at("json:$.a")), "says nothing to do");
    refused(clean(CleanRule { sort: true, ..clean_at("header:vary") }), "`sort` is for arrays");
    refused(clean(CleanRule { round: Some(29), ..clean_at("json:$.a") }), "from 0 to 28");
    refused(
        clean(CleanRule { with: some("x"), trim: true, ..clean_at("json:$.a") }),
        "`with` has no `replace`",
    );
    refused(within("json:$.a", "much"), "must be a number");
    refused(within("json:$.a", "-1"), "must not be negative");
    refused(within("json:$.a", "100%"), "below 100%");
    refused(match_by("header:vary", &["a"]), "must begin with `json:`");
    refused(match_by("json:$.a", &[]), "names no member");
}

// === Against obvious twins ===

/// Place and kind of each difference, for documents of one array.
fn places(config: CompareConfig, a: &str, b: &str) -> Vec<(String, DifferenceKind)> {
    let (a, b) = (response(200, JSON, a), response(200, JSON, b));
    match Comparator::new(config).unwrap().compare(&exchange(Some(a)), &answered(b)) {
        Outcome::Mismatch { differences, .. } => differences.into_iter().map(|d| (d.place, d.kind)).collect(),
        Outcome::Match | Outcome::Ignored(_) | Outcome::Incomparable(_) => Vec::new(),
    }
}

/// Elements with a value, and a stamp that is never the same twice; or without the stamp.
fn stamped(values: &[u8], first: usize, with_stamp: bool) -> String {
    let element = |(index, value): (usize, &u8)| match with_stamp {
        true => format!(r#"{{"v":{value},"t":{}}}"#, first.saturating_add(index)),
        false => format!(r#"{{"v":{value}}}"#),
    };
    format!("[{}]", values.iter().enumerate().map(element).collect::<Vec<_>>().join(","))
}

proptest! {
    /// A member that is ignored has no say in anything: the rest is compared as if it were not there.
    #[test]
    fn an_ignored_member_changes_nothing(
        a in proptest::collection::vec(0u8..4, 0..8),
        b in proptest::collection::vec(0u8..4, 0..8),
    ) {
        let ignore = CompareConfig { ignore: vec!["json:$[*].t".into()], ..CompareConfig::default() };
        let with = places(ignore, &stamped(&a, 100, true), &stamped(&b, 200, true));
        let without = places(CompareConfig::default(), &stamped(&a, 0, false), &stamped(&b, 0, false));
        prop_assert_eq!(with, without);
    }

    /// What `match_by` calls missing and added is what is left of one multiset of keys without the other.
    #[test]
    fn keys_pair_as_multisets(
        a in proptest::collection::vec(0u8..5, 0..9),
        b in proptest::collection::vec(0u8..5, 0..9),
    ) {
        let found = places(match_by("json:$", &["v"]), &stamped(&a, 0, false), &stamped(&b, 0, false));
        let count = |of: DifferenceKind| found.iter().filter(|(_, kind)| *kind == of).count();
        let left = |from: &[u8], without: &[u8]| {
            let mut without = without.to_vec();
            from.iter().filter(|key| match without.iter().position(|have| have == *key) {
                Some(at) => { without.remove(at); false }
                None => true,
            }).count()
        };
        // Of one path and kind three are kept.
        prop_assert_eq!(count(DifferenceKind::Missing), left(&a, &b).min(3));
        prop_assert_eq!(count(DifferenceKind::Added), left(&b, &a).min(3));
        prop_assert_eq!(count(DifferenceKind::Value), 0);
    }

    /// Decimals with two digits against whole hundredths.
    #[test]
    fn tolerance_is_exact_in_decimal(a in -100_000i64..100_000, b in -100_000i64..100_000, within_cents in 0i64..500) {
        let decimal = |cents: i64| {
            format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
        };
        let [a_text, b_text] = [a, b].map(|cents| format!("[{}]", decimal(cents)));
        let found = places(within("json:$[*]", &decimal(within_cents)), &a_text, &b_text);
        prop_assert_eq!(found.is_empty(), (a - b).abs() <= within_cents);
    }

    /// Whatever stands in a value, rules neither panic nor run away.
    #[test]
    fn odd_values_never_panic(a in ".{0,40}", b in "[-+0-9.eETZ: ]{0,40}") {
        let config = CompareConfig {
            ignore: ["timestamp", "uuid", "hash", "nonce", "counter", "ip"]
                .map(|class| IgnoreRule {
                    at: "json:$.**".into(),
                    when: When { class: some(class), kind: some("added"), ..When::default() },
                })
                .into(),
            clean: vec![CleanRule { round: Some(3), lower: true, replace: some("a+"), ..clean_at("json:$.**") }],
            tolerance: vec![
                ToleranceRule { at: "json:$.**".into(), within: some("1%"), within_time: None },
                ToleranceRule { at: "json:$.**".into(), within: None, within_time: Some(Duration::from_secs(1)) },
            ],
            ..CompareConfig::default()
        };
        let document = |text: &str| serde_json::json!([text]).to_string();
        places(config.clone(), &document(&a), &document(&b));
        places(config, &document(&b), &document(&a));
    }
}
