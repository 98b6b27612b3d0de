//! What was hidden while an exchange was redacted.
//!
//! Leaves the redactor as counts alone.

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
}

/// A secret that was known by its name, and its token.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) secret: Box<[u8]>,
    pub(super) token: Box<[u8]>,
}

/// Secrets of one exchange that are looked for where they are repeated, counting each way of writing one.
const ECHOES_MAX: usize = 32;

/// Least bytes of one, and of one without a digit: a shorter word may stand there by itself.
const ECHO_BYTES_MIN: usize = 8;
const ECHO_WORD_BYTES_MIN: usize = 16;

/// Longest that is looked for.
const ECHO_BYTES_MAX: usize = 4096;

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
        if !fits || self.echoes.iter().any(|echo| *echo.secret == *secret) {
            return;
        }
        self.echoes.push(Echo { secret: secret.into(), token: token.into() });
        // As pages, JSON and URLs repeat it.
        for written in [in_markup(secret), in_json(secret), encoded(secret, b"", b"-._~")] {
            if written != secret {
                self.echoes.push(Echo { secret: written.into(), token: token.into() });
            }
        }
    }

    /// True when a text repeats something that was remembered.
    pub(super) fn is_repeated_in(&self, text: &[u8]) -> bool {
        self.echoes.iter().any(|echo| memchr::memmem::find(text, &echo.secret).is_some())
    }

    /// What was remembered.
    pub(super) fn echoes(&self) -> &[Echo] {
        &self.echoes
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
