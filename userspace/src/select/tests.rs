//! Tests of the selection.
//!
//! They bring exchanges and configurations; `check` is the only one that touches the API.

use proptest::prelude::*;

use super::sample::stable_hash;
use super::*;
use crate::model::{ExchangeId, Headers, Timestamp, samples};

fn exchange(method: &str, target: &str, headers: &[(&str, &str)]) -> Exchange {
    let request = samples::request(method, target, headers);
    let id = ExchangeId { flow: 7, offset: 0 };
    samples::exchange(id, Timestamp(0), request, samples::response(200, &[], ""))
}

/// The route label, or the label of the fate.
fn decide(config: SelectConfig, exchange: &Exchange) -> String {
    match Selector::new(config).expect("the configuration is good").decide(exchange) {
        Decision::Take { route } => route.to_string(),
        Decision::Drop(fate) => fate.label().to_owned(),
    }
}

#[track_caller]
fn check(config: SelectConfig, exchange: &Exchange, expected: &str) {
    assert_eq!(decide(config.clone(), exchange), expected, "{config:?}\n{exchange:?}");
}

#[track_caller]
fn check_error(config: SelectConfig, expected: &str) {
    let error = Selector::new(config).expect_err("the configuration is bad");
    assert_eq!(error.to_string(), expected);
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn routes(patterns: &[&str]) -> SelectConfig {
    SelectConfig { routes: strings(patterns), ..SelectConfig::default() }
}

#[test]
fn without_configuration_reading_is_taken_and_writing_is_unsafe() {
    for (method, expected) in [
        ("GET", "other"),
        ("HEAD", "other"),
        ("OPTIONS", "other"),
        ("TRACE", "filtered_method"),
        ("POST", "unsafe_method"),
        ("get", "unsafe_method"),
        ("CONNECT", "not_replayable"),
    ] {
        check(SelectConfig::default(), &exchange(method, "/", &[]), expected);
    }
}

#[test]
fn an_isolated_candidate_gets_every_method_but_connect() {
    let isolated = SelectConfig { isolated: true, ..SelectConfig::default() };
    check(isolated.clone(), &exchange("POST", "/", &[]), "other");
    check(isolated.clone(), &exchange("TRACE", "/", &[]), "other");
    check(isolated, &exchange("CONNECT", "a:1", &[]), "not_replayable");
}

#[test]
fn listed_methods_are_the_only_ones_and_stay_unsafe() {
    let listed = SelectConfig { methods: Some(strings(&["GET", "POST"])), ..SelectConfig::default() };
    check(listed.clone(), &exchange("HEAD", "/", &[]), "filtered_method");
    check(listed.clone(), &exchange("POST", "/", &[]), "unsafe_method");
    check(SelectConfig { isolated: true, ..listed }, &exchange("POST", "/", &[]), "other");
}

#[test]
fn the_first_route_that_matches_is_the_label() {
    let config =
        routes(&["/items/new", "/items/{id}", "/items/{name}/reviews", r"~/v\d+/.*", "/static/{*rest}"]);
    for (target, expected) in [
        ("/items/new", "/items/new"),
        ("/items/7?full=1", "/items/{id}"),
        ("/items/7/reviews", "/items/{name}/reviews"),
        ("/items/7/", "filtered_route"),
        ("/items/", "filtered_route"),
        ("/items/a%2Fb", "/items/{id}"),
        ("/v12/x", r"~/v\d+/.*"),
        ("/old/v12/x", "filtered_route"),
        ("/static/css/a.css", "/static/{*rest}"),
        ("/static/", "filtered_route"),
        ("http://shop.example.org/items/7?x", "/items/{id}"),
        ("/items/7?next=http://other/items/new", "/items/{id}"),
        ("/go/http://other/items/new", "filtered_route"),
        ("*", "filtered_route"),
    ] {
        check(config.clone(), &exchange("GET", target, &[]), expected);
    }
}

#[test]
fn two_routes_of_one_shape_are_allowed() {
    check(routes(&["/a/{x}", "/a/{y}"]), &exchange("GET", "/a/1", &[]), "/a/{x}");
}

#[test]
fn a_path_that_is_not_utf8_matches_expressions_only() {
    let mut odd = exchange("GET", "/", &[]);
    odd.request.target = bytes::Bytes::from_static(b"/a/\xff");
    check(routes(&["/a/{x}"]), &odd, "filtered_route");
    check(routes(&[r"~/a/(?-u:.)"]), &odd, r"~/a/(?-u:.)");
}

#[test]
fn hosts_are_compared_without_case_and_port() {
    let config =
        SelectConfig { hosts: strings(&["Shop.example.org", "*.test", "[::1]"]), ..SelectConfig::default() };
    for (host, expected) in [
        ("shop.EXAMPLE.org", "other"),
        ("shop.example.org:8080", "other"),
        ("shop.example.org.", "other"),
        ("evilshop.example.org", "filtered_host"),
        ("a.b.test:1", "other"),
        ("test", "filtered_host"),
        (".test", "filtered_host"),
        ("[::1]:80", "other"),
        ("[::1]", "other"),
        ("", "filtered_host"),
    ] {
        check(config.clone(), &exchange("GET", "/", &[("Host", host)]), expected);
    }
    check(config.clone(), &exchange("GET", "/", &[]), "filtered_host");
    // The absolute form wins over the field (RFC 9112 section 3.2.2).
    check(config, &exchange("GET", "http://a.test/", &[("Host", "elsewhere")]), "other");
}

#[test]
fn header_conditions_all_have_to_hold() {
    let config =
        SelectConfig { headers: strings(&["a", "!b", "C: one: two", r"d: ~\d+"]), ..SelectConfig::default() };
    let good = [("A", ""), ("c", "x"), ("c", "one: two"), ("D", "12")];
    check(config.clone(), &exchange("GET", "/", &good), "other");
    for (index, replaced) in [(0, ("z", "")), (2, ("c", "One: two")), (3, ("d", "12x"))] {
        let mut bad = good;
        bad[index] = replaced;
        check(config.clone(), &exchange("GET", "/", &bad), "filtered_header");
    }
    let with_b = [good[0], good[1], good[2], good[3], ("B", "")];
    check(config, &exchange("GET", "/", &with_b), "filtered_header");
}

#[test]
fn our_own_requests_are_known_before_anything_else() {
    let config = SelectConfig { methods: Some(strings(&["GET"])), ..SelectConfig::default() };
    check(config, &exchange("POST", "/", &[("Understudy-Replay", "x")]), "replay");
}

#[test]
fn what_was_not_seen_whole_is_not_replayed() {
    let mut cut = exchange("GET", "/", &[]);
    cut.request.body.bytes = 1;
    check(SelectConfig::default(), &cut, "not_replayable");
    let mut open = exchange("GET", "/", &[]);
    open.request.body.complete = false;
    check(SelectConfig::default(), &open, "not_replayable");
    for mark in [Mark::Ambiguous, Mark::Conflict, Mark::Upgraded] {
        let mut marked = exchange("GET", "/", &[]);
        marked.marks.set(mark);
        check(SelectConfig::default(), &marked, "not_replayable");
    }
    let mut silent = exchange("GET", "/", &[]);
    silent.response = None;
    check(SelectConfig::default(), &silent, "no_response");
}

#[test]
fn bad_configurations_are_named() {
    check_error(
        routes(&["items"]),
        "route `items` must begin with `/`, or with `~` when it is a regular expression",
    );
    check_error(routes(&["/items/{id"]), "route `/items/{id` does not parse");
    check_error(routes(&["~a)(b"]), "the regular expression in `~a)(b` does not parse");
    check_error(routes(&[r"~\w{5000}"]), r"the regular expression in `~\w{5000}` does not parse");
    check_error(
        SelectConfig { methods: Some(strings(&["GE T"])), ..SelectConfig::default() },
        "method `GE T` is not a token (RFC 9110 section 5.6.2)",
    );
    for host in ["", "*", "*.", "http://a", "a:80"] {
        check_error(
            SelectConfig { hosts: strings(&[host]), ..SelectConfig::default() },
            &format!(
                "host `{host}` must be a name, an address, or `*.` and a name; without scheme, port and path"
            ),
        );
    }
    for condition in ["", "!", "a b", ": x", "!a: b"] {
        check_error(
            SelectConfig { headers: strings(&[condition]), ..SelectConfig::default() },
            &format!(
                "header condition `{condition}` must read `name`, `!name`, `name: value` or `name: ~regex`"
            ),
        );
    }
}

#[test]
fn fractions_are_read_as_fraction_or_percentage() {
    for (text, expected) in [
        ("25%", Some(0.25)),
        ("0.5", Some(0.5)),
        (" 100 % ", Some(1.0)),
        ("101%", None),
        ("x", None),
        ("NaN", None),
    ] {
        assert_eq!(Sample::parse_fraction(text).ok(), expected, "{text}");
    }
    assert_eq!("header:user-id".parse::<SampleBy>().ok(), Some(SampleBy::Header("user-id".into())));
    assert!("cookie:x".parse::<SampleBy>().is_err());
}

/// The finaliser of MurmurHash3, over the published FNV-1a value of a key.
fn finalised(fnv: u64) -> u64 {
    let a = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let b = (a ^ (a >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    b ^ (b >> 33)
}

/// Hosts and versions have to agree: these values are for ever.
#[test]
fn the_hash_never_changes() {
    assert_eq!(stable_hash(b""), 0xefd0_1f60_ba99_2926);
    assert_eq!(stable_hash(b"a"), finalised(0xaf63_dc4c_8601_ec8c));
}

#[test]
fn a_header_sample_goes_by_flow_where_the_header_is_missing() {
    let by_header = Sample { fraction: 0.5, by: SampleBy::Header("user-id".into()), ramp: None };
    let by_flow = Sample { fraction: 0.5, by: SampleBy::Flow, ramp: None };
    for flow in 0..64 {
        let mut anonymous = exchange("GET", "/", &[]);
        anonymous.id.flow = flow;
        let take = |sample: &Sample| {
            decide(SelectConfig { sample: sample.clone(), ..SelectConfig::default() }, &anonymous)
        };
        assert_eq!(take(&by_header), take(&by_flow));
    }
}

proptest! {
    /// 4,000 flows with numbers in a row, the worst keys: the sample is within five standard deviations.
    #[test]
    fn a_sample_is_as_large_as_configured(fraction in 0.01f64..0.99, start: u32) {
        let sampler = Sampler::new(Sample { fraction, by: SampleBy::Flow, ramp: None });
        let mut one = exchange("GET", "/", &[]);
        let taken = (0..4_000u64).filter(|n| { one.id.flow = u64::from(start) + n; sampler.wants(&one) }).count();
        let deviation = (4_000.0 * fraction * (1.0 - fraction)).sqrt();
        prop_assert!((taken as f64 - 4_000.0 * fraction).abs() < 5.0 * deviation, "{taken} of {fraction}");
    }

    #[test]
    fn a_larger_sample_holds_the_smaller_one(flow: u64, small in 0.0f64..1.0, more in 0.0f64..1.0) {
        let mut one = exchange("GET", "/", &[]);
        one.id.flow = flow;
        let wants = |fraction: f64| Sampler::new(Sample { fraction, by: SampleBy::Flow, ramp: None }).wants(&one);
        prop_assert!(!wants(small) || wants((small + more).min(1.0)));
    }

    #[test]
    fn no_request_makes_it_panic(target: Vec<u8>, host: Vec<u8>) {
        let mut odd = exchange("GET", "/", &[]);
        odd.request.target = target.into();
        odd.request.headers = Headers::from_pairs([(&b"host"[..], host)]);
        let config = SelectConfig { hosts: strings(&["a", "*.b"]), ..routes(&["/{x}", "~.*"]) };
        decide(config, &odd);
    }
}

// === run_if ===

#[test]
fn conditions_ask_method_fields_query_and_cookies() {
    let one = |condition: &str| SelectConfig { run_if: strings(&[condition]), ..SelectConfig::default() };
    let fields = [("Cookie", "plan=gold; sid=1"), ("Cookie", "b=2"), ("X-Beta", "yes")];
    let request = exchange("GET", "/a?page=12&debug&page=2", &fields);
    for condition in [
        "method: GET",
        "method: ~GET|HEAD",
        "header x-beta",
        "header x-beta: yes",
        "!header x-gamma",
        "query page: 2",
        "query page: ~[0-9]{2}",
        "query debug",
        "query debug:",
        "!query full",
        "cookie plan: gold",
        "cookie b",
        "!cookie c",
    ] {
        check(one(condition), &request, "other");
    }
    for condition in [
        "method: POST",
        "!header x-beta",
        "header x-beta: no",
        "query page: 1",
        "query pag",
        "query plan",
        "!query debug",
        "cookie plan: silver",
        "cookie page",
        "!cookie b",
    ] {
        check(one(condition), &request, "filtered_run_if");
    }
    let both = SelectConfig { run_if: strings(&["query debug", "cookie c"]), ..SelectConfig::default() };
    check(both, &request, "filtered_run_if");
}

#[test]
fn conditions_that_say_nothing_are_refused() {
    for condition in [
        "",
        "method",
        "!method: GET",
        "!query a: 1",
        "query",
        "query a&b",
        "cookie a b",
        "body x",
        "query a: ~(",
    ] {
        let config = SelectConfig { run_if: strings(&[condition]), ..SelectConfig::default() };
        assert!(Selector::new(config).is_err(), "{condition:?}");
    }
}

// === Ramp ===

#[test]
fn a_ramp_grows_from_the_first_exchange_and_what_is_in_stays_in() {
    let ramp = Ramp { from: 0.1, over: std::time::Duration::from_secs(100) };
    let sample = Sample { fraction: 0.5, by: SampleBy::Flow, ramp: Some(ramp) };
    let sampler = Sampler::new(sample.clone());
    let kept_at = |sampler: &Sampler, seconds: u64| -> Vec<u64> {
        let at = crate::model::Timestamp(1_000_000_000_000 + seconds * 1_000_000_000);
        let wants = |flow: &u64| {
            let mut one = exchange("GET", "/", &[]);
            one.id.flow = *flow;
            one.times.request_first = at;
            sampler.wants(&one)
        };
        (0..2000).filter(wants).collect()
    };
    let steps = [(0, 200), (50, 600), (100, 1000), (5000, 1000)];
    let mut before: Vec<u64> = Vec::new();
    for (seconds, expected) in steps {
        let kept = kept_at(&sampler, seconds);
        assert!(kept.len().abs_diff(expected) < 80, "{} at {seconds} s", kept.len());
        assert!(before.iter().all(|flow| kept.contains(flow)), "kept flows stay kept");
        before = kept;
    }
    let mut after = Sampler::new(sample);
    after.take_over(&sampler);
    assert_eq!(kept_at(&after, 100).len(), before.len(), "a ramp does not begin again");
}
