//! Which names say that their value is a secret: of header fields, parameters, fields of forms, members of JSON.
//!
//! Looks at no value.

use std::collections::HashSet;

use crate::model::is_secret;

/// Characters of a name that are looked at: its end says most.
const NAME_CHARS_MAX: usize = 64;

/// Names that are secret as a whole, in lower case and without anything but letters and digits.
const WHOLE: [&str; 41] = [
    "accesskeyid",
    "apikey",
    "assertion",
    "auth",
    "authcode",
    "authorization",
    "cardnumber",
    "ccnumber",
    "connectsid",
    "cookie2",
    "credential",
    "credentials",
    "creditcard",
    "creditcardnumber",
    "cvc",
    "cvc2",
    "cvv",
    "cvv2",
    "jsessionid",
    "jwt",
    "mfacode",
    "onetimecode",
    "otp",
    "pass",
    "passcode",
    "phpsessid",
    "pin",
    "pw",
    "pwd",
    "samlresponse",
    "secret",
    "securitycode",
    "sessid",
    "session",
    "setcookie2",
    "sid",
    "ssn",
    "token",
    "totp",
    "verificationcode",
    "xsrf",
];

/// What a secret name ends with.
const ENDS: [&str; 13] = [
    "accesskey",
    "apikey",
    "authorization",
    "clientsecret",
    "cookie",
    "credentials",
    "jwt",
    "privatekey",
    "secret",
    "secretkey",
    "sessionid",
    "sessionkey",
    "token",
];

/// What a secret name has somewhere. All of them have an `s` before another one or an `r`.
const PARTS: [&str; 5] = ["csrf", "passphrase", "passwd", "password", "xsrf"];

/// Names of one kind, as the configuration changes them.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// What secret names are or end with, in the place of the last character.
    words: Vec<Vec<Word>>,
    /// Which last two characters those have: a bit for each pair, and some pairs share one.
    endings: [u64; ENDINGS_WORDS],
    minus: HashSet<Box<[u8]>>,
}

/// What a secret name is, or ends with.
#[derive(Clone, Debug)]
struct Word {
    text: Box<[u8]>,
    is_end: bool,
}

/// A name in lower case, without anything but letters and digits: `X-Api-Key`, `api_key` and `apiKey` are one.
pub(super) struct PlainName {
    chars: [u8; NAME_CHARS_MAX],
    count: usize,
}

/// Characters that a name may end with, of which only letters and digits are used.
const LAST_CHARS: usize = 128;

/// Words of 64 bits for pairs of characters.
const ENDINGS_WORDS: usize = 16;

/// The bit of a pair, and the word that it is in.
fn ending(last: u8, before: u8) -> (usize, u64) {
    let pair = usize::from(last).wrapping_mul(37).wrapping_add(usize::from(before));
    let bit = 1_u64.rotate_left(u32::try_from(pair % 64).unwrap_or_default());
    (pair / 64 % ENDINGS_WORDS, bit)
}

/// The end of a name, of which the rest is not looked at.
fn end_of(name: &[u8]) -> &[u8] {
    name.get(name.len().saturating_sub(NAME_CHARS_MAX)..).unwrap_or_default()
}

// === impl Names ===

impl Default for Names {
    fn default() -> Self {
        let mut names =
            Self { words: vec![Vec::new(); LAST_CHARS], endings: [0; ENDINGS_WORDS], minus: HashSet::new() };
        WHOLE.iter().for_each(|word| names.add(word.as_bytes(), false));
        ENDS.iter().for_each(|word| names.add(word.as_bytes(), true));
        names
    }
}

impl Names {
    /// Adds a name, or takes it away where `-` stands before it.
    pub(super) fn change(&mut self, entry: &str) {
        match entry.strip_prefix('-') {
            Some(name) => drop(self.minus.insert(PlainName::of(name.as_bytes()).as_bytes().into())),
            None => self.add(PlainName::of(entry.as_bytes()).as_bytes(), false),
        }
    }

    fn add(&mut self, word: &[u8], is_end: bool) {
        let mut back = word.iter().rev();
        let Some(last) = back.next() else { return };
        let befores = match back.next() {
            Some(before) => vec![*before],
            // Any character may stand before a single one, which is at the end of all names that are asked for.
            None => (0..=u8::MAX).collect(),
        };
        for before in befores {
            let (at, bit) = ending(*last, before);
            if let Some(word) = self.endings.get_mut(at) {
                *word |= bit;
            }
        }
        if let Some(alike) = self.words.get_mut(usize::from(*last)) {
            alike.push(Word { text: word.into(), is_end });
        }
    }

    /// True when the value of this parameter or member is a secret.
    pub(super) fn hide(&self, name: &[u8]) -> bool {
        self.may_hide(name) && self.says_secret(&PlainName::of(name))
    }

    /// True when the value of this header field is a secret.
    pub(super) fn hide_field(&self, name: &[u8]) -> bool {
        let is_known = || std::str::from_utf8(name).is_ok_and(is_secret);
        self.hide(name) || (is_known() && !self.minus.contains(PlainName::of(name).as_bytes()))
    }

    /// False for most names that are no secrets, at little cost: by their last two characters, and having none of the
    /// pairs of letters that all of [`PARTS`] have.
    fn may_hide(&self, name: &[u8]) -> bool {
        let end = end_of(name);
        let mut chars = end.iter().rev().filter(|byte| byte.is_ascii_alphanumeric());
        let Some(last) = chars.next() else { return false };
        let before = chars.next().copied().unwrap_or_default();
        let (at, bit) = ending(last.to_ascii_lowercase(), before.to_ascii_lowercase());
        self.endings.get(at).is_some_and(|word| word & bit != 0)
            || has_near(end.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase))
    }

    fn says_secret(&self, name: &PlainName) -> bool {
        let name = name.as_bytes();
        let alike = name.last().and_then(|last| self.words.get(usize::from(*last)));
        let is_word = alike.is_some_and(|alike| alike.iter().any(|word| word.is(name)));
        (is_word || has_part(name)) && !self.minus.contains(name)
    }
}

/// True where an `s` stands before another one or an `r`, as in each of [`PARTS`] and in few other names.
fn has_near(chars: impl Iterator<Item = u8>) -> bool {
    let mut before = 0;
    let is_near = |char| std::mem::replace(&mut before, char) == b's' && matches!(char, b's' | b'r');
    let mut chars = chars.map(is_near);
    chars.any(|is_near| is_near)
}

/// True where a name has one of [`PARTS`] somewhere.
fn has_part(name: &[u8]) -> bool {
    has_near(name.iter().copied())
        && PARTS.iter().any(|part| name.windows(part.len()).any(|window| window == part.as_bytes()))
}

// === impl Word ===

impl Word {
    fn is(&self, name: &[u8]) -> bool {
        if self.is_end { name.ends_with(&self.text) } else { *name == *self.text }
    }
}

// === impl PlainName ===

impl PlainName {
    pub(super) fn of(name: &[u8]) -> Self {
        let mut plain = Self { chars: [0; NAME_CHARS_MAX], count: 0 };
        let chars = end_of(name).iter().filter(|byte| byte.is_ascii_alphanumeric());
        for (place, byte) in plain.chars.iter_mut().zip(chars) {
            *place = byte.to_ascii_lowercase();
            plain.count = plain.count.saturating_add(1);
        }
        plain
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.chars.get(..self.count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_known_however_they_are_written() {
        for name in [
            "password",
            "Password",
            "user[password]",
            "new_password",
            "passwordConfirmation",
            "api_key",
            "apiKey",
            "X-Api-Key",
            "access_token",
            "refreshToken",
            "client_secret",
            "sid",
            "PHPSESSID",
            "session",
            "otp",
            "pin",
            "cvv",
            "authenticity_token",
            "_csrf",
            "id_token",
            "secret",
        ] {
            assert!(Names::default().hide(name.as_bytes()), "{name}");
        }
        for name in [
            "name",
            "pinned",
            "spin",
            "total_tokens",
            "secretary",
            "q",
            "side",
            "page",
            "author",
            "",
            "tokenize",
        ] {
            assert!(!Names::default().hide(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_list_is_changed_by_its_entries() {
        let mut names = Names::default();
        names.change("badge-number");
        names.change("-page_token");
        assert!(names.hide(b"badgeNumber") && !names.hide(b"pageToken") && names.hide(b"token"));
        assert!(names.hide_field(b"X-Csrf-Token") && names.hide_field(b"Authorization"));
        assert!(!names.hide_field(b"Accept") && names.hide_field(b"X-Amz-Security-Token"));
    }

    #[test]
    fn parts_have_the_letters_that_they_are_looked_for_by() {
        assert!(PARTS.iter().all(|part| part.contains("ss") || part.contains("sr")));
    }

    /// What the tables stand for, read word by word.
    fn hides_slowly(plus: &[String], minus: &[String], name: &str) -> bool {
        let plain = |name: &str| -> String {
            let end = name.as_bytes().iter().skip(name.len().saturating_sub(NAME_CHARS_MAX));
            end.filter(|byte| byte.is_ascii_alphanumeric())
                .map(|b| char::from(b.to_ascii_lowercase()))
                .collect()
        };
        let is_of = |names: &[String], name: &str| names.iter().any(|entry| plain(entry) == name);
        let name = plain(name);
        let known = WHOLE.contains(&name.as_str())
            || ENDS.iter().any(|end| name.ends_with(end))
            || PARTS.iter().any(|part| name.contains(part));
        !is_of(minus, &name) && (known || is_of(plus, &name))
    }

    /// Names that are secrets, or nearly.
    fn name() -> impl Strategy<Value = String> {
        let words: Vec<&str> =
            [&WHOLE[..], &ENDS, &PARTS, &["id", "s", "-", "_", "zaż", "x", "K", "EY"]].concat();
        let pieces = prop::collection::vec(prop::sample::select(words), 0..3);
        (pieces, "[a-zA-Z_.-]{0,3}", any::<bool>(), 0_usize..80).prop_map(|(pieces, odd, upper, filler)| {
            let name = "-".repeat(filler) + &pieces.join(&odd) + &odd;
            if upper { name.to_uppercase() } else { name }
        })
    }

    proptest! {
        #[test]
        fn tables_say_what_their_words_say(name in name(), plus in "[a-z0-9]{1,4}", minus in name(), odd in ".{0,8}") {
            let mut names = Names::default();
            names.change(&plus);
            names.change(&format!("-{minus}"));
            for name in [&name, &plus, &minus, &odd, &format!("{name}{plus}")] {
                let expected = hides_slowly(std::slice::from_ref(&plus), std::slice::from_ref(&minus), name);
                prop_assert_eq!(names.hide(name.as_bytes()), expected, "{}", name);
            }
        }
    }
}
