//! What is left of a packet while its headers are taken off.
//!
//! Copies nothing, and never reads past the end.

use super::Skipped;
use crate::model::Unused;

/// The captured bytes that are left, and how many there were on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest<'a> {
    bytes: &'a [u8],
    /// At least the length of `bytes`; more when the capture cut the packet.
    wire: usize,
    /// What the tags so far say of the virtual network.
    network: u32,
}

// === impl Rest ===

impl<'a> Rest<'a> {
    /// All of a packet that had `wire` bytes.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], wire: usize) -> Self {
        Self { bytes, wire: wire.max(bytes.len()), network: 0 }
    }

    /// The same bytes in a virtual network that is known already.
    pub(super) fn within(self, network: u32) -> Self {
        Self { network, ..self }
    }

    /// Notes a tag that names a virtual network, inside of those that were noted before. Tag 0 names none.
    pub(super) fn enter_network(&mut self, tag: u32) {
        if tag != 0 {
            // Different ways in must not give equal numbers; any odd factor does, and this one spreads well.
            self.network = self.network.wrapping_mul(0x9e37_79b1).wrapping_add(tag);
        }
    }

    /// The virtual network, 0 for none.
    #[inline]
    pub(super) fn network(&self) -> u32 {
        self.network
    }

    /// The captured bytes.
    #[inline]
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Their number on the wire.
    #[inline]
    pub(super) fn wire(&self) -> usize {
        self.wire
    }

    /// Takes bytes off the front.
    #[inline]
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], Skipped> {
        let (head, bytes) = self.bytes.split_first_chunk::<N>().ok_or(Unused::Malformed)?;
        *self = Self { bytes, wire: self.wire.saturating_sub(N), ..*self };
        Ok(*head)
    }

    #[inline]
    pub(super) fn be16(&mut self) -> Result<u16, Skipped> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn be32(&mut self) -> Result<u32, Skipped> {
        self.take().map(u32::from_be_bytes)
    }

    /// The bytes at the front, which stay.
    #[inline]
    pub(super) fn peek<const N: usize>(&self) -> Result<[u8; N], Skipped> {
        Ok(*self.bytes.first_chunk::<N>().ok_or(Unused::Malformed)?)
    }

    /// Takes bytes off the front that nobody wants to see.
    #[inline]
    pub(super) fn skip(&mut self, count: usize) -> Result<(), Skipped> {
        let bytes = self.bytes.get(count..).ok_or(Unused::Malformed)?;
        *self = Self { bytes, wire: self.wire.saturating_sub(count), ..*self };
        Ok(())
    }

    /// Believes a header that says how many bytes lie behind it: what lies behind those is padding, and what the
    /// capture lacks of them was on the wire.
    #[inline]
    pub(super) fn limit(&mut self, wire: usize) {
        *self = Self { bytes: self.bytes.get(..wire).unwrap_or(self.bytes), wire, ..*self };
    }
}
