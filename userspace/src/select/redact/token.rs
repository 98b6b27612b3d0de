//! Tokens: what stands in the place of a secret.
//!
//! A token is made from the value and the key alone, so that equal values have equal tokens on every host that has the key.
//! It has the shape of the value, so that whoever reads it takes it for one. Nobody without the key can go back, nor try
//! values out. A token is known as one: its last characters are made from the others with the key. So what was hidden once
//! is left alone the next time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::work::looked_at;

/// What redaction is done with. Hosts that share a key make the same tokens.
#[derive(Clone)]
pub struct RedactKey(Hmac<Sha256>);

/// A key that is too short to keep anything secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key must have at least {KEY_BYTES_MIN} bytes, not {bytes}")]
pub struct RedactKeyError {
    /// Bytes that were given.
    pub bytes: usize,
}

/// Least bytes of a key: as many as the hash has (RFC 2104 section 3).
pub const KEY_BYTES_MIN: usize = 32;

/// The domain of the addresses that stand in the place of others: nobody can have one there (RFC 2606 section 2).
pub(super) const ADDRESS_DOMAIN: &str = "redacted.invalid";

/// Characters at the end of a token that are made from those before.
const CHECK_CHARS: usize = 8;

/// A token has a multiple of this many characters, and from this many to that many of them: a password's exact length is
/// of help to whoever guesses it.
const LENGTH_STEP: usize = 8;
const LENGTH_MIN: usize = 16;
const LENGTH_MAX: usize = 128;

/// Digits of a number: as many as every reader of JSON keeps exact (RFC 8259 section 6).
const NUMBER_DIGITS: usize = 15;

/// `{"alg":"HS256","typ":"JWT"}`, as every JSON Web Token begins that stands for another one (RFC 7519).
const JWT_HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// Attempts to make digits that are no card number: each fails for one in ten.
const CARD_ATTEMPTS: u8 = 32;

/// The characters of a token, and of the value that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    Digits,
    HexLower,
    HexUpper,
    Lower,
    Upper,
    Letters,
    Words,
}

/// Alphabets that have each byte of a text.
#[derive(Clone, Copy)]
struct Alphabets(u8);

/// The alphabets that each byte is of.
static OF_BYTES: [u8; 256] = Alphabets::of_bytes();

/// Alphabets in the order in which they say most of a value.
const BY_MEANING: [Alphabet; 6] = [
    Alphabet::Digits,
    Alphabet::Lower,
    Alphabet::Upper,
    Alphabet::Letters,
    Alphabet::HexLower,
    Alphabet::HexUpper,
];

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Plain(Alphabet),
    /// `8-4-4-4-12` hexadecimal digits (RFC 9562 section 4).
    Uuid(Alphabet),
    Jwt,
}

/// Bytes without end, from the key and a value.
struct Stream<'a> {
    key: &'a RedactKey,
    seed: [u8; 32],
    block: [u8; 32],
    blocks: u32,
    used: usize,
}

// === impl RedactKey ===

impl RedactKey {
    /// A key from these bytes, all of which count.
    ///
    /// # Errors
    /// When there are fewer than [`KEY_BYTES_MIN`].
    pub fn new(bytes: &[u8]) -> Result<Self, RedactKeyError> {
        if bytes.len() < KEY_BYTES_MIN {
            return Err(RedactKeyError { bytes: bytes.len() });
        }
        // A hash first, since HMAC takes blocks of a fixed size without being able to fail.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block.iter_mut().zip(Sha256::digest(bytes)).for_each(|(place, byte)| *place = byte);
        Ok(Self(Hmac::new(&block)))
    }

    /// What tells this key from others and says nothing else about it: 16 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        self.hash("fingerprint", b"").iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// HMAC-SHA-256 of a class and a value (RFC 2104). A class has no zero byte, so that none is the beginning of another.
    pub(super) fn hash(&self, class: &str, value: &[u8]) -> [u8; 32] {
        looked_at(value.len());
        let mut mac = self.0.clone();
        mac.update(class.as_bytes());
        mac.update(&[0]);
        mac.update(value);
        mac.finalize().into_bytes().into()
    }

    /// The token of a secret. What is a token already stays, and so does what is empty.
    pub(super) fn secret(&self, value: &[u8]) -> Option<String> {
        if value.is_empty() || self.is_token(value) {
            return None;
        }
        Some(match Shape::of(value) {
            Shape::Jwt => self.jwt(value),
            Shape::Uuid(alphabet) => self.uuid(value, alphabet),
            Shape::Plain(alphabet) => {
                let chars = value.len().next_multiple_of(LENGTH_STEP).clamp(LENGTH_MIN, LENGTH_MAX);
                self.plain(value, alphabet, chars)
            }
        })
    }

    /// The token of a number, as a number. Zero stays: nobody's secret is none.
    pub(super) fn number(&self, value: &[u8]) -> Option<String> {
        let is_nothing = value.iter().all(|byte| matches!(byte, b'0' | b'.' | b'-'));
        (!is_nothing && !self.is_token(value)).then(|| self.plain(value, Alphabet::Digits, NUMBER_DIGITS))
    }

    /// The token of an e-mail address, which is another one, with its `@` written as `sign`. Its case means nothing, since
    /// readers differ in what they make of it.
    pub(super) fn address(&self, local: &[u8], sign: &[u8], domain: &[u8]) -> String {
        let mut value = Vec::with_capacity(local.len().saturating_add(domain.len()).saturating_add(1));
        [local, b"@", domain].iter().for_each(|part| value.extend_from_slice(part));
        value.make_ascii_lowercase();
        let mut stream = self.stream("address", &value);
        let chars = LENGTH_MIN.saturating_add(ADDRESS_DOMAIN.len()).saturating_add(sign.len());
        let mut address = String::with_capacity(chars);
        for _ in 0..LENGTH_MIN {
            address.push(stream.next(Alphabet::Lower));
        }
        address.push_str(&String::from_utf8_lossy(sign));
        address + ADDRESS_DOMAIN
    }

    /// The token of a card number: as many digits, in the same groups, which are no card number.
    pub(super) fn card(&self, value: &[u8]) -> String {
        let digits: Vec<u8> = value.iter().copied().filter(u8::is_ascii_digit).collect();
        let mut stream = self.stream("card", &digits);
        let mut made: Vec<u8> = Vec::with_capacity(digits.len());
        for _ in 0..digits.len() {
            made.push(stream.digit(made.is_empty()));
        }
        if is_luhn(&made)
            && let Some(last) = made.last_mut()
        {
            *last = if *last == b'9' { b'0' } else { last.saturating_add(1) };
        }
        let mut made = made.into_iter();
        let shown = |byte: &u8| if byte.is_ascii_digit() { made.next().unwrap_or(b'0') } else { *byte };
        value.iter().map(shown).map(char::from).collect()
    }

    /// True for what [`RedactKey::secret`] and [`RedactKey::number`] make, and by chance for one in a hundred million others.
    pub(super) fn is_token(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        if text.starts_with(JWT_HEADER) {
            return self.is_jwt_token(text);
        }
        if is_uuid(text.as_bytes()) {
            let digits: String = text.chars().filter(|c| *c != '-').collect();
            return self.is_plain_token(&digits);
        }
        self.is_plain_token(text)
    }

    fn is_plain_token(&self, text: &str) -> bool {
        let chars = text.len();
        // Most texts have another length, and cost no hash.
        let sound = chars == NUMBER_DIGITS
            || ((LENGTH_MIN..=LENGTH_MAX).contains(&chars) && chars.is_multiple_of(LENGTH_STEP));
        let alphabets = Alphabets::of(text.as_bytes());
        let Some((payload, check)) = text.as_bytes().split_last_chunk().filter(|_| sound && alphabets.any())
        else {
            return false;
        };
        let seed = self.hash("check", payload);
        Alphabet::ALL
            .into_iter()
            .any(|alphabet| alphabets.has(alphabet) && self.check(seed, payload, alphabet) == *check)
    }

    /// The characters behind these, of which that is the seed, so that all of them are a token and no card number.
    fn check(&self, seed: [u8; 32], payload: &[u8], alphabet: Alphabet) -> [u8; CHECK_CHARS] {
        let mut stream = self.stream_of(seed);
        let mut check = [0; CHECK_CHARS];
        for _ in 0..CARD_ATTEMPTS {
            check.fill_with(|| stream.next_byte(alphabet));
            if alphabet != Alphabet::Digits || !is_luhn(&[payload, &check].concat()) {
                break;
            }
        }
        check
    }

    fn plain(&self, value: &[u8], alphabet: Alphabet, chars: usize) -> String {
        let mut stream = self.stream("secret", value);
        let payload = chars.saturating_sub(CHECK_CHARS);
        let mut token = String::with_capacity(chars);
        for at in 0..payload {
            // A number must not begin with a zero.
            let leads = at == 0 && alphabet == Alphabet::Digits;
            token.push(if leads { char::from(stream.digit(true)) } else { stream.next(alphabet) });
        }
        self.with_check(token, alphabet)
    }

    /// A token, of which this is all but the end.
    fn with_check(&self, mut payload: String, alphabet: Alphabet) -> String {
        let check = self.check(self.hash("check", payload.as_bytes()), payload.as_bytes(), alphabet);
        payload.extend(check.map(char::from));
        payload
    }

    /// A random UUID as others make them: version 4, variant 8 to b (RFC 9562 section 5.4).
    fn uuid(&self, value: &[u8], alphabet: Alphabet) -> String {
        let mut stream = self.stream("secret", &value.to_ascii_lowercase());
        let digit = |at: usize| match at {
            12 => '4',
            16 => '8',
            _ => stream.next(alphabet),
        };
        let token = self.with_check((0..24).map(digit).collect(), alphabet);
        let mut digits = token.chars();
        let groups = [8, 4, 4, 4, 12].map(|chars| digits.by_ref().take(chars).collect::<String>());
        groups.join("-")
    }

    /// A JSON Web Token that can be read and that nobody has signed.
    fn jwt(&self, value: &[u8]) -> String {
        let subject: String = {
            let mut stream = self.stream("secret", value);
            std::iter::repeat_with(|| stream.next(Alphabet::HexLower)).take(32).collect()
        };
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"sub\":\"{subject}\"}}"));
        let signature = self.jwt_signature(&claims);
        format!("{JWT_HEADER}.{claims}.{signature}")
    }

    fn is_jwt_token(&self, text: &str) -> bool {
        let mut parts = text.split('.').skip(1);
        let (Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        signature == self.jwt_signature(claims)
    }

    fn jwt_signature(&self, claims: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.hash("jwt", claims.as_bytes()))
    }

    fn stream(&self, class: &str, value: &[u8]) -> Stream<'_> {
        self.stream_of(self.hash(class, value))
    }

    fn stream_of(&self, seed: [u8; 32]) -> Stream<'_> {
        Stream { key: self, seed, block: seed, blocks: 0, used: 0 }
    }
}

/// Shows nothing of the key.
impl std::fmt::Debug for RedactKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RedactKey").finish_non_exhaustive()
    }
}

// === impl Alphabet ===

impl Alphabet {
    const ALL: [Alphabet; 7] = [
        Alphabet::Digits,
        Alphabet::HexLower,
        Alphabet::HexUpper,
        Alphabet::Lower,
        Alphabet::Upper,
        Alphabet::Letters,
        Alphabet::Words,
    ];

    const fn chars(self) -> &'static [u8] {
        match self {
            Alphabet::Digits => b"0123456789",
            Alphabet::HexLower => b"0123456789abcdef",
            Alphabet::HexUpper => b"0123456789ABCDEF",
            Alphabet::Lower => b"abcdefghijklmnopqrstuvwxyz",
            Alphabet::Upper => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            Alphabet::Letters => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            Alphabet::Words => b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

// === impl Alphabets ===

impl Alphabets {
    /// Those that have each byte of a text.
    fn of(text: &[u8]) -> Self {
        let of_byte = |byte: &u8| OF_BYTES.get(usize::from(*byte)).copied().unwrap_or_default();
        Self(text.iter().fold(u8::MAX, |all, byte| all & of_byte(byte)))
    }

    fn has(self, alphabet: Alphabet) -> bool {
        self.0 & alphabet.bit() != 0
    }

    fn any(self) -> bool {
        self.0 != 0
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "a table that the compiler makes: it refuses what lies beyond"
    )]
    const fn of_bytes() -> [u8; 256] {
        let mut alphabets = [0; 256];
        let mut all: &[Alphabet] = &Alphabet::ALL;
        while let [alphabet, others @ ..] = all {
            let mut chars = alphabet.chars();
            while let [char, rest @ ..] = chars {
                alphabets[*char as usize] |= alphabet.bit();
                chars = rest;
            }
            all = others;
        }
        alphabets
    }
}

// === impl Shape ===

impl Shape {
    fn of(value: &[u8]) -> Self {
        if is_uuid(value) {
            let upper = value.iter().any(u8::is_ascii_uppercase);
            return Shape::Uuid(if upper { Alphabet::HexUpper } else { Alphabet::HexLower });
        }
        if is_jwt(value) {
            return Shape::Jwt;
        }
        // The first that fits says most; what fits none has punctuation, of which nothing is kept.
        let alphabets = Alphabets::of(value);
        let fits = BY_MEANING.into_iter().find(|alphabet| alphabets.has(*alphabet));
        Shape::Plain(fits.unwrap_or(Alphabet::Words))
    }
}

// === impl Stream ===

impl Stream<'_> {
    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            self.blocks = self.blocks.wrapping_add(1);
            self.block = self.key.hash("more", &[&self.seed[..], &self.blocks.to_be_bytes()].concat());
            self.used = 0;
        }
        let byte = self.block.get(self.used).copied().unwrap_or_default();
        self.used = self.used.saturating_add(1);
        byte
    }

    /// One character. That some come a little more often than others tells nobody anything.
    fn next(&mut self, alphabet: Alphabet) -> char {
        char::from(self.next_byte(alphabet))
    }

    fn next_byte(&mut self, alphabet: Alphabet) -> u8 {
        let chars = alphabet.chars();
        let at = usize::from(self.byte()).checked_rem(chars.len()).unwrap_or_default();
        chars.get(at).copied().unwrap_or(b'0')
    }

    /// One digit; not zero where it leads.
    fn digit(&mut self, leads: bool) -> u8 {
        let (least, count) = if leads { (b'1', 9) } else { (b'0', 10) };
        least.saturating_add(self.byte().checked_rem(count).unwrap_or_default())
    }
}

/// True for 13 to 19 digits of which the last one checks the others (ISO/IEC 7812-1).
pub(super) fn is_luhn(digits: &[u8]) -> bool {
    if !(13..=19).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .zip([false, true].into_iter().cycle())
        .map(|(digit, doubled)| {
            let value = u32::from(digit.saturating_sub(b'0'));
            match (doubled, value.saturating_mul(2)) {
                (false, _) => value,
                (true, twice @ 0..=9) => twice,
                (true, twice) => twice.saturating_sub(9),
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// True for `8-4-4-4-12` hexadecimal digits.
fn is_uuid(value: &[u8]) -> bool {
    let fits = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    value.len() == 36 && value.iter().enumerate().all(fits)
}

/// True for three parts of which the first begins as JSON does in Base64 (RFC 7519 section 3).
fn is_jwt(value: &[u8]) -> bool {
    let is_part = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(byte));
    value.starts_with(b"eyJ")
        && value.split(|byte| *byte == b'.').count() >= 3
        && value.split(|byte| *byte == b'.').all(is_part)
}
