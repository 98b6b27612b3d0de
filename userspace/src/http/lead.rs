//! What stands between two messages.
//!
//! Reads nothing but ends of lines, which a server passes over before a start line (RFC 9112 section 2.2).

/// Ends of lines before a start line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lead {
    /// There were some.
    pub(super) any: bool,
    /// Not all of them were CRLF.
    pub(super) bare: bool,
    after_cr: bool,
}

// === impl Lead ===

impl Lead {
    /// Takes note of an end of a line, or of a part of one.
    pub(super) fn pass(&mut self, byte: u8) {
        self.any = true;
        self.bare |= self.after_cr != (byte == b'\n');
        self.after_cr = byte == b'\r';
    }

    /// A start line begins.
    pub(super) fn end(&mut self) {
        self.bare |= std::mem::take(&mut self.after_cr);
    }
}
