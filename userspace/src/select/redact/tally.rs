//! What was hidden while an exchange was redacted.
//!
//! Leaves the redactor as counts alone.

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
    /// A parameter of a URL within a text, by its name.
    Parameter,
    /// An e-mail address.
    Email,
    /// The number of a payment card.
    Card,
    /// What stands behind the word `bearer`.
    Bearer,
    /// A JSON Web Token.
    Jwt,
    /// A pattern of the configuration.
    Pattern,
    /// A secret of the request that is repeated where nothing says so.
    Echo,
    /// A body that cannot be read: its length and a hash are kept.
    Body,
}

/// How much was hidden, by why; and what was, to find it again where it is repeated.
#[derive(Clone, Default)]
pub struct RedactTally {
    counts: [u64; Rule::ALL.len()],
    echoes: Vec<Echo>,
}

/// A secret that was known by its name, and its token.
#[derive(Clone)]
pub(super) struct Echo {
    pub(super) secret: Box<[u8]>,
    pub(super) token: Box<[u8]>,
}

/// Secrets of one exchange that are looked for where they are repeated.
const ECHOES_MAX: usize = 16;

/// Least bytes of one, and of one without a digit: a shorter word may stand there by itself.
const ECHO_BYTES_MIN: usize = 8;
const ECHO_WORD_BYTES_MIN: usize = 16;

/// Longest that is looked for.
const ECHO_BYTES_MAX: usize = 4096;

// === impl Rule ===

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 16] = [
        Rule::Header,
        Rule::Cookie,
        Rule::SetCookie,
        Rule::Path,
        Rule::Query,
        Rule::Form,
        Rule::Json,
        Rule::Markup,
        Rule::Parameter,
        Rule::Email,
        Rule::Card,
        Rule::Bearer,
        Rule::Jwt,
        Rule::Pattern,
        Rule::Echo,
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
            Rule::Email => "email",
            Rule::Card => "card",
            Rule::Bearer => "bearer",
            Rule::Jwt => "jwt",
            Rule::Pattern => "pattern",
            Rule::Echo => "echo",
            Rule::Body => "unreadable_body",
        }
    }
}

// === impl RedactTally ===

impl RedactTally {
    pub(super) fn count(&mut self, rule: Rule) {
        if let Some(count) = self.counts.get_mut(rule as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Values that this rule hid, or would have.
    pub fn of(&self, rule: Rule) -> u64 {
        self.counts.get(rule as usize).copied().unwrap_or_default()
    }

    /// Values that were hidden, or would have been.
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Remembers a secret. One that looks like a word is none that could be told from one.
    pub(super) fn remember(&mut self, secret: &[u8], token: &[u8]) {
        let is_mixed = secret.iter().any(u8::is_ascii_digit) && secret.iter().any(u8::is_ascii_alphabetic);
        let least = if is_mixed { ECHO_BYTES_MIN } else { ECHO_WORD_BYTES_MIN };
        let fits = (least..=ECHO_BYTES_MAX).contains(&secret.len()) && self.echoes.len() < ECHOES_MAX;
        if fits && !self.echoes.iter().any(|echo| *echo.secret == *secret) {
            self.echoes.push(Echo { secret: secret.into(), token: token.into() });
        }
    }

    /// What was remembered.
    pub(super) fn echoes(&self) -> &[Echo] {
        &self.echoes
    }
}

/// Shows no secret.
impl std::fmt::Debug for RedactTally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedactTally").field("counts", &self.counts).finish_non_exhaustive()
    }
}
