//! What must hold of comparing any two bodies.
//!
//! Knows nothing of how they came here.

use std::cell::LazyCell;
use std::time::Duration;

use understudy::compare::{Comparator, CompareConfig, CompareLimits};
use understudy::model::{
    Body, Exchange, ExchangeId, Flow, FlowKey, Headers, Marks, Observation, Outcome, Request, Response,
    Times, Timestamp, Version,
};

use super::end;

/// Kinds of content that are compared by their structure, and some that are not.
const MEDIA: [&str; 12] = [
    "",
    "application/json",
    "application/x-ndjson",
    "text/html",
    "application/xml",
    "image/svg+xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "text/event-stream",
    "text/plain",
    "text/plain; charset=latin1",
    "application/octet-stream",
];

/// Any two bodies of any kind: they are like themselves, what differs one way differs the other way round, and no more is
/// said than the bounds allow.
pub fn bodies(bytes: &[u8]) {
    thread_local! {
        // Nesting and numbers that an input of a fuzzer can reach.
        static SMALL: LazyCell<Comparator> = LazyCell::new(|| {
            let limits = CompareLimits { depth_max: 16, values_max: 200, ..CompareLimits::default() };
            Comparator::new(CompareConfig { limits, ..CompareConfig::default() }).expect("no rule is wrong")
        });
    }
    let [kind, other_kind, cut, bodies @ ..] = bytes else { return };
    let (a, b) = bodies.split_at(bodies.len() * usize::from(*cut) / 255);
    let [media_a, media_b] = [kind, other_kind].map(|kind| MEDIA[usize::from(*kind) % MEDIA.len()]);
    SMALL.with(|comparator| {
        let compare = |(media_a, a), (media_b, b)| {
            let candidate = Box::new(answer(media_b, b));
            let (ttfb, served) = (Duration::ZERO, Duration::ZERO);
            let candidate = Observation::Answered { response: candidate, ttfb, served };
            comparator.compare(&asked(answer(media_a, a)), &candidate)
        };
        for one in [(media_a, a), (media_b, b)] {
            assert_eq!(compare(one, one), Outcome::Match);
        }
        let (there, back) = (compare((media_a, a), (media_a, b)), compare((media_a, b), (media_a, a)));
        assert_eq!(there.label(), back.label(), "{there:?}\nthe other way round: {back:?}");
        if a == b {
            assert_eq!(there, Outcome::Match);
        }
        for outcome in [there, back, compare((media_a, a), (media_b, b))] {
            if let Outcome::Mismatch { differences, ignored, omitted: _ } = outcome {
                let CompareLimits { differences_max, value_bytes_max, .. } = CompareLimits::default();
                assert!(
                    !differences.is_empty() && differences.len() <= differences_max && ignored.is_empty()
                );
                let values = differences.iter().flat_map(|one| [&one.control, &one.candidate]).flatten();
                // And the mark that says that it was cut.
                assert!(values.into_iter().all(|value| value.len() <= value_bytes_max + '…'.len_utf8()));
            }
        }
    });
}

fn answer(media: &str, body: &[u8]) -> Response {
    let fields = [("Content-Type", media)];
    Response {
        status: 200,
        version: Version::Http11,
        headers: Headers::from_pairs(fields.into_iter().filter(|(_, value)| !value.is_empty())),
        trailers: Headers::default(),
        body: Body::whole(body.to_vec()),
    }
}

fn asked(response: Response) -> Exchange {
    let key = FlowKey { client: end(4_000), server: end(80), scope: 0 };
    let at = Timestamp(0);
    Exchange {
        id: ExchangeId { flow: 0, offset: 0 },
        flow: Flow { key, opened: at },
        request: Request {
            method: "GET".into(),
            target: "/".into(),
            version: Version::Http11,
            headers: Headers::from_pairs([("Host", "h")]),
            trailers: Headers::default(),
            body: Body::whole(""),
        },
        response: Some(response),
        interim: Vec::new(),
        times: Times { request_first: at, request_last: at, response: Some((at, at)) },
        marks: Marks::default(),
    }
}
