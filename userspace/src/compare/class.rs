//! Tells what kind of value a text is, from how it looks: the one place that does.
//!
//! Guesses, and is never a reason alone: for noise a class only sets how boldly evidence is weighed, and a rule names the
//! place besides the class.
//!
//! | text | class |
//! |---|---|
//! | `2026-08-22T10:11:12Z`, `10:11:12`, `Sun, 06 Nov 1994 08:49:37 GMT`, a number since 1970 that lies in 2000 to 2099 | timestamp |
//! | 8-4-4-4-12 hexadecimal digits, also in braces, as a URN, or behind letters (`u65f9296c-…`) | uuid |
//! | an address, with or without a port | ip |
//! | one word with a part that no person wrote: hexadecimal, base64, base36 | hash |
//! | any other number | number; a counter is known from the history of its path alone ([`Trend`]) |
//!
//! Two values are looked at together where one alone says too little: `/orders/17` and `/orders/18` differ in a number,
//! and a text of eight digits is a hash where the other one is ([`Difference::transition`](transition_of)).

use std::net::{IpAddr, SocketAddr};

use crate::model::{Difference, Transition, ValueClass};

/// Steps after which a number that kept rising is a counter.
const RISES_MIN: u32 = 8;

/// Rises after which a number that is not known to be a counter is none.
const STEPS_MIN: u32 = 16;

/// Steps that did not go up, beyond which the same is so.
const FALLS_MAX: u32 = 3;

/// How much of the way to the newest value the level of a [`Trend`] goes: it lags some eight values behind, since
/// exchanges are compared in another order than they were answered in.
const LEVEL_STEP: f64 = 0.125;

/// Seconds since 1970 that are taken for a time: the years 2000 to 2099.
const EPOCH_SECONDS: std::ops::Range<f64> = 946_684_800.0..4_102_444_800.0;

/// Longest text that is looked at for a part that differs; longer ones are nobody's ids.
const PARTS_BYTES_MAX: usize = 512;

/// Longest key that may be an id.
const ID_BYTES_MAX: usize = 128;

/// Hexadecimal digits of the common digests: MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
const DIGEST_LENGTHS: [usize; 6] = [32, 40, 56, 64, 96, 128];

/// No word is as long as this.
const WORD_BYTES_MAX: usize = 24;

/// Letters and digits that a value has at least which is random for certain.
const RANDOM_CHARACTERS_MIN: usize = 16;

/// The same, where all are hexadecimal digits.
const RANDOM_HEX_MIN: usize = 24;

/// The same, where all are digits and letters of one case.
const RANDOM_BASE36_MIN: usize = 20;

/// First values of which the lowest is where a [`Trend`] begins.
const FIRST_MAX: u32 = 4;

/// Whether the numbers at one path keep rising; 24 bytes whatever it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Trend {
    /// Follows the values, from the lowest of the first ones.
    level: f64,
    seen: u32,
    rises: u32,
    falls: u32,
}

/// What is known of the numbers at one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Too few to tell.
    Unknown,
    /// They keep rising.
    Counter,
    /// They do not.
    Other,
}

// === impl Trend ===

impl Trend {
    /// Takes the next value in. One that stays is one that does not rise.
    pub(super) fn observe(&mut self, number: f64) {
        self.seen = self.seen.saturating_add(1);
        match self.seen {
            1 => self.level = number,
            2..=FIRST_MAX => self.level = self.level.min(number),
            _ => {
                let count = if number > self.level { &mut self.rises } else { &mut self.falls };
                *count = count.saturating_add(1);
                self.level += (number - self.level) * LEVEL_STEP;
            }
        }
    }

    /// True when at least eight steps went up, and no more than one in eight went down.
    pub(super) fn is_counter(&self) -> bool {
        self.rises >= RISES_MIN && self.falls.saturating_mul(8) <= self.rises
    }

    /// How often the next value was above what came before, and how often not.
    pub(super) fn steps(&self) -> (u32, u32) {
        (self.rises, self.falls)
    }

    /// Adds steps that somebody else saw.
    pub(super) fn stepped_elsewhere(&mut self, rises: u32, falls: u32) {
        self.rises = self.rises.saturating_add(rises);
        self.falls = self.falls.saturating_add(falls);
    }

    /// Whether this is a counter, where that can be told.
    pub(super) fn course(&self) -> Course {
        match self.is_counter() {
            true => Course::Counter,
            false if self.rises < STEPS_MIN && self.falls <= FALLS_MAX => Course::Unknown,
            false => Course::Other,
        }
    }
}

/// The classes of both values of a difference. Where both look alike but for a part in which they differ, they are of
/// the class of that part: two addresses `/orders/17` and `/orders/18` are two numbers.
pub(super) fn transition_of(difference: &Difference) -> Transition {
    let (control, candidate) = (difference.control.as_deref(), difference.candidate.as_deref());
    let transition = Transition { control: class_of(control), candidate: class_of(candidate) };
    let (Some(control), Some(candidate)) = (control, candidate) else { return transition };
    let both = |class| Transition { control: class, candidate: class };
    let is_word = |class| matches!(class, ValueClass::Text | ValueClass::Hash | ValueClass::Number);
    let is_same = transition.control == transition.candidate && transition.control != ValueClass::Text;
    if is_same || !is_word(transition.control) || !is_word(transition.candidate) {
        return transition;
    }
    if let Some((a, b)) = parts(unquoted(control), unquoted(candidate)) {
        let (a, b) = (class_of_word(a), class_of_word(b));
        if a == b && a != ValueClass::Text {
            return both(a);
        }
    }
    match is_one_kind_of_token(unquoted(control), unquoted(candidate)) {
        true => both(ValueClass::Hash),
        false => transition,
    }
}

/// The numbers that two values are, or in which they differ: `17` and `18` of `/orders/17` and `/orders/18`.
pub(super) fn numbers_of(difference: &Difference) -> (Option<f64>, Option<f64>) {
    let (control, candidate) = (difference.control.as_deref(), difference.candidate.as_deref());
    let whole = |shown: Option<&str>| shown.and_then(number_of);
    match (whole(control), whole(candidate)) {
        (None, None) => {
            let both = control.zip(candidate);
            let parts = both.and_then(|(a, b)| parts(unquoted(a), unquoted(b)));
            parts.map_or((None, None), |(a, b)| (number_of(a), number_of(b)))
        }
        numbers => numbers,
    }
}

/// The number that a value is, in quotes or without.
fn number_of(shown: &str) -> Option<f64> {
    let text = unquoted(shown);
    // `parse` also takes `inf` and `nan`.
    let plain = text.ends_with(|c: char| c.is_ascii_digit())
        && text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    // Eight hexadecimal digits with one letter among them are no power of ten.
    let is_hex = text.len() >= 8 && text.contains(['e', 'E']) && !text.contains(['.', '+', '-']);
    (plain && !is_hex).then(|| text.parse().ok()).flatten()
}

/// The class of a value as a [`Difference`] shows it: JSON in its compact form, else plain text.
pub(super) fn class_of(shown: Option<&str>) -> ValueClass {
    let Some(shown) = shown else { return ValueClass::Absent };
    match shown {
        "null" => return ValueClass::Null,
        "true" | "false" => return ValueClass::Bool,
        _ if shown.starts_with('[') => return ValueClass::List,
        _ if shown.starts_with('{') && !is_uuid(shown) => return ValueClass::Object,
        _ => {}
    }
    class_of_word(unquoted(shown))
}

/// The class of the contents of a value.
fn class_of_word(text: &str) -> ValueClass {
    if text.is_empty() {
        return ValueClass::Empty;
    }
    if let Some(number) = number_of(text) {
        return if is_epoch(number) { ValueClass::Timestamp } else { ValueClass::Number };
    }
    if is_date(text) {
        ValueClass::Timestamp
    } else if is_uuid(text) {
        ValueClass::Uuid
    } else if is_address(text) {
        ValueClass::Ip
    } else if is_opaque(text) {
        ValueClass::Hash
    } else {
        ValueClass::Text
    }
}

/// True for a key that names one thing of many, as a position in an array does: a number, date, UUID, hash or address,
/// or a number of two digits or more behind a word and a mark (`user_17`).
///
/// One digit behind a word is taken for a name of its own: `address_1`, `line_2`. Without this each key would make a path
/// of its own, with one comparison each and nothing ever to be said about it.
pub fn is_name_of_one(key: &str) -> bool {
    // All that is one of these has a digit, but for few UUIDs and addresses.
    key.len() <= ID_BYTES_MAX
        && key.bytes().any(|b| b.is_ascii_digit())
        && match class_of(Some(key)) {
            ValueClass::Number
            | ValueClass::Timestamp
            | ValueClass::Uuid
            | ValueClass::Hash
            | ValueClass::Ip => true,
            ValueClass::Text => is_numbered(key),
            ValueClass::Absent
            | ValueClass::Null
            | ValueClass::Empty
            | ValueClass::Bool
            | ValueClass::Counter
            | ValueClass::List
            | ValueClass::Object => false,
        }
}

/// Letters, one mark, at least two digits.
fn is_numbered(key: &str) -> bool {
    let digits = key.trim_start_matches(|c: char| !c.is_ascii_digit());
    let word = key.strip_suffix(digits).unwrap_or_default();
    digits.len() >= 2
        && digits.bytes().all(|b| b.is_ascii_digit())
        && word
            .strip_suffix(['_', '-', ':', '.', '#'])
            .is_some_and(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// The classes that a rule may name.
pub(super) const RULE_CLASSES: [&str; 6] = ["timestamp", "uuid", "hash", "nonce", "counter", "ip"];

/// True when the contents of a value are of the class that a rule names, one of [`RULE_CLASSES`].
///
/// A rule sees one pair of values and no history: any whole number is a `counter` to it. A `nonce` is any text that no
/// person wrote; a `hash` is one of hexadecimal digits.
pub(super) fn is_of_rule_class(text: &str, class: &str) -> bool {
    let text = text.trim();
    match class {
        "timestamp" => class_of_word(text) == ValueClass::Timestamp,
        "uuid" => is_uuid(text),
        "hash" => is_digest(text),
        "nonce" => is_digest(text) || class_of_word(text) == ValueClass::Hash,
        "counter" => (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()),
        "ip" => is_address(text),
        _ => false,
    }
}

/// What a rule has to hide so that two values which differ by their nature agree, where they look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Both are of a class that a rule may name.
    Class(&'static str),
    /// They differ in one part, which this regular expression finds.
    Part(&'static str),
}

/// How two shown values are alike; none where they are not in a way that a rule can say.
pub fn likeness(control: &str, candidate: &str) -> Option<Likeness> {
    const BY_PRECISION: [&str; 6] = ["timestamp", "uuid", "ip", "counter", "hash", "nonce"];
    let (a, b) = (unquoted(control), unquoted(candidate));
    if let Some((a_part, b_part)) = parts(a, b).filter(|(part, _)| part.len() < a.len()) {
        return match (class_of_word(a_part), class_of_word(b_part)) {
            (ValueClass::Number, ValueClass::Number) => Some(Likeness::Part("[0-9]+")),
            (ValueClass::Uuid, ValueClass::Uuid) => Some(Likeness::Part("[0-9A-Fa-f-]{36}")),
            (_, _) => None,
        };
    }
    let both = |class: &&str| is_of_rule_class(a, class) && is_of_rule_class(b, class);
    BY_PRECISION.into_iter().find(both).map(Likeness::Class)
}

/// Without the quotes of JSON or of an entity tag (RFC 9110 section 8.8.3), the mark of a shortened value, and white
/// space around it.
fn unquoted(shown: &str) -> &str {
    let text = shown.strip_suffix('…').unwrap_or(shown).trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    let text = text.strip_prefix('"').unwrap_or(text);
    text.strip_suffix('"').unwrap_or(text).trim()
}

/// The one part in which two texts without white space differ: between slashes and the like, without the letters and
/// the mark that both begin with. None where more than that differs.
fn parts<'a>(a: &'a str, b: &'a str) -> Option<(&'a str, &'a str)> {
    let is_long = |text: &str| text.len() > PARTS_BYTES_MAX || text.contains(char::is_whitespace);
    if is_long(a) || is_long(b) {
        return None;
    }
    let ends = |c: char| "/?&=#;,()<>'\"".contains(c);
    let same = |(x, y): &(char, char)| x == y;
    let before: usize =
        a.chars().zip(b.chars()).take_while(same).map(|(c, _)| c.len_utf8()).fold(0, usize::saturating_add);
    // Back to where the part begins.
    let start = a.get(..before)?.rfind(ends).map_or(0, |at| at.saturating_add(1));
    let (a, b) = (a.get(start..)?, b.get(start..)?);
    let split = |text: &'a str| text.split_at_checked(text.find(ends).unwrap_or(text.len()));
    let ((a, a_tail), (b, b_tail)) = (split(a)?, split(b)?);
    if a_tail != b_tail || a == b {
        return None;
    }
    // A word before a number, the same in both: `ord-17` and `ord-18`.
    let word = |text: &'a str| {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let rest = rest.strip_prefix(['_', '-', ':', '.']).unwrap_or(rest);
        (text.strip_suffix(rest).unwrap_or_default(), rest)
    };
    let ((a_word, a_number), (b_word, b_number)) = (word(a), word(b));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let numbered = a_word == b_word && is_number(a_number) && is_number(b_number);
    Some(if numbered { (a_number, b_number) } else { (a, b) })
}

/// True for two words of one length of which one is a token, where the other could be: whether a text looks random is a
/// matter of chance, and one of twelve letters and digits has too few digits now and then.
fn is_one_kind_of_token(a: &str, b: &str) -> bool {
    let all_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let mixed = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_-.".contains(&b));
        let looks = text.bytes().any(|b| b.is_ascii_digit()) || changes(text).saturating_mul(4) >= text.len();
        plain && (looks || text.len() >= WORD_BYTES_MAX)
    };
    let (of_a, of_b) = (class_of_word(a), class_of_word(b));
    let is_hash = of_a == ValueClass::Hash || of_b == ValueClass::Hash;
    let kinds = |is: fn(&u8) -> bool| a.bytes().chain(b.bytes()).any(|byte| is(&byte));
    let is_hex = a.len() >= 8
        && all_hex(a)
        && all_hex(b)
        && kinds(u8::is_ascii_digit)
        && kinds(u8::is_ascii_alphabetic);
    a.len() == b.len() && (is_hex || (is_hash && mixed(a) && mixed(b)))
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970.
fn is_epoch(number: f64) -> bool {
    [1.0, 1e3, 1e6, 1e9].iter().any(|unit| EPOCH_SECONDS.contains(&(number / unit)))
}

/// RFC 3339 section 5.6, also with a blank for the `T`, without an offset, or the date alone; the three forms of RFC
/// 9110 section 5.6.7; a time of day.
fn is_date(text: &str) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let named = DAYS.iter().any(|day| text.starts_with(day))
        && MONTHS.iter().any(|month| text.contains(month))
        && text.contains(':');
    // What stands behind the part that is looked at: fractions, an offset, a zone in short or in brackets.
    let rest_fits =
        |rest: &str| rest.len() <= 40 && rest.chars().all(|c| c.is_ascii() && !"?&=<>".contains(c));
    named || fits(text, "0000-M0-D0").is_some_and(rest_fits) || fits(text, "H0:S0:S0").is_some_and(rest_fits)
}

/// What follows a beginning that is like the pattern, where no letter or digit but `T` follows. In the pattern, 0 stands
/// for a digit and a letter for the highest first digit of a month, day, hour, or minute and second.
fn fits<'t>(text: &'t str, pattern: &str) -> Option<&'t str> {
    let mut rest = text.chars();
    let digit = |c: char, highest: char| c.is_ascii_digit() && c <= highest;
    let alike = pattern.chars().all(|wanted| match (wanted, rest.next()) {
        ('0', Some(c)) => c.is_ascii_digit(),
        ('M', Some(c)) => digit(c, '1'),
        ('D', Some(c)) => digit(c, '3'),
        ('H', Some(c)) => digit(c, '2'),
        ('S', Some(c)) => digit(c, '5'),
        (wanted, Some(c)) => c == wanted,
        (_, None) => false,
    });
    let rest = rest.as_str();
    (alike && rest.chars().next().is_none_or(|c| c == 'T' || c == 't' || !(c.is_alphanumeric() || c == '-')))
        .then_some(rest)
}

/// RFC 9562 section 4, also in braces, as a URN, and behind a few letters and a mark.
fn is_uuid(text: &str) -> bool {
    const LENGTH: usize = 36;
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let Some((word, text)) = text.len().checked_sub(LENGTH).and_then(|at| text.split_at_checked(at)) else {
        return false;
    };
    let letters = word.strip_suffix(['_', '-', ':', '.']).unwrap_or(word);
    let mut lengths = text.split('-').map(str::len);
    letters.len() <= 12
        && letters.bytes().all(|b| b.is_ascii_alphabetic())
        && [8, 4, 4, 4, 12].into_iter().all(|length| lengths.next() == Some(length))
        && lengths.next().is_none()
        && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok()
}

/// Hexadecimal digits as a digest has them, also as an entity tag and behind the name of an algorithm.
fn is_digest(text: &str) -> bool {
    let text = unquoted(text);
    let text = text.split_once([':', '=']).map_or(text, |(_, digest)| digest);
    is_hex(text) || (DIGEST_LENGTHS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// One word with a part that no person wrote: `3f9ac01e`, `req_8fK2mQ04xTz1`, `sha256:…`, a JSON web token. A cookie
/// counts by its value, not by its attributes.
fn is_opaque(text: &str) -> bool {
    let text = text.split(';').next().unwrap_or(text);
    !text.contains(char::is_whitespace)
        && text.split([':', '.', '_', '-', '=', '"', ',', '/']).any(|part| is_hex(part) || is_random(part))
}

/// At least eight hexadecimal digits, of both kinds, so that neither a word nor a number is one.
fn is_hex(part: &str) -> bool {
    let digits = part.chars().filter(char::is_ascii_digit).count();
    let all = part.chars().filter(char::is_ascii_hexdigit).count();
    all == part.len() && all >= 8 && digits >= 2 && digits < all
}

/// At least twelve letters and digits, as base64 has them (RFC 4648), that change between kinds as words do not.
///
/// Words change where one ends: twice in some nine letters. Random letters of both cases and digits change at three of
/// five, those of one case with digits (base36) at two of five, and so more than twice between letter and digit.
fn is_random(part: &str) -> bool {
    let length = part.len();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'+';
    if length < 12 || !part.bytes().all(is_plain) {
        return false;
    }
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let changes = changes(part);
    let one_case =
        part.bytes().all(|b| !b.is_ascii_uppercase()) || part.bytes().all(|b| !b.is_ascii_lowercase());
    (digits >= 2 && changes.saturating_mul(4) >= length)
        || (one_case && digits >= 2 && changes >= 3)
        || (!one_case && changes.saturating_add(digits).saturating_mul(2) >= length)
}

/// How often neighbours are of two kinds: small letters, capital letters, digits, anything else.
fn changes(text: &str) -> usize {
    let kind = |b: u8| match b {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    text.bytes().zip(text.bytes().skip(1)).filter(|(a, b)| kind(*a) != kind(*b)).count()
}

/// True for a long text whose letters and digits change places as chance would have it: session ids, signed values. What
/// is so is not compared at all, so that this asks for more than [`class_of`] does.
///
/// Words, numbers, flags and dates are none. Letters and digits of a hexadecimal text change places 0.47 times per
/// character on average, and in one of some hundred texts of 32 characters less than 0.2 times; but no word, or row of
/// words and numbers, is as long as that and made of a to f alone. Of texts of 26 small letters and digits one in some
/// 400 changes places less than four times.
pub(super) fn is_certainly_random(value: &[u8]) -> bool {
    let letters = || value.iter().copied().filter(u8::is_ascii_alphanumeric);
    let kind = |b: u8| (b.is_ascii_digit(), b.is_ascii_lowercase());
    let length = letters().count();
    let changes = letters().zip(letters().skip(1)).filter(|(a, b)| kind(*a) != kind(*b)).count();
    let is_hex = length >= RANDOM_HEX_MIN && changes > 0 && letters().all(|b| b.is_ascii_hexdigit());
    let is_base36 = length == value.len()
        && (RANDOM_BASE36_MIN..=64).contains(&length)
        && changes >= 4
        && letters().all(|b| !b.is_ascii_uppercase());
    length >= RANDOM_CHARACTERS_MIN && (changes.saturating_mul(5) >= length || is_hex || is_base36)
}

#[cfg(test)]
mod tests;
