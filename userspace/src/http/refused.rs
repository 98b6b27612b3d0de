//! What a server has to refuse in a request although every reader ends the message at the same place: RFC 9112
//! section 3.2.
//!
//! Reads no framing, and decodes nothing: how a `%` is understood is the application's affair.

/// True when a target can be one of the four forms of RFC 9112 section 3.2.
///
/// Browsers leave `[`, `]`, `^`, `` ` ``, `{`, `|` and `}` in a query as they are (URL Standard, section 1.3), and
/// servers read them alike; so they pass, although the grammar of RFC 3986 has none of them there.
pub(super) fn is_target(method: &[u8], target: &[u8]) -> bool {
    if !all_have(target, TARGET) {
        return false;
    }
    match (method, target) {
        (b"CONNECT", authority) => {
            is_host(authority)
                && authority.last().is_some_and(u8::is_ascii_digit)
                && authority.contains(&b':')
        }
        (_, [b'/', ..]) => true,
        (method, b"*") => method == b"OPTIONS",
        (_, absolute) => is_absolute(absolute),
    }
}

/// `scheme ":"` (RFC 3986 section 3.1) and something behind it.
fn is_absolute(target: &[u8]) -> bool {
    let Some((scheme, rest)) = memchr::memchr(b':', target).and_then(|at| target.split_at_checked(at)) else {
        return false;
    };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(plain) && rest.len() > 1
}

/// True when a value of Host can be one: `uri-host [ ":" port ]` (RFC 9110 section 7.2), or empty.
pub(super) fn is_host(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let (name, port) = match value.strip_prefix(b"[") {
        Some(literal) => {
            let end = memchr::memchr(b']', literal).and_then(|end| literal.split_at_checked(end));
            let Some((address, [_, port @ ..])) = end else { return false };
            let is_address = |byte: &u8| *byte == b':' || has(*byte, HOST);
            if address.is_empty() || !address.iter().all(is_address) {
                return false;
            }
            (&[][..], port)
        }
        None => value.split_at(memchr::memchr(b':', value).unwrap_or(value.len())),
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        [..] => false,
    };
    is_port && all_have(name, HOST)
}

/// In [`KINDS`]: may stand in a target.
const TARGET: u8 = 1;
/// In [`KINDS`]: may stand in a registered name (RFC 3986 section 3.2.2).
const HOST: u8 = 2;

/// What each byte may stand in.
const KINDS: [u8; 256] = kinds();

#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "runs in the compiler")]
const fn kinds() -> [u8; 256] {
    let mut kinds = [0; 256];
    let mut byte = 0x21u8;
    while byte < 0x7f {
        if !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\') {
            kinds[byte as usize] |= TARGET;
        }
        let in_name = matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'')
            || matches!(byte, b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        if byte.is_ascii_alphanumeric() || in_name {
            kinds[byte as usize] |= HOST;
        }
        byte += 1;
    }
    kinds
}

fn has(byte: u8, kind: u8) -> bool {
    KINDS.get(usize::from(byte)).is_some_and(|kinds| kinds & kind != 0)
}

fn all_have(bytes: &[u8], kind: u8) -> bool {
    // Without an early end, which few need.
    bytes.iter().fold(kind, |all, byte| all & KINDS.get(usize::from(*byte)).copied().unwrap_or(0)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_of_four_forms() {
        for target in ["/", "/a?b=c", "/a?f[0]=1|2", "/%zz", "http://h/a", "urn:x"] {
            assert!(is_target(b"GET", target.as_bytes()), "{target}");
        }
        for target in
            ["", "a", "*", "h:", ":80", "/a#f", "/\"", "/<a>", "/a\\b", "/\u{e9}", "/a b", "/\u{7f}"]
        {
            assert!(!is_target(b"GET", target.as_bytes()), "{target}");
        }
        assert!(is_target(b"OPTIONS", b"*"));
        assert!(is_target(b"CONNECT", b"h:443") && is_target(b"CONNECT", b"[::1]:443"));
        for target in ["h", "h:", "/", "http://h/"] {
            assert!(!is_target(b"CONNECT", target.as_bytes()), "{target}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in ["", "h", "a_b.example:8080", "h:", "192.0.2.1", "[2001:db8::1]", "[::1]:80", "a%20b"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in
            ["a b", "a/b", "a@b", "x, y", "h:x", "h:1:2", "[::1", "[]", "[::1]x", "\u{e9}", "http://h"]
        {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
