//! JSON, member by member, as it stands in the text.
//!
//! Builds no document, so that everything that is not hidden stays byte for byte. Reads what is broken or cut as far as it
//! goes: what would be hidden in a whole document is hidden in its first half as well.

use std::borrow::Cow;
use std::ops::Range;

use super::path::{Down, Progress};
use super::sets::ByteSet;
use super::splice::Splice;
use super::{RedactTally, Redactor, Rule};

/// JSON within a string within JSON: read so many times.
const NESTED_MAX: u32 = 2;

/// Bytes of a string that are looked at one by one.
const NEAR_BYTES: usize = 16;

/// What numbers are made of, and words without quotes.
static OF_NUMBERS: ByteSet = ByteSet::of(b"0123456789+-.eE");
static OF_WORDS: ByteSet = ByteSet::letters_digits_and(b"_-.+");

/// An object or an array that has begun.
struct Level {
    is_object: bool,
    /// Everything in it is hidden.
    hidden: bool,
    /// Nothing in it is.
    allowed: bool,
    /// The same for the member that comes.
    member_hidden: bool,
    member_allowed: bool,
    /// How far each rule's path has come, for the member or item that comes.
    paths: Vec<Progress>,
}

/// True where nothing but JSON stands in a text, or several documents of it. Strings may be of any kind, and the end may be
/// missing: what is in them is hidden as it is.
pub(super) fn is_sound(text: &[u8]) -> bool {
    let mut at = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    while let Some(byte) = text.get(at) {
        at = match byte {
            b'"' => string_end(text, at.saturating_add(1)).0.saturating_add(1),
            b'{' | b'}' | b'[' | b']' | b':' | b',' => at.saturating_add(1),
            byte if byte.is_ascii_whitespace() => at.saturating_add(1),
            byte if is_of_word(*byte) => {
                let rest = text.get(at..).unwrap_or_default();
                let bytes = rest.iter().position(|byte| !is_of_word(*byte)).unwrap_or(rest.len());
                let word = rest.get(..bytes).unwrap_or_default();
                let is_number = word.iter().all(|byte| OF_NUMBERS.has(*byte));
                if !is_number && !matches!(word, b"true" | b"false" | b"null") {
                    return false;
                }
                at.saturating_add(bytes)
            }
            _ => return false,
        };
    }
    true
}

/// Where the string ends whose first character is at `start`: at its quotes, or with the text. And whether something is escaped
/// in it.
fn string_end(text: &[u8], start: usize) -> (usize, bool) {
    let (mut end, mut is_escaped) = (start, false);
    loop {
        let rest = text.get(end..).unwrap_or_default();
        // Most strings are so short that calling somebody takes longer than to look.
        let (near, far) = rest.split_at_checked(NEAR_BYTES).unwrap_or((rest, b""));
        let near_end = near.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        let far_end = || memchr::memchr2(b'"', b'\\', far).map(|offset| offset.saturating_add(NEAR_BYTES));
        let Some(offset) = near_end.or_else(far_end) else { return (text.len(), is_escaped) };
        end = end.saturating_add(offset);
        if text.get(end) == Some(&b'"') {
            return (end, is_escaped);
        }
        // Whatever is escaped is not the end.
        is_escaped = true;
        end = end.saturating_add(2).min(text.len());
    }
}

/// What is known of a value before it is read.
#[derive(Clone, Copy)]
struct Fate {
    hidden: bool,
    allowed: bool,
}

struct Walk<'a, 't> {
    redactor: &'a Redactor,
    text: &'a [u8],
    splice: Splice<'a>,
    tally: &'t mut RedactTally,
    levels: Vec<Level>,
    /// Levels that are too deep to be kept.
    beyond: usize,
    nested: u32,
    base: Vec<Progress>,
}

impl Redactor {
    /// A document, or several; none when nothing of it is hidden.
    pub(super) fn json(&self, text: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        self.json_nested(text, 0, tally)
    }

    fn json_nested(&self, text: &[u8], nested: u32, tally: &mut RedactTally) -> Option<Vec<u8>> {
        let base = self.json_paths.iter().map(|rule| rule.path.begin()).collect();
        let splice = Splice::new(text);
        Walk { redactor: self, text, splice, tally, levels: Vec::new(), beyond: 0, nested, base }.run()
    }
}

// === impl Walk ===

impl<'a> Walk<'a, '_> {
    fn run(mut self) -> Option<Vec<u8>> {
        let mut at = 0_usize;
        // The last byte that is not white space: quotes of the other kind begin a string behind a few of them only.
        let mut last = b' ';
        while let Some(byte) = self.text.get(at) {
            let start = at;
            at = match byte {
                b'"' => self.string(at),
                b'\'' if !self.levels.is_empty() && matches!(last, b'{' | b'[' | b',' | b':') => {
                    self.string(at)
                }
                b'{' | b'[' => {
                    self.open(*byte == b'{');
                    at.saturating_add(1)
                }
                b'}' | b']' => {
                    self.close();
                    at.saturating_add(1)
                }
                b'-' | b'0'..=b'9' => self.number(at),
                byte if is_of_word(*byte) => self.word(at),
                _ => at.saturating_add(1),
            };
            if !byte.is_ascii_whitespace() {
                last = self.text.get(at.saturating_sub(1).max(start)).copied().unwrap_or_default();
            }
        }
        self.splice.finish()
    }

    fn open(&mut self, is_object: bool) {
        if self.levels.len() >= self.redactor.limits.depth_max {
            self.beyond = self.beyond.saturating_add(1);
            return;
        }
        let Fate { hidden, allowed } = self.fate();
        let above = self.levels.last().map_or(&self.base, |level| &level.paths);
        let paths = if is_object {
            above.clone()
        } else {
            let rules = self.redactor.json_paths.iter().zip(above);
            rules.map(|(rule, progress)| rule.path.step(*progress, Down::Item)).collect()
        };
        let mut level =
            Level { is_object, hidden, allowed, member_hidden: hidden, member_allowed: allowed, paths };
        if !is_object {
            self.redactor.mark(&level.paths, &mut level.member_hidden, &mut level.member_allowed);
        }
        self.levels.push(level);
    }

    fn close(&mut self) {
        if self.beyond > 0 {
            self.beyond = self.beyond.saturating_sub(1);
        } else {
            self.levels.pop();
        }
    }

    /// What becomes of the value that comes.
    fn fate(&self) -> Fate {
        let strict = self.redactor.is_strict();
        match self.levels.last() {
            Some(level) => {
                let allowed = level.member_allowed;
                Fate { hidden: level.member_hidden || (strict && !allowed), allowed }
            }
            None => Fate { hidden: strict, allowed: false },
        }
    }

    /// A string that begins at `at`: a name or a value. Gives the place behind it.
    fn string(&mut self, at: usize) -> usize {
        let start = at.saturating_add(1);
        let (end, is_escaped) = if self.text.get(at) == Some(&b'"') {
            string_end(self.text, start)
        } else {
            let rest = self.text.get(start..).unwrap_or_default();
            let inner =
                rest.get(..memchr::memchr2(b'\'', b'\n', rest).unwrap_or(rest.len())).unwrap_or_default();
            (start.saturating_add(inner.len()), inner.contains(&b'\\'))
        };
        let behind = end.saturating_add(1).min(self.text.len());
        if self.is_name(behind) {
            self.name(start..end, is_escaped);
        } else {
            self.value(start..end, is_escaped);
        }
        behind
    }

    /// True when what ends before `behind` is the name of a member.
    fn is_name(&self, behind: usize) -> bool {
        let rest = self.text.get(behind..).unwrap_or_default();
        self.levels.last().is_some_and(|level| level.is_object)
            && rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
    }

    fn name(&mut self, at: Range<usize>, is_escaped: bool) {
        let redactor = self.redactor;
        let raw = self.text.get(at.clone()).unwrap_or_default();
        let name = if is_escaped { unescaped(raw) } else { Cow::Borrowed(raw) };
        let hides = redactor.json.hide(&name);
        if self.beyond > 0 {
            // Too deep to know where it ends: all that is left of what is known is hidden.
            if hides && let Some(level) = self.levels.last_mut() {
                level.hidden = true;
                level.member_hidden = true;
            }
            return;
        }
        if let Some((level, above)) = self.levels.split_last_mut() {
            level.member_allowed = level.allowed;
            level.member_hidden = level.hidden || hides;
            if !redactor.json_paths.is_empty() {
                let above = above.last().map_or(&self.base, |above| &above.paths);
                let rules = redactor.json_paths.iter().zip(above);
                level.paths.clear();
                level
                    .paths
                    .extend(rules.map(|(rule, progress)| rule.path.step(*progress, Down::Member(&name))));
                redactor.mark(&level.paths, &mut level.member_hidden, &mut level.member_allowed);
            }
        }
        // A map from addresses to something has its secrets in its names.
        if self.looks_at(is_escaped)
            && let Some(hidden) = redactor.text(&name, self.tally)
        {
            self.splice.replace(at, &escaped(&hidden));
        }
    }

    fn value(&mut self, at: Range<usize>, is_escaped: bool) {
        let redactor = self.redactor;
        let raw = self.text.get(at.clone()).unwrap_or_default();
        let Fate { hidden, allowed } = self.fate();
        if allowed || raw.is_empty() {
            return;
        }
        let plain = if is_escaped { unescaped(raw) } else { Cow::Borrowed(raw) };
        if hidden {
            if let Some(token) = redactor.secret(&plain, Rule::Json, self.tally) {
                self.splice.replace(at, &token);
            }
            return;
        }
        let first = plain.trim_ascii_start().first();
        let is_document = matches!(first, Some(b'{' | b'[')) && self.nested < NESTED_MAX;
        let by_structure = if is_document {
            redactor.json_nested(&plain, self.nested.saturating_add(1), self.tally)
        } else {
            None
        };
        let by_looks = if self.looks_at(is_escaped) {
            redactor.text(by_structure.as_deref().unwrap_or(&plain), self.tally)
        } else {
            None
        };
        if let Some(shown) = by_looks.or(by_structure) {
            self.splice.replace(at, &escaped(&shown));
        }
    }

    /// A number that begins at `at`. Gives the place behind it.
    fn number(&mut self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let end =
            at.saturating_add(rest.iter().position(|byte| !OF_NUMBERS.has(*byte)).unwrap_or(rest.len()));
        if self.text.get(end).is_some_and(|byte| is_of_word(*byte)) {
            return self.word(at);
        }
        let digits = self.text.get(at..end).unwrap_or_default();
        let Fate { hidden, allowed } = self.fate();
        if hidden && !allowed {
            if let Some(token) = self.redactor.key.number(digits) {
                self.tally.count(Rule::Json);
                self.splice.replace(at..end, token.as_bytes());
            }
        } else if !allowed
            && self.redactor.has_json_allowed
            && let Some(shown) = self.redactor.text(digits, self.tally)
        {
            self.splice.replace(at..end, &shown);
        }
        end.max(at.saturating_add(1))
    }

    /// Whether the looks of a string matter here. Where nothing is allowed by its place, the whole text is looked at once
    /// more, which costs less; escapes would hide something from that.
    fn looks_at(&self, is_escaped: bool) -> bool {
        self.redactor.has_json_allowed || is_escaped
    }

    /// `true`, `false`, `null`, which hold no secret; or what is no JSON, such as a name or a value without quotes.
    fn word(&mut self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let end = at.saturating_add(rest.iter().position(|byte| !is_of_word(*byte)).unwrap_or(rest.len()));
        let word = self.text.get(at..end).unwrap_or_default();
        if self.is_name(end) {
            self.name(at..end, false);
            return end.max(at.saturating_add(1));
        }
        let Fate { hidden, allowed } = self.fate();
        if hidden
            && !allowed
            && !matches!(word, b"true" | b"false" | b"null")
            && let Some(token) = self.redactor.secret(word, Rule::Json, self.tally)
        {
            self.splice.replace(at..end, &token);
        }
        end.max(at.saturating_add(1))
    }
}

fn is_of_word(byte: u8) -> bool {
    OF_WORDS.has(byte)
}

/// A string without its escapes. What has wrong ones is read as it stands.
fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    let quoted = [b"\"", raw, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(raw),
    }
}

/// Text as it may stand between quotes. What is no UTF-8 had nothing to be escaped.
fn escaped(plain: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(plain) else { return plain.to_vec() };
    let quoted = serde_json::to_vec(text).unwrap_or_default();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_vec()
}
