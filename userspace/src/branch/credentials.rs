//! Fields with which a candidate is shown who asks, in place of those that the captured client showed to A.
//!
//! Asks nobody for a credential itself: whoever does fills in what is held here. Shows none, in no error and no log.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};
use memchr::memmem;
use tokio::sync::{mpsc, oneshot, watch};

use crate::model::{Body, Headers, Observation, REPLAY_HEADER, Request, Response, is_per_connection};

/// One field, and where its value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialConfig {
    /// Where the value comes from.
    pub source: CredentialSource,
    /// The field's name. Default: `authorization`.
    pub header: String,
    /// What stands before the value. Default: `Bearer ` in `authorization`, nothing in other fields.
    pub prefix: String,
    /// Whether requests get the field that had none, too. Default: no.
    pub always: bool,
    /// Longest wait for the source. Requests wait meanwhile. Default: 10 s.
    pub wait_max: Duration,
    /// Least time between two questions to the source because of a 401. Default: 10 s.
    pub refresh_min: Duration,
    /// After this time the source is asked in any case. Default: never.
    pub refresh: Option<Duration>,
}

/// Where the value of a field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file that nobody but its owner can read.
    File(PathBuf),
    /// A program with its arguments, which prints it.
    Command(Vec<String>),
}

/// A value of a field, as it is held now.
#[derive(Clone)]
pub struct Credential {
    value: HeaderValue,
    /// Bytes of the value that are no secret.
    prefix_bytes: usize,
}

/// What is held of one field, as whoever asks for it says.
#[derive(Clone, Debug)]
pub struct Held {
    /// What requests get.
    pub credential: Credential,
    /// Grows with each other value.
    pub generation: u64,
    /// True while the source is asked: requests wait, since what they would send may be refused.
    pub is_asked: bool,
}

/// A candidate has refused a field.
pub struct Refused {
    /// Which value it was.
    pub generation: u64,
    /// Takes what comes of it.
    pub answer: oneshot::Sender<Standing>,
}

/// What a refusal of a credential means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// There is no other: the refusal is what the candidate does.
    Holds,
    /// It is not known whether there is another: the source could not be asked.
    Unknown,
    /// There is another by now: the refusal says nothing about the candidate.
    Replaced,
}

/// The end of a field that requests are made with.
pub struct CredentialField {
    name: HeaderName,
    always: bool,
    held: watch::Receiver<Held>,
    refusals: mpsc::Sender<Refused>,
}

/// All fields of one candidate.
#[derive(Default)]
pub struct Credentials(Vec<CredentialField>);

/// Fields that one request gets in place of captured ones.
#[derive(Clone, Default)]
pub struct OwnFields(Vec<OwnField>);

#[derive(Clone)]
struct OwnField {
    /// Its place among the credentials.
    index: usize,
    name: HeaderName,
    credential: Credential,
    generation: u64,
}

/// What stands in an answer where the candidate repeats a credential, and the captured client had none.
const STAND_IN: &[u8] = b"(credential)";

/// Shorter values are not looked for in answers: they would be found where nobody put them.
const SOUGHT_BYTES_MIN: usize = 8;

/// The answer to a credential that is not accepted (RFC 9110 section 15.5.2).
const UNAUTHORIZED: u16 = 401;

// === impl Credential ===

impl Credential {
    /// A value behind a prefix; none when a field cannot carry it: it is empty, of several lines, or has other bytes than
    /// printable ones of ASCII.
    pub fn new(prefix: &str, secret: &[u8]) -> Option<Self> {
        let is_sound = !secret.is_empty() && secret.iter().all(|byte| (b' '..=b'~').contains(byte));
        let whole = is_sound.then(|| [prefix.as_bytes(), secret].concat())?;
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(whole)).ok()?;
        // Its Debug shows nothing then.
        value.set_sensitive(true);
        Some(Self { value, prefix_bytes: prefix.len() })
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Self) -> bool {
        self.value == other.value
    }

    fn secret(&self) -> &[u8] {
        self.value.as_bytes().get(self.prefix_bytes..).unwrap_or_default()
    }

    fn prefix(&self) -> &[u8] {
        self.value.as_bytes().get(..self.prefix_bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

// === impl CredentialField ===

impl CredentialField {
    /// The field of this configuration; none when its name cannot be one. `held`: what whoever asks for it holds now;
    /// `refusals`: where that hears of refusals.
    pub fn new(
        config: &CredentialConfig,
        held: watch::Receiver<Held>,
        refusals: mpsc::Sender<Refused>,
    ) -> Option<Self> {
        let name = HeaderName::from_bytes(config.header.as_bytes()).ok()?;
        Some(Self { name, always: config.always, held, refusals })
    }
}

// === impl Credentials ===

impl Credentials {
    /// No field.
    pub const NONE: Credentials = Credentials(Vec::new());

    /// These fields.
    pub fn new(fields: Vec<CredentialField>) -> Self {
        Self(fields)
    }

    /// What a request gets. Waits while a source is asked.
    ///
    /// A request that A answered with 401 gets nothing: what its client showed was refused, and should be so again.
    pub async fn for_request(&self, request: &Request, control: Option<&Response>) -> OwnFields {
        let mut own = OwnFields::default();
        if control.is_some_and(|control| control.status == UNAUTHORIZED) {
            return own;
        }
        for (index, CredentialField { name, always, held, refusals: _ }) in self.0.iter().enumerate() {
            if !always && request.headers.get(name.as_str()).is_none() {
                continue;
            }
            let mut held = held.clone();
            // Whoever asks may be gone; what it left behind holds.
            let waited = held.wait_for(|held| !held.is_asked).await.map(|held| held.clone()).ok();
            let Held { credential, generation, is_asked: _ } =
                waited.unwrap_or_else(|| held.borrow().clone());
            own.0.push(OwnField { index, name: name.clone(), credential, generation });
        }
        own
    }

    /// What the candidate's refusal of these fields means; the sources are asked again where that is due.
    /// [`Standing::Holds`] where it refused nothing.
    pub async fn standing(&self, own: &OwnFields, candidate: &Observation) -> Standing {
        let mut standing = Standing::Holds;
        if !is_refusal(candidate) {
            return standing;
        }
        for OwnField { index, name: _, credential: _, generation } in &own.0 {
            let Some(field) = self.0.get(*index) else { continue };
            let (answer, answered) = oneshot::channel();
            let asked = field.refusals.send(Refused { generation: *generation, answer }).await;
            let of_field = match asked {
                Ok(()) => answered.await.unwrap_or(Standing::Unknown),
                Err(_gone) => Standing::Unknown,
            };
            standing = standing.max(of_field);
        }
        standing
    }
}

// === impl OwnFields ===

impl OwnFields {
    /// Names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|own| (&own.name, &own.credential.value))
    }

    /// Puts what the captured client sent where the candidate's answer repeats a credential: it is shown to nobody, and an
    /// answer that repeats what it was sent is still like A's. Looks into bodies without content coding. What is kept of a body
    /// that was cut loses an end with which a credential begins.
    pub fn take_out(&self, request: &Request, candidate: &mut Observation) {
        let Observation::Answered { response, ttfb: _, served: _ } = candidate else { return };
        for OwnField { index: _, name, credential, generation: _ } in &self.0 {
            let secret = credential.secret();
            if secret.len() < SOUGHT_BYTES_MIN {
                continue;
            }
            let captured = request.headers.get(name.as_str());
            let captured = captured.map(|value| match value.split_at_checked(credential.prefix_bytes) {
                Some((prefix, rest)) if prefix.eq_ignore_ascii_case(credential.prefix()) => rest,
                Some(_) | None => value,
            });
            replace_in(response, secret, captured.unwrap_or(STAND_IN));
        }
    }
}

/// Whether a credential may be put into this field: it is one of requests, and belongs neither to the connection nor to the
/// framing nor to the address.
pub fn may_carry_credential(name: &str) -> bool {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return false };
    let fixed = [CONTENT_LENGTH, TRANSFER_ENCODING, HOST];
    !fixed.contains(&name) && name != REPLAY_HEADER && !is_per_connection(name.as_str())
}

fn is_refusal(observation: &Observation) -> bool {
    match observation {
        Observation::Answered { response, ttfb: _, served: _ } => response.status == UNAUTHORIZED,
        Observation::Failed(_) => false,
    }
}

fn replace_in(response: &mut Response, secret: &[u8], stand_in: &[u8]) {
    let finder = memmem::Finder::new(secret);
    let Response { status: _, version: _, headers, trailers, body } = response;
    for fields in [headers, trailers] {
        if fields.iter().any(|(_, value)| finder.find(value).is_some()) {
            let pairs = fields.iter().map(|(name, value)| {
                (name.to_vec(), replaced(&finder, value, stand_in).unwrap_or_else(|| value.to_vec()))
            });
            *fields = Headers::from_pairs(pairs);
        }
    }
    let may_end_within = body.is_cut() || !body.complete;
    let Body { kept, bytes, digest, complete: _ } = body;
    let mut other = replaced(&finder, kept, stand_in);
    let begun = if may_end_within { begun_at_the_end(other.as_deref().unwrap_or(kept), secret) } else { 0 };
    if begun > 0 {
        let whole = other.get_or_insert_with(|| kept.to_vec());
        whole.truncate(whole.len().saturating_sub(begun));
    }
    if let Some(other) = other {
        // Of a body that was cut, length and hash stay what they were: neither says anything of the secret.
        if digest.is_none() {
            *bytes = other.len() as u64;
        }
        *kept = other.into();
    }
}

/// Bytes at the end of the text with which the secret begins: more of it may have stood where the text was cut.
fn begun_at_the_end(text: &[u8], secret: &[u8]) -> usize {
    let is_end = |bytes: &usize| secret.get(..*bytes).is_some_and(|begin| text.ends_with(begin));
    (1..secret.len()).rev().find(is_end).unwrap_or(0)
}

/// The text with the stand-in in all places of what is sought; none where it is in no place.
fn replaced(finder: &memmem::Finder<'_>, text: &[u8], stand_in: &[u8]) -> Option<Vec<u8>> {
    let mut rest = text;
    let mut whole = Vec::new();
    while let Some((before, after)) = finder.find(rest).and_then(|at| rest.split_at_checked(at)) {
        whole.extend_from_slice(before);
        whole.extend_from_slice(stand_in);
        rest = after.get(finder.needle().len()..).unwrap_or_default();
    }
    if rest.len() == text.len() {
        return None;
    }
    whole.extend_from_slice(rest);
    Some(whole)
}

#[cfg(test)]
mod tests;
