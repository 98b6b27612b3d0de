//! Who gets past the gate.
//!
//! Opens no connection.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use axum::http::{HeaderName, HeaderValue, Uri, Version};

use super::*;
use crate::serve::config::AdminTls;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A gate at loopback that asks for these.
fn gate(token: bool, certificate: bool) -> Gate {
    let tls =
        certificate.then(|| AdminTls { cert: "c".into(), key: "k".into(), client_ca: Some("a".into()) });
    let config = AdminConfig {
        tls,
        hosts: vec!["tee.internal".to_owned()],
        ..AdminConfig::new("127.0.0.1:9469".parse().unwrap())
    };
    let token = token.then(|| TokenDigest::of(TOKEN.as_bytes()));
    Gate { token, ..Gate::new(&config).unwrap() }
}

fn request(method: Method, target: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse::<Uri>().unwrap();
    for (name, value) in fields {
        let (name, value) = (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        request.headers_mut().append(name, value);
    }
    request
}

/// Why it is refused, if it is.
fn ask(gate: &Gate, request: &Request<()>, has_certificate: bool) -> Option<(AdminRefusal, u16)> {
    let refused = gate.refuse(request, has_certificate, 100);
    refused.map(|(why, answer)| (why, answer.status().as_u16()))
}

#[track_caller]
fn check_host(fields: &[(&str, &str)], expected: bool) {
    let refused = ask(&gate(false, false), &request(Method::GET, "/metrics", fields), false);
    let wanted = (!expected).then_some((AdminRefusal::Host, 421));
    assert_eq!(refused, wanted, "{fields:?}");
}

#[test]
fn only_a_name_that_cannot_be_bound_to_us_is_taken() {
    for host in
        ["127.0.0.1:9469", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:9469", "[::1]", "10.1.2.3:1"]
    {
        check_host(&[("host", host)], true);
    }
    check_host(&[("host", "tee.internal:9469")], true);
    for host in
        ["evil.example", "evil.example:9469", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1"]
    {
        check_host(&[("host", host)], false);
    }
    check_host(&[("host", "localhost"), ("host", "evil.example")], false);
    check_host(&[], false);
    let mut old = request(Method::GET, "/healthz", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(ask(&gate(false, false), &old, false), None);
    // Its name is in the certificate, or nobody gets far without the token.
    let named = request(Method::GET, "/metrics", &[("host", "tee-3.example"), ("authorization", "x")]);
    assert_eq!(ask(&gate(true, false), &named, false), Some((AdminRefusal::Identity, 401)));
}

#[track_caller]
fn check_token(fields: &[(&str, &str)], expected: bool) {
    let refused = ask(&gate(true, false), &request(Method::GET, "/metrics", fields), false);
    let wanted = (!expected).then_some((AdminRefusal::Identity, 401));
    assert_eq!(refused, wanted, "{fields:?}");
}

#[test]
fn the_token_is_asked_for_word_by_word() {
    let right = format!("Bearer {TOKEN}");
    check_token(&[("authorization", &right)], true);
    check_token(&[("authorization", &format!("bearer {TOKEN}"))], true);
    check_token(&[], false);
    check_token(&[("authorization", &right), ("authorization", &right)], false);
    for wrong in ["Bearer ", "Bearer", "Basic 0123456789abcdef0123456789abcdef", TOKEN] {
        check_token(&[("authorization", wrong)], false);
    }
    check_token(&[("authorization", &format!("Bearer {}", &TOKEN[1..]))], false);
    check_token(&[("authorization", &format!("Bearer {TOKEN}0"))], false);
    let (_, answer) = gate(true, false)
        .refuse(&request(Method::GET, "/x", &[("authorization", "Bearer nonsense")]), false, 0)
        .unwrap();
    let challenge = answer.headers().get(WWW_AUTHENTICATE).unwrap();
    assert_eq!(challenge, "Bearer realm=\"understudy\", error=\"invalid_token\"");
}

#[test]
fn a_certificate_does_not_stand_in_for_a_token_nor_the_other_way_round() {
    let bearer = format!("Bearer {TOKEN}");
    let with = request(Method::GET, "/metrics", &[("authorization", &bearer)]);
    let without = request(Method::GET, "/metrics", &[]);
    let both = gate(true, true);
    assert_eq!(ask(&both, &with, true), None);
    assert_eq!(ask(&both, &without, true), Some((AdminRefusal::Identity, 401)));
    assert_eq!(ask(&both, &with, false), Some((AdminRefusal::Identity, 401)));
    let certificate = gate(false, true);
    assert_eq!(ask(&certificate, &without, true), None);
    assert_eq!(ask(&certificate, &without, false), Some((AdminRefusal::Identity, 403)));
    for gate in [both, certificate] {
        assert_eq!(ask(&gate, &request(Method::GET, "/healthz", &[]), false), None);
        assert!(ask(&gate, &request(Method::GET, "/healthz/", &[]), false).is_some());
    }
}

#[test]
fn strangers_use_up_their_own_requests_and_no_others() {
    let gate = gate(true, false);
    let bearer = format!("Bearer {TOKEN}");
    let known = request(Method::GET, "/metrics", &[("authorization", &bearer)]);
    let stranger = request(Method::GET, "/metrics", &[]);
    let max = gate.per_second_max;
    for _ in 0..max {
        assert_eq!(ask(&gate, &stranger, false), Some((AdminRefusal::Identity, 401)));
    }
    assert_eq!(ask(&gate, &stranger, false), Some((AdminRefusal::Rate, 429)));
    for _ in 0..max {
        assert_eq!(ask(&gate, &known, false), None);
    }
    assert_eq!(ask(&gate, &known, false), Some((AdminRefusal::Rate, 429)));
    gate.renew();
    assert_eq!(ask(&gate, &known, false), None);
    assert_eq!(ask(&gate, &stranger, false), Some((AdminRefusal::Identity, 401)));
}

#[test]
fn no_flood_makes_the_process_look_dead_or_keeps_others_out() {
    let gate = gate(true, false);
    let stranger = request(Method::GET, "/metrics", &[]);
    let alive = request(Method::GET, "/healthz", &[]);
    for _ in 0..=gate.per_second_max {
        ask(&gate, &stranger, false);
    }
    assert_eq!(ask(&gate, &stranger, false), Some((AdminRefusal::Rate, 429)));
    assert_eq!(ask(&gate, &alive, false), None);
    gate.renew();
    for _ in 0..=gate.per_second_max {
        assert_eq!(ask(&gate, &alive, false), None);
    }
    assert_eq!(ask(&gate, &stranger, false), Some((AdminRefusal::Identity, 401)));
}

#[test]
fn a_page_changes_nothing_and_a_long_body_is_not_read() {
    let gate = gate(false, false);
    let host = ("host", "localhost");
    let page = |method| request(method, "/observe", &[host, ("origin", "https://evil.example")]);
    assert_eq!(ask(&gate, &page(Method::POST), false), Some((AdminRefusal::Origin, 403)));
    assert_eq!(ask(&gate, &page(Method::GET), false), None);
    let long = |bytes| request(Method::POST, "/observe", &[host, ("content-length", bytes)]);
    assert_eq!(ask(&gate, &long("100"), false), None);
    assert_eq!(ask(&gate, &long("101"), false), Some((AdminRefusal::BodySize, 413)));
}

#[track_caller]
fn check_file(text: &str, mode: u32, expected: Result<&str, &str>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    match (read_token("token", &path), expected) {
        (Ok(token), Ok(expected)) => assert_eq!(token.reveal(), expected.as_bytes()),
        (Err(error), Err(part)) => {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let message = format!("{error}: {source}");
            assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
        }
        (got, expected) => panic!("{got:?}, expected {expected:?}"),
    }
}

#[test]
fn a_token_comes_from_a_file_that_others_cannot_read() {
    check_file(&format!("{TOKEN}\n"), 0o600, Ok(TOKEN));
    check_file(&format!("{TOKEN}\n"), 0o644, Err("chmod 600"));
    check_file("hunter2\n", 0o600, Err("openssl rand"));
    check_file("hunter2 hunter2 hunter2\n", 0o600, Err("openssl rand"));
    check_file(&"hunter2".repeat(1000), 0o600, Err("more than"));
}
