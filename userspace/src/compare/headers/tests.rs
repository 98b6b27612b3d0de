//! Tests of header fields by their grammars.
//!
//! Look at whole answers; how a grammar takes a value apart stays private.

use crate::compare::tests::{check, check_header, check_with, config};
use crate::model::samples::response;

const NOW: (&str, &str) = ("Date", "Sun, 22 Nov 2026 12:00:00 GMT");

#[track_caller]
fn check_cookie(a: &str, b: &str, expected: &[&str]) {
    check(
        response(200, &[NOW, ("Set-Cookie", a)], ""),
        response(200, &[NOW, ("Set-Cookie", b)], ""),
        expected,
    );
}

#[test]
fn each_attribute_of_a_cookie_has_a_place() {
    check_cookie("a=1; Path=/; Secure", "a=1; secure; path=/", &[]);
    check_cookie("a=1; Path=/", "a=1; Path=/x", &["header:set-cookie[a].path value / /x"]);
    check_cookie("a=1; HttpOnly", "a=1", &["header:set-cookie[a].httponly missing set -"]);
    check_cookie("a=1", "a=1; Secure", &["header:set-cookie[a].secure added - set"]);
    check_cookie(
        "a=1; SameSite=lax",
        "a=1; SameSite=None",
        &["header:set-cookie[a].samesite value lax none"],
    );
    check_cookie("a=1; Domain=.example.com", "a=1; domain=Example.com", &[]);
    check_cookie(
        "theme=dark",
        "theme=light",
        &["header:set-cookie[theme].value value <redacted> <redacted>"],
    );
    check_cookie(
        "a=1",
        "b=1",
        &["header:set-cookie[a] missing <redacted> -", "header:set-cookie[b] added - <redacted>"],
    );
}

#[test]
fn random_values_of_cookies_are_not_compared() {
    check_cookie("sid=9f86d081884c7d659a2feaa0c55ad015", "sid=60303ae22b998861bce3b28f33eec1be", &[]);
    // Few changes from letters to digits, as chance has it now and then.
    check_cookie("sid=60303ae22b998861bce3b28f33eec1be", "sid=11112222333344445555666677aaaabb", &[]);
    check_cookie("sid=s%3AhQ7xkPz0b2mT9wLc.Zy1", "sid=s%3Aa8Vd2Kq5tUe3rNsB.p9X", &[]);
    let changed = ["header:set-cookie[sid].value value <redacted> <redacted>"];
    check_cookie("sid=9f86d081884c7d659a2feaa0c55ad015", "sid=", &changed);
    check_cookie("sid=dark-mode-2024-variant", "sid=light-mode-2024-variant", &changed);
}

#[test]
fn lifetimes_are_compared_by_meaning() {
    check_cookie("a=1; Max-Age=3600", "a=1; Expires=Sun, 22 Nov 2026 13:00:00 GMT", &[]);
    check_cookie("a=1; Max-Age=3600", "a=1; Expires=Sun, 22-Nov-2026 13:00:01 GMT", &[]);
    check_cookie("a=1; Max-Age=0", "a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", &[]);
    check_cookie("a=1; Max-Age=3600", "a=1; Max-Age=60", &["header:set-cookie[a].expires value 3600 s 60 s"]);
    check_cookie("a=1; Max-Age=3600", "a=1", &["header:set-cookie[a].expires missing 3600 s -"]);
    check_header("Retry-After", "120", "121", &[]);
    let date = "Sun, 22 Nov 2026 12:02:00 GMT";
    check(
        response(200, &[NOW, ("Retry-After", "120")], ""),
        response(200, &[NOW, ("Retry-After", date)], ""),
        &[],
    );
    check_header("Expires", "0", "-1", &[]);
    check(
        response(200, &[NOW, ("Expires", "0")], ""),
        response(200, &[NOW, ("Expires", date)], ""),
        &["header:expires value 0 Sun, 22 Nov 2026 12:02:00 GMT"],
    );
}

#[test]
fn directives_are_compared_one_by_one() {
    check_header(
        "Cache-Control",
        "public, max-age=60, no-cache=\"a, b\"",
        "no-cache=\"A, b\",max-age=\"60\", public",
        &[],
    );
    check_header(
        "Cache-Control",
        "private, max-age=60",
        "public, max-age=61",
        &[
            "header:cache-control[max-age] value 60 61",
            "header:cache-control[private] missing private -",
            "header:cache-control[public] added - public",
        ],
    );
    check_header(
        "Strict-Transport-Security",
        "max-age=1; includeSubDomains",
        "includesubdomains;max-age=1",
        &[],
    );
    check_header(
        "Content-Security-Policy",
        "default-src 'self' cdn.example; script-src 'nonce-abc'",
        "script-src 'nonce-xyz'; default-src cdn.example 'self'",
        &[],
    );
    check_header(
        "Content-Security-Policy",
        "img-src *; frame-src a",
        "img-src *",
        &["header:content-security-policy[frame-src] missing frame-src a -"],
    );
}

#[test]
fn media_types_are_compared_by_type_and_parameter() {
    check_header("Content-Type", "multipart/mixed; boundary=a", "multipart/mixed; boundary=\"b\"", &[]);
    check_header(
        "Content-Type",
        "text/html; charset=utf-8",
        "text/html; charset=latin1",
        &["header:content-type[charset] value utf-8 latin1"],
    );
    check_header(
        "Content-Disposition",
        "attachment; filename=\"a;b\"",
        "attachment; filename=c",
        &["header:content-disposition[filename] value a;b c"],
    );
}

#[test]
fn links_are_compared_by_relation_and_target() {
    check_header(
        "Link",
        "<http://shop.example/i?p=2>; rel=next, <https://cdn.example/a,b>; rel=\"preload\"; as=style",
        "<https://cdn.example/a,b>;as=\"style\";REL=Preload, </i?p=2>; rel=\"next\"",
        &[],
    );
    check_header(
        "Link",
        "</2>; rel=next, </9>; rel=last",
        "</3>; rel=next",
        &[
            "header:link[last] missing </9>; rel=last -",
            "header:link[next] value </2>; rel=next </3>; rel=next",
        ],
    );
    check_header("Link", "no link", "</3>; rel=next", &["header:link value no link </3>; rel=next"]);
}

#[test]
fn validators_are_compared_by_presence() {
    check_header("ETag", "\"a\"", "W/\"b\"", &[]);
    check(response(200, &[("ETag", "\"a\"")], ""), response(200, &[], ""), &["header:etag missing \"a\" -"]);
}

#[test]
fn challenges_are_compared_by_scheme_and_realm() {
    check_header(
        "WWW-Authenticate",
        "Digest realm=\"x\", nonce=\"1\", Basic realm=\"x\"",
        "basic realm=x, digest nonce=2, realm=x",
        &[],
    );
    check_header(
        "WWW-Authenticate",
        "Basic realm=x",
        "Bearer realm=x",
        &[
            "header:www-authenticate[basic] missing realm=x -",
            "header:www-authenticate[bearer] added - realm=x",
        ],
    );
}

#[test]
fn own_origins_are_known_by_host_address_and_authority() {
    let mut own = config(&[], &[]);
    own.candidate_authorities = vec!["b.internal:80".to_owned()];
    let of = |url: &str| response(302, &[("Location", url)], "");
    check_with(own.clone(), of("http://shop.example/x"), of("http://b.internal/x"), &[]);
    check_with(
        own,
        of("http://shop.example/x"),
        of("http://b.internal:81/x"),
        &["header:location value http://shop.example/x http://b.internal:81/x"],
    );
    check_header("Location", "http://10.0.0.2:8080", "http://shop.example/", &[]);
}

#[test]
fn rules_name_cookies_and_parts() {
    let a = response(200, &[("Set-Cookie", "a=1; Path=/"), ("Cache-Control", "max-age=1")], "");
    let b = response(200, &[("Set-Cookie", "a=2; Path=/x"), ("Cache-Control", "max-age=2")], "");
    let rules = ["header:set-cookie[a].path", "header:set-cookie[*].value", "header:cache-control[max-age]"];
    let hidden = rules.map(|rule| format!("hidden {rule} 1"));
    check_with(config(&rules, &[]), a.clone(), b.clone(), &hidden.each_ref().map(String::as_str));
    let whole = ["header:set-cookie[a]", "header:cache-control"];
    check_with(
        config(&whole, &[]),
        a,
        b,
        &["hidden header:set-cookie[a] 2", "hidden header:cache-control 1"],
    );
}
