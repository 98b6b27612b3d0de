//! What must hold of taking secrets out of any request and response.
//!
//! Knows no secret by itself.

use std::cell::LazyCell;

use bytes::Bytes;
use understudy::model::{Body, Headers, Request, Response, Version};
use understudy::select::redact::{RedactKey, RedactMode, RedactRules, RedactTally, Redactor};

/// What a body is said to be.
const KINDS: [&str; 7] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=B",
    "text/html",
    "text/plain",
    "application/octet-stream",
    "",
];

/// Any bytes as target, field and body of a request, and as the body of its response: what was redacted once stays as it is,
/// nothing that frames a message changes, and a dry run finds what the real one hides.
pub fn redact(bytes: &[u8]) {
    thread_local! {
        static REDACTORS: LazyCell<[Redactor; 3]> = LazyCell::new(|| {
            let modes = [RedactMode::Standard, RedactMode::Strict, RedactMode::DryRun];
            modes.map(|mode| {
                let rules = RedactRules { mode, json: vec!["$.**.x".to_owned()], ..RedactRules::default() };
                let key = RedactKey::new(&[7; 32]).expect("it is long enough");
                Redactor::new(&rules, key).expect("the rules are good")
            })
        });
    }
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let kind = KINDS[usize::from(*choice) % KINDS.len()];
    let coding = if choice & 0x80 == 0 { "identity" } else { "gzip" };
    let field: Vec<u8> = bytes.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)).collect();
    let pairs = || {
        let fields: [(&str, &[u8]); 5] = [
            ("content-type", kind.as_bytes()),
            ("content-encoding", coding.as_bytes()),
            ("cookie", &field),
            ("authorization", &field),
            ("x-other", &field),
        ];
        Headers::from_pairs(fields)
    };
    let request = Request {
        method: Bytes::from_static(b"POST"),
        target: field.clone().into(),
        version: Version::Http11,
        headers: pairs(),
        trailers: Headers::default(),
        body: Body::whole(bytes.to_vec()),
    };
    let response = Response {
        status: 200,
        version: Version::Http11,
        headers: pairs(),
        trailers: Headers::default(),
        body: Body::whole(bytes.to_vec()),
    };
    REDACTORS.with(|redactors| {
        for redactor in redactors.iter() {
            let mut tally = RedactTally::default();
            let once = redactor.request(&request, &mut tally);
            let answer = redactor.response(&response, &mut tally);
            assert!(redactor.mode().hides() || (once.is_none() && answer.is_none()));
            assert!(tally.total() > 0 || (once.is_none() && answer.is_none()));
            let Some(once) = once else { continue };
            assert_eq!(once.headers.get("content-type"), request.headers.get("content-type"));
            assert_eq!(once.headers.len(), request.headers.len());
            let twice = redactor.request(&once, &mut RedactTally::default()).unwrap_or_else(|| once.clone());
            assert_eq!(twice.target, once.target);
            assert!(twice.headers.iter().eq(once.headers.iter()));
            assert_eq!((twice.body.kept, twice.body.digest), (once.body.kept, once.body.digest));
        }
    });
}
