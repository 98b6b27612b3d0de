//! Takes secrets out of exchanges before they are kept or sent anywhere.
//!
//! Reads no file and no clock. What a secret is replaced by is a token of the same shape (see `token`), so that what was
//! equal stays equal, and two answers can be compared by what is left. What was redacted before stays as it is.
//!
//! Finds secrets by the names that stand with them, in heads, queries, forms, JSON and markup; and by their looks, anywhere.
//! What has neither a name nor a look is no secret to it: `strict` is for those who know better.

mod addresses;
mod body;
mod cards;
mod coded;
mod cut;
mod form;
mod head;
mod json;
mod known;
mod markup;
mod multipart;
mod names;
mod pairs;
mod path;
mod patterns;
mod rules;
mod sets;
mod splice;
mod tally;
#[cfg(test)]
mod tests;
mod token;
mod urls;
mod wide;
mod work;

use std::collections::HashSet;
use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::model::{Exchange, Headers, Observation, Request, Response, is_token};

use names::{Names, PlainName};
use pairs::Sought;
use path::{JsonPath, Progress};
use patterns::{About, Patterns};

pub use rules::{RedactLimits, RedactMode, RedactRules, RedactRulesError};
pub use tally::{Part, RedactTally, Rule};
pub use token::{KEY_BYTES_MIN, RedactKey, RedactKeyError};

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
    fields: PlainNames,
    cookies: PlainNames,
    query: PlainNames,
    form: PlainNames,
    /// Segments of each pattern.
    paths: Vec<Vec<String>>,
}

/// Names as they are compared.
#[derive(Debug, Default)]
struct PlainNames(HashSet<Box<[u8]>>);

/// Where a pair of name and value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Query,
    Form,
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
        let known = tally.echo_count();
        let response = exchange.response.as_ref().and_then(|response| self.response(response, tally));
        // A name in the answer may say of something in the request that it is a secret.
        let again = if tally.echo_count() > known && self.mode.hides() {
            self.request(request.as_ref().unwrap_or(&exchange.request), tally)
        } else {
            None
        };
        let request = again.or(request);
        if request.is_none() && response.is_none() {
            return None;
        }
        let Exchange { id, flow, request: _, response: _, interim, times, marks } = exchange;
        Some(Exchange {
            id: *id,
            flow: *flow,
            request: request.unwrap_or_else(|| exchange.request.clone()),
            response: response.or_else(|| exchange.response.clone()),
            interim: interim.clone(),
            times: *times,
            marks: *marks,
        })
    }

    /// The same for a request.
    pub fn request(&self, request: &Request, tally: &mut RedactTally) -> Option<Request> {
        if self.mode == RedactMode::Off {
            return None;
        }
        // Fields first: what they hold is repeated elsewhere more often than the other way round.
        let headers = self.fields(&request.headers, tally);
        let trailers = self.fields(&request.trailers, tally);
        tally.look_at(Part::Target);
        let target = self.target(&request.target, tally);
        let body = self.body(&request.headers, &request.body, tally);
        let headers = self.again(&request.headers, headers, tally);
        let trailers = self.again(&request.trailers, trailers, tally);
        tally.look_at(Part::Target);
        let shown = target.as_ref().unwrap_or(&request.target);
        let target = if tally.is_repeated_in(shown) { self.target(shown, tally).or(target) } else { target };
        let unchanged = target.is_none() && body.is_none() && headers.is_none() && trailers.is_none();
        if unchanged || self.mode == RedactMode::DryRun {
            return None;
        }
        let length = body.as_ref().map(|body| body.bytes);
        Some(Request {
            method: request.method.clone(),
            target: target.unwrap_or_else(|| request.target.clone()),
            version: request.version,
            headers: with_length(headers.unwrap_or_else(|| request.headers.clone()), length),
            trailers: trailers.unwrap_or_else(|| request.trailers.clone()),
            body: body.unwrap_or_else(|| request.body.clone()),
        })
    }

    /// The same for a response.
    pub fn response(&self, response: &Response, tally: &mut RedactTally) -> Option<Response> {
        if self.mode == RedactMode::Off {
            return None;
        }
        let headers = self.fields(&response.headers, tally);
        let trailers = self.fields(&response.trailers, tally);
        let body = self.body(&response.headers, &response.body, tally);
        let headers = self.again(&response.headers, headers, tally);
        let trailers = self.again(&response.trailers, trailers, tally);
        let unchanged = body.is_none() && headers.is_none() && trailers.is_none();
        if unchanged || self.mode == RedactMode::DryRun {
            return None;
        }
        let length = body.as_ref().map(|body| body.bytes);
        Some(Response {
            status: response.status,
            version: response.version,
            headers: with_length(headers.unwrap_or_else(|| response.headers.clone()), length),
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

    /// Fields that repeat what was known as a secret only after they were looked at: once more.
    fn again(&self, fields: &Headers, hidden: Option<Headers>, tally: &mut RedactTally) -> Option<Headers> {
        let shown = hidden.as_ref().unwrap_or(fields);
        if shown.iter().any(|(_, value)| tally.is_repeated_in(value)) {
            return self.fields(shown, tally).or(hidden);
        }
        hidden
    }

    /// A text without what is known by its looks; none when nothing is.
    fn text(&self, text: &[u8], tally: &mut RedactTally) -> Option<Vec<u8>> {
        self.looks(text, &self.query, false, tally)
    }

    /// The same where these names stand before a `=`, and where nobody saw its end.
    fn looks(
        &self,
        text: &[u8],
        parameters: &Names,
        is_cut: bool,
        tally: &mut RedactTally,
    ) -> Option<Vec<u8>> {
        let names = Sought { parameters, members: &self.json };
        self.patterns.hide(text, About { names, is_cut }, &self.key, tally)
    }

    fn is_strict(&self) -> bool {
        self.mode == RedactMode::Strict
    }

    fn allows(&self, place: Place, name: &[u8]) -> bool {
        match place {
            Place::Query => self.allowed.query.has(name),
            Place::Form => self.allowed.form.has(name),
        }
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
            match kind {
                "header" => allowed.fields.add(name),
                "cookie" => allowed.cookies.add(name),
                "query" => allowed.query.add(name),
                "form" => allowed.form.add(name),
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
}

// === impl PlainNames ===

impl PlainNames {
    fn add(&mut self, name: &str) {
        self.0.insert(PlainName::of(name.as_bytes()).as_bytes().into());
    }

    fn has(&self, name: &[u8]) -> bool {
        !self.0.is_empty() && self.0.contains(PlainName::of(name).as_bytes())
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
        if PlainName::of(name.as_bytes()).as_bytes().is_empty() || !is_sound(name) {
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
            "-key" => patterns.key = false,
            "-url" => patterns.url = false,
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

/// Fields with this length of the body where they name one.
fn with_length(headers: Headers, bytes: Option<u64>) -> Headers {
    let Some(length) = bytes.filter(|_| headers.get("content-length").is_some()) else { return headers };
    let length = length.to_string();
    let pairs = headers.iter().map(|(name, value)| {
        (name, if name.eq_ignore_ascii_case(b"content-length") { length.as_bytes() } else { value })
    });
    Headers::from_pairs(pairs)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
