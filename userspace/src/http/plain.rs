//! The heads that nearly all are: a start line with one space between its parts, and fields of a name, a colon, perhaps
//! a space, and a value, every line ended by CRLF.
//!
//! Decides about no other head, whole or not: those are read by `httparse`, or by lines, with the same result for these.

use std::ops::Range;

use crate::model::{FieldPlace, Version};

/// A whole head in its plain form.
#[derive(Debug)]
pub(super) struct Plain<L> {
    pub(super) line: L,
    pub(super) fields: Vec<FieldPlace>,
    /// Its length in bytes.
    pub(super) bytes: usize,
}

/// Where the parts of a request line lie.
#[derive(Debug)]
pub(super) struct RequestLine {
    pub(super) method: Range<usize>,
    pub(super) target: Range<usize>,
    pub(super) version: Version,
}

/// What a status line says.
#[derive(Debug)]
pub(super) struct StatusLine {
    pub(super) status: u16,
    pub(super) version: Version,
}

/// Room for as many fields is made at first. Most heads have no more.
const FIELDS_USUAL: usize = 16;

const VERSION_BYTES: usize = 8;

/// The request head with which `bytes` begins.
pub(super) fn request(bytes: &[u8]) -> Option<Plain<RequestLine>> {
    let method_bytes = run(bytes, no_word);
    let rest = bytes.get(method_bytes..)?.strip_prefix(b" ")?;
    let target_bytes = run(rest, not_visible);
    let rest = rest.get(target_bytes..)?.strip_prefix(b" ")?;
    let (first, rest) = rest.split_first_chunk::<VERSION_BYTES>()?;
    let version = version(first)?;
    let (fields, bytes) = fields(bytes, rest.strip_prefix(b"\r\n")?)?;
    let target = method_bytes.saturating_add(1);
    let line =
        RequestLine { method: 0..method_bytes, target: target..target.saturating_add(target_bytes), version };
    (method_bytes > 0 && target_bytes > 0).then_some(Plain { line, fields, bytes })
}

/// The response head with which `bytes` begins.
pub(super) fn response(bytes: &[u8]) -> Option<Plain<StatusLine>> {
    let (first, rest) = bytes.split_first_chunk::<VERSION_BYTES>()?;
    let version = version(first)?;
    let ([b' ', digits @ .., b' '], rest) = rest.split_first_chunk::<5>()? else { return None };
    let status = digits.iter().try_fold(0u16, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u16::from(digit))
    })?;
    let rest = rest.get(run(rest, control)..)?;
    let (fields, bytes) = fields(bytes, rest.strip_prefix(b"\r\n")?)?;
    Some(Plain { line: StatusLine { status, version }, fields, bytes })
}

fn version(bytes: &[u8; VERSION_BYTES]) -> Option<Version> {
    match bytes {
        b"HTTP/1.1" => Some(Version::Http11),
        b"HTTP/1.0" => Some(Version::Http10),
        _ => None,
    }
}

/// The fields of `head` with which `lines`, its end, begins, and how long the head is with the empty line behind them.
#[inline]
fn fields(head: &[u8], mut lines: &[u8]) -> Option<(Vec<FieldPlace>, usize)> {
    // Places are told in 32 bits, so that none has to be looked at.
    let head_bytes = u32::try_from(head.len()).ok()?;
    let mut fields = Vec::with_capacity(FIELDS_USUAL);
    loop {
        // The lines are a part of the head.
        let name_start = head_bytes.wrapping_sub(lines.len() as u32);
        if let Some(behind) = lines.strip_prefix(b"\r\n") {
            return Some((fields, head.len().saturating_sub(behind.len())));
        }
        let name_bytes = run(lines, no_word);
        let (value, before_value) = match lines.get(name_bytes..)? {
            [b':', b' ', value @ ..] => (value, 2),
            [b':', value @ ..] => (value, 1),
            _ => return None,
        };
        let value_bytes = run(value, control);
        let (value, rest) = value.split_at_checked(value_bytes)?;
        lines = rest.strip_prefix(b"\r\n")?;
        if name_bytes == 0 || value.first() == Some(&b' ') || value.last() == Some(&b' ') {
            return None;
        }
        let name_end = name_start.wrapping_add(name_bytes as u32);
        let value_start = name_end.wrapping_add(before_value);
        let value_end = value_start.wrapping_add(value_bytes as u32);
        fields.push(FieldPlace { name_start, name_end, value_start, value_end });
    }
}

/// How many bytes stand at the start of `bytes` before the first of others, as one of the functions below tells them.
#[inline(always)]
fn run(bytes: &[u8], others: impl Fn(u64) -> u64) -> usize {
    let first = |word| others(word) & HIGHEST;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut before = 0usize;
    for word in words {
        let found = first(u64::from_le_bytes(*word));
        if found != 0 {
            return before.wrapping_add(found.trailing_zeros() as usize / 8);
        }
        before = before.wrapping_add(8);
    }
    // Zero is another byte for all of them.
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(last, byte)| *last = *byte);
    before.wrapping_add(first(u64::from_le_bytes(last)).trailing_zeros() as usize / 8)
}

// Eight bytes at a time. What these tell of a byte is its highest bit in what they give; the other bits say nothing.

/// One in each byte.
const EACH: u64 = u64::MAX / 0xff;

const HIGHEST: u64 = EACH << 7;

/// Bytes whose lower seven bits are not less than `floor`, which is at most 0x80. Nothing is borrowed from the next byte.
fn at_least(word: u64, floor: u8) -> u64 {
    (word | HIGHEST).wrapping_sub(EACH.wrapping_mul(u64::from(floor)))
}

/// Other bytes than letters, digits, `-` and `.`, of which methods and names of fields are made, as far as they are
/// known; tokens may have more (RFC 9110 section 5.6.2).
fn no_word(word: u64) -> u64 {
    let small = word | (EACH << 5);
    let letters = at_least(small, b'a') & !at_least(small, b'{');
    let digits = at_least(word, b'-') & !at_least(word, b':');
    let slashes = !at_least(word ^ EACH.wrapping_mul(u64::from(b'/')), 1);
    word | !(letters | (digits & !slashes))
}

/// Others than the visible ones of ASCII.
fn not_visible(word: u64) -> u64 {
    word | !at_least(word, b'!') | at_least(word, 0x7f)
}

/// Control characters.
fn control(word: u64) -> u64 {
    (!at_least(word, b' ') | at_least(word, 0x7f)) & !word
}

#[cfg(test)]
mod tests {
    use super::super::head::{self, Parsed};
    use super::*;
    use proptest::prelude::*;

    const REQUEST: &str = "GET /a?b=c HTTP/1.1\r\nHost: shop.example:80\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
        Accept: */*\r\nCookie: a=b; c=\u{e9}\r\nX-Empty:\r\nX-Tight:1\r\n\r\n";
    const RESPONSE: &str =
        "HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc";

    /// Where a plain head was found, whoever reads all heads has found the same.
    fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Some(plain) = request(bytes).filter(|plain| plain.line.method.len() <= head::METHOD_BYTES_MAX)
        {
            let (Parsed::Whole(one, length), Parsed::Whole(two, length_two)) =
                (head::request(bytes), head::any_request(bytes))
            else {
                panic!("no request: {}", bytes.escape_ascii())
            };
            prop_assert_eq!((plain.bytes, length), (length_two, length_two));
            prop_assert_eq!((one.method, one.target, one.version), (two.method, two.target, two.version));
            prop_assert_eq!((one.headers, one.marks), (two.headers, two.marks));
        }
        if let Some(plain) = response(bytes) {
            let (Parsed::Whole(one, length), Parsed::Whole(two, length_two)) =
                (head::response(bytes), head::any_response(bytes))
            else {
                panic!("no response: {}", bytes.escape_ascii())
            };
            prop_assert_eq!((plain.bytes, length), (length_two, length_two));
            prop_assert_eq!((one.status, one.version), (two.status, two.version));
            prop_assert_eq!((one.headers, one.marks), (two.headers, two.marks));
        }
        Ok(())
    }

    #[test]
    fn usual_heads_are_plain() {
        let found = request(REQUEST.as_bytes()).expect("it is plain");
        assert_eq!((found.fields.len(), found.bytes), (6, REQUEST.len()));
        let found = response(RESPONSE.as_bytes()).expect("it is plain");
        assert_eq!((found.line.status, found.fields.len(), found.bytes), (404, 2, RESPONSE.len() - 3));
        for head in [REQUEST, RESPONSE] {
            check(head.as_bytes()).expect("both readers find the same");
        }
    }

    #[test]
    fn each_byte_of_a_plain_head_may_be_any_other() {
        for head in [REQUEST, RESPONSE] {
            for at in 0..head.len() {
                for byte in 0..=u8::MAX {
                    let mut bytes = head.as_bytes().to_vec();
                    bytes[at] = byte;
                    check(&bytes).expect("both readers find the same");
                }
                check(&head.as_bytes()[..at]).expect("both readers find the same");
            }
        }
    }

    proptest! {
        #[test]
        fn finds_what_others_find(
            start in prop::sample::select(vec!["GET / HTTP/1.1", "HTTP/1.1 200 OK", "M.-_ * HTTP/1.0", "HTTP/1.1 99 "]),
            fields in prop::collection::vec(("[a-z:\\- ]{0,10}", "[ \t]{0,2}", "[ -~\t\u{80}-\u{ff}]{0,20}", 0usize..20), 0..6),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            behind in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let mut bytes = format!("{start}\r\n").into_bytes();
            for (name, space, value, end) in fields {
                let end = ["\n", "\r", "\r\n\r\n"].get(end).unwrap_or(&"\r\n");
                bytes.extend(format!("X{name}:{space}{value}{end}").bytes());
            }
            bytes.extend(b"\r\n");
            bytes.extend(behind);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            check(&bytes)?;
        }
    }
}
