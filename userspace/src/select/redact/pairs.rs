//! A name, a separator and a value, wherever they stand: `password=…` of a URL or a log, `"password": "…"` of JSON that nobody
//! can parse, `password: …` of a configuration; also where all of that is percent-encoded, or written with entities.
//!
//! Knows no grammar, and so is what is left where one is broken. Reads each byte a bounded number of times: where a value is
//! left alone, its end is not looked for, or was near.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderRev};

use super::Rule;
use super::form::decoded;
use super::head::{SCHEME_BYTES_MAX, is_scheme};
use super::names::Names;
use super::patterns::{AROUND_BYTES, Found, Words, is_plain_around, run, run_back};
use super::sets::{ByteSet, Kinds};
use super::token::RedactKey;
use super::work::looked_at;

/// Whose names count before which separator.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    /// Before `=`.
    pub(super) parameters: &'a Names,
    /// Before `:`.
    pub(super) members: &'a Names,
}

/// Bytes of a name.
const NAME_BYTES_MAX: usize = 64;
/// Quotes, escapes and spaces between a name and its separator, or between that and the value.
const MARKS_BYTES_MAX: usize = 48;
/// Least bytes of a word behind a colon that is no number: `token: e` is code.
const WORD_BYTES_MIN: usize = 4;

/// What may stand around a name or a value without being of it.
const MARKS: [&[u8]; 20] = [
    b"\"", b"'", b"`", b"\\", b" ", b"\t", b"+", b"%22", b"%27", b"%20", b"%5C", b"%5c", b"%09", b"%2522",
    b"%2520", b"&quot;", b"&apos;", b"&#34;", b"&#39;", b"&#x22;",
];

/// Angle brackets, as texts write them, and what they write them with.
static BRACKETS: LazyLock<[Brackets; 5]> = LazyLock::new(|| {
    [
        Brackets::new(Kinds::BRACKET, b"<", b">"),
        Brackets::new(Kinds::AMPERSAND, b"&lt;", b"&gt;"),
        Brackets::new(Kinds::PERCENT, b"%3C", b"%3E"),
        Brackets::new(Kinds::PERCENT, b"%3c", b"%3e"),
        Brackets::new(Kinds::BACKSLASH, b"\\u003c", b"\\u003e"),
    ]
});
/// What names are made of.
static OF_NAMES: ByteSet = ByteSet::letters_digits_and(b"-_.[]%");
static OF_TAGS: ByteSet = ByteSet::letters_digits_and(b"-_.:");
/// What a word without quotes is made of.
static OF_WORDS: ByteSet = ByteSet::of(b" \t\n\r\x0c&;#\"'<>\\,)}`").others();
/// Bytes of a tag in a text.
const TAG_BYTES_MAX: usize = 256;

/// Words that stand for no value.
const NOTHING: [&[u8]; 7] = [b"null", b"true", b"false", b"none", b"nil", b"undefined", b"NULL"];

/// A pair of brackets in one way of writing them.
struct Brackets {
    kind: Kinds,
    open: Finder<'static>,
    open_before: FinderRev<'static>,
    close: Finder<'static>,
}

/// A separator.
struct Separator {
    at: Range<usize>,
    is_colon: bool,
    /// It is percent-encoded, and so is what stands around it.
    is_coded: bool,
}

/// What is known of the name before a separator.
#[derive(Clone, Copy)]
struct Near {
    /// It stands in quotes.
    is_quoted: bool,
    /// It is that of a cookie, which goes to the end of its line.
    is_cookie: bool,
    /// Where it begins, when it is so short that it may stand there by chance.
    short_at: Option<usize>,
}

// === impl Brackets ===

impl Brackets {
    fn new(kind: Kinds, open: &'static [u8], close: &'static [u8]) -> Self {
        Self { kind, open: Finder::new(open), open_before: FinderRev::new(open), close: Finder::new(close) }
    }
}

// === impl Near ===

impl Near {
    /// True when the name is short, and what is around it and at the beginning of this value is no text.
    fn is_by_chance(self, text: &[u8], value: Range<usize>) -> bool {
        self.short_at.is_some_and(|at| !is_plain_around(text, at, value))
    }
}

/// Finds values behind names that say they are secrets.
pub(super) fn pairs(text: &[u8], words: Words, sought: Sought<'_>, key: &RedactKey, found: &mut Vec<Found>) {
    let mut last_end = 0;
    for at in memchr::memchr3_iter(b'=', b':', b'%', text) {
        if at < last_end {
            continue;
        }
        let Some(separator) = separator(text, at) else { continue };
        let names = if separator.is_colon { sought.members } else { sought.parameters };
        let Some(name) = name_before(text, &separator, last_end) else { continue };
        let shown = text.get(name.clone()).unwrap_or_default();
        let is_cookie = separator.is_colon && is_cookie(shown);
        if !is_cookie && !names.hide(&decoded(shown, false)) {
            continue;
        }
        let near = Near {
            is_quoted: name.end < separator.at.start,
            is_cookie,
            short_at: (name.len() < words.name_min).then_some(name.start),
        };
        let Some(value) = value_behind(text, &separator, near) else { continue };
        if near.is_by_chance(text, value.clone()) {
            continue;
        }
        last_end = value.end;
        let plain = decoded(text.get(value.clone()).unwrap_or_default(), false);
        found.push(Found { at: value, rule: Rule::Parameter, with: key.secret(&plain) });
    }
}

/// Finds the contents of elements whose name says that they are secrets, where a text only repeats them: in a string of JSON,
/// or written with entities. `members`: whose names count.
pub(super) fn elements(text: &[u8], kinds: Kinds, members: &Names, key: &RedactKey, found: &mut Vec<Found>) {
    for Brackets { kind, open, open_before, close } in BRACKETS.iter() {
        if !kinds.has(*kind) {
            continue;
        }
        let mut last_end = 0;
        for at in close.find_iter(text) {
            let bound = at.saturating_sub(TAG_BYTES_MAX).max(last_end);
            let Some(begin) = open_before.rfind(text.get(bound..at).unwrap_or_default()) else {
                continue;
            };
            let begin = bound.saturating_add(begin).saturating_add(open.needle().len());
            let tag = text.get(begin..at).unwrap_or_default();
            let is_of_name = |byte: &&u8| OF_TAGS.has(**byte);
            let name = tag.get(..tag.iter().take_while(is_of_name).count()).unwrap_or_default();
            let local = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
            if !members.hide(local) {
                continue;
            }
            let start = at.saturating_add(close.needle().len());
            let rest = text.get(start..).unwrap_or_default();
            let inner = rest.get(..open.find(rest).unwrap_or(rest.len())).unwrap_or_default();
            last_end = start.saturating_add(inner.len());
            let leading = inner.len().saturating_sub(inner.trim_ascii_start().len());
            let (start, inner) = (start.saturating_add(leading), inner.trim_ascii());
            let value = start..start.saturating_add(inner.len());
            found.push(Found { at: value, rule: Rule::Parameter, with: key.secret(&decoded(inner, false)) });
        }
    }
}

fn is_cookie(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"cookie") || name.eq_ignore_ascii_case(b"set-cookie")
}

/// The separator that begins here; none where it is another one, or part of an operator.
fn separator(text: &[u8], at: usize) -> Option<Separator> {
    let byte_at = |at: usize| text.get(at).copied();
    let before = at.checked_sub(1).and_then(byte_at);
    let next = byte_at(at.saturating_add(1));
    let (mut end, is_colon, is_coded) = match byte_at(at)? {
        b'=' if next != Some(b'=') && !matches!(before, Some(b'=' | b'!' | b'<' | b'>')) => (1, false, false),
        b':' if next != Some(b':') && before != Some(b':') => (1, true, false),
        b'%' => {
            // `%3D`, `%253D`, and so on.
            let fives =
                text.get(at.saturating_add(1)..)?.chunks(2).take(2).take_while(|pair| *pair == b"25").count();
            let digits = at.saturating_add(1).saturating_add(fives.saturating_mul(2));
            match text.get(digits..digits.saturating_add(2))? {
                b"3D" | b"3d" => (digits.saturating_add(2).saturating_sub(at), false, true),
                b"3A" | b"3a" => (digits.saturating_add(2).saturating_sub(at), true, true),
                _ => return None,
            }
        }
        _ => return None,
    };
    // `=>` and `:=`.
    let is_arrow = |byte: u8| (is_colon && byte == b'=') || (!is_colon && byte == b'>');
    if !is_coded && next.is_some_and(is_arrow) {
        end = 2;
    }
    Some(Separator { at: at..at.saturating_add(end), is_colon, is_coded })
}

/// Where the name is that stands before a separator.
fn name_before(text: &[u8], separator: &Separator, from: usize) -> Option<Range<usize>> {
    let bound = separator.at.start.saturating_sub(MARKS_BYTES_MAX).max(from);
    let mut end = separator.at.start;
    while end > bound {
        let bytes = mark_before(text.get(bound..end).unwrap_or_default());
        if bytes == 0 {
            break;
        }
        end = end.saturating_sub(bytes);
    }
    let mut start = run_back(text, end, NAME_BYTES_MAX, |byte| OF_NAMES.has(byte)).max(from);
    // What is coded there is not of the name, unless it is a bracket or a letter.
    if let Some(code) = text.get(start..end)?.iter().rposition(|byte| *byte == b'%') {
        let code = start.saturating_add(code);
        if let Some((_, bytes)) = coded_byte(text.get(code..end)?).filter(|(byte, _)| !OF_NAMES.has(*byte)) {
            start = code.saturating_add(bytes);
        }
    }
    (start < end).then_some(start..end)
}

/// Bytes of the mark that a text ends with.
fn mark_before(text: &[u8]) -> usize {
    match text.last() {
        Some(b'"' | b'\'' | b'`' | b'\\' | b' ' | b'\t' | b'+') => 1,
        // The others end with one of these.
        Some(b'0' | b'2' | b'7' | b'9' | b'C' | b'c' | b';') => {
            MARKS.iter().find(|mark| text.ends_with(mark)).map_or(0, |mark| mark.len())
        }
        Some(_) | None => 0,
    }
}

/// The byte that `%xx` or `%25xx` at the beginning stands for, and its length there.
fn coded_byte(text: &[u8]) -> Option<(u8, usize)> {
    let fives = text.get(1..)?.chunks(2).take(2).take_while(|pair| *pair == b"25").count();
    let digits = fives.saturating_mul(2).saturating_add(1);
    let pair = std::str::from_utf8(text.get(digits..digits.saturating_add(2))?).ok()?;
    let byte =
        u8::from_str_radix(pair, 16).ok().filter(|_| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((byte, digits.saturating_add(2)))
}

/// Where the value is that stands behind a separator, without its quotes; none where there is none.
fn value_behind(text: &[u8], separator: &Separator, near: Near) -> Option<Range<usize>> {
    let mut start = separator.at.end;
    let bound = start.saturating_add(MARKS_BYTES_MAX).min(text.len());
    let mut quote: Option<&[u8]> = None;
    let mut escapes = 0_usize;
    while start < bound && quote.is_none() {
        let rest = text.get(start..)?;
        let is_space =
            |byte: &u8| matches!(byte, b' ' | b'\t') || (near.is_quoted && matches!(byte, b'\r' | b'\n'));
        // A plus is a space only where spaces are coded.
        let mark = MARKS
            .iter()
            .copied()
            .find(|mark| rest.starts_with(mark) && (*mark != b"+" || separator.is_coded));
        match mark {
            Some(b"\\") => escapes = escapes.saturating_add(1),
            Some(mark) if !matches!(mark, b" " | b"\t" | b"+" | b"%20" | b"%09" | b"%2520") => {
                quote = Some(mark)
            }
            Some(_) => {}
            None if rest.first().is_some_and(is_space) => {}
            None => break,
        }
        start = start.saturating_add(mark.map_or(1, <[u8]>::len));
    }
    let first = *text.get(start)?;
    if let Some(quote) = quote {
        let end = quoted_end(text, start, quote, escapes);
        let start = behind_scheme(text.get(..end)?, start);
        return (start < end).then_some(start..end);
    }
    if near.is_cookie {
        let line = memchr::memchr3(b'\r', b'\n', b'"', text.get(start..)?);
        let end = line.map_or(text.len(), |bytes| start.saturating_add(bytes));
        return (start < end).then_some(start..end);
    }
    if ends(first) || matches!(first, b'=' | b'{' | b'[' | b'(') {
        return None;
    }
    let start = behind_scheme(text, start);
    // A word of random bytes may be long, and the next name may stand in it: its end is not looked for.
    let begin = text.get(..start.saturating_add(AROUND_BYTES)).unwrap_or(text);
    if near.is_by_chance(text, start..word_end(begin, start, separator.is_coded)) {
        return None;
    }
    let end = word_end(text, start, separator.is_coded);
    let word = text.get(start..end)?;
    let is_word = !separator.is_colon || word.len() >= WORD_BYTES_MIN || word.iter().all(u8::is_ascii_digit);
    let is_nothing = separator.is_colon && NOTHING.contains(&word);
    (start < end && is_word && !is_nothing).then_some(start..end)
}

fn ends(byte: u8) -> bool {
    !OF_WORDS.has(byte)
}

/// The end of a word without quotes.
fn word_end(text: &[u8], start: usize, is_coded: bool) -> usize {
    let mut end = start;
    loop {
        end = run(text, end, usize::MAX, |byte| !ends(byte) && (!is_coded || byte != b'%'));
        let rest = text.get(end..).unwrap_or_default();
        match coded_byte(rest).filter(|_| is_coded && rest.first() == Some(&b'%')) {
            Some((byte, bytes)) if !ends(byte) => end = end.saturating_add(bytes),
            Some(_) => return end,
            None if is_coded && rest.first() == Some(&b'%') => end = end.saturating_add(1),
            None => return end,
        }
    }
}

/// The end of a value in quotes: the next ones like those, behind as many backslashes; else that of the line.
fn quoted_end(text: &[u8], start: usize, quote: &[u8], escapes: usize) -> usize {
    let rest = text.get(start..).unwrap_or_default();
    let first = quote.first().copied().unwrap_or(b'\n');
    let end = memchr::memchr3_iter(first, b'\r', b'\n', rest).find_map(|at| {
        let (before, behind) = rest.split_at_checked(at)?;
        if behind.starts_with(quote) {
            let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
            // One that is escaped more than those around it is a part of the value.
            return (backslashes <= escapes).then(|| at.saturating_sub(backslashes));
        }
        matches!(behind.first(), Some(b'\r' | b'\n')).then_some(at)
    });
    let bytes = end.unwrap_or(rest.len());
    looked_at(bytes);
    start.saturating_add(bytes)
}

/// The start of a value behind the scheme of a credential, such as `Basic`, which is no secret. The text ends with the value,
/// or somewhere behind its line.
fn behind_scheme(text: &[u8], start: usize) -> usize {
    let value = text.get(start..).unwrap_or_default();
    let begin = value.get(..=SCHEME_BYTES_MAX).unwrap_or(value);
    let scheme = memchr::memchr(b' ', begin).and_then(|at| begin.get(..at));
    let Some(scheme) = scheme.filter(|scheme| is_scheme(scheme)) else { return start };
    let behind = run(text, start.saturating_add(scheme.len()), usize::MAX, |byte| {
        matches!(byte, b' ' | b'\t' | b'\x0c')
    });
    let is_alone = text.get(behind).is_none_or(|byte| matches!(byte, b'\r' | b'\n'));
    if is_alone { start } else { behind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_is_known_by_its_last_byte() {
        for mark in MARKS {
            assert_eq!(mark_before(&[b"x", mark].concat()), mark.len());
        }
        assert_eq!([&b""[..], b"x", b"x2", b"c;", b"%23"].map(mark_before), [0; 5]);
    }
}
