//! What was hidden while an exchange was redacted.
//!
//! Leaves the redactor as counts alone.

use memchr::memmem::Finder;

use super::form::encoded;

/// Why something was hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A header field by its name.
    Header,
    /// A cookie of a request.
    Cookie,
    /// A cookie of a response.
    SetCookie,
    /// A segment of a path; only where everything is hidden.
    Path,
    /// A parameter of a query by its name.
    Query,
    /// A field of a form by its name.
    Form,
    /// A member of JSON by its name or place.
    Json,
    /// An element or a field of markup by its name.
    Markup,
    /// A value within a text, by the name before it, such as a parameter of a URL.
    Parameter,
    /// User and password before the host of a URL.
    UrlCredentials,
    /// An e-mail address.
    Email,
    /// The number of a payment card.
    Card,
    /// What stands behind the words `bearer` and `basic`.
    Bearer,
    /// A key that says by its beginning what it is, or a private one.
    Key,
    /// A JSON Web Token.
    Jwt,
    /// A pattern of the configuration.
    Pattern,
    /// A secret of the request that is repeated where nothing says so.
    Echo,
    /// The end of a body that was cut there, where a secret may begin.
    Cut,
    /// A body that cannot be read: its length and a hash are kept.
    Body,
}

/// In which part of a message something was hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The request target.
    #[default]
    Target,
    /// A header or trailer field.
    Field,
    /// The body.
    Body,
}

/// How much was hidden, by where and why; and what was, to find it again where it is repeated.
#[derive(Clone, Default)]
pub struct RedactTally {
    counts: [[u64; Rule::ALL.len()]; Part::ALL.len()],
    part: Part,
    echoes: Vec<Echo>,
    begins: Begins,
}

/// A secret that was known by its name, and its token.
#[derive(Clone)]
pub(super) struct Echo {
    /// Finds the secret.
    pub(super) finder: Finder<'static>,
    pub(super) token: Box<[u8]>,
    begin: u32,
}

/// How the secrets begin that are looked for: a bit for each beginning, and some beginnings share one.
#[derive(Clone, Copy, Default)]
struct Begins([u64; BEGINS_WORDS]);

/// Secrets of one exchange that are looked for where they are repeated, counting each way of writing one.
const ECHOES_MAX: usize = 32;

/// Least bytes of one, and of one without a digit: a shorter word may stand there by itself.
const ECHO_BYTES_MIN: usize = 8;
const ECHO_WORD_BYTES_MIN: usize = 16;

/// Longest that is looked for.
const ECHO_BYTES_MAX: usize = 4096;

/// More secrets than this are looked for by their beginnings first, all in one pass over the text.
const ECHOES_ONE_BY_ONE_MAX: usize = 3;

/// Bytes of such a beginning: no secret has fewer.
const BEGIN_BYTES: usize = size_of::<u32>();

/// Words of 64 bits for beginnings.
const BEGINS_WORDS: usize = 16;

// === impl Rule ===

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 19] = [
        Rule::Header,
        Rule::Cookie,
        Rule::SetCookie,
        Rule::Path,
        Rule::Query,
        Rule::Form,
        Rule::Json,
        Rule::Markup,
        Rule::Parameter,
        Rule::UrlCredentials,
        Rule::Email,
        Rule::Card,
        Rule::Bearer,
        Rule::Key,
        Rule::Jwt,
        Rule::Pattern,
        Rule::Echo,
        Rule::Cut,
        Rule::Body,
    ];

    /// The rule as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            Rule::Header => "header",
            Rule::Cookie => "cookie",
            Rule::SetCookie => "set_cookie",
            Rule::Path => "path",
            Rule::Query => "query",
            Rule::Form => "form",
            Rule::Json => "json",
            Rule::Markup => "markup",
            Rule::Parameter => "url_parameter",
            Rule::UrlCredentials => "url_credentials",
            Rule::Email => "email",
            Rule::Card => "card",
            Rule::Bearer => "bearer",
            Rule::Key => "key",
            Rule::Jwt => "jwt",
            Rule::Pattern => "pattern",
            Rule::Echo => "echo",
            Rule::Cut => "cut_end",
            Rule::Body => "unreadable_body",
        }
    }
}

// === impl Part ===

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Target, Part::Field, Part::Body];

    /// The part as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            Part::Target => "target",
            Part::Field => "field",
            Part::Body => "body",
        }
    }
}

// === impl RedactTally ===

impl RedactTally {
    /// What comes is counted for this part.
    pub(super) fn look_at(&mut self, part: Part) {
        self.part = part;
    }

    pub(super) fn count(&mut self, rule: Rule) {
        let of_part = self.counts.get_mut(self.part as usize);
        if let Some(count) = of_part.and_then(|counts| counts.get_mut(rule as usize)) {
            *count = count.saturating_add(1);
        }
    }

    /// Values that this rule hid in this part, or would have.
    pub fn of(&self, rule: Rule, part: Part) -> u64 {
        let of_part = self.counts.get(part as usize);
        of_part.and_then(|counts| counts.get(rule as usize)).copied().unwrap_or_default()
    }

    /// Values that were hidden, or would have been.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Remembers a secret. One that looks like a word is none that could be told from one.
    pub(super) fn remember(&mut self, secret: &[u8], token: &[u8]) {
        let is_mixed = secret.iter().any(u8::is_ascii_digit) && secret.iter().any(u8::is_ascii_alphabetic);
        let least = if is_mixed { ECHO_BYTES_MIN } else { ECHO_WORD_BYTES_MIN };
        let fits = (least..=ECHO_BYTES_MAX).contains(&secret.len()) && self.echoes.len() < ECHOES_MAX;
        if !fits || self.echoes.iter().any(|echo| echo.finder.needle() == secret) {
            return;
        }
        self.look_for(secret, token);
        // As pages, JSON and URLs repeat it.
        if secret.iter().all(u8::is_ascii_alphanumeric) {
            return;
        }
        for written in [in_markup(secret), in_json(secret), encoded(secret, b"", b"-._~")] {
            if written != secret {
                self.look_for(&written, token);
            }
        }
    }

    fn look_for(&mut self, secret: &[u8], token: &[u8]) {
        let begin = secret.first_chunk().copied().map(u32::from_le_bytes).unwrap_or_default();
        self.begins.add(begin);
        self.echoes.push(Echo { finder: Finder::new(secret).into_owned(), token: token.into(), begin });
    }

    /// True when a text repeats something that was remembered.
    pub(super) fn is_repeated_in(&self, text: &[u8]) -> bool {
        self.echoes_in(text).any(|echo| echo.finder.find(text).is_some())
    }

    /// What was remembered and may be repeated in a text: all of which the beginning stands there, and perhaps more.
    pub(super) fn echoes_in(&self, text: &[u8]) -> impl Iterator<Item = &Echo> {
        let few = self.echoes.len() <= ECHOES_ONE_BY_ONE_MAX;
        let seen = if few { u64::MAX } else { self.begun_in(text) };
        let fits = move |(at, echo): &(usize, &Echo)| {
            let is_seen =
                u32::try_from(*at).ok().and_then(|at| seen.checked_shr(at)).is_none_or(|bits| bits & 1 == 1);
            is_seen && echo.finder.needle().len() <= text.len()
        };
        self.echoes.iter().enumerate().filter(fits).map(|(_, echo)| echo)
    }

    /// A bit for each of the secrets, set where its first bytes stand in the text.
    fn begun_in(&self, text: &[u8]) -> u64 {
        let mut seen = 0_u64;
        for window in text.windows(BEGIN_BYTES) {
            let Some(begin) = window.first_chunk().copied().map(u32::from_le_bytes) else { continue };
            if !self.begins.may_have(begin) {
                continue;
            }
            for (at, echo) in self.echoes.iter().enumerate() {
                if echo.begin == begin {
                    let bit = u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at));
                    seen |= bit.unwrap_or_default();
                }
            }
        }
        seen
    }

    /// True for the token of something that was remembered, without a scheme before it.
    pub(super) fn has_token(&self, text: &[u8]) -> bool {
        self.echoes.iter().any(|echo| *echo.token == *text) && !text.contains(&b' ')
    }

    /// Secrets that are looked for.
    pub(super) fn echo_count(&self) -> usize {
        self.echoes.len()
    }
}

// === impl Begins ===

impl Begins {
    fn add(&mut self, begin: u32) {
        let (at, bit) = Self::place(begin);
        if let Some(word) = self.0.get_mut(at) {
            *word |= bit;
        }
    }

    fn may_have(&self, begin: u32) -> bool {
        let (at, bit) = Self::place(begin);
        self.0.get(at).is_some_and(|word| word & bit != 0)
    }

    /// The word of a beginning and its bit there: the high bits of a product, which depend on all of the beginning
    /// (Knuth, The Art of Computer Programming, section 6.4).
    fn place(begin: u32) -> (usize, u64) {
        let hash = usize::try_from(begin.wrapping_mul(0x9e37_79b1) >> 22).unwrap_or_default();
        (hash / 64 % BEGINS_WORDS, 1_u64.rotate_left(u32::try_from(hash % 64).unwrap_or_default()))
    }
}

fn in_markup(secret: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(secret.len());
    for byte in secret {
        match byte {
            b'&' => written.extend_from_slice(b"&amp;"),
            b'<' => written.extend_from_slice(b"&lt;"),
            b'>' => written.extend_from_slice(b"&gt;"),
            b'"' => written.extend_from_slice(b"&quot;"),
            other => written.push(*other),
        }
    }
    written
}

fn in_json(secret: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(secret.len());
    for byte in secret {
        if matches!(byte, b'"' | b'\\') {
            written.push(b'\\');
        }
        written.push(*byte);
    }
    written
}

/// Shows no secret.
impl std::fmt::Debug for RedactTally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedactTally").field("counts", &self.counts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Looking for beginnings first finds what looking for each secret does.
        #[test]
        fn echoes_are_found_as_one_by_one(
            secrets in prop::collection::vec("[ab1]{4}[a-c1-3]{4,8}[<%]?", 0..40),
            text in prop::collection::vec((0_usize..80, "[ab1 ]{0,5}"), 0..6),
        ) {
            let mut tally = RedactTally::default();
            secrets.iter().for_each(|secret| tally.remember(secret.as_bytes(), b"token"));
            let pieces = text.into_iter().map(|(at, odd)| secrets.get(at).cloned().unwrap_or_default() + &odd);
            let text = pieces.collect::<String>();
            let is_there = |echo: &&Echo| memchr::memmem::find(text.as_bytes(), echo.finder.needle()).is_some();
            let places = |echo: &Echo| echo.finder.find_iter(text.as_bytes()).collect::<Vec<_>>();
            let found: Vec<_> = tally.echoes_in(text.as_bytes()).map(places).filter(|at| !at.is_empty()).collect();
            let expected: Vec<_> = tally.echoes.iter().filter(is_there).map(places).collect();
            prop_assert_eq!(tally.is_repeated_in(text.as_bytes()), !expected.is_empty());
            prop_assert_eq!(found, expected);
            prop_assert!(tally.echo_count() <= ECHOES_MAX.saturating_add(2));
        }
    }
}
