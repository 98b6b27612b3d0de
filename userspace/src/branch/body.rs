//! The body of a replayed request, and reading the body of an answer.
//!
//! Keeps no more of an answer than its cap; the rest is counted and hashed.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use sha2::{Digest as _, Sha256};

use crate::model::{Body, Headers};

/// A captured body, sent in one piece.
pub(super) struct RequestBody {
    bytes: Option<Bytes>,
    framed: bool,
}

/// Collects the bytes of an answer up to a cap.
struct Kept {
    first: Bytes,
    more: BytesMut,
    bytes: u64,
    cap: usize,
    digest: Option<Sha256>,
}

/// Reads an answer to its end; the body is whole, or the error says why not. Also returns the trailer fields.
pub(super) async fn read(mut incoming: Incoming, cap: usize) -> hyper::Result<(Body, Headers)> {
    let mut kept = Kept { first: Bytes::new(), more: BytesMut::new(), bytes: 0, cap, digest: None };
    let mut trailers = Headers::default();
    while let Some(frame) = incoming.frame().await {
        match frame?.into_data() {
            Ok(bytes) => kept.push(bytes),
            Err(other) => {
                if let Ok(fields) = other.into_trailers() {
                    trailers =
                        Headers::from_pairs(fields.iter().map(|(name, value)| (name, value.as_bytes())));
                }
            }
        }
    }
    Ok((kept.finish(), trailers))
}

// === impl RequestBody ===

impl RequestBody {
    /// `framed` is true when the captured head announced a body, even an empty one: hyper then keeps the framing
    /// that the head names.
    pub(super) fn new(bytes: Bytes, framed: bool) -> Self {
        Self { bytes: Some(bytes), framed }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.bytes.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        !self.framed && self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

// === impl Kept ===

impl Kept {
    fn push(&mut self, bytes: Bytes) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let have = if self.more.is_empty() { self.first.len() } else { self.more.len() };
        let room = self.cap.saturating_sub(have);
        if let Some(digest) = &mut self.digest {
            digest.update(&bytes);
            return;
        }
        if have == 0 && bytes.len() <= room {
            // Most answers come in one piece, which needs no copy.
            self.first = bytes;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&self.first);
        }
        let (keep, _) = bytes.split_at(room.min(bytes.len()));
        self.more.extend_from_slice(keep);
        if keep.len() < bytes.len() {
            let mut digest = Sha256::new();
            digest.update(&self.more);
            digest.update(bytes.slice(keep.len()..));
            self.digest = Some(digest);
        }
    }

    fn finish(self) -> Body {
        let Self { first, more, bytes, cap: _, digest } = self;
        let kept = if more.is_empty() { first } else { more.freeze() };
        Body { kept, bytes, digest: digest.map(|digest| digest.finalize().into()), complete: true }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_does_not_depend_on_the_pieces(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8),
            cap in 0usize..60,
        ) {
            let whole = pieces.concat();
            let mut kept = Kept { first: Bytes::new(), more: BytesMut::new(), bytes: 0, cap, digest: None };
            pieces.into_iter().for_each(|piece| kept.push(piece.into()));
            let body = kept.finish();
            prop_assert_eq!(&body.kept[..], &whole[..whole.len().min(cap)]);
            prop_assert_eq!(body.bytes, whole.len() as u64);
            let digest: [u8; 32] = Sha256::digest(&whole).into();
            prop_assert_eq!(body.digest, (whole.len() > cap).then_some(digest));
        }
    }
}
