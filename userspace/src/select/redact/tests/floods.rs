//! Texts of one thing that stands there again and again: what a byte costs must not depend on how many there are.
//!
//! Asks nothing of what is hidden.

use super::super::work::bytes_of;
use super::super::*;

/// What secrets are made of, what is around them, and what ends nothing.
const PIECES: [&[u8]; 44] = [
    b"a@bb.cc_",
    b"@",
    b"%40",
    b"example.org",
    b"://",
    b"password",
    b"pin",
    b"cookie",
    b"token",
    b"=",
    b":",
    b"%3D",
    b"\"",
    b"'",
    b"%22",
    b"&quot;",
    b"\\",
    b"<",
    b">",
    b"&lt;",
    b"bearer",
    b"xearer",
    b"basic",
    b"Basic ",
    b" ",
    b"+",
    b"%20",
    b"\t",
    b"\n",
    b"\x01",
    b"\xff",
    b"_",
    b".",
    b"1",
    b"{",
    b",",
    b"&",
    b"QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    b"eyJhbGciOiJSUzI1NiJ9.eyJh.x",
    b"4111111111111111",
    b"ghp_",
    b"AKIA",
    b"-----BEGIN PRIVATE KEY-----",
    b"null",
];

/// Bytes of a short flood: more than most of what is looked at at once.
const SHORT_BYTES: usize = 2 << 10;

/// How many times as long the long one is, and how many times as much it may cost. A search from each of its pieces to its end
/// would cost sixteen times as much.
const TIMES: usize = 4;
const COST_MAX: u64 = 8;

/// The bytes that one pass over a text looks at.
fn cost(text: &[u8], is_cut: bool) -> u64 {
    let (key, names) = (super::key(), Names::default());
    let about = About { names: Sought { parameters: &names, members: &names }, is_cut };
    bytes_of(|| drop(Patterns::default().hide(text, about, &key, &mut RedactTally::default())))
}

/// This again and again, behind these bytes.
#[track_caller]
fn check(begin: &[u8], unit: &[u8], is_cut: bool) {
    let [short, long] = [SHORT_BYTES, SHORT_BYTES.saturating_mul(TIMES)].map(|bytes| {
        let flood = [begin, &unit.repeat(bytes.div_ceil(unit.len()))].concat();
        cost(&flood, is_cut)
    });
    let most = short.max(SHORT_BYTES as u64).saturating_mul(COST_MAX);
    assert!(long <= most, "{} (is_cut: {is_cut}): {short}, then {long}", unit.escape_ascii());
}

#[test]
fn members_of_one_line() {
    check(b"[", b"{\"id\":1,\"pin\":1234},", false);
    check(b"[", b"{\"token\":\"aaaaaaaaaaaaaaaa\"},", false);
    check(b"", b"pin=1&", false);
}

#[test]
fn words_that_hold_the_next_one() {
    for unit in [&b"bearer+"[..], b"Xearer+bearer+", b"basic+", b"pin=\x01"] {
        check(b"", unit, false);
        check(b"", unit, true);
        check(b"\xff", unit, false);
    }
}

#[test]
fn pieces_that_touch() {
    check(b"", b"a@bb.cc_", false);
}

#[test]
fn each_piece_beside_each_other() {
    for first in PIECES {
        PIECES.iter().for_each(|second| check(b"", &[first, second].concat(), false));
    }
}
