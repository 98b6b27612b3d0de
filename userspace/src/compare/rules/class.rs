//! What kind of value a text looks like.
//!
//! Never a reason to hide anything by itself: a rule names the class and the place.

use std::net::IpAddr;

use super::value::Text;

/// The classes that a rule may name.
pub(super) const CLASSES: [&str; 6] = ["timestamp", "uuid", "hash", "nonce", "counter", "ip"];

/// True when `text` is of the class named `class`, one of [`CLASSES`].
pub(super) fn is_of_class(text: &Text<'_>, class: &str) -> bool {
    let plain = text.text.trim();
    match class {
        "timestamp" => text.time().is_some() && plain.len() >= 10,
        "uuid" => is_uuid(plain),
        "hash" => [32, 40, 56, 64, 96, 128].contains(&plain.len()) && plain.bytes().all(is_hex),
        "nonce" => is_nonce(plain),
        "counter" => !plain.is_empty() && plain.len() <= 20 && plain.bytes().all(|b| b.is_ascii_digit()),
        "ip" => plain.parse::<IpAddr>().is_ok(),
        _ => false,
    }
}

fn is_hex(b: u8) -> bool {
    b.is_ascii_hexdigit()
}

/// RFC 9562 section 4: 8-4-4-4-12 hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let mut groups = text.split('-');
    let fit = lengths
        .into_iter()
        .all(|length| groups.next().is_some_and(|group| group.len() == length && group.bytes().all(is_hex)));
    fit && groups.next().is_none()
}

/// At least 16 characters of base64 or hexadecimal, with digits and letters in them: nobody's word.
fn is_nonce(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+/=-_".contains(&b);
    text.len() >= 16
        && text.bytes().all(allowed)
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}
