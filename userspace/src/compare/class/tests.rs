//! Tests of the recogniser of values.
//!
//! Each brings texts and says what they are.

use super::*;

#[track_caller]
fn check(expected: ValueClass, values: &[&str]) {
    for value in values {
        assert_eq!(class_of(Some(value)), expected, "{value}");
    }
}

#[test]
fn classes_of_shown_values() {
    assert_eq!(class_of(None), ValueClass::Absent);
    check(ValueClass::Null, &["null"]);
    check(ValueClass::Bool, &["true", "false"]);
    check(ValueClass::Empty, &["\"\"", "\"  \"", ""]);
    check(ValueClass::List, &["[]", "[1,2"]);
    check(ValueClass::Object, &["{}"]);
    check(ValueClass::Number, &["0", "-1.5e3", "\"42\"", "12345", "99.90"]);
    check(
        ValueClass::Timestamp,
        &[
            "\"2026-08-22T10:11:12Z\"",
            "\"2026-08-22T10:11:12.123456+02:00\"",
            "2026-08-22 10:11:12",
            "2026-08-22",
            "10:11:12",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "1787400000",
            "1787400000.25",
            "1787400000123",
            "\"1787400000123456789\"",
        ],
    );
    check(
        ValueClass::Uuid,
        &[
            "\"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
            "urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6",
            "{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}",
            "u65f9296c-7dec-11d0-a765-00a0c91e6bf6",
            "ord_f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        ],
    );
    check(
        ValueClass::Hash,
        &[
            "\"9e107d9d372bb6826bd81d3542a419d6\"",
            "W/\"3f9ac01e\"",
            "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            "req_8fK2mQ04xTz1",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
            "8fK2mQ04xTz1; Path=/; HttpOnly",
            "\"2c26b46b68ffc68ff99b453c1d304134134…",
            "k3j9x2m7q8w1",
            "p8fh2kd92nn4mvq0alwzt6rhe3",
            "dGhpc0lzQVRva2VuT2Y",
        ],
    );
    check(ValueClass::Ip, &["192.0.2.7", "\"2001:db8::1\"", "192.0.2.7:8080"]);
    check(
        ValueClass::Text,
        &[
            "\"The quick brown fox\"",
            "internationalisation",
            "text/html; charset=utf-8",
            "/users/anna/albums/summer",
            "cafebabe",
            "HelloWorldAgain",
            "v1.2.3",
            "20-08-x",
            "2026-99-99",
            "user_17",
            "h264",
            "version2026beta",
            "AddressLine2Text",
        ],
    );
}

#[test]
fn a_counter_is_a_number_that_keeps_rising() {
    let counts = |values: &[f64]| {
        let mut trend = Trend::default();
        values.iter().for_each(|value| trend.observe(*value));
        trend.is_counter()
    };
    let rising: Vec<f64> = (0..40).map(f64::from).collect();
    assert!(counts(&rising));
    assert!(!counts(&[1.0, 2.0, 3.0, 4.0, 5.0]));
    let behind_time: Vec<f64> = rising.chunks(4).flat_map(|some| some.iter().rev().copied()).collect();
    assert!(counts(&behind_time), "some are compared late");
    assert!(!counts(&[7.0; 30]));
    assert!(!counts(&[
        5.0, 7.0, 3.0, 9.0, 1.0, 8.0, 2.0, 9.0, 4.0, 6.0, 5.0, 9.0, 3.0, 8.0, 1.0, 9.0, 2.0, 3.0
    ]));
}

#[track_caller]
fn check_pair(
    control: &str,
    candidate: &str,
    expected: (ValueClass, ValueClass),
    numbers: Option<(f64, f64)>,
) {
    let difference = Difference {
        path: "x".to_owned(),
        kind: crate::model::DifferenceKind::Value,
        place: "x".to_owned(),
        control: Some(control.to_owned()),
        candidate: Some(candidate.to_owned()),
    };
    let Transition { control: a, candidate: b } = transition_of(&difference);
    assert_eq!((a, b), expected, "{control} {candidate}");
    let (a, b) = numbers_of(&difference);
    assert_eq!(a.zip(b), numbers, "{control} {candidate}");
}

#[test]
fn two_values_are_of_the_class_of_the_part_in_which_they_differ() {
    use ValueClass::{Hash, Number, Text, Timestamp, Uuid};
    check_pair("/orders/17", "/orders/203", (Number, Number), Some((17.0, 203.0)));
    check_pair(
        "\"/orders/17/lines?all=1\"",
        "\"/orders/18/lines?all=1\"",
        (Number, Number),
        Some((17.0, 18.0)),
    );
    check_pair("\"ord-17\"", "\"ord-18\"", (Number, Number), Some((17.0, 18.0)));
    check_pair("user17", "user18", (Number, Number), Some((17.0, 18.0)));
    check_pair("/a/2026-08-22", "/a/2026-08-23", (Timestamp, Timestamp), None);
    let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    let (a, b) = (format!("/o/{uuid}"), format!("/o/e{}", &uuid[1..]));
    check_pair(&a, &b, (Hash, Hash), None);
    check_pair(&a[3..], &b[3..], (Uuid, Uuid), None);
    // Eight hexadecimal digits, of which some are no letters.
    check_pair("3f9ac01e", "12345678", (Hash, Hash), None);
    check_pair("8fK2mQ04xTz1", "aBcDeFgHiJkL", (Hash, Hash), None);

    check_pair("/orders/17", "/basket/17", (Text, Text), None);
    check_pair("/orders/17", "/orders/17/edit", (Text, Text), None);
    check_pair("/orders/17", "/orders/", (Text, Text), None);
    check_pair("ord-17", "inv-17", (Text, Text), None);
    check_pair("v1.2.3", "v1.2.4", (Text, Text), None);
    check_pair("in 17 days", "in 18 days", (Text, Text), None);
    check_pair("8fK2mQ04xTz1", "unauthorised", (Hash, Text), None);
}

#[test]
fn a_key_names_one_of_many_by_its_number_or_id() {
    let names = |key: &str| is_name_of_one(key);
    for key in [
        "17",
        "2026-08-22",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "10.0.0.1",
        "3f9ac01e",
        "user_17",
        "item-204",
        "u65f9296c-7dec-11d0-a765-00a0c91e6bf6",
        "cus_8fK2mQ04xTz1",
    ] {
        assert!(names(key), "{key}");
    }
    for key in ["id", "line1", "address_2", "h1", "sha256", "total_eur", "_17", "x_1_17", "created_at"] {
        assert!(!names(key), "{key}");
    }
}

#[track_caller]
fn check_rule(class: &str, yes: &[&str], no: &[&str]) {
    yes.iter().for_each(|text| assert!(is_of_rule_class(text, class), "{class} {text}"));
    no.iter().for_each(|text| assert!(!is_of_rule_class(text, class), "{class} {text}"));
}

#[test]
fn rules_name_what_noise_sees() {
    check_rule("timestamp", &["2026-08-22T10:11:12Z", "1787400000", "10:11:12"], &["17", "never", "2026"]);
    check_rule("uuid", &["f81d4fae-7dec-11d0-a765-00a0c91e6bf6"], &["f81d4fae-7dec-11d0"]);
    check_rule(
        "hash",
        &["3f9ac01e", "sha256:9e107d9d372bb6826bd81d3542a419d6"],
        &["cafebabe", "req_8fK2mQ04xTz1"],
    );
    check_rule(
        "nonce",
        &["3f9ac01e", "req_8fK2mQ04xTz1", "p8fh2kd92nn4mvq0alwzt6rhe3"],
        &["17", "Anna", "v1.2.3"],
    );
    check_rule("counter", &["12345", "0"], &["-1", "1.5", "", "user_17"]);
    check_rule("ip", &["10.0.0.1", "[::1]:80"], &["10.0.0"]);
    RULE_CLASSES.iter().for_each(|class| check_rule(class, &[], &["", "a word"]));
}

proptest::proptest! {
    #[test]
    fn parts_of_any_texts_are_parts_of_them(a: String, b: String) {
        if let Some((x, y)) = parts(&a, &b) {
            assert!(a.contains(x) && b.contains(y));
        }
    }

    #[test]
    fn any_text_has_a_class(text: String) {
        assert!(ValueClass::ALL.contains(&class_of(Some(&text))));
    }
}
