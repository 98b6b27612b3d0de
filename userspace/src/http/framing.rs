//! Says where a body ends: RFC 9112 section 6.3.
//!
//! Reads no byte of a body.

use crate::model::{Headers, Mark, Marks, Version};

use super::refused;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    Empty,
    /// This many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything until the connection closes.
    UntilClose,
    /// The connection leaves HTTP/1.x.
    Tunnel,
    /// It cannot be found.
    Invalid,
}

/// What the fields of a request say.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfRequest {
    pub(super) framing: Framing,
    pub(super) marks: Marks,
    /// A server has to refuse it for its Host (RFC 9112 section 3.2): none where there must be one, several, or one that
    /// no host can have. Who does not refuse takes the first, the last, or the target's; all end the message alike.
    pub(super) host_is_wrong: bool,
}

/// What the fields say about the length of a body.
struct Lengths {
    transfer: Transfer,
    content: ContentLength,
    /// Values of Host.
    hosts: usize,
    /// All of them can be one.
    hosts_are_valid: bool,
    marks: Marks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Absent,
    /// Chunked is the last coding.
    Chunked,
    /// RFC 2616 had this word for no coding; RFC 9112 has no such coding.
    Identity,
    /// Another coding is the last.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ContentLength {
    Absent,
    Bytes(u64),
    Invalid,
}

/// The framing of a request with this method and these fields.
pub(super) fn of_request(method: &[u8], version: Version, headers: &Headers) -> OfRequest {
    let Lengths { transfer, content, hosts, hosts_are_valid, marks } = lengths(version, headers);
    let host_is_wrong = hosts > 1 || !hosts_are_valid || (hosts == 0 && version == Version::Http11);
    let framing = match (transfer, content) {
        // RFC 9110 section 9.3.6: a CONNECT request has no content, and what follows depends on the answer.
        _ if method == b"CONNECT" => Framing::Tunnel,
        (Transfer::Chunked, _) => Framing::Chunked,
        // Rule 4: the length of a request whose last coding is not chunked cannot be determined reliably.
        (Transfer::Other | Transfer::Identity, _) | (Transfer::Absent, ContentLength::Invalid) => {
            Framing::Invalid
        }
        (Transfer::Absent, ContentLength::Bytes(0) | ContentLength::Absent) => Framing::Empty,
        (Transfer::Absent, ContentLength::Bytes(bytes)) => Framing::Length(bytes),
    };
    OfRequest { framing, marks, host_is_wrong }
}

/// The framing of a response to `method` (`None`: not known) with this status and these fields.
pub(super) fn of_response(
    method: Option<&[u8]>,
    status: u16,
    version: Version,
    headers: &Headers,
) -> (Framing, Marks) {
    let Lengths { transfer, content, hosts: _, hosts_are_valid: _, marks } = lengths(version, headers);
    let framing = match (transfer, content) {
        _ if status == 101 => Framing::Tunnel,
        _ if method == Some(b"CONNECT") && (200..300).contains(&status) => Framing::Tunnel,
        _ if method == Some(b"HEAD") || (100..200).contains(&status) || status == 204 || status == 304 => {
            Framing::Empty
        }
        (Transfer::Chunked, _) => Framing::Chunked,
        (Transfer::Other, _) => Framing::UntilClose,
        // Every client takes identity for nothing here; to read until close would glue what follows to the body.
        (Transfer::Absent | Transfer::Identity, length) => match length {
            ContentLength::Absent => Framing::UntilClose,
            ContentLength::Bytes(0) => Framing::Empty,
            ContentLength::Bytes(bytes) => Framing::Length(bytes),
            ContentLength::Invalid => Framing::Invalid,
        },
    };
    (framing, marks)
}

fn lengths(version: Version, headers: &Headers) -> Lengths {
    let mut transfer = Transfer::Absent;
    let mut content = ContentLength::Absent;
    let mut ambiguous = false;
    let mut hosts = 0usize;
    let mut hosts_are_valid = true;
    // As long as Host, Content-Length and Transfer-Encoding.
    for (name, value) in headers.iter_by_name_bytes(|bytes| matches!(bytes, 4 | 14 | 17)) {
        match name.len() {
            4 if is(name, b"Host") => {
                hosts = hosts.saturating_add(1);
                hosts_are_valid &= refused::is_host(value);
            }
            14 if is(name, b"Content-Length") => {
                let repeated = content != ContentLength::Absent || value.contains(&b',');
                ambiguous |= repeated;
                content = value.split(|byte| *byte == b',').map(content_length).fold(content, merge);
            }
            17 if is(name, b"Transfer-Encoding") => {
                ambiguous |= transfer == Transfer::Chunked || !value.eq_ignore_ascii_case(b"chunked");
                // Several fields are one list (RFC 9110 section 5.3); its last member counts, and empty ones do not
                // (section 5.6.1.2).
                let members = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                let Some(last) = members.into_iter().find(|member| !member.is_empty()) else { continue };
                transfer = if last.eq_ignore_ascii_case(b"chunked") {
                    Transfer::Chunked
                } else if last.eq_ignore_ascii_case(b"identity") && transfer == Transfer::Absent {
                    Transfer::Identity
                } else {
                    Transfer::Other
                };
            }
            _ => {}
        }
    }
    // RFC 9112 section 6.1: both fields, or transfer codings in HTTP/1.0, may be an attempt to smuggle.
    ambiguous |=
        transfer != Transfer::Absent && (content != ContentLength::Absent || version == Version::Http10);
    ambiguous |= content == ContentLength::Invalid;
    let mut marks = Marks::default();
    if ambiguous {
        marks.set(Mark::Ambiguous);
    }
    Lengths { transfer, content, hosts, hosts_are_valid, marks }
}

/// True for this name in any case, sooner for its usual one.
fn is(name: &[u8], usual: &[u8]) -> bool {
    name == usual || name.eq_ignore_ascii_case(usual)
}

/// `1*DIGIT`, and nothing else.
fn content_length(value: &[u8]) -> ContentLength {
    let digits = value.trim_ascii();
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    });
    match number {
        Some(bytes) if !digits.is_empty() => ContentLength::Bytes(bytes),
        Some(_) | None => ContentLength::Invalid,
    }
}

/// Equal lengths are one length (RFC 9110 section 8.6); different ones are none.
fn merge(have: ContentLength, next: ContentLength) -> ContentLength {
    if have == ContentLength::Absent || have == next { next } else { ContentLength::Invalid }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        Headers::from_pairs(fields.iter().copied())
    }

    #[track_caller]
    fn check(fields: &[(&str, &str)], request: Framing, response: Framing, ambiguous: bool) {
        let headers = headers(fields);
        let of_request = of_request(b"POST", Version::Http11, &headers);
        let of_response = of_response(Some(b"POST"), 200, Version::Http11, &headers);
        assert_eq!((of_request.framing, of_response.0), (request, response), "{fields:?}");
        assert_eq!(of_request.marks.has(Mark::Ambiguous), ambiguous, "{fields:?}");
    }

    #[test]
    fn follows_the_list_of_section_6_3() {
        use Framing::{Chunked, Empty, Invalid, Length, UntilClose};
        check(&[], Empty, UntilClose, false);
        check(&[("Content-Length", "0")], Empty, Empty, false);
        check(&[("content-length", " 12 ")], Length(12), Length(12), false);
        check(&[("Transfer-Encoding", "chunked")], Chunked, Chunked, false);
        check(&[("Transfer-Encoding", "Chunked"), ("Content-Length", "3")], Chunked, Chunked, true);
        check(&[("Transfer-Encoding", "gzip, chunked")], Chunked, Chunked, true);
        check(&[("Transfer-Encoding", "chunked, gzip")], Invalid, UntilClose, true);
        for empty_members in ["chunked,", "chunked, ,", ", chunked"] {
            check(&[("Transfer-Encoding", empty_members)], Chunked, Chunked, true);
        }
        check(&[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "")], Chunked, Chunked, true);
        check(&[("Transfer-Encoding", "identity"), ("Content-Length", "3")], Invalid, Length(3), true);
        check(&[("Transfer-Encoding", "identity")], Invalid, UntilClose, true);
        check(&[("Transfer-Encoding", "identity, chunked")], Chunked, Chunked, true);
        check(&[("Content-Length", "5"), ("Content-Length", "5")], Length(5), Length(5), true);
        check(&[("Content-Length", "5, 5")], Length(5), Length(5), true);
        check(&[("Content-Length", "5"), ("Content-Length", "6")], Invalid, Invalid, true);
        for bad in ["", "+5", "-1", "0x5", "5 5", "18446744073709551616"] {
            check(&[("Content-Length", bad)], Invalid, Invalid, true);
        }
    }

    #[test]
    fn a_request_needs_one_host() {
        let wrong =
            |fields: &[(&str, &str)], version| of_request(b"GET", version, &headers(fields)).host_is_wrong;
        assert!(!wrong(&[("Host", "h")], Version::Http11) && !wrong(&[("host", "")], Version::Http11));
        assert!(wrong(&[], Version::Http11) && !wrong(&[], Version::Http10));
        for version in [Version::Http10, Version::Http11] {
            assert!(wrong(&[("Host", "h"), ("Host", "h")], version));
            assert!(wrong(&[("Host", "a b")], version));
        }
    }

    #[test]
    fn knows_the_messages_without_a_body() {
        let length = headers(&[("Content-Length", "12")]);
        let framing = |method: &[u8], status| of_response(Some(method), status, Version::Http11, &length).0;
        assert_eq!(framing(b"HEAD", 200), Framing::Empty);
        assert_eq!(framing(b"GET", 204), Framing::Empty);
        assert_eq!(framing(b"GET", 304), Framing::Empty);
        assert_eq!(framing(b"GET", 103), Framing::Empty);
        assert_eq!(framing(b"GET", 101), Framing::Tunnel);
        assert_eq!(framing(b"CONNECT", 200), Framing::Tunnel);
        assert_eq!(framing(b"CONNECT", 407), Framing::Length(12));
        assert_eq!(of_request(b"CONNECT", Version::Http11, &length).framing, Framing::Tunnel);
    }
}
