//! Secrets in places where nobody would put them by design: broken, cut, wrongly named, coded twice.
//!
//! Asks one thing of each: that the secret is gone, also from what is redacted again, which must change nothing.

use std::io::Write as _;

use proptest::prelude::*;

use super::super::*;
use crate::compare::{CompareLimits, plain_body};
use crate::model::{Body, Headers, samples};

/// What is planted: no look gives it away, only its name.
const SECRET: &str = "hunter2-correct-Horse9";

fn redactor(mode: RedactMode) -> Redactor {
    let key = RedactKey::new(b"a key for tests, with more than 32 bytes").unwrap();
    Redactor::new(&RedactRules { mode, ..RedactRules::default() }, key).unwrap()
}

/// Everything that is left of a request, its body without content coding.
fn left(redactor: &Redactor, request: &Request) -> (Request, Vec<u8>) {
    let once = redactor.request(request, &mut RedactTally::default()).unwrap_or_else(|| request.clone());
    let mut text = once.target.to_vec();
    for (name, value) in once.headers.iter().chain(once.trailers.iter()) {
        text.extend_from_slice(&[b"\n", name, b": ", value].concat());
    }
    text.extend_from_slice(b"\n");
    text.extend_from_slice(&once.body.kept);
    text.extend_from_slice(b"\n");
    let plain = plain_body(&once.headers, &once.body, &CompareLimits::default());
    text.extend_from_slice(plain.as_deref().unwrap_or_default());
    (once, text)
}

/// None of these parts is left of the request, nor of it in UTF-16; and redacting it again changes nothing.
#[track_caller]
fn check(request: &Request, gone: &[&str]) {
    for mode in [RedactMode::Standard, RedactMode::Strict] {
        let redactor = redactor(mode);
        let (once, text) = left(&redactor, request);
        for part in gone {
            let wide = |bytes: fn(u16) -> [u8; 2]| part.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
            for wanted in [part.as_bytes().to_vec(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)] {
                let is_there = memchr::memmem::find(&text, &wanted).is_some();
                assert!(!is_there, "{mode:?}: {part} is in {}", String::from_utf8_lossy(&text));
            }
        }
        let (_, again) = left(&redactor, &once);
        assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&text), "{mode:?}: twice");
    }
}

fn post(fields: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Request {
    let mut request = samples::request("POST", "/", fields);
    request.body = Body::whole(body);
    request
}

#[track_caller]
fn check_body(content_type: &str, body: &str, gone: &[&str]) {
    assert!(gone.iter().all(|part| body.contains(part)), "nothing is planted in {body}");
    check(&post(&[("Content-Type", content_type)], body.to_owned()), gone);
}

#[track_caller]
fn check_field(name: &str, value: &str, gone: &[&str]) {
    check(&samples::request("GET", "/", &[(name, value)]), gone);
    let mut request = post(&[("Trailer", name)], &b"x"[..]);
    request.trailers = Headers::from_pairs([(name, value)]);
    check(&request, gone);
}

#[track_caller]
fn check_target(target: &str, gone: &[&str]) {
    check(&samples::request("GET", target, &[]), gone);
}

#[test]
fn bodies_of_another_type_than_they_say() {
    let json = format!(r#"{{"user":"al","password":"{SECRET}","a":[1]}}"#);
    let form = format!("user=al&password={SECRET}&a=1");
    let page = format!("<f><input name=\"password\" value=\"{SECRET}\"><pin>{SECRET}</pin></f>");
    let parts =
        format!("--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n{SECRET}\r\n--B--\r\n");
    for kind in [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=B",
        "multipart/form-data; boundary=other",
        "multipart/form-data",
        "text/html",
        "text/xml; charset=utf-8",
        "text/plain",
        "text/event-stream",
        "application/octet-stream",
        "application/pdf",
        "image/png",
        "application/javascript",
        "",
        "nonsense",
    ] {
        for body in [&json, &form, &page, &parts] {
            check_body(kind, body, &[SECRET]);
        }
    }
}

#[test]
fn broken_json() {
    let kind = "application/json";
    for body in [
        "{'user':'al','password':'SECRET'}",
        "{user:'al',password:'SECRET'}",
        "{password:SECRET}",
        "{\"a\":\"never closed\n{\"password\":\"SECRET\"}\n",
        "{\"password\"  :\n\t\"SECRET\"",
        "{\"password\":\"SECRET",
        "{\"password\":[\"x\",{\"a\":\"SECRET\"",
        "{\"token\":[\"a\"}, \"SECRET\"}",
        "]]}}{\"password\":\"SECRET\"}",
        "{\"log\":\"a \\q \\\"password\\\":\\\"SECRET\\\"\"}",
        "{\"l\":\"{\\\"m\\\":\\\"{\\\\\\\"n\\\\\\\":\\\\\\\"{\\\\\\\\\\\\\\\"password\\\\\\\\\\\\\\\":\\\\\\\\\\\\\\\"SECRET\\\\\\\\\\\\\\\"}\\\\\\\"}\\\"}\"}",
        "{\"pass\\u0077ord\":\"SECRET\"}",
        "{\"said\":\"password: SECRET\"}",
        "{\"said\":\"log in with password 'x' or password='SECRET'\"}",
        ")]}',\n{\"password\":\"SECRET\"}",
        "while(1);{\"password\":\"SECRET\"}",
        "callback({\"password\":\"SECRET\"})",
        "{\"password\":\"a\\\"SECRET\"}",
        "{\"page\":\"<password>SECRET</password>\"}",
        "{\"page\":\"\\u003cpassword\\u003eSECRET\\u003c/password\\u003e\"}",
        "{\"headers\":{\"Cookie\":\"theme=SECRET; a=SECRET\",\"Set-Cookie\":[\"b=SECRET\"]}}",
        "{\"url\":\"https://al:SECRET@db.example.org/x\"}",
    ] {
        check_body(kind, &body.replace("SECRET", SECRET), &[SECRET]);
        check_body("text/plain", &body.replace("SECRET", SECRET), &[SECRET]);
    }
    check_body(kind, &format!("// it's\n{{\"password\":/* of al */\"{SECRET}\"}}"), &[SECRET]);
    let deep = format!("{}{{\"password\":\"{SECRET}\"}}", "[".repeat(200));
    check_body(kind, &deep, &[SECRET]);
    let deep = format!("{}{{\"token\":[{{\"a\":\"{SECRET}\"}}]}}", "{\"a\":".repeat(200));
    check_body(kind, &deep, &[SECRET]);
}

#[test]
fn broken_markup() {
    for body in [
        "<password><![CDATA[SECRET]]></password>",
        "<password>a<b>SECRET</b></password>",
        "<p:Password Type=\"x\">\n SECRET",
        "<password>SECRET",
        "<a title=\"never closed><input name=csrf value=SECRET>",
        "<a title='x><input name='csrf' value='SECRET'>",
        "<input value=SECRET type=password name=q>",
        "<input type=\"password\" value=\"SECRET\"",
        "<textarea name=\"secret\">SECRET</textarea>",
        "<entry key=\"password\">SECRET</entry>",
        "<property name='password'><![CDATA[SECRET]]></property>",
        "<!-- password: SECRET -->",
        "<!-- password=\"SECRET\" -->",
        "<script>var config = { csrfToken: \"SECRET\" }; var token = 'SECRET';</script>",
        "<div data-state=\"{&quot;password&quot;:&quot;SECRET&quot;}\">",
        "<div data-state='{&#34;token&#34;: &#34;SECRET&#34;}'>",
        "&lt;password&gt;SECRET&lt;/password&gt;",
        "&lt;ns:password a=&quot;b&quot;&gt;SECRET&lt;/ns:password&gt;",
        "%3Cpassword%3ESECRET%3C%2Fpassword%3E",
        "<a href=\"https://al:SECRET@example.org/\">x</a>",
        "<a href=\"/x?return=%2Fy%3Ftoken%3DSECRET%26b%3D1\">x</a>",
        "<cfg password = \"SECRET\"/>",
        "<cfg password\n=\n'SECRET'/>",
        "<meta content=\"SECRET\" name=\"csrf-token\">",
    ] {
        check_body("text/html", &body.replace("SECRET", SECRET), &[SECRET]);
        check_body("application/xml", &body.replace("SECRET", SECRET), &[SECRET]);
    }
}

#[test]
fn texts_of_all_sorts() {
    for body in [
        "password: SECRET\n",
        "PASSWORD = SECRET\n",
        "password=\"SECRET\" user=al",
        "password='SECRET'",
        "  db_password:\t\"SECRET\"\n",
        "'password' => 'SECRET',",
        "password := `SECRET`",
        "Authorization: Basic SECRET\r\nCookie: a=SECRET; b=SECRET\r\nSet-Cookie: c=SECRET\r\n",
        "GET /x?token=SECRET HTTP/1.1\r\nX-Api-Key: SECRET\r\n\r\n",
        "postgres://al:SECRET@db/x and https://SECRET@sentry.example.org/1",
        "data: {\"password\":\"SECRET\"}\n\ndata: it's\ndata: {\"token\":{\"a\":\"SECRET\"}}\n\n",
        "event: x\nid: 1\ndata: password=SECRET\n\n",
        "%7B%22password%22%3A%22SECRET%22%7D",
        "next=%2Fy%3Fpwd%3DSECRET%26b%3D1 and %253Ftoken%253DSECRET%2526",
        "{\"token\":\"SECRET\"}\n{\"a\":\"torn off\n{\"token\":\"SECRET\"}\n",
        "-----BEGIN RSA PRIVATE KEY-----\nSECRET\nSECRET\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nSECRET\n",
        "curl -u x --header 'Authorization: Bearer SECRET'",
        "a;password=SECRET;b=1",
    ] {
        check_body("text/plain", &body.replace("SECRET", SECRET), &[SECRET]);
        check_body("application/octet-stream", &body.replace("SECRET", SECRET), &[SECRET]);
        // One byte that is no UTF-8, such as of a character that was cut, does not make it another text.
        let mut latin = body.replace("SECRET", SECRET).into_bytes();
        latin.extend_from_slice(b" caf\xe9");
        check(&post(&[("Content-Type", "text/plain; charset=latin-1")], latin), &[SECRET]);
    }
    check_body("text/plain", "mail alice&#64;example.org, bob%2540example.org", &["alice&", "bob%"]);
    check_body("text/plain", "caf\u{e9} pin: 1234, al@x.org", &["1234", "al@x"]);
    check_body("text/plain", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== of al", &["QWxhZGRpbjpvcGVu"]);
    for token in [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "glpat-ABCdef123456ghi789jk",
        "xoxb-123456789012-abcdefABCDEF",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
    ] {
        check_body("text/plain", &format!("use {token} here"), &[token]);
        check_target(&format!("/hooks/{token}/x"), &[token]);
    }
}

#[test]
fn forms_and_multipart_in_pieces() {
    let form = "application/x-www-form-urlencoded";
    let json = "%7B%22a%22%3A%7B%22password%22%3A%5B%22SECRET%22%5D%7D%7D".replace("SECRET", SECRET);
    check_body(form, &format!("payload={json}&x=1"), &[SECRET]);
    check_body(form, &format!("pass%77ord={SECRET}"), &[SECRET]);
    check_body(form, &format!("a=1;password={SECRET};b=2"), &[SECRET]);
    check_body(form, &format!("next=%2Fx%3Ftoken%3D{SECRET}%26b"), &[SECRET]);
    check_body(form, &format!("a=1&password={SECRET}"), &[SECRET]);
    check_body(form, &format!("a=%7Bpassword%3A+{SECRET}"), &[SECRET]);
    let kind = "multipart/form-data; boundary=\"B\"";
    let password = "Content-Disposition: form-data; name=\"password\"";
    for body in [
        format!("--B\n{password}\n\n{SECRET}\n--B--\n"),
        format!("--B\r\n{password}\r\n\r\nabc--B{SECRET}\r\n--B--\r\n"),
        format!("--B\r\n{password}\r\n\r\n{SECRET}"),
        format!("--B\r\nContent-Disposition: form-data; filename=x; name=password\r\n\r\n{SECRET}"),
        format!("--B\r\nContent-Disposition: form-data; NAME = \"password\"\r\n\r\n{SECRET}\r\n--B"),
        format!(
            "--B\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n--C\r\n{password}\r\n\r\n{SECRET}\r\n--C--\r\n--B--"
        ),
        format!(
            "--B\r\nContent-Disposition: form-data; name=j\r\nContent-Type: application/octet-stream\r\n\r\n{{\"password\":\"{SECRET}\"}}\r\n--B--"
        ),
        format!("--B\r\nX-Api-Key: {SECRET}\r\n\r\nx\r\n--B--\r\npassword={SECRET}"),
        format!("{}--B\r\n{password}\r\n\r\n{SECRET}\r\n--B--", "--B\r\n\r\n\r\n".repeat(10_001)),
    ] {
        check_body(kind, &body, &[SECRET]);
    }
}

#[test]
fn targets_and_fields_that_hold_urls() {
    for url in [
        "http://al:SECRET@shop.example.org/a",
        "http://al:SECRET@shop/a",
        "/a?return=%2Fb%3Ftoken%3DSECRET%26c%3D1",
        "/a?return=%252Fb%253Fpwd%253DSECRET",
        "/a?x=1#access_token=SECRET&state=2",
        "/a#access_token=SECRET",
        "/a?q=%7B%22password%22%3A%22SECRET%22%7D",
        "/a?password=SECRET,with)comma",
        "/a?user%5Bpassword%5D=SECRET",
        "/a;password=SECRET/b",
        "/reset?TOKEN=SECRET",
    ] {
        let url = url.replace("SECRET", SECRET);
        check_target(&url, &[SECRET]);
        for name in ["Referer", "location", "CONTENT-LOCATION", "X-Original-URL", "Origin", "Link"] {
            check_field(name, &url, &[SECRET]);
        }
        check_field("Link", &format!("<{url}>; rel=next"), &[SECRET]);
        check_field("Refresh", &format!("0; url={url}"), &[SECRET]);
    }
    check_target(&format!("al:{SECRET}@shop:443"), &[SECRET]);
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";
    check_target(&format!("/verify/{jwt}"), &["eyJzdWIiOiJhbGljZSJ9", "c2lnbmF0dXJl"]);
    check_target(&format!("/verify/{jwt}/x;y"), &["eyJzdWIiOiJhbGljZSJ9", "c2lnbmF0dXJl"]);
    check_field("Referer", "http://h/p?c=4111%201111%201111%201111", &["4111%201111%201111"]);
    check_field("Referer", "http://h/p?password=a,SECRET)b", &["SECRET"]);
}

#[test]
fn fields_in_odd_clothes() {
    for name in [
        "AUTHORIZATION",
        "authorization",
        "Proxy-Authorization",
        "X-AUTH-token",
        "Authorization ",
        "x_api_key",
    ] {
        check_field(name, &format!("Basic {SECRET}"), &[SECRET]);
        check_field(name, SECRET, &[SECRET]);
    }
    for name in ["cookie", "COOKIE", "Cookie ", "Cookie2", "X-Forwarded-Cookie"] {
        check_field(name, &format!("a={SECRET}; b=\"{SECRET}\";c={SECRET},d={SECRET}; {SECRET}"), &[SECRET]);
    }
    for value in [
        "a=SECRET; Path=/, b=SECRET; HttpOnly",
        "a=SECRET; Expires=Wed, 21 Oct 2026 07:28:00 GMT, b=SECRET",
        "a=1; token=SECRET",
        "SECRET",
        "=SECRET; Secure",
    ] {
        check_field("SET-COOKIE", &value.replace("SECRET", SECRET), &[SECRET]);
    }
    let mut request = samples::request("GET", "/", &[("Cookie", "a=1")]);
    request.headers = Headers::from_pairs([
        ("Cookie", &b"a=1"[..]),
        ("cOOkie", SECRET.as_bytes()),
        ("COOKIE", format!("b={SECRET}").as_bytes()),
    ]);
    check(&request, &[SECRET]);
    check_field("X-Debug", &format!("Authorization: Basic {SECRET}"), &[SECRET]);
    check_field("X-Debug", &format!("{{\"password\":\"{SECRET}\"}}"), &[SECRET]);
    check_field("X-Debug", &format!("password=\"{SECRET}\""), &[SECRET]);
}

#[test]
fn what_is_repeated_is_gone_wherever_it_stands_first() {
    // The cookie comes last in the message, and its value before.
    let mut request = samples::request(
        "POST",
        &format!("/a?state={SECRET}"),
        &[("X-First", SECRET), ("Content-Type", "text/plain"), ("Cookie", &format!("sid={SECRET}"))],
    );
    request.body = Body::whole(format!("state is {SECRET}"));
    check(&request, &[SECRET]);
    let mut request = samples::request(
        "POST",
        &format!("/a?state={SECRET}"),
        &[("X-First", SECRET), ("Content-Type", "application/json")],
    );
    request.body = Body::whole(format!("{{\"x\":\"{SECRET}\",\"password\":\"{SECRET}\"}}"));
    check(&request, &[SECRET]);
    // As another one writes it.
    let secret = "p&ss\"w<rd/1+2=Long";
    let basic = "Basic YWw6cCZzcyJ3PHJkLzErMj1Mb25n";
    let redactor = redactor(RedactMode::Standard);
    for shown in
        [secret, "p&amp;ss&quot;w&lt;rd/1+2=Long", "p&ss\\\"w<rd/1+2=Long", "p%26ss%22w%3Crd%2F1%2B2%3DLong"]
    {
        for (name, value) in [("X-Api-Key", secret), ("Authorization", basic)] {
            let request = samples::request("GET", "/", &[(name, value)]);
            let answer =
                samples::response(200, &[("Content-Type", "text/plain")], format!("you are {shown}!"));
            let (id, at) = (crate::model::ExchangeId { flow: 1, offset: 0 }, crate::model::Timestamp(0));
            let exchange = samples::exchange(id, at, request, answer);
            let once = redactor.exchange(&exchange, &mut RedactTally::default()).unwrap();
            let body = once.response.unwrap().body.kept;
            assert!(!String::from_utf8_lossy(&body).contains(shown), "{name}: {body:?}");
        }
    }
}

/// A body in this coding, by a real encoder.
fn coded(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "raw" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::bulk::compress(plain, 3).unwrap(),
        other => coded::stored(other.as_bytes(), plain).unwrap(),
    }
}

/// Whether the secret can be had from the body by undoing any coding of its whole or of its first half.
fn holds(body: &[u8]) -> bool {
    let mut texts = vec![body.to_vec()];
    let whole = Body::whole(body.to_vec());
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let headers = Headers::from_pairs([("Content-Encoding", coding)]);
        let plain = plain_body(&headers, &whole, &CompareLimits::default());
        texts.extend(plain.map(std::borrow::Cow::into_owned));
    }
    texts.iter().any(|text| memchr::memmem::find(text, SECRET.as_bytes()).is_some())
}

#[test]
fn coded_bodies_whole_cut_and_lying() {
    let plain = format!("{{\"password\":\"{SECRET}\",\"filler\":\"{}\"}}", "x".repeat(500));
    let redactor = redactor(RedactMode::Standard);
    let kept = |fields: &[(&str, &str)], body: Body| {
        let mut request = post(fields, &b""[..]);
        request.body = body;
        let once = redactor.request(&request, &mut RedactTally::default()).unwrap_or(request);
        let twice = redactor.request(&once, &mut RedactTally::default());
        assert!(twice.is_none_or(|twice| twice.body.kept == once.body.kept), "twice");
        once.body.kept
    };
    let json = ("Content-Type", "application/json");
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let body = coded(coding, plain.as_bytes());
        let as_coded = [json, ("Content-Encoding", coding)];
        assert!(!holds(&kept(&as_coded, Body::whole(body.clone()))), "{coding}");
        // One half was kept, or seen.
        let half = body[..body.len() / 2].to_vec();
        let cut = Body { kept: half.clone().into(), bytes: 900, digest: Some([1; 32]), complete: true };
        assert!(kept(&as_coded, cut).is_empty(), "{coding} cut");
        let torn = Body { kept: half.into(), bytes: (body.len() / 2) as u64, digest: None, complete: false };
        assert!(kept(&as_coded, torn).is_empty(), "{coding} torn");
        // It is something else than it says.
        let other = if coding == "gzip" { "br" } else { "gzip" };
        assert!(
            !holds(&kept(&[json, ("Content-Encoding", other)], Body::whole(body.clone()))),
            "{coding} as {other}"
        );
        assert!(
            !holds(&kept(&[json, ("Content-Encoding", coding)], Body::whole(plain.clone()))),
            "plain as {coding}"
        );
        // Behind the end of the stream, and twice.
        let tail = [&coded(coding, b"{}")[..], b"password=", SECRET.as_bytes()].concat();
        assert!(!holds(&kept(&as_coded, Body::whole(tail))), "{coding} and a tail");
        let twice = coded(coding, &body);
        let both = format!("{coding}, {coding}");
        let stacked = [json, ("Content-Encoding", both.as_str())];
        let once = kept(&stacked, Body::whole(twice));
        let once = Body::whole(once);
        let read = plain_body(&Headers::from_pairs(stacked), &once, &CompareLimits::default());
        assert!(read.is_none_or(|plain| !holds(&plain)), "{coding} twice");
    }
    assert!(!holds(&kept(
        &[json, ("Content-Encoding", "deflate")],
        Body::whole(coded("raw", plain.as_bytes()))
    )));
    for coding in ["gzip", "zstd"] {
        for kind in ["application/gzip", "application/octet-stream", "application/json", ""] {
            let body = coded(coding, plain.as_bytes());
            assert!(
                !holds(&kept(&[("Content-Type", kind)], Body::whole(body))),
                "{coding} said to be {kind}"
            );
        }
    }
    // The name of the file, in the head of the stream.
    let mut named = flate2::GzBuilder::new()
        .filename("password=hunter2-correct-Horse9")
        .write(Vec::new(), flate2::Compression::best());
    named.write_all(b"{}").unwrap();
    let named = named.finish().unwrap();
    assert!(!holds(&kept(&[json, ("Content-Encoding", "gzip")], Body::whole(named))));
}

#[test]
fn other_widths_of_characters() {
    let json = format!(r#"{{"user":"al","password":"{SECRET}","mail":"alice@example.org"}}"#);
    let wide = |bytes: fn(u16) -> [u8; 2], mark: bool| {
        let text = if mark { format!("\u{feff}{json}") } else { json.clone() };
        text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()
    };
    let quad =
        |bytes: fn(u32) -> [u8; 4]| json.chars().flat_map(|char| bytes(char.into())).collect::<Vec<u8>>();
    for body in [
        wide(u16::to_le_bytes, true),
        wide(u16::to_be_bytes, true),
        wide(u16::to_le_bytes, false),
        wide(u16::to_be_bytes, false),
        [wide(u16::to_le_bytes, true), b"x".to_vec()].concat(),
    ] {
        for kind in
            ["application/json; charset=utf-16", "application/json", "text/plain", "application/octet-stream"]
        {
            check(&post(&[("Content-Type", kind)], body.clone()), &[SECRET, "alice"]);
        }
    }
    let part: Vec<u8> = SECRET.chars().flat_map(|char| u32::from(char).to_le_bytes()).collect();
    for body in [quad(u32::to_le_bytes), quad(u32::to_be_bytes)] {
        let (_, text) = left(&redactor(RedactMode::Standard), &post(&[("Content-Type", "text/plain")], body));
        assert!(memchr::memmem::find(&text, &part[..part.len() - 3]).is_none());
        assert!(memchr::memmem::find(&text, &part[3..]).is_none());
    }
}

/// A body whose end nobody saw: nothing of these is left, wherever it was cut within them.
#[track_caller]
fn check_cut(content_type: &str, body: &str, secret: &str) {
    let redactor = redactor(RedactMode::Standard);
    let start = body.find(secret).unwrap();
    // A few characters of a secret are none.
    for end in start + 8..=start + secret.len() {
        let kept = body.as_bytes()[..end].to_vec();
        for complete in [true, false] {
            let mut request = post(&[("Content-Type", content_type)], &b""[..]);
            let bytes = if complete { 10_000 } else { kept.len() as u64 };
            request.body =
                Body { kept: kept.clone().into(), bytes, digest: complete.then_some([1; 32]), complete };
            let (once, text) = left(&redactor, &request);
            let shown = &secret[..8];
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains(shown), "{shown} is in {text}");
            assert_eq!(String::from_utf8_lossy(&left(&redactor, &once).1), text, "twice");
        }
    }
}

#[test]
fn bodies_cut_within_a_secret() {
    for (kind, before) in [
        ("application/json", "{\"a\":1,\"password\":\""),
        ("application/x-www-form-urlencoded", "a=1&password="),
        ("text/html", "<a>x</a><password>"),
        ("text/html", "<input name=token value=\""),
        (
            "multipart/form-data; boundary=B",
            "--B\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n",
        ),
        ("text/plain", "password=\""),
        ("text/plain", "password: "),
        ("text/plain", "Authorization: Basic "),
        ("text/plain", "https://al:"),
    ] {
        check_cut(kind, &format!("{before}{SECRET}"), SECRET);
    }
    for secret in [
        "alice.liddell@wonderland.example.org",
        "4111 1111 1111 1111",
        "4111111111111111",
        "378282246310005",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    ] {
        check_cut("text/plain", &format!("this is {secret}"), secret);
        check_cut("application/json", &format!("{{\"note\":\"this is {secret}"), secret);
        check_cut("text/html", &format!("<p>this is <b>{secret}"), secret);
    }
    let claims = "eyJtYWlsIjoiYUBiLm9yZyJ9.c2lnbmF0dXJl";
    check_cut("text/plain", &format!("t eyJhbGciOiJSUzI1NiJ9.{claims}"), claims);
}

#[test]
fn strict_lets_nothing_through_a_broken_body() {
    let redactor = redactor(RedactMode::Strict);
    for (kind, body) in [
        ("application/json", "{key: za\u{17c}\u{f3}\u{142}\u{107}}"),
        ("application/json", "{\"a\": !@#$%^}"),
        ("application/json", "{\"a\":1} zażółć"),
        ("multipart/form-data; boundary=B", "zażółć\r\n--B\r\n\r\nx\r\n--B--\r\nzażółć"),
        (
            "multipart/form-data; boundary=B",
            "--B\r\nContent-Disposition: form-data; name=a; filename=\"zażółć\"\r\nX: zażółć\r\n\r\nzażółć\r\n--B--",
        ),
        (
            "multipart/form-data; boundary=other",
            "--B\r\nContent-Disposition: form-data; name=a\r\n\r\nzażółć\r\n--B--",
        ),
        ("multipart/form-data; boundary=B", "--B\r\nzażółć"),
        ("application/x-www-form-urlencoded", "zażółć&a=zażółć;b=zażółć"),
    ] {
        let (_, text) = left(&redactor, &post(&[("Content-Type", kind)], body.to_owned()));
        let text = String::from_utf8_lossy(&text).into_owned();
        for part in ["zażółć", "żó", "łć", "!@#"] {
            assert!(!text.contains(part), "{part} is in {text}");
        }
    }
}

/// Pieces of which broken bodies are made.
const PIECES: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "'",
    "\\",
    "<",
    ">",
    "</",
    "=",
    "&",
    ";",
    "%",
    "%3D",
    "%22",
    "&quot;",
    "\r\n",
    "\n",
    " ",
    "--B",
    "password",
    "token",
    "cookie:",
    "Bearer ",
    "Basic ",
    "://",
    "@",
    "example.org",
    "alice",
    "eyJhbGciOiJSUzI1NiJ9.",
    "4111 1111 1111 1111",
    "411111",
    "ghp_",
    "hunter2-correct-Horse9",
    "\u{17c}",
    "1234",
    "true",
    "<![CDATA[",
    "name=\"pin\"",
    "Content-Disposition: form-data; ",
    "-----BEGIN PRIVATE KEY-----",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is broken: what was redacted once stays as it is.
    #[test]
    fn what_is_broken_is_redacted_once(
        picked in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 1..24),
        odd in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        kind in prop::sample::select(vec!["application/json", "text/html", "multipart/form-data; boundary=B", "text/plain", "application/x-www-form-urlencoded", "application/octet-stream"]),
        strict: bool,
        is_cut: bool,
    ) {
        let mut body = picked.concat().into_bytes();
        if let Some((at, byte)) = odd {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let field: Vec<u8> = body.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)).collect();
        let mut request = post(&[("Content-Type", kind)], &b""[..]);
        request.headers = Headers::from_pairs([(&b"content-type"[..], kind.as_bytes()), (b"x-other", &field), (b"cookie", &field), (b"referer", &field)]);
        request.target = field.into();
        let bytes = body.len() as u64;
        request.body = Body { kept: body.into(), bytes: bytes + u64::from(is_cut), digest: is_cut.then_some([1; 32]), complete: true };
        let redactor = redactor(if strict { RedactMode::Strict } else { RedactMode::Standard });
        let once = redactor.request(&request, &mut RedactTally::default()).unwrap_or(request);
        let twice = redactor.request(&once, &mut RedactTally::default()).unwrap_or_else(|| once.clone());
        prop_assert_eq!(&once.body.kept, &twice.body.kept);
        prop_assert_eq!(&once.body.digest, &twice.body.digest);
        prop_assert_eq!(&once.target, &twice.target);
        prop_assert_eq!(format!("{:?}", once.headers), format!("{:?}", twice.headers));
    }
}
