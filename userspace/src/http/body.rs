//! Collects the bytes of a body within bounds.
//!
//! Decodes nothing: content codings are `compare`'s.

use sha2::{Digest, Sha256};

use crate::model::Body;

use super::{HttpContext, count};

/// A body that is being read.
#[derive(Debug, Default)]
pub(super) struct BodyBuilder {
    kept: Vec<u8>,
    bytes: u64,
    /// Runs over all bytes from when `kept` stopped growing.
    hasher: Option<Box<Sha256>>,
    /// Bytes are missing, so that neither `kept` nor the hash can grow further.
    holed: bool,
}

/// SHA-256 of the whole body, before content decoding; `None` when not all of it is known.
pub fn sha256(body: &Body) -> Option<[u8; 32]> {
    if body.is_cut() { body.digest } else { Some(Sha256::digest(&body.kept).into()) }
}

// === impl BodyBuilder ===

impl BodyBuilder {
    /// Adds the next bytes.
    pub(super) fn push(&mut self, piece: &[u8], context: &mut HttpContext) {
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
        if self.holed {
            return;
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
            return;
        }
        let body_room = context.limits.body_kept_max.saturating_sub(self.kept.len());
        let total_room = context.limits.kept_bytes_max.saturating_sub(context.kept_bytes);
        let room = body_room.min(total_room);
        let (keep, rest) = piece.split_at_checked(room).unwrap_or((piece, &[]));
        self.kept.extend_from_slice(keep);
        context.kept_bytes = context.kept_bytes.saturating_add(keep.len());
        if !rest.is_empty() {
            let mut hasher = Sha256::new_with_prefix(&self.kept);
            hasher.update(rest);
            self.hasher = Some(Box::new(hasher));
            count(&mut context.tally.bodies_cut);
        }
    }

    /// The first bytes, as far as they are kept.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Notes that bytes are missing here.
    pub(super) fn hole(&mut self) {
        self.holed = true;
        self.hasher = None;
    }

    /// True when no byte has come, and none was missed.
    pub(super) fn is_untouched(&self) -> bool {
        self.bytes == 0 && !self.holed
    }

    /// The body as far as it came. `ended`: its framing says that it is over.
    pub(super) fn finish(self, ended: bool) -> Body {
        let Self { kept, bytes, hasher, holed } = self;
        Body {
            kept: kept.into(),
            bytes,
            digest: hasher.map(|hasher| hasher.finalize().into()),
            complete: ended && !holed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpLimits;

    #[test]
    fn a_long_body_is_cut_and_its_hash_is_that_of_the_whole() {
        let whole: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        for piece in [1, 7, 100, 1000] {
            let limits = HttpLimits { body_kept_max: 100, ..HttpLimits::default() };
            let mut context = HttpContext::new(limits);
            let mut builder = BodyBuilder::default();
            whole.chunks(piece).for_each(|piece| builder.push(piece, &mut context));
            let body = builder.finish(true);
            assert_eq!((body.bytes, &body.kept[..]), (1000, &whole[..100]));
            assert_eq!(sha256(&body), Some(Sha256::digest(&whole).into()), "pieces of {piece}");
            assert_eq!((context.kept_bytes(), context.tally.bodies_cut), (100, 1));
        }
    }

    #[test]
    fn a_body_with_a_hole_has_no_hash_and_is_not_complete() {
        let mut context = HttpContext::new(HttpLimits::default());
        let mut builder = BodyBuilder::default();
        builder.push(b"ab", &mut context);
        builder.hole();
        builder.push(b"cd", &mut context);
        let body = builder.finish(true);
        assert_eq!((body.bytes, &body.kept[..], body.complete), (4, &b"ab"[..], false));
        assert_eq!(sha256(&body), None);
    }
}
