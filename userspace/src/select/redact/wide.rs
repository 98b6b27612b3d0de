//! Texts whose characters have two or four bytes each (RFC 2781): as UTF-8, and back again.
//!
//! Believes the bytes rather than what is said of them: a text of ASCII in such a form is known by its zeros.

/// How the characters of a text are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width {
    bytes: usize,
    is_big: bool,
}

/// Bytes at the beginning that are looked at.
const LOOKED_AT: usize = 64;

// === impl Width ===

impl Width {
    /// Of a text; none for one with bytes for characters.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        if text.starts_with(&[0xff, 0xfe, 0, 0]) {
            return Some(Self { bytes: 4, is_big: false });
        }
        if text.starts_with(&[0, 0, 0xfe, 0xff]) {
            return Some(Self { bytes: 4, is_big: true });
        }
        if text.starts_with(&[0xff, 0xfe]) {
            return Some(Self { bytes: 2, is_big: false });
        }
        if text.starts_with(&[0xfe, 0xff]) {
            return Some(Self { bytes: 2, is_big: true });
        }
        let begin = text.get(..text.len().min(LOOKED_AT)).unwrap_or_default();
        [(4, false), (4, true), (2, false), (2, true)]
            .map(|(bytes, is_big)| Self { bytes, is_big })
            .into_iter()
            .find(|width| width.fits(begin))
    }

    /// True when most characters are of ASCII.
    fn fits(self, begin: &[u8]) -> bool {
        let mut units = begin.chunks_exact(self.bytes);
        let count = units.len();
        let is_ascii = |unit: &[u8]| {
            let (letter, zeros) =
                if self.is_big { unit.split_last() } else { unit.split_first() }.unwrap_or((&0, &[]));
            (letter.is_ascii_graphic() || letter.is_ascii_whitespace()) && zeros.iter().all(|byte| *byte == 0)
        };
        let fitting = units.by_ref().filter(|unit| is_ascii(unit)).count();
        count >= 4 && fitting.saturating_mul(4) >= count.saturating_mul(3)
    }

    /// The text as UTF-8. What is none becomes U+FFFD.
    pub(super) fn narrow(self, text: &[u8]) -> String {
        if self.bytes == 4 {
            let units = text.chunks_exact(4).map(|unit| {
                let unit = <[u8; 4]>::try_from(unit).unwrap_or_default();
                if self.is_big { u32::from_be_bytes(unit) } else { u32::from_le_bytes(unit) }
            });
            return units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        }
        let units = text.chunks_exact(2).map(|unit| {
            let unit = <[u8; 2]>::try_from(unit).unwrap_or_default();
            if self.is_big { u16::from_be_bytes(unit) } else { u16::from_le_bytes(unit) }
        });
        char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }

    /// The reverse. What is no UTF-8 becomes U+FFFD.
    pub(super) fn widen(self, text: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(text);
        if self.bytes == 4 {
            let bytes = |char: char| {
                let unit = u32::from(char);
                if self.is_big { unit.to_be_bytes() } else { unit.to_le_bytes() }
            };
            return text.chars().flat_map(bytes).collect();
        }
        let bytes = |unit: u16| if self.is_big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }
}
