//! Compares event streams (`text/event-stream`) by event.
//!
//! Does not wait for events: a stream is compared when both answers have ended. Comments keep a connection open and
//! say nothing.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::align::{Element, pair_up};
use super::findings::{Container, Findings, Lossy, Place};
use super::json_text::{self, Node, ParseError};
use super::{json, text};
use crate::model::DifferenceKind;

/// The type of an event that names none (HTML, section 9.2.6).
const DEFAULT_TYPE: &str = "message";

/// The events of a stream.
#[derive(Debug)]
pub(super) struct Events(Vec<Event>);

#[derive(Debug, Default)]
struct Event {
    /// Never empty once the event is read.
    name: String,
    id: Option<Vec<u8>>,
    retry: Option<Vec<u8>>,
    data: Vec<u8>,
    /// False for the last event of a stream that ended before the empty line: browsers forget it.
    finished: bool,
}

/// Reads a stream (HTML, section 9.2.6).
///
/// # Errors
/// When there are more events than `events_max`.
pub(super) fn read(text: &[u8], events_max: usize) -> Result<Events, ParseError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut events = Vec::new();
    let mut event = Event::default();
    let mut has_fields = false;
    for line in lines(text) {
        if line.is_empty() {
            if has_fields {
                events.push(std::mem::take(&mut event).with_type(true));
            }
            has_fields = false;
            if events.len() > events_max {
                return Err(ParseError::TooMany);
            }
        } else if line.first() != Some(&b':') {
            has_fields = true;
            event.take(line);
        }
    }
    if has_fields {
        events.push(event.with_type(false));
    }
    Ok(Events(events))
}

/// Lines that end with CR, LF or both.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.filter(|text| !text.is_empty())?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', text) else {
            rest = None;
            return Some(text);
        };
        let (line, after) = text.split_at_checked(end)?;
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..));
        Some(line)
    })
}

/// Reports each event that differs, under its type.
pub(super) fn compare(a: &Events, b: &Events, found: &mut Findings<'_>) -> Result<(), ParseError> {
    let (Events(a), Events(b)) = (a, b);
    for (i, j) in pair_up(a, b, found.budget()) {
        match (i.and_then(|i| a.get(i)), j.and_then(|j| b.get(j))) {
            (Some(x), Some(y)) if x.name == y.name => {
                let compared = |found: &mut Findings<'_>| compare_pair(x, y, found);
                found.within(Container::Event, &x.name, compared)?;
            }
            (x, y) => {
                if let Some(x) = x {
                    found.add(&x.place(), DifferenceKind::Missing, Some(&Lossy(&x.data)), None);
                }
                if let Some(y) = y {
                    found.add(&y.place(), DifferenceKind::Added, None, Some(&Lossy(&y.data)));
                }
            }
        }
    }
    Ok(())
}

fn compare_pair(a: &Event, b: &Event, found: &mut Findings<'_>) -> Result<(), ParseError> {
    for (name, x, y) in [("id", &a.id, &b.id), ("retry", &a.retry, &b.retry)] {
        let kind = match (x, y) {
            (x, y) if x == y => continue,
            (Some(_), None) => DifferenceKind::Missing,
            (None, Some(_)) => DifferenceKind::Added,
            (Some(_), Some(_)) | (None, None) => DifferenceKind::Value,
        };
        let (x, y) = (x.as_deref().map(Lossy), y.as_deref().map(Lossy));
        let (x, y) = (x.as_ref().map(|x| x as _), y.as_ref().map(|y| y as _));
        found.add(&Place::Property(name), kind, x, y);
    }
    if a.finished != b.finished {
        let shown = |finished| if finished { "empty line" } else { "end of the stream" };
        let (x, y) = (shown(a.finished), shown(b.finished));
        found.add(&Place::Property("end"), DifferenceKind::Value, Some(&x), Some(&y));
    }
    if a.data == b.data {
        return Ok(());
    }
    match (a.json(found)?, b.json(found)?) {
        (Some(x), Some(y)) => json::compare(&x, &y, found),
        (None, None) => text::compare(&a.data, &b.data, found),
        (Some(_), None) | (None, Some(_)) => {
            found.add(&Place::Body, DifferenceKind::Type, Some(&Lossy(&a.data)), Some(&Lossy(&b.data)));
        }
    }
    Ok(())
}

// === impl Event ===

impl Event {
    fn take(&mut self, line: &[u8]) {
        let mut sides = line.splitn(2, |byte| *byte == b':');
        let name = sides.next().unwrap_or_default();
        let value = sides.next().unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"id" => self.id = Some(value.to_vec()),
            b"retry" => self.retry = Some(value.to_vec()),
            b"data" => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
            }
            // Other fields are not read.
            _ => {}
        }
    }

    fn with_type(mut self, finished: bool) -> Self {
        if self.name.is_empty() {
            self.name.push_str(DEFAULT_TYPE);
        }
        if self.data.last() == Some(&b'\n') {
            self.data.pop();
        }
        Event { finished, ..self }
    }

    fn place(&self) -> Place<'_> {
        Place::Within { container: Container::Event, name: &self.name, place: None }
    }

    /// The data as JSON, where it is an object, an array, or an equal one would be.
    fn json(&self, found: &Findings<'_>) -> Result<Option<Node<'_>>, ParseError> {
        let limits = found.limits();
        match json_text::parse(&self.data, limits.depth_max, limits.values_max, Some(&found.origin())) {
            Ok(node) => Ok(Some(node)),
            Err(ParseError::Malformed) => Ok(None),
            Err(reason @ (ParseError::TooDeep | ParseError::TooMany)) => Err(reason),
        }
    }
}

fn hash_of(tag: u8, part: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_u8(tag);
    hasher.write(part);
    hasher.finish()
}

impl Element for Event {
    fn hash(&self) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write_u64(hash_of(b't', self.name.as_bytes()));
        hasher.write_u64(self.id.as_deref().map_or(0, |id| hash_of(b'i', id)));
        hasher.write_u64(self.retry.as_deref().map_or(0, |retry| hash_of(b'r', retry)));
        hasher.write_u64(hash_of(b'd', &self.data));
        hasher.write_u8(u8::from(self.finished));
        hasher.finish()
    }

    /// The type, the id, the data, and what the data is made of when it is JSON.
    fn features(&self) -> Vec<u64> {
        let mut features = vec![hash_of(b't', self.name.as_bytes()), hash_of(b'd', &self.data)];
        features.extend(self.id.as_deref().map(|id| hash_of(b'i', id)));
        // A short look is enough for a guess.
        let parts = json_text::parse(&self.data, 8, 256, None).map(|node| node.features());
        features.extend(parts.unwrap_or_default());
        features.truncate(super::align::FEATURES_MAX);
        features
    }
}
