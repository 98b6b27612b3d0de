//! The first line of a record.
//!
//! Reads what all versions write, and writes what the later ones do.

use std::fmt;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
    Replayed,
}

/// The line, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta<'a> {
    pub(super) kind: Kind,
    pub(super) id: &'a [u8],
    /// Nanoseconds: a point in time, or in the responses of the oldest files a duration.
    pub(super) time_ns: u64,
    /// Nanoseconds.
    pub(super) duration_ns: Option<u64>,
}

/// Longest id that is read; those that are written have 24, 32 or 40 digits.
const ID_BYTES_MAX: usize = 128;

fn number(digits: &[u8]) -> Option<u64> {
    // `from_str` alone would take a sign.
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

// === impl Meta ===

impl<'a> Meta<'a> {
    /// Reads the line, without its end. Fields behind the fourth are passed over.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
        let kind = match words.next()? {
            b"1" => Kind::Request,
            b"2" => Kind::Response,
            b"3" => Kind::Replayed,
            _ => return None,
        };
        let id = words.next().filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))?;
        let time_ns = number(words.next()?)?;
        let duration_ns = words.next().and_then(number);
        Some(Self { kind, id, time_ns, duration_ns })
    }
}

/// The line with its end, as the later versions write it.
impl fmt::Display for Meta<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, id, time_ns, duration_ns } = self;
        let kind = match kind {
            Kind::Request => '1',
            Kind::Response => '2',
            Kind::Replayed => '3',
        };
        write!(f, "{kind} {} {time_ns}", String::from_utf8_lossy(id))?;
        if let Some(duration) = duration_ns {
            write!(f, " {duration}")?;
        }
        f.write_str("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<(Kind, &str, u64, Option<u64>)>) {
        let found = Meta::parse(line.as_bytes());
        let expected = expected.map(|(kind, id, time_ns, duration_ns)| Meta {
            kind,
            id: id.as_bytes(),
            time_ns,
            duration_ns,
        });
        assert_eq!(found, expected, "{line:?}");
        if let Some(meta) = found {
            assert_eq!(Meta::parse(meta.to_string().trim_end().as_bytes()), Some(meta), "{line:?}");
        }
    }

    #[test]
    fn reads_the_lines_of_all_versions() {
        check(
            "1 932079936fa4 1439818823587396305",
            Some((Kind::Request, "932079936fa4", 1439818823587396305, None)),
        );
        check(
            "2 8e091765 1439818823587996305 2782013",
            Some((Kind::Response, "8e091765", 1439818823587996305, Some(2782013))),
        );
        check("3 f45590522c 1231", Some((Kind::Replayed, "f45590522c", 1231, None)));
        check("1 a 5 6 10.0.0.1:80", Some((Kind::Request, "a", 5, Some(6))));
        check("2 a 5 -1", Some((Kind::Response, "a", 5, None)));
    }

    #[test]
    fn refuses_what_is_no_such_line() {
        for line in [
            "",
            "1",
            "1 a",
            "4 a 5",
            "1  5",
            "1 a +5",
            "1 a 5x",
            "GET / HTTP/1.1",
            "1 a 99999999999999999999",
        ] {
            check(line, None);
        }
    }
}
