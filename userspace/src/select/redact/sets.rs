//! Sets of bytes, and which kinds of bytes a text has: what has no `@` holds no address.
//!
//! Finds nothing. Says what cannot be found, so that nobody looks for it.

/// A set of bytes.
pub(super) struct ByteSet([bool; 256]);

/// Kinds of bytes of which a text has at least one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u16);

/// Which kinds each byte is of.
static OF_BYTES: [u16; 256] = Kinds::of_bytes();

// === impl ByteSet ===

impl ByteSet {
    /// These bytes.
    #[expect(
        clippy::indexing_slicing,
        reason = "for tables that the compiler makes: it refuses what lies beyond"
    )]
    pub(super) const fn of(mut bytes: &[u8]) -> Self {
        let mut set = [false; 256];
        while let [first, rest @ ..] = bytes {
            set[*first as usize] = true;
            bytes = rest;
        }
        Self(set)
    }

    /// Letters and digits of ASCII, and these bytes.
    pub(super) const fn letters_digits_and(bytes: &[u8]) -> Self {
        Self::of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").and(Self::of(bytes))
    }

    /// These bytes, and those that are of no character of ASCII.
    #[expect(
        clippy::indexing_slicing,
        reason = "for tables that the compiler makes: it refuses what lies beyond"
    )]
    pub(super) const fn and_beyond_ascii(self) -> Self {
        let Self(mut set) = self;
        let mut byte = 0x80_u8;
        while byte < u8::MAX {
            set[byte as usize] = true;
            byte = byte.saturating_add(1);
        }
        set[u8::MAX as usize] = true;
        Self(set)
    }

    /// The bytes of both.
    #[expect(
        clippy::indexing_slicing,
        reason = "for tables that the compiler makes: it refuses what lies beyond"
    )]
    const fn and(self, other: Self) -> Self {
        let Self(mut set) = self;
        let mut at = 0_usize;
        while at < set.len() {
            set[at] |= other.0[at];
            at = at.saturating_add(1);
        }
        Self(set)
    }

    /// All other bytes.
    #[expect(
        clippy::indexing_slicing,
        reason = "for tables that the compiler makes: it refuses what lies beyond"
    )]
    pub(super) const fn others(self) -> Self {
        let Self(mut set) = self;
        let mut at = 0_usize;
        while at < set.len() {
            set[at] = !set[at];
            at = at.saturating_add(1);
        }
        Self(set)
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or_default()
    }
}

// === impl Kinds ===

impl Kinds {
    pub(super) const AT: Self = Self(1);
    pub(super) const PERCENT: Self = Self(1 << 1);
    pub(super) const AMPERSAND: Self = Self(1 << 2);
    pub(super) const BACKSLASH: Self = Self(1 << 3);
    pub(super) const BRACKET: Self = Self(1 << 4);
    pub(super) const EQUALS: Self = Self(1 << 5);
    pub(super) const COLON: Self = Self(1 << 6);
    pub(super) const SLASH: Self = Self(1 << 7);
    /// `-`, `_` and `.`.
    pub(super) const MARK: Self = Self(1 << 8);
    pub(super) const DIGIT: Self = Self(1 << 9);
    /// A space, or what a space is coded with.
    pub(super) const SPACE: Self = Self(1 << 10);
    pub(super) const UPPER_A: Self = Self(1 << 11);
    pub(super) const UPPER_I: Self = Self(1 << 12);
    pub(super) const UPPER_J: Self = Self(1 << 13);
    pub(super) const UPPER_Y: Self = Self(1 << 14);
    /// Of no character of ASCII.
    pub(super) const BEYOND_ASCII: Self = Self(1 << 15);
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: Self = Self(u16::MAX);

    /// The kinds of a text.
    pub(super) fn of(text: &[u8]) -> Self {
        let kinds = |byte: &u8| OF_BYTES.get(usize::from(*byte)).copied().unwrap_or_default();
        Self(text.iter().fold(0, |all, byte| all | kinds(byte)))
    }

    /// True when all of those are there.
    pub(super) fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// True when one of those is there.
    pub(super) fn has_any(self, wanted: &[Self]) -> bool {
        wanted.iter().any(|wanted| self.has(*wanted))
    }

    const fn of_byte(byte: u8) -> u16 {
        let Self(kinds) = match byte {
            b'@' => Self::AT,
            b'%' => return Self::PERCENT.0 | Self::SPACE.0,
            b'&' => Self::AMPERSAND,
            b'\\' => Self::BACKSLASH,
            b'>' => Self::BRACKET,
            b'=' => Self::EQUALS,
            b':' => Self::COLON,
            b'/' => Self::SLASH,
            b'-' | b'_' | b'.' => Self::MARK,
            b'0'..=b'9' => Self::DIGIT,
            b' ' | b'\t' | b'+' => Self::SPACE,
            b'A' => Self::UPPER_A,
            b'I' => Self::UPPER_I,
            b'J' => Self::UPPER_J,
            b'Y' => Self::UPPER_Y,
            0x80.. => Self::BEYOND_ASCII,
            _ => Self(0),
        };
        kinds
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a table that the compiler makes: it refuses what lies beyond"
    )]
    const fn of_bytes() -> [u16; 256] {
        let mut kinds = [Self::of_byte(u8::MAX); 256];
        let mut byte = 0_u8;
        while byte < u8::MAX {
            kinds[byte as usize] = Self::of_byte(byte);
            byte = byte.saturating_add(1);
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_what_they_are_made_of() {
        let check = |set: &ByteSet, is_in: &dyn Fn(u8) -> bool| {
            (0..=u8::MAX).for_each(|byte| assert_eq!(set.has(byte), is_in(byte), "{byte:#x}"));
        };
        check(&ByteSet::of(b"a\xff"), &|byte| matches!(byte, b'a' | 0xff));
        check(&ByteSet::of(b"a\xff").others(), &|byte| !matches!(byte, b'a' | 0xff));
        check(&ByteSet::letters_digits_and(b"-"), &|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        check(&ByteSet::of(b"a").and_beyond_ascii(), &|byte| byte == b'a' || !byte.is_ascii());
    }

    #[test]
    fn a_text_has_the_kinds_of_its_bytes() {
        for byte in 0..=u8::MAX {
            assert_eq!(Kinds::of(&[b'x', byte, b'x']), Kinds(Kinds::of_byte(byte)), "{byte:#x}");
        }
        let kinds = Kinds::of(b"a@b %40");
        assert!(kinds.has(Kinds::AT) && kinds.has_any(&[Kinds::COLON, Kinds::PERCENT]));
        assert!(!kinds.has(Kinds::COLON) && !kinds.has_any(&[Kinds::COLON, Kinds::UPPER_A]));
    }
}
