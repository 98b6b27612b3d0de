//! What requests get in place of captured fields, and what answers may not repeat.
//!
//! Asks no source; what is held is given.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::samples;

const SECRET: &str = "s3cret-0f-b";

fn credential() -> Credential {
    Credential::new("Bearer ", SECRET.as_bytes()).unwrap()
}

/// One field in `authorization`, and the ends of those who ask for it.
fn held(always: bool) -> (Credentials, watch::Sender<Held>, mpsc::Receiver<Refused>) {
    let config = CredentialConfig {
        source: CredentialSource::Command(Vec::new()),
        header: "authorization".to_owned(),
        prefix: "Bearer ".to_owned(),
        always,
        wait_max: Duration::ZERO,
        refresh_min: Duration::ZERO,
        refresh: None,
    };
    let (sender, receiver) =
        watch::channel(Held { credential: credential(), generation: 0, is_asked: false });
    let (refusals, refused) = mpsc::channel(1);
    (Credentials::new(vec![CredentialField::new(&config, receiver, refusals).unwrap()]), sender, refused)
}

fn answered(response: Response) -> Observation {
    Observation::Answered { response: Box::new(response), ttfb: Duration::ZERO, served: Duration::ZERO }
}

#[track_caller]
fn check_value(secret: &[u8], expected: bool) {
    assert_eq!(Credential::new("Bearer ", secret).is_some(), expected, "{secret:?}");
}

#[test]
fn only_what_a_field_can_carry_is_a_credential() {
    check_value(b"abc", true);
    check_value(b"user name", true);
    for wrong in [&b""[..], b"a\nb", b"a\r\nX: y", b"a\0", b"\xc3\xa9", b"a\tb"] {
        check_value(wrong, false);
    }
    assert_eq!(format!("{:?}", credential()), "Credential(…)");
    assert!(!format!("{:?}", credential().value).contains(SECRET));
}

/// The value of `authorization` that a request gets.
#[track_caller]
fn check_request(always: bool, captured: Option<&str>, control: u16, expected: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let fields: Vec<_> = captured.map(|value| ("Authorization", value)).into_iter().collect();
    let (credentials, _held, _refused) = held(always);
    let request = samples::request("GET", "/", &fields);
    let control = samples::response(control, &[], "");
    let own = runtime.block_on(credentials.for_request(&request, Some(&control)));
    let values: Vec<_> = own.iter().map(|(_, value)| value.as_bytes().to_vec()).collect();
    let wanted: Vec<_> = expected.then(|| format!("Bearer {SECRET}").into_bytes()).into_iter().collect();
    assert_eq!(values, wanted, "{always} {captured:?}");
}

#[test]
fn a_credential_takes_the_place_of_a_captured_one() {
    check_request(false, Some("Bearer a"), 200, true);
    check_request(false, Some("Basic a"), 403, true);
    check_request(false, None, 200, false);
    check_request(true, None, 200, true);
    // What A refused must be refused again.
    check_request(false, Some("Bearer bad"), 401, false);
    check_request(true, None, 401, false);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_while_the_source_is_asked() {
    let (credentials, sender, _refused) = held(true);
    sender.send_modify(|held| held.is_asked = true);
    let request = samples::request("GET", "/", &[]);
    let waiting = credentials.for_request(&request, None);
    let (own, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sender.send_modify(|held| {
            held.credential = Credential::new("Bearer ", b"another").unwrap();
            held.is_asked = false;
        });
    });
    let values: Vec<_> = own.iter().map(|(_, value)| value.as_bytes()).collect();
    assert_eq!(values, [b"Bearer another"]);
}

#[tokio::test(start_paused = true)]
async fn only_a_401_to_our_own_field_is_a_refusal() {
    let (credentials, _sender, mut refused) = held(false);
    let with = samples::request("GET", "/", &[("Authorization", "a")]);
    let own = credentials.for_request(&with, None).await;
    for fine in [samples::response(200, &[], ""), samples::response(403, &[], "")] {
        assert_eq!(credentials.standing(&own, &answered(fine)).await, Standing::Holds);
    }
    let refusal = answered(samples::response(401, &[], ""));
    assert_eq!(credentials.standing(&OwnFields::default(), &refusal).await, Standing::Holds);
    let (standing, ()) = tokio::join!(credentials.standing(&own, &refusal), async {
        let Refused { generation, answer } = refused.recv().await.unwrap();
        assert_eq!(generation, 0);
        answer.send(Standing::Replaced).unwrap();
    });
    assert_eq!(standing, Standing::Replaced);
    drop(refused);
    assert_eq!(credentials.standing(&own, &refusal).await, Standing::Unknown);
}

/// What becomes of an answer of B to a request with this field.
fn taken_out(captured: Option<&str>, response: Response) -> Response {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let fields: Vec<_> = captured.map(|value| ("Authorization", value)).into_iter().collect();
    let (credentials, _held, _refused) = held(true);
    let request = samples::request("GET", "/", &fields);
    let own = runtime.block_on(credentials.for_request(&request, None));
    let mut observation = answered(response);
    own.take_out(&request, &mut observation);
    match observation {
        Observation::Answered { response, .. } => *response,
        Observation::Failed(failure) => panic!("{failure:?}"),
    }
}

#[track_caller]
fn check_taken_out(captured: Option<&str>, text: &str, expected: &str) {
    let response = taken_out(captured, samples::response(200, &[("X-Echo", text)], text));
    assert_eq!(response.headers.get("x-echo").unwrap(), expected.as_bytes());
    assert_eq!((&response.body.kept[..], response.body.bytes), (expected.as_bytes(), expected.len() as u64));
}

#[test]
fn an_answer_that_repeats_the_credential_is_as_if_it_had_repeated_the_captured_one() {
    let echo = format!("you are Bearer {SECRET}!");
    check_taken_out(Some("Bearer theirs"), &echo, "you are Bearer theirs!");
    check_taken_out(Some("bearer theirs"), &echo, "you are Bearer theirs!");
    check_taken_out(Some("Basic theirs"), &echo, "you are Bearer Basic theirs!");
    check_taken_out(None, &echo, "you are Bearer (credential)!");
    check_taken_out(Some("Bearer theirs"), "nothing of it", "nothing of it");
    check_taken_out(Some("Bearer t"), &format!("{SECRET}{SECRET}"), "tt");
}

/// What is kept of a body of which these first bytes were kept.
#[track_caller]
fn check_cut(kept: &str, expected: &str) {
    let mut cut = samples::response(200, &[], kept);
    cut.body = Body { bytes: 1_000, digest: Some([7; 32]), ..cut.body };
    let Body { kept: got, bytes, digest, complete: _ } = taken_out(None, cut).body;
    assert_eq!((&got[..], bytes, digest), (expected.as_bytes(), 1_000, Some([7; 32])));
    // Of an answer that broke off, nobody knows how much there was.
    let mut broken = samples::response(200, &[], kept);
    broken.body.complete = false;
    let body = taken_out(None, broken).body;
    assert_eq!((&body.kept[..], body.bytes), (expected.as_bytes(), expected.len() as u64));
}

#[test]
fn a_body_that_was_cut_within_the_credential_loses_its_begin() {
    for bytes in 1..SECRET.len() {
        check_cut(&format!("you are {}", &SECRET[..bytes]), "you are ");
    }
    check_cut(&format!("{SECRET} and {}", &SECRET[..4]), "(credential) and ");
    check_cut("you are somebody else", "you are somebody else");
    // What is whole ends where its sender wanted.
    let whole = format!("you are {}", &SECRET[..4]);
    check_taken_out(None, &whole, &whole);
}

proptest! {
    #[test]
    fn taking_out_is_what_replace_does(text in "(s3cret-0f-b|s3cret|[a-c]){0,8}", stand_in in "[a-c]{0,3}") {
        let finder = memmem::Finder::new(SECRET.as_bytes());
        let got = replaced(&finder, text.as_bytes(), stand_in.as_bytes());
        let expected = text.replace(SECRET, &stand_in);
        prop_assert_eq!(got.is_some(), text.contains(SECRET));
        prop_assert_eq!(got.unwrap_or_else(|| text.into_bytes()), expected.into_bytes());
    }
}
