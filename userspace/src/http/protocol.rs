//! What a connection speaks that is not HTTP/1.x, or no longer.
//!
//! Reads no message of these protocols: a connection is named once, and then left.

use crate::model::Headers;

/// What a connection speaks whose first bytes begin no message, or, where they were not seen, none of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Foreign {
    /// A TLS record (RFC 8446 section 5.1), or SSL.
    Tls,
    /// The connection preface of HTTP/2, or the settings with which a server answers it (RFC 9113 section 3.4).
    Http2,
    /// An identification string of SSH (RFC 4253 section 4.2).
    Ssh,
    /// A greeting or a command of SMTP, POP3, IMAP or FTP.
    Mail,
    /// Other text.
    Text,
    /// Anything else.
    Binary,
    /// Nobody knows: it was joined after its beginning, and went on for long without a head in either direction
    /// ([`HttpLimits::headless_bytes_max`](super::HttpLimits::headless_bytes_max)).
    Joined,
}

/// How a connection left HTTP/1.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Upgraded {
    /// To WebSocket (RFC 6455 section 4.2.2).
    WebSocket,
    /// To HTTP/2 (RFC 7540 section 3.2).
    Http2,
    /// To a tunnel, by CONNECT (RFC 9110 section 9.3.6).
    Tunnel,
    /// To something else.
    Other,
}

/// First bytes that are looked at to tell text from binary.
const LOOK_BYTES: usize = 64;

// === impl Foreign ===

impl Foreign {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Foreign; 7] = [
        Foreign::Tls,
        Foreign::Http2,
        Foreign::Ssh,
        Foreign::Mail,
        Foreign::Text,
        Foreign::Binary,
        Foreign::Joined,
    ];

    /// The kind as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            Foreign::Tls => "tls",
            Foreign::Http2 => "http2",
            Foreign::Ssh => "ssh",
            Foreign::Mail => "mail",
            Foreign::Text => "text",
            Foreign::Binary => "binary",
            Foreign::Joined => "joined",
        }
    }

    /// Whether a connection that begins like this speaks text of no known protocol. Told by what every cut of the bytes
    /// into segments shows, so that these do not decide.
    pub(super) fn begins_as_text(first: &[u8]) -> bool {
        let is_known =
            matches!(Foreign::of(first), Foreign::Tls | Foreign::Http2 | Foreign::Ssh | Foreign::Mail);
        !is_known && first.first().is_some_and(|byte| matches!(byte, b'\t' | b' '..=b'~'))
    }

    /// The kind of connection that begins with these bytes, which are no message of HTTP/1.x.
    pub(super) fn of(first: &[u8]) -> Foreign {
        const MAIL: [&[u8]; 10] = [
            b"EHLO ",
            b"HELO ",
            b"LHLO ",
            b"+OK",
            b"* OK",
            b"* PREAUTH",
            b"* BYE",
            b"USER ",
            b"220 ",
            b"220-",
        ];
        let first = first.get(..LOOK_BYTES).unwrap_or(first);
        match first {
            // Content type, then the version, which every version of TLS gives as 3 and something.
            [0x14..=0x18, 0x03, 0x00..=0x04, ..] => Foreign::Tls,
            // ClientHello of SSL 2: its length, its type, version 2 or 3.
            [0x80..=0xff, _, 0x01, 0x00 | 0x03, 0x00..=0x03, ..] => Foreign::Tls,
            // A frame of type SETTINGS on stream 0.
            [0, _, _, 4, 0 | 1, 0, 0, 0, 0, ..] => Foreign::Http2,
            _ if first.starts_with(b"PRI * HTTP/2") => Foreign::Http2,
            _ if first.starts_with(b"SSH-") => Foreign::Ssh,
            _ if MAIL.iter().any(|begins| first.starts_with(begins)) => Foreign::Mail,
            _ if first.iter().all(|byte| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~')) => {
                Foreign::Text
            }
            _ => Foreign::Binary,
        }
    }
}

// === impl Upgraded ===

impl Upgraded {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Upgraded; 4] = [Upgraded::WebSocket, Upgraded::Http2, Upgraded::Tunnel, Upgraded::Other];

    /// The kind as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            Upgraded::WebSocket => "websocket",
            Upgraded::Http2 => "http2",
            Upgraded::Tunnel => "tunnel",
            Upgraded::Other => "other",
        }
    }

    /// What the response with this status and these fields leads to. Only a 101 or the 2xx to a CONNECT leads away.
    pub(super) fn of(status: u16, headers: &Headers) -> Upgraded {
        if status != 101 {
            return Upgraded::Tunnel;
        }
        // RFC 9110 section 7.8: the first of the listed protocols is the one below the others.
        let first = headers.get("upgrade").and_then(|value| value.split(|byte| *byte == b',').next());
        match first.map(<[u8]>::trim_ascii) {
            Some(name) if name.eq_ignore_ascii_case(b"websocket") => Upgraded::WebSocket,
            Some(name) if name.eq_ignore_ascii_case(b"h2c") => Upgraded::Http2,
            Some(_) | None => Upgraded::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(first: &[u8], expected: Foreign) {
        assert_eq!(Foreign::of(first), expected, "{}", first.escape_ascii());
    }

    #[test]
    fn names_a_connection_by_its_first_bytes() {
        check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Foreign::Tls);
        check(b"\x17\x03\x03\x00\x20", Foreign::Tls);
        check(b"\x80\x2e\x01\x00\x02\x00\x15", Foreign::Tls);
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Foreign::Http2);
        check(b"\0\0\x12\x04\0\0\0\0\0", Foreign::Http2);
        check(b"SSH-2.0-OpenSSH_9.7\r\n", Foreign::Ssh);
        check(b"220 mail.example ESMTP\r\n", Foreign::Mail);
        check(b"* OK ready\r\n", Foreign::Mail);
        check(b"*1\r\n$4\r\nPING\r\n", Foreign::Text);
        check(b"GET /0.9\r\n", Foreign::Text);
        check(b"\0\0\0\x54\xffSMB", Foreign::Binary);
        check(b"", Foreign::Text);
    }

    #[test]
    fn names_where_a_connection_went() {
        let fields = |value| Headers::from_pairs([("Upgrade", value)]);
        assert_eq!(Upgraded::of(101, &fields("WebSocket")), Upgraded::WebSocket);
        assert_eq!(Upgraded::of(101, &fields("h2c, x")), Upgraded::Http2);
        assert_eq!(Upgraded::of(101, &fields("tcp")), Upgraded::Other);
        assert_eq!(Upgraded::of(101, &Headers::default()), Upgraded::Other);
        assert_eq!(Upgraded::of(200, &Headers::default()), Upgraded::Tunnel);
    }
}
