//! What several parts have to know of header fields by their names, and of the words in them.
//!
//! Looks at no message as a whole.

/// What stands in the place of a secret in everything that is kept or shown.
pub const REDACTED: &str = "<redacted>";

/// Fields whose values let their reader act as somebody else; in lower case.
const SECRET: [&str; 8] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
];

/// Fields that belong to a connection and not to a message (RFC 9110 section 7.6.1), and `Expect`, whose answer only
/// the captured client waited for; in lower case. Without the two that frame a body.
const PER_CONNECTION: [&str; 9] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// True when the values of this field must be neither kept nor shown, whatever the name's case.
pub fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

/// True when this field says nothing to the next reader of the message, whatever the name's case.
pub fn is_per_connection(name: &str) -> bool {
    PER_CONNECTION.iter().any(|field| field.eq_ignore_ascii_case(name))
}

/// True for a token (RFC 9110 section 5.6.2): what methods and field names are made of.
pub fn is_token(text: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(tchar)
}

/// The name or address of `host[:port]` (RFC 3986 section 3.2); an IPv6 address keeps its brackets.
pub fn host_of(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(last) if authority.get(last) == Some(&b':') => authority.get(..last).unwrap_or(authority),
        Some(_) | None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(authority: &str, expected: &str) {
        assert_eq!(host_of(authority.as_bytes()), expected.as_bytes(), "{authority}");
    }

    #[test]
    fn the_port_is_what_follows_the_last_colon_outside_of_brackets() {
        check_host("shop.example:8080", "shop.example");
        check_host("shop.example", "shop.example");
        check_host("[::1]:8080", "[::1]");
        check_host("[::1]", "[::1]");
        check_host("shop.example:", "shop.example");
        check_host("", "");
    }

    #[test]
    fn names_are_known_in_any_case() {
        assert!(is_secret("Set-Cookie") && is_secret("X-API-Key") && !is_secret("Cookie2"));
        assert!(is_per_connection("Keep-Alive") && !is_per_connection("Content-Length"));
    }

    #[test]
    fn a_token_is_not_empty_and_has_no_delimiter() {
        assert!(is_token(b"M-SEARCH") && is_token(b"a*b"));
        assert!(!is_token(b"") && !is_token(b"a b") && !is_token(b"a:b") && !is_token("é".as_bytes()));
    }
}
