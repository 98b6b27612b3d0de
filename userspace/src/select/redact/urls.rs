//! What stands before the host of a URL: a user and a password, or a token (RFC 3986 section 3.2.1).
//!
//! Reads nothing else of a URL.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::Rule;
use super::patterns::{Found, push, run};
use super::sets::ByteSet;
use super::token::RedactKey;

/// Bytes of an authority.
const AUTHORITY_BYTES_MAX: usize = 4096;

static SCHEME_END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"://"));

/// What an authority is made of: what stands behind it is not.
static AUTHORITY: ByteSet = ByteSet::of(b" \t\n\r\x0c/?#\"'<>\\`,{}|^").others();

/// Finds the users and passwords of URLs in a text. Gives where their `@` stand: what is around those is no address of
/// somebody. `is_cut`: nobody saw the end of the text, and what ends there may have gone on to be a password.
pub(super) fn userinfos(text: &[u8], is_cut: bool, key: &RedactKey, found: &mut Vec<Found>) -> Vec<usize> {
    let mut ats = Vec::new();
    let mut last_end = 0;
    for scheme in SCHEME_END.find_iter(text) {
        let start = scheme.saturating_add(3);
        if start < last_end {
            continue;
        }
        let end = run(text, start, AUTHORITY_BYTES_MAX, |byte| AUTHORITY.has(byte));
        last_end = end;
        let authority = text.get(start..end).unwrap_or_default();
        let is_torn = is_cut && end == text.len() && authority.contains(&b':') && !is_port(authority);
        let at = memchr::memrchr(b'@', authority).or(is_torn.then_some(authority.len()));
        let Some(info) = at.and_then(|at| authority.get(..at)) else { continue };
        ats.extend(memchr::memchr_iter(b'@', authority).map(|at| start.saturating_add(at)));
        let colon = memchr::memchr(b':', info).unwrap_or(info.len());
        let (user, password) = info.split_at_checked(colon).unwrap_or_default();
        let password = password.get(1..).unwrap_or_default();
        let user_end = start.saturating_add(user.len());
        let info_end = start.saturating_add(info.len());
        push(found, Rule::UrlCredentials, start..user_end, key.secret(user));
        push(
            found,
            Rule::UrlCredentials,
            info_end.saturating_sub(password.len())..info_end,
            key.secret(password),
        );
    }
    ats
}

/// True when a colon and digits end the authority.
fn is_port(authority: &[u8]) -> bool {
    let digits = authority.rsplit(|byte| *byte == b':').next().unwrap_or_default();
    digits.iter().all(u8::is_ascii_digit)
}
