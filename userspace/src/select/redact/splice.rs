//! A text with some pieces replaced, made in one pass.
//!
//! Copies nothing while nothing is replaced.

use std::ops::Range;

/// See the module. Pieces come in order.
pub(super) struct Splice<'a> {
    text: &'a [u8],
    out: Vec<u8>,
    copied: usize,
}

// === impl Splice ===

impl<'a> Splice<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, out: Vec::new(), copied: 0 }
    }

    /// Puts something in the place of a piece. One that begins before the end of the last one is left as it is.
    pub(super) fn replace(&mut self, piece: Range<usize>, with: &[u8]) {
        let Some(between) = self.text.get(self.copied..piece.start) else { return };
        if piece.end < piece.start || piece.end > self.text.len() {
            return;
        }
        self.out.extend_from_slice(between);
        self.out.extend_from_slice(with);
        self.copied = piece.end;
    }

    /// The text, if it is another one now.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        if self.copied == 0 && self.out.is_empty() {
            return None;
        }
        self.out.extend_from_slice(self.text.get(self.copied..).unwrap_or_default());
        Some(self.out)
    }
}
