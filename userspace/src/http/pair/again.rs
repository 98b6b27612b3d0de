//! Bytes that came again after they had been read, and with other contents.
//!
//! Reads nothing anew: what was read first stays. Of a body, compares only what was kept, and none in chunked coding,
//! whose bytes are not kept as they came.

use crate::model::{Body, Direction, Headers, Mark};

use super::super::body::BodyBuilder;
use super::Connection;

/// What was read of one message, and where.
struct Read<'a> {
    headers: &'a Headers,
    start: u64,
    body: Option<&'a BodyBuilder>,
    body_read: &'a Body,
    /// Its body stands behind its head as it was kept.
    body_is_plain: bool,
}

/// What of a message differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differs {
    Nowhere,
    /// The message ends at the same place.
    InBody,
    /// It may end elsewhere.
    InHead,
}

// === impl Connection ===

impl Connection {
    /// Compares bytes of `direction` from `offset` on with those that were read there, as far as they belong to an
    /// exchange that is not finished. When they differ, nothing says which of them the receiver took: the exchange is
    /// marked, and when the message may end elsewhere then, all that follow it.
    #[cold]
    pub(super) fn compare_again(&mut self, direction: Direction, bytes: &[u8], offset: u64) {
        let differs_of =
            |read: Option<Read<'_>>| read.map_or(Differs::Nowhere, |read| read.differs(bytes, offset));
        let mut follows = false;
        for waiting in &mut self.waiting {
            let differs = differs_of(match direction {
                Direction::ToServer => Some(Read {
                    headers: &waiting.request.headers,
                    start: waiting.start.offset,
                    body: waiting.body.as_ref(),
                    body_read: &waiting.request.body,
                    body_is_plain: waiting.body_is_plain,
                }),
                Direction::ToClient => waiting.response.as_ref().map(|answer| Read {
                    headers: &answer.response.headers,
                    start: answer.offset,
                    body: answer.body.as_ref(),
                    body_read: &answer.response.body,
                    body_is_plain: answer.body_is_plain,
                }),
            });
            follows |= differs == Differs::InHead;
            if follows || differs == Differs::InBody {
                waiting.marks.set(Mark::Conflict);
            }
        }
        let partial = match direction {
            Direction::ToServer => self.requests.partial(),
            Direction::ToClient => self.responses.partial(),
        };
        follows |= partial.is_some_and(|(start, partial)| differ((bytes, offset), (partial, start)));
        match direction {
            Direction::ToServer => self.requests_disputed |= follows,
            Direction::ToClient => self.responses_disputed |= follows,
        }
    }
}

// === impl Read ===

impl Read<'_> {
    fn differs(&self, bytes: &[u8], offset: u64) -> Differs {
        let head = self.headers.head();
        let body_start = self.start.saturating_add(head.len() as u64);
        let body = self.body.map_or(&self.body_read.kept[..], BodyBuilder::kept);
        if differ((bytes, offset), (head, self.start)) {
            Differs::InHead
        } else if self.body_is_plain && differ((bytes, offset), (body, body_start)) {
            Differs::InBody
        } else {
            Differs::Nowhere
        }
    }
}

/// True when bytes at one offset and others at another have one offset where they are not the same.
fn differ((one, one_at): (&[u8], u64), (two, two_at): (&[u8], u64)) -> bool {
    let from = one_at.max(two_at);
    let behind = |bytes: &[u8], at: u64| {
        usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len())
    };
    let (one, two) = (one.get(behind(one, one_at)..), two.get(behind(two, two_at)..));
    let (one, two) = (one.unwrap_or_default(), two.unwrap_or_default());
    let both = one.len().min(two.len());
    one.get(..both) != two.get(..both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_offsets_are_compared() {
        assert!(!differ((b"abc", 10), (b"abc", 10)) && differ((b"abc", 10), (b"abd", 10)));
        assert!(!differ((b"bcX", 11), (b"abc", 10)) && !differ((b"Xabc", 9), (b"abc", 10)));
        assert!(differ((b"Xb", 10), (b"ab", 10)) && differ((b"ab", 10), (b"X", 11)));
        assert!(!differ((b"ab", 10), (b"XX", 12)) && !differ((b"ab", 10), (b"", 10)));
        assert!(!differ((b"ab", u64::MAX), (b"ab", 0)));
    }
}
