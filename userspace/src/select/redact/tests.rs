//! What is hidden, what is not, and what a token keeps of its value.
//!
//! Asks of no value what exactly its token is; that depends on the key.

mod floods;
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests fail by panicking")]
mod leaks;

use std::io::Read as _;

use proptest::prelude::*;

use super::*;
use crate::compare::{CompareLimits, plain_body};
use crate::model::{Body, Headers, samples};

const KEY: &[u8] = b"a key for tests, with more than 32 bytes";

/// One secret of each kind, as it may stand in a text.
const SECRETS: [&str; 10] = [
    "hunter2-correct-horse",
    "4f9d0c6ab1e24f3c9d7785aa01bc23de",
    "2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
    "alice.liddell@wonderland.example.org",
    "4111 1111 1111 1111",
    "5500005555555559",
    "QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    "8675309",
    "zażółć gęślą jaźń",
];

fn key() -> RedactKey {
    RedactKey::new(KEY).unwrap()
}

fn redactor(mode: RedactMode) -> Redactor {
    Redactor::new(&RedactRules { mode, ..RedactRules::default() }, key()).unwrap()
}

fn with(rules: RedactRules) -> Redactor {
    Redactor::new(&rules, key()).unwrap()
}

/// The request without its secrets.
fn redacted(redactor: &Redactor, request: &Request) -> Request {
    redactor.request(request, &mut RedactTally::default()).unwrap_or_else(|| request.clone())
}

fn post(content_type: &str, body: impl Into<bytes::Bytes>) -> Request {
    let mut request = samples::request("POST", "/", &[("Content-Type", content_type)]);
    request.body = Body::whole(body);
    request
}

fn body_of(redactor: &Redactor, content_type: &str, body: &str) -> String {
    let redacted = redacted(redactor, &post(content_type, body.to_owned()));
    String::from_utf8(redacted.body.kept.to_vec()).unwrap()
}

/// A body of this type: these parts are gone, those are left; and what was redacted stays when it is redacted again.
#[track_caller]
fn check_body(content_type: &str, body: &str, gone: &[&str], left: &[&str]) {
    let redactor = redactor(RedactMode::Standard);
    let once = body_of(&redactor, content_type, body);
    gone.iter().for_each(|part| assert!(!once.contains(part), "{part} is in {once}"));
    left.iter().for_each(|part| assert!(once.contains(part), "{part} is not in {once}"));
    assert_eq!(body_of(&redactor, content_type, &once), once, "twice");
}

/// A field of a request: these parts are gone, those are left.
#[track_caller]
fn check_field(name: &str, value: &str, gone: &[&str], left: &[&str]) {
    let redactor = redactor(RedactMode::Standard);
    let field = |value: &str| {
        let request = redacted(&redactor, &samples::request("GET", "/", &[(name, value)]));
        String::from_utf8(request.headers.get(name).unwrap().to_vec()).unwrap()
    };
    let once = field(value);
    gone.iter().for_each(|part| assert!(!once.contains(part), "{part} is in {once}"));
    left.iter().for_each(|part| assert!(once.contains(part), "{part} is not in {once}"));
    assert_eq!(field(&once), once, "twice");
}

#[track_caller]
fn check_target(target: &str, gone: &[&str], left: &[&str]) {
    let redactor = redactor(RedactMode::Standard);
    let shown = |target: &str| {
        let request = redacted(&redactor, &samples::request("GET", target, &[]));
        String::from_utf8(request.target.to_vec()).unwrap()
    };
    let once = shown(target);
    gone.iter().for_each(|part| assert!(!once.contains(part), "{part} is in {once}"));
    left.iter().for_each(|part| assert!(once.contains(part), "{part} is not in {once}"));
    assert_eq!(shown(&once), once, "twice");
}

#[test]
fn fields_are_known_by_name_and_by_looks() {
    check_field("Authorization", "Bearer sEcr3t-t0ken.value", &["sEcr3t"], &["Bearer "]);
    check_field("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", &["QWxhZGRpbj"], &["Basic "]);
    check_field(
        "Cookie",
        "sid=s3cr3t; theme=\"dark one\"; a=b=c",
        &["s3cr3t", "dark", "b=c"],
        &["sid=", "; theme=\"", "; a="],
    );
    check_field("Set-Cookie", "sid=s3cr3t; Path=/; HttpOnly", &["s3cr3t"], &["sid=", "; Path=/; HttpOnly"]);
    check_field("X-Api-Key", "k3y-0f-somebody", &["k3y"], &[]);
    check_field("X-Xsrf-Token", "abcdef", &["abcdef"], &[]);
    check_field(
        "Referer",
        "http://h/cart?id=5&access_token=t0k3n#x",
        &["t0k3n"],
        &["http://h/cart?id=5&access_token=", "#x"],
    );
    check_field(
        "X-User",
        "Alice <alice@example.org>",
        &["alice@example.org"],
        &["Alice <", "@redacted.invalid>"],
    );
    check_field("Content-Type", "text/plain; charset=utf-8", &[], &["text/plain; charset=utf-8"]);
    check_field("User-Agent", "curl/8.1", &[], &["curl/8.1"]);
    // What does not belong into a field of the protocol is found there as well.
    check_field("Content-Length", "7, token=hunter22", &["hunter22"], &["7, token="]);
    check_field("Accept", "text/html, Bearer sEcr3t-t0ken.value", &["sEcr3t"], &["text/html, Bearer "]);
    let digest = "Digest realm=\"a b\", qop=\"auth\"";
    for (name, value) in [
        (
            "Content-Type",
            "multipart/form-data; boundary=---------------------------9051914041544843365972754266",
        ),
        ("Host", "shop.example.org:8080"),
        ("Cache-Control", "private, max-age=31536000, s-maxage=0"),
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("Content-Range", "bytes 0-1023/5510105105105100"),
        ("WWW-Authenticate", digest),
    ] {
        check_field(name, value, &[], &[value]);
    }
}

#[test]
fn targets_keep_their_form() {
    check_target("/login?user=al&password=hunter2&x", &["hunter2"], &["/login?user=al&password=", "&x"]);
    check_target("/users/alice%40example.org/orders", &["alice"], &["/users/", "%40redacted.invalid/orders"]);
    check_target("/a;jsessionid=A1B2C3D4E5F6", &["A1B2C3"], &["/a;jsessionid="]);
    check_target("http://h:8/p?token=t%2Fk%3D", &["t%2Fk"], &["http://h:8/p?token="]);
    check_target("/items/42?page=2&q=blue+shoes", &[], &["/items/42?page=2&q=blue+shoes"]);
    check_target("*", &[], &["*"]);
}

#[test]
fn json_is_hidden_member_by_member() {
    let kind = "application/json";
    check_body(
        kind,
        r#"{ "user":"al", "password" : "hunter2", "n": 1.50 }"#,
        &["hunter2"],
        &[r#"{ "user":"al", "password" : ""#, r#"", "n": 1.50 }"#],
    );
    check_body(kind, r#"{"pin":1234,"otp":"009","x":1234}"#, &["\"pin\":1234", "009"], &["\"x\":1234}"]);
    check_body(
        kind,
        r#"{"tokens":["keep"],"token":{"a":["s3cr3t",7,true,null]}}"#,
        &["s3cr3t", "[7"],
        &["keep", "true,null]}}"],
    );
    check_body(
        kind,
        r#"{"mail":"bob\u0040example.org","note":"call me: bob@example.org."}"#,
        &["bob\\u0040", "bob@"],
        &["call me: ", "@redacted.invalid.\"}"],
    );
    check_body(kind, r#"{"doc":"{\"password\":\"hunter2\",\"a\":1}"}"#, &["hunter2"], &[r#"\"a\":1}"}"#]);
    check_body(
        kind,
        r#"{"card":4111111111111111,"at":1700000000000,"id":4111111111111112}"#,
        &["4111111111111111"],
        &["1700000000000", "4111111111111112"],
    );
    check_body(kind, r#"{"carol@example.org":{"a":1}}"#, &["carol"], &["@redacted.invalid\":{\"a\":1}}"]);
    check_body(kind, "{\"password\":\"cut off in the mid", &["cut off"], &["{\"password\":\""]);
    check_body(
        "application/x-ndjson",
        "{\"token\":\"a1b2\"}\n{\"token\":\"c3\"}\n",
        &["a1b2", "c3"],
        &["\n"],
    );
    check_body("text/plain", "[INFO] bob@example.org logged in", &["bob@"], &["[INFO] ", " logged in"]);
    check_body(
        kind,
        r#"{"said":"token=abc12345&x=1","authorization":"Bearer abc12345"}"#,
        &["abc12345"],
        &["&x=1", "\"Bearer "],
    );
    check_body(kind, r#"{"next":"/p?page=2&token=abc123"}"#, &["abc123"], &["/p?page=2&token="]);
    let deep = format!("{}{{\"password\":\"hunter2\"}}", "[".repeat(100));
    check_body(kind, &deep, &["hunter2"], &[]);
}

#[test]
fn forms_multipart_and_markup_are_hidden_by_name() {
    let form = "application/x-www-form-urlencoded";
    check_body(form, "user=al&user%5Bpassword%5D=hunter2&q=a+b", &["hunter2"], &["user=al&", "&q=a+b"]);
    check_body(form, "mail=bob%40example.org&x=%20", &["bob"], &["mail=", "%40redacted.invalid&x=%20"]);
    let parts = "--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nhunter2\r\n--B\r\nContent-Disposition: form-data; name=\"j\"\r\nContent-Type: application/json\r\n\r\n{\"pin\":\"7788\",\"a\":1}\r\n--B--\r\n";
    check_body("multipart/form-data; boundary=B", parts, &["hunter2", "7788"], &["\"a\":1}\r\n--B--\r\n"]);
    let page =
        "<form><input type=hidden name='csrf_token' value='abc123def'><input value=\"keep\" name=q></form>";
    check_body("text/html", page, &["abc123def"], &["value=\"keep\"", "name='csrf_token' value='"]);
    let soap = "<s:Body><wsse:Password>hunter2</wsse:Password><n>5</n></s:Body>";
    check_body("application/soap+xml", soap, &["hunter2"], &["<wsse:Password>", "</wsse:Password><n>5</n>"]);
    check_body(
        "text/html",
        "<a href='/r?a=1&amp;token=t0k3n'>x</a>",
        &["t0k3n"],
        &["?a=1&amp;token=", "'>x</a>"],
    );
    check_body("text/event-stream", "data: {\"password\":\"hunter2\"}\n\n", &["hunter2"], &["data: {"]);
}

#[test]
fn cards_and_tokens_are_known_by_their_looks() {
    let text = "text/plain";
    check_body(
        text,
        "card 4111 1111 1111 1111, or 4111-1111-1111-1111.",
        &["4111 1111", "4111-1111"],
        &["card ", ", or ", "."],
    );
    check_body(text, "amex 3782 822463 10005 end", &["822463"], &["amex ", " end"]);
    check_body(
        text,
        "order 4111111111111112 at 0.4111111111111111",
        &[],
        &["4111111111111112", "0.4111111111111111"],
    );
    check_body(text, "id-a4111111111111111 stays", &[], &["a4111111111111111"]);
    check_body(text, "curl -H 'Authorization: Bearer abc123DEF456'", &["abc123DEF456"], &["Bearer "]);
    check_body(
        text,
        "user=al password=hunter2, token==x",
        &["hunter2"],
        &["user=al password=", ", token==x"],
    );
    check_body(text, "the bearer delivers it", &[], &["the bearer delivers it"]);
    check_body(text, "t=eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln and so on", &["eyJhIjoxfQ"], &[" and so on"]);
    check_body(text, "a@b, @c.de, x@redacted.invalid", &[], &["a@b, @c.de, x@redacted.invalid"]);
}

#[test]
fn random_bytes_have_no_short_words() {
    let redactor = redactor(RedactMode::Standard);
    for (bytes, expected) in [
        (&b"\xffpw=abcdefgh\xfea@b.cd\xff"[..], false),
        (&b"\xffpassword=abcdefgh\xfe"[..], true),
        (&b"\xffalice@example.org\xfe"[..], true),
    ] {
        let request = post("application/octet-stream", bytes);
        assert_eq!(redactor.request(&request, &mut RedactTally::default()).is_some(), expected, "{bytes:?}");
    }
}

#[test]
fn coded_bodies_stay_in_their_coding() {
    let redactor = redactor(RedactMode::Standard);
    let plain = br#"{"password":"hunter2"}"#;
    let coded = coded::stored(b"gzip", plain).unwrap();
    let length = coded.len().to_string();
    let fields = [
        ("Content-Type", "application/json"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", length.as_str()),
    ];
    let mut request = samples::request("POST", "/", &fields);
    request.body = Body::whole(coded);
    let redacted = redacted(&redactor, &request);
    let mut text = String::new();
    let body = plain_body(&redacted.headers, &redacted.body, &CompareLimits::default()).unwrap();
    (&*body).read_to_string(&mut text).unwrap();
    assert!(text.starts_with("{\"password\":\"") && !text.contains("hunter2"), "{text}");
    assert_eq!(redacted.headers.get("content-length"), Some(redacted.body.bytes.to_string().as_bytes()));
    assert!(redactor.request(&redacted, &mut RedactTally::default()).is_none(), "twice");
    // What nobody can decode is not kept.
    request.body = Body::whole(&b"no gzip, hunter2"[..]);
    let dropped = redactor.request(&request, &mut RedactTally::default()).unwrap();
    assert!(dropped.body.kept.is_empty() && dropped.body.is_cut() && dropped.body.digest.is_some());
}

#[test]
fn what_a_response_repeats_of_a_request_is_hidden_there_too() {
    let redactor = redactor(RedactMode::Standard);
    let request = samples::request(
        "GET",
        "/",
        &[("Cookie", "sid=s3cr3tOfAlice; theme=dark"), ("X-Api-Key", "k3y/w1th=signs")],
    );
    let answer = "you are s3cr3tOfAlice, dark, k3y/w1th=signs";
    let (id, at) = (crate::model::ExchangeId { flow: 1, offset: 0 }, crate::model::Timestamp(0));
    let exchange = samples::exchange(id, at, request, samples::response(200, &[], answer));
    let redacted = redactor.exchange(&exchange, &mut RedactTally::default()).unwrap();
    let body = redacted.response.as_ref().unwrap().body.kept.clone();
    let text = String::from_utf8_lossy(&body);
    assert!(!text.contains("s3cr3tOfAlice") && !text.contains("w1th") && text.contains(", dark, "), "{text}");
    // A candidate that was sent the tokens repeats those.
    let cookie = String::from_utf8_lossy(redacted.request.headers.get("cookie").unwrap()).into_owned();
    let token = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    assert!(text.contains(&token), "{text} has no {token}");
    assert!(redactor.exchange(&redacted, &mut RedactTally::default()).is_none(), "twice");
}

#[test]
fn a_body_without_secrets_is_the_same_body() {
    let redactor = redactor(RedactMode::Standard);
    let request = post("application/json", r#"{"a":[1,2,{"b":"c"}]}"#);
    let mut tally = RedactTally::default();
    assert!(redactor.request(&request, &mut tally).is_none());
    assert_eq!(tally.total(), 0);
}

#[test]
fn what_the_configuration_adds_and_takes_away_holds() {
    let list = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
    let rules = RedactRules {
        headers: list(&["X-Badge", "-x-csrf-token"]),
        query: list(&["-page_token"]),
        json: list(&["$.user.ref", "nickname", "-token"]),
        patterns: list(&["EMP-[0-9]+", "-card"]),
        allow: list(&["cookie:theme", "json:$.user.token_kind"]),
        ..RedactRules::default()
    };
    let redactor = with(rules);
    let fields = [
        ("X-Badge", "b4dge"),
        ("X-Csrf-Token", "c5rf"),
        ("Cookie", "theme=dark; sid=s1d"),
        ("X-Note", "EMP-12345"),
    ];
    let mut request = samples::request("POST", "/?page_token=7&token=t0", &fields);
    request.headers =
        Headers::from_pairs(request.headers.iter().chain([(&b"content-type"[..], &b"application/json"[..])]));
    request.body = Body::whole(&br#"{"user":{"ref":"r3f","nickname":"nick","token_kind":"a@b.cd"},"token":"t","card":"4111111111111111"}"#[..]);
    let redacted = redacted(&redactor, &request);
    let shown = format!(
        "{:?} {:?} {}",
        redacted.headers,
        redacted.target,
        String::from_utf8_lossy(&redacted.body.kept)
    );
    for gone in ["b4dge", "s1d", "EMP-12345", "t0", "r3f", "\"nick\""] {
        assert!(!shown.contains(gone), "{gone} in {shown}");
    }
    for left in ["c5rf", "theme=dark", "page_token=7", "a@b.cd", "\"token\":\"t\"", "4111111111111111"] {
        assert!(shown.contains(left), "{left} not in {shown}");
    }
}

#[track_caller]
fn check_refused(rules: RedactRules, list: &str, entry: &str) {
    let error = Redactor::new(&rules, key()).unwrap_err();
    assert_eq!(error.place(), (list, entry));
}

#[test]
fn an_entry_that_means_nothing_is_refused() {
    let one = |entry: &str| vec![entry.to_owned()];
    check_refused(RedactRules { headers: one("a b"), ..RedactRules::default() }, "headers", "a b");
    check_refused(RedactRules { json: one("$a"), ..RedactRules::default() }, "json", "$a");
    check_refused(RedactRules { patterns: one("("), ..RedactRules::default() }, "patterns", "(");
    check_refused(RedactRules { patterns: one("-mail"), ..RedactRules::default() }, "patterns", "-mail");
    check_refused(RedactRules { allow: one("body"), ..RedactRules::default() }, "allow", "body");
    check_refused(RedactRules { allow: one("json:a"), ..RedactRules::default() }, "allow", "json:a");
    check_refused(RedactRules { query: one("-"), ..RedactRules::default() }, "query", "-");
}

#[test]
fn strict_passes_only_what_is_allowed() {
    let allow = ["header:x-kind", "json:$.items[*].id", "query:page", "path:/items/{id}"].map(str::to_owned);
    let redactor =
        with(RedactRules { mode: RedactMode::Strict, allow: allow.to_vec(), ..RedactRules::default() });
    let fields = [("X-Kind", "k1nd"), ("X-Other", "0ther"), ("Content-Type", "application/json")];
    let mut request = samples::request("POST", "/items/4711?page=2&q=shoes", &fields);
    request.body = Body::whole(&br#"{"items":[{"id":"i1","name":"Bob","n":1,"ok":true}]}"#[..]);
    let once = redacted(&redactor, &request);
    let shown = format!("{:?} {:?} {}", once.headers, once.target, String::from_utf8_lossy(&once.body.kept));
    for gone in ["0ther", "4711", "shoes", "Bob", "\"n\":1,"] {
        assert!(!shown.contains(gone), "{gone} in {shown}");
    }
    for left in ["k1nd", "/items/", "page=2&q=", "\"id\":\"i1\"", "\"ok\":true", "application/json"] {
        assert!(shown.contains(left), "{left} not in {shown}");
    }
    assert!(redactor.request(&once, &mut RedactTally::default()).is_none(), "twice");
    let mut page = post("text/html", "<p>Bob</p>");
    page = redacted(&redactor, &page);
    assert!(page.body.kept.is_empty() && page.body.digest != Some(sha256(b"<p>Bob</p>")));
    assert_eq!(redacted(&redactor, &page).body.digest, page.body.digest, "twice");
}

#[test]
fn a_dry_run_counts_and_changes_nothing() {
    let redactor = redactor(RedactMode::DryRun);
    let mut tally = RedactTally::default();
    let request = samples::request("GET", "/?token=abc", &[("Cookie", "a=1; b=2"), ("X", "bob@example.org")]);
    assert!(redactor.request(&request, &mut tally).is_none());
    let found = [(Rule::Query, Part::Target), (Rule::Cookie, Part::Field), (Rule::Email, Part::Field)];
    assert_eq!(found.map(|(rule, part)| tally.of(rule, part)), [1, 2, 1]);
    assert_eq!(tally.total(), 4);
}

#[test]
fn a_key_is_long_and_has_a_fingerprint() {
    assert_eq!(RedactKey::new(&[1; 31]).unwrap_err().bytes, 31);
    let (one, other) = (RedactKey::new(&[1; 32]).unwrap(), RedactKey::new(&[2; 32]).unwrap());
    assert_eq!(one.fingerprint(), RedactKey::new(&[1; 32]).unwrap().fingerprint());
    assert_ne!(one.fingerprint(), other.fingerprint());
    assert_ne!(one.secret(b"x"), other.secret(b"x"));
    assert!(!format!("{one:?}").contains('1'));
}

#[test]
fn tokens_keep_the_shape_of_their_values() {
    let key = key();
    let token = |value: &str| key.secret(value.as_bytes()).unwrap();
    let all = |text: &str, is: fn(&u8) -> bool| text.bytes().all(|byte| is(&byte));
    assert!(all(&token("8675309"), u8::is_ascii_digit));
    assert!(all(&token("swordfish"), u8::is_ascii_lowercase));
    assert!(all(&token("SwordFish"), u8::is_ascii_alphabetic));
    let hex = token(SECRETS[1]);
    assert!(
        hex.len() == 32 && all(&hex, u8::is_ascii_hexdigit) && !hex.bytes().any(|b| b.is_ascii_uppercase())
    );
    assert!(matches!(token(SECRETS[2]).split('-').map(str::len).collect::<Vec<_>>()[..], [8, 4, 4, 4, 12]));
    assert_eq!(token(SECRETS[3]).split('.').count(), 3);
    assert!(token(SECRETS[3]).starts_with("eyJ"));
    let card = key.card(b"4111 1111 1111 1111");
    assert!(card.len() == 19 && !token::is_luhn(card.replace(' ', "").as_bytes()), "{card}");
    let number: u64 = key.number(b"1234").unwrap().parse().unwrap();
    assert!(number < 1 << 53);
    assert_eq!(key.number(b"0"), None);
}

/// Bodies that hold a value in each way in which one can be held.
fn bodies_with(value: &str) -> Vec<(&'static str, String)> {
    let json = serde_json::to_string(value).unwrap();
    let coded = String::from_utf8(form::encoded(value.as_bytes(), b"", form::OF_FORMS)).unwrap();
    vec![
        ("application/json", format!("{{\"a\":1,\"password\":{json},\"b\":[{json}]}}")),
        ("application/x-www-form-urlencoded", format!("a=1&token={coded}&b={coded}")),
        ("text/plain", format!("see {value} and ?sid={coded} there")),
        ("text/html", format!("<input name=token value=\"{coded}\"><password>{coded}</password>")),
    ]
}

proptest! {
    #[test]
    fn a_secret_has_one_token_which_is_known_as_one(value in ".{1,80}", other in ".{1,80}") {
        let key = key();
        let Some(token) = key.secret(value.as_bytes()) else { return Err(TestCaseError::reject("a token by chance")) };
        prop_assert!(key.is_token(token.as_bytes()), "{token}");
        prop_assert_eq!(key.secret(token.as_bytes()), None);
        prop_assert_eq!(key.secret(value.as_bytes()), Some(token.clone()));
        if value != other {
            prop_assert_ne!(key.secret(other.as_bytes()), Some(token));
        }
    }

    #[test]
    fn shapes_survive(value in "[0-9]{1,40}|[a-f0-9]{1,70}|[A-Za-z]{1,40}|[A-Za-z0-9]{1,150}") {
        let key = key();
        let token = key.secret(value.as_bytes()).unwrap_or(value.clone());
        let is = |text: &str, is: fn(&u8) -> bool| text.bytes().all(|byte| is(&byte));
        for class in [u8::is_ascii_digit, u8::is_ascii_alphabetic, u8::is_ascii_alphanumeric, u8::is_ascii_lowercase] {
            prop_assert!(!is(&value, class) || is(&token, class), "{} became {}", value, token);
        }
        prop_assert!(token.len() >= 16 && token.len() <= 128);
        prop_assert!(!token::is_luhn(token.as_bytes()));
    }

    #[test]
    fn redaction_again_changes_nothing(known in prop::sample::select(SECRETS.to_vec()), random in "\\PC{0,60}", strict: bool) {
        let redactor = redactor(if strict { RedactMode::Strict } else { RedactMode::Standard });
        for value in [known, random.as_str()] {
            for (kind, body) in bodies_with(value) {
                let once = redacted(&redactor, &post(kind, body));
                let twice = redacted(&redactor, &once);
                prop_assert_eq!(&once.body.kept, &twice.body.kept);
                prop_assert_eq!(once.body.digest, twice.body.digest);
            }
        }
    }

    #[test]
    fn any_bytes_are_redacted_without_a_panic_and_once(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        kind in prop::sample::select(vec!["application/json", "text/html", "multipart/form-data; boundary=B", "text/plain", "application/x-www-form-urlencoded"]),
    ) {
        let redactor = redactor(RedactMode::Standard);
        let once = redacted(&redactor, &post(kind, bytes));
        let twice = redacted(&redactor, &once);
        prop_assert_eq!(once.body.kept, twice.body.kept);
    }

    /// Two requests are alike after redaction just when they were before.
    #[test]
    fn equal_stays_equal_and_different_stays_different(x in "[a-z0-9]{1,20}", y in "[a-z0-9]{1,20}") {
        let redactor = redactor(RedactMode::Standard);
        for ((kind, one), (_, other)) in bodies_with(&x).into_iter().zip(bodies_with(&y)) {
            let [a, b] = [one, other].map(|body| redacted(&redactor, &post(kind, body)).body.kept);
            prop_assert_eq!(a == b, x == y);
        }
    }
}
