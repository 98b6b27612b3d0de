//! Takes secrets out of exchanges before they are kept or sent anywhere.
//!
//! Reads no file and no clock. What a secret is replaced by is a token of the same shape (see `token`), so that what was
//! equal stays equal, and two answers can be compared by what is left. What was redacted before stays as it is.
//!
//! Finds secrets by the names that stand with them, in heads, queries, forms, JSON and markup; and by their looks, anywhere.
//! What has neither a name nor a look is no secret to it: `strict` is for those who know better.

mod body;
mod coded;
mod form;
mod head;
mod json;
mod markup;
mod multipart;
mod names;
mod path;
mod patterns;
mod splice;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashSet;
use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::model::{Exchange, Observation, Request, Response, is_token};

use names::{Names, plain_name};
use path::{JsonPath, Progress};
use patterns::Patterns;

pub use token::{KEY_BYTES_MIN, RedactKey, RedactKeyError};

/// How much is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedactMode {
    /// Nothing.
    Off,
    /// What is known to be a secret by its name or by its looks.
    #[default]
    Standard,
    /// Everything but what is allowed.
    Strict,
    /// Nothing; what `Standard` would hide is counted.
    DryRun,
}

/// What to hide, as the configuration says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedactRules {
    /// How much. Default: [`RedactMode::Standard`].
    pub mode: RedactMode,
    /// Names of header fields, more than those that are known; `-name` takes one away. Default: none.
    pub headers: Vec<String>,
    /// The same for parameters of queries.
    pub query: Vec<String>,
    /// The same for fields of forms, parts of multipart bodies, and elements and fields of markup.
    pub form: Vec<String>,
    /// Names of members of JSON, in the same way, or places: `$.user.ssn`, `$.items[*].iban`, `$.**.note`.
    pub json: Vec<String>,
    /// Regular expressions for values anywhere; `-email`, `-card`, `-bearer` and `-jwt` take away those that are known.
    pub patterns: Vec<String>,
    /// What passes, also where nothing else does: `header:NAME`, `cookie:NAME`, `query:NAME`, `form:NAME`, `json:$.PATH`,
    /// `path:/PATTERN`. Default: none.
    pub allow: Vec<String>,
    /// Bounds.
    pub limits: RedactLimits,
}

/// Bounds of looking for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedactLimits {
    /// Bytes of a body after content decoding; of a larger one, length and hash are kept. Default: 8 MiB.
    pub decoded_bytes_max: usize,
    /// Levels of JSON whose names are looked at. Default: 128.
    pub depth_max: usize,
}

/// An entry of a list that says nothing that can be done.
#[derive(Debug, thiserror::Error)]
pub enum RedactRulesError {
    /// It is no name.
    #[error("`{entry}` is not the name of {what}")]
    Name {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
        /// Of what.
        what: &'static str,
    },
    /// It is no place.
    #[error(
        "`{entry}` must be `header:NAME`, `cookie:NAME`, `query:NAME`, `form:NAME`, `json:$.PATH` or `path:/PATTERN`"
    )]
    Place {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// It is no path in JSON.
    #[error("`{entry}` is no path such as `$.user.ssn`, `$.items[*].iban` or `$.**.note`")]
    Path {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// It is no regular expression.
    #[error("`{entry}` is no regular expression")]
    Pattern {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
        /// Why.
        source: regex::Error,
    },
    /// There is no such pattern to take away.
    #[error("`{entry}` takes away nothing: known are `-email`, `-card`, `-bearer` and `-jwt`")]
    Unknown {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
}

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
    /// A body that cannot be read: its length and a hash are kept.
    Body,
}

/// How much was hidden, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedactTally {
    counts: [u64; Rule::ALL.len()],
}

/// Hides secrets.
pub struct Redactor {
    mode: RedactMode,
    key: RedactKey,
    headers: Names,
    query: Names,
    form: Names,
    json: Names,
    json_paths: Vec<JsonRule>,
    has_json_allowed: bool,
    patterns: Patterns,
    allowed: Allowed,
    limits: RedactLimits,
}

/// A place in JSON, and what becomes of it.
struct JsonRule {
    path: JsonPath,
    allows: bool,
}

/// What passes.
#[derive(Debug, Default)]
struct Allowed {
    fields: HashSet<String>,
    cookies: HashSet<String>,
    query: HashSet<String>,
    form: HashSet<String>,
    /// Segments of each pattern.
    paths: Vec<Vec<String>>,
}

/// Where a pair of name and value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Query,
    Form,
}

// === impl RedactMode ===

impl RedactMode {
    /// All modes.
    pub const ALL: [RedactMode; 4] =
        [RedactMode::Off, RedactMode::Standard, RedactMode::Strict, RedactMode::DryRun];

    /// The mode as configurations write it; stable.
    pub fn label(self) -> &'static str {
        match self {
            RedactMode::Off => "off",
            RedactMode::Standard => "standard",
            RedactMode::Strict => "strict",
            RedactMode::DryRun => "dry-run",
        }
    }

    /// True when secrets are replaced.
    pub fn hides(self) -> bool {
        match self {
            RedactMode::Standard | RedactMode::Strict => true,
            RedactMode::Off | RedactMode::DryRun => false,
        }
    }
}

// === impl RedactLimits ===

impl Default for RedactLimits {
    fn default() -> Self {
        Self { decoded_bytes_max: 8 << 20, depth_max: 128 }
    }
}

// === impl RedactRulesError ===

impl RedactRulesError {
    /// The list, and the entry in it.
    pub fn place(&self) -> (&'static str, &str) {
        match self {
            RedactRulesError::Name { list, entry, what: _ }
            | RedactRulesError::Place { list, entry }
            | RedactRulesError::Path { list, entry }
            | RedactRulesError::Pattern { list, entry, source: _ }
            | RedactRulesError::Unknown { list, entry } => (list, entry),
        }
    }
}

// === impl Rule ===

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 15] = [
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
            Rule::Body => "unreadable_body",
        }
    }
}

// === impl RedactTally ===

impl RedactTally {
    fn count(&mut self, rule: Rule) {
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

    /// Adds another one.
    pub fn add(&mut self, other: &RedactTally) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }
}

// === impl Redactor ===

impl Redactor {
    /// A redactor that does what the rules say.
    ///
    /// # Errors
    /// Names the first entry that cannot be used.
    pub fn new(rules: &RedactRules, key: RedactKey) -> Result<Self, RedactRulesError> {
        let RedactRules { mode, headers, query, form, json, patterns, allow, limits } = rules;
        let mut json_paths = Vec::new();
        let (places, members): (Vec<&String>, Vec<&String>) =
            json.iter().partition(|entry| entry.starts_with('$'));
        for place in places {
            let path = JsonPath::parse(place);
            let wrong = || RedactRulesError::Path { list: "json", entry: place.clone() };
            json_paths.push(JsonRule { path: path.ok_or_else(wrong)?, allows: false });
        }
        let allowed = Allowed::new(allow, &mut json_paths)?;
        Ok(Self {
            mode: *mode,
            key,
            headers: names("headers", "a header field", headers, |name| is_token(name.as_bytes()))?,
            query: names("query", "a parameter", query, |_| true)?,
            form: names("form", "a field", form, |_| true)?,
            json: names("json", "a member", members, |_| true)?,
            has_json_allowed: json_paths.iter().any(|rule| rule.allows),
            json_paths,
            patterns: patterns_of(patterns)?,
            allowed,
            limits: *limits,
        })
    }

    /// How much it hides.
    pub fn mode(&self) -> RedactMode {
        self.mode
    }

    /// What tells its key from others.
    pub fn key(&self) -> &RedactKey {
        &self.key
    }

    /// The exchange without secrets; none when it has none, or none are to be hidden.
    pub fn exchange(&self, exchange: &Exchange, tally: &mut RedactTally) -> Option<Exchange> {
        let request = self.request(&exchange.request, tally);
        let response = exchange.response.as_ref().and_then(|response| self.response(response, tally));
        if request.is_none() && response.is_none() {
            return None;
        }
        Some(Exchange {
            request: request.unwrap_or_else(|| exchange.request.clone()),
            response: response.or_else(|| exchange.response.clone()),
            ..exchange.clone()
        })
    }

    /// The same for a request.
    pub fn request(&self, request: &Request, tally: &mut RedactTally) -> Option<Request> {
        if self.mode == RedactMode::Off {
            return None;
        }
        let target = self.target(&request.target, tally);
        let body = self.body(&request.headers, &request.body, tally);
        let length = body.as_ref().map(|body| body.bytes);
        let headers = self.fields(&request.headers, length, tally);
        let trailers = self.fields(&request.trailers, None, tally);
        let unchanged = target.is_none() && body.is_none() && headers.is_none() && trailers.is_none();
        if unchanged || self.mode == RedactMode::DryRun {
            return None;
        }
        Some(Request {
            method: request.method.clone(),
            target: target.unwrap_or_else(|| request.target.clone()),
            version: request.version,
            headers: headers.unwrap_or_else(|| request.headers.clone()),
            trailers: trailers.unwrap_or_else(|| request.trailers.clone()),
            body: body.unwrap_or_else(|| request.body.clone()),
        })
    }

    /// The same for a response.
    pub fn response(&self, response: &Response, tally: &mut RedactTally) -> Option<Response> {
        if self.mode == RedactMode::Off {
            return None;
        }
        let body = self.body(&response.headers, &response.body, tally);
        let length = body.as_ref().map(|body| body.bytes);
        let headers = self.fields(&response.headers, length, tally);
        let trailers = self.fields(&response.trailers, None, tally);
        let unchanged = body.is_none() && headers.is_none() && trailers.is_none();
        if unchanged || self.mode == RedactMode::DryRun {
            return None;
        }
        Some(Response {
            status: response.status,
            version: response.version,
            headers: headers.unwrap_or_else(|| response.headers.clone()),
            trailers: trailers.unwrap_or_else(|| response.trailers.clone()),
            body: body.unwrap_or_else(|| response.body.clone()),
        })
    }

    /// The same for what a branch did.
    pub fn observation(&self, observation: &Observation, tally: &mut RedactTally) -> Option<Observation> {
        match observation {
            Observation::Answered { response, ttfb, served } => {
                let response = Box::new(self.response(response, tally)?);
                Some(Observation::Answered { response, ttfb: *ttfb, served: *served })
            }
            Observation::Failed(_) => None,
        }
    }

    /// A text without what is known by its looks; none when nothing is.
    fn text(&self, text: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        self.patterns.hide(text, &self.query, &self.key, tally)
    }

    fn is_strict(&self) -> bool {
        self.mode == RedactMode::Strict
    }

    fn allows(&self, place: Place, name: &[u8]) -> bool {
        let names = match place {
            Place::Query => &self.allowed.query,
            Place::Form => &self.allowed.form,
        };
        !names.is_empty() && names.contains(&plain_name(name))
    }

    /// What the rules with a path say of a place that these progresses have come to.
    fn mark(&self, paths: &[Progress], hidden: &mut bool, allowed: &mut bool) {
        for (rule, progress) in self.json_paths.iter().zip(paths) {
            if rule.path.is_there(*progress) {
                if rule.allows {
                    *allowed = true;
                } else {
                    *hidden = true;
                }
            }
        }
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("mode", &self.mode).finish_non_exhaustive()
    }
}

// === impl Allowed ===

impl Allowed {
    fn new(entries: &[String], json_paths: &mut Vec<JsonRule>) -> Result<Self, RedactRulesError> {
        let mut allowed = Self::default();
        for entry in entries {
            let wrong = || RedactRulesError::Place { list: "allow", entry: entry.clone() };
            let (kind, name) =
                entry.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(wrong)?;
            let plain = plain_name(name.as_bytes());
            match kind {
                "header" => drop(allowed.fields.insert(plain)),
                "cookie" => drop(allowed.cookies.insert(plain)),
                "query" => drop(allowed.query.insert(plain)),
                "form" => drop(allowed.form.insert(plain)),
                "path" if name.starts_with('/') => {
                    allowed.paths.push(name.split('/').map(str::to_owned).collect());
                }
                "json" => {
                    let wrong = || RedactRulesError::Path { list: "allow", entry: entry.clone() };
                    json_paths
                        .push(JsonRule { path: JsonPath::parse(name).ok_or_else(wrong)?, allows: true });
                }
                _ => return Err(wrong()),
            }
        }
        Ok(allowed)
    }

    fn field(&self, name: &[u8]) -> bool {
        !self.fields.is_empty() && self.fields.contains(&plain_name(name))
    }

    fn cookie(&self, name: &[u8]) -> bool {
        !self.cookies.is_empty() && self.cookies.contains(&plain_name(name))
    }
}

fn names<'e>(
    list: &'static str,
    what: &'static str,
    entries: impl IntoIterator<Item = &'e String>,
    is_sound: impl Fn(&str) -> bool,
) -> Result<Names, RedactRulesError> {
    let mut names = Names::default();
    for entry in entries {
        let name = entry.strip_prefix('-').unwrap_or(entry);
        if plain_name(name.as_bytes()).is_empty() || !is_sound(name) {
            return Err(RedactRulesError::Name { list, entry: entry.clone(), what });
        }
        names.change(entry);
    }
    Ok(names)
}

fn patterns_of(entries: &[String]) -> Result<Patterns, RedactRulesError> {
    let list = "patterns";
    let mut patterns = Patterns::default();
    for entry in entries {
        match entry.as_str() {
            "-email" => patterns.email = false,
            "-card" => patterns.card = false,
            "-bearer" => patterns.bearer = false,
            "-jwt" => patterns.jwt = false,
            other if other.starts_with('-') || other.is_empty() => {
                return Err(RedactRulesError::Unknown { list, entry: entry.clone() });
            }
            expression => {
                let own = regex::bytes::Regex::new(expression);
                let wrong = |source| RedactRulesError::Pattern { list, entry: entry.clone(), source };
                patterns.own.push(own.map_err(wrong)?);
            }
        }
    }
    Ok(patterns)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
