//! A name, a separator and a value, wherever they stand: `password=…` of a URL or a log, `"password": "…"` of JSON that nobody
//! can parse, `password: …` of a configuration; also where all of that is percent-encoded, or written with entities.
//!
//! Knows no grammar, and so is what is left where one is broken. Reads each byte a bounded number of times.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderRev};

use super::Rule;
use super::form::decoded;
use super::head::is_scheme;
use super::names::Names;
use super::patterns::{Found, Words, is_plain_around, run, run_back};
use super::sets::{ByteSet, Kinds};
use super::token::RedactKey;

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

// === impl Brackets ===

impl Brackets {
    fn new(kind: Kinds, open: &'static [u8], close: &'static [u8]) -> Self {
        Self { kind, open: Finder::new(open), open_before: FinderRev::new(open), close: Finder::new(close) }
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
        let is_quoted = name.end < separator.at.start;
        let Some(value) = value_behind(text, &separator, is_quoted, is_cookie) else { continue };
        if name.len() < words.name_min && !is_plain_around(text, name.start, value.clone()) {
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
fn value_behind(
    text: &[u8],
    separator: &Separator,
    name_is_quoted: bool,
    is_line: bool,
) -> Option<Range<usize>> {
    let mut start = separator.at.end;
    let bound = start.saturating_add(MARKS_BYTES_MAX).min(text.len());
    let mut quote: Option<&[u8]> = None;
    let mut escapes = 0_usize;
    while start < bound && quote.is_none() {
        let rest = text.get(start..)?;
        let is_space =
            |byte: &u8| matches!(byte, b' ' | b'\t') || (name_is_quoted && matches!(byte, b'\r' | b'\n'));
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
        let start = behind_scheme(text, start, end);
        return (start < end).then_some(start..end);
    }
    if is_line {
        let line = memchr::memchr3(b'\r', b'\n', b'"', text.get(start..)?);
        let end = line.map_or(text.len(), |bytes| start.saturating_add(bytes));
        return (start < end).then_some(start..end);
    }
    if ends(first) || matches!(first, b'=' | b'{' | b'[' | b'(') {
        return None;
    }
    let line_end = run(text, start, usize::MAX, |byte| !matches!(byte, b'\r' | b'\n'));
    let start = behind_scheme(text, start, line_end);
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
    let line = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
    let line = rest.get(..line).unwrap_or_default();
    let mut from = 0_usize;
    while let Some(at) = line.get(from..).and_then(|rest| memchr::memmem::find(rest, quote)) {
        let at = from.saturating_add(at);
        let before = line.get(..at).unwrap_or_default();
        let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
        // One that is escaped more than those around it is a part of the value.
        if backslashes <= escapes {
            return start.saturating_add(at).saturating_sub(backslashes);
        }
        from = at.saturating_add(quote.len());
    }
    start.saturating_add(line.len())
}

/// The start of a value behind the scheme of a credential, such as `Basic`, which is no secret.
fn behind_scheme(text: &[u8], start: usize, end: usize) -> usize {
    let value = text.get(start..end).unwrap_or_default();
    let Some((scheme, rest)) = memchr::memchr(b' ', value).and_then(|at| value.split_at_checked(at)) else {
        return start;
    };
    let rest = rest.trim_ascii_start();
    if is_scheme(scheme) && !rest.is_empty() { end.saturating_sub(rest.len()) } else { start }
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
