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

/// What a secret name has somewhere.
const PARTS: [&str; 5] = ["csrf", "passphrase", "passwd", "password", "xsrf"];

/// Names of one kind, as the configuration changes them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    plus: HashSet<String>,
    minus: HashSet<String>,
}

/// A name in lower case, without anything but letters and digits: `X-Api-Key`, `api_key` and `apiKey` are one.
pub(super) fn plain_name(name: &[u8]) -> String {
    let skipped = name.len().saturating_sub(NAME_CHARS_MAX);
    let end = name.get(skipped..).unwrap_or_default();
    // Most names that are asked for are no secrets: at once as long as it may become.
    let mut plain = String::with_capacity(end.len());
    let letters = end.iter().filter(|byte| byte.is_ascii_alphanumeric());
    plain.extend(letters.map(|byte| char::from(byte.to_ascii_lowercase())));
    plain
}

/// True when a plain name says by itself that its value is a secret.
fn says_secret(name: &str) -> bool {
    WHOLE.binary_search(&name).is_ok()
        || ENDS.iter().any(|end| name.ends_with(end))
        // All of them have that letter, and most names have none.
        || (name.contains('s') && PARTS.iter().any(|part| name.contains(part)))
}

// === impl Names ===

impl Names {
    /// Adds a name, or takes it away where `-` stands before it.
    pub(super) fn change(&mut self, entry: &str) {
        match entry.strip_prefix('-') {
            Some(name) => self.minus.insert(plain_name(name.as_bytes())),
            None => self.plus.insert(plain_name(entry.as_bytes())),
        };
    }

    /// True when the value of this parameter or member is a secret.
    pub(super) fn hide(&self, name: &[u8]) -> bool {
        let name = plain_name(name);
        !self.minus.contains(&name) && (self.plus.contains(&name) || says_secret(&name))
    }

    /// True when the value of this header field is a secret.
    pub(super) fn hide_field(&self, name: &[u8]) -> bool {
        let plain = plain_name(name);
        let known = || std::str::from_utf8(name).is_ok_and(is_secret) || says_secret(&plain);
        !self.minus.contains(&plain) && (self.plus.contains(&plain) || known())
    }
}

#[cfg(test)]
mod tests {
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
    fn whole_names_are_sorted_and_parts_have_their_letter() {
        assert!(WHOLE.is_sorted() && PARTS.iter().all(|part| part.contains('s')));
    }
}
