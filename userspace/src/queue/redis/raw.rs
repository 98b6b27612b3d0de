//! What Redis hands to a worker, before anybody has looked into the exchange.
//!
//! Trusts nothing of it: anybody may write into a stream. What cannot be an entry is a value that says why.

use redis::Value;

use super::deliveries::{Receipt, StreamId};
use crate::queue::entry::Encoding;

/// An entry as read.lua and claim.lua give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawEntry {
    /// Its place in the stream.
    pub(super) id: StreamId,
    route: Field,
    producer: Field,
    seq: Field,
    size: Field,
    parts: Field,
    plain: Field,
    zstd: Field,
    encoding: Field,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Field {
    #[default]
    Absent,
    Bytes(Vec<u8>),
    /// So long that it was left where it is.
    TooLong(u64),
}

/// An entry that may hold an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The route that the exchange was selected under.
    pub(super) route: String,
    /// How the value is to be read.
    pub(super) encoding: Encoding,
    /// Where it is.
    pub(super) value: Place,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Here.
    Here(Vec<u8>),
    /// In as many keys as the receipt says.
    Parts,
}

/// Why an entry cannot be one of ours; what people read where it is set aside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it has no field `{0}`, or something else than text of at most {ROUTE_BYTES_MAX} bytes in it")]
    Field(&'static str),
    #[error("it has no field `exchange`, `exchange.zst` or `parts`")]
    NoExchange,
    #[error("its value has {bytes} bytes, and {limit} are allowed in one entry")]
    TooLong { bytes: u64, limit: usize },
    #[error("it has {parts} parts, and {limit} are allowed")]
    Parts { parts: u32, limit: usize },
    #[error("part {part} of {parts} is gone or too long")]
    PartGone { part: u32, parts: u32 },
    #[error("{0}")]
    Exchange(String),
}

/// Bytes of a route at most; a configuration has no longer ones.
const ROUTE_BYTES_MAX: usize = 4096;

/// Bytes of a name at most.
const NAME_BYTES_MAX: usize = 64;

// === impl RawEntry ===

impl RawEntry {
    /// Reads an answer; `None` when it is none of those that our scripts give.
    pub(super) fn parse(value: Value) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        let mut fields = values.into_iter();
        let Value::BulkString(id) = fields.next()? else { return None };
        let id = StreamId::parse(std::str::from_utf8(&id).ok()?)?;
        let mut next = || Field::of(fields.next().unwrap_or(Value::Nil));
        Some(Self {
            id,
            route: next()?,
            producer: next()?,
            seq: next()?,
            size: next()?,
            parts: next()?,
            plain: next()?,
            zstd: next()?,
            encoding: next()?,
        })
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let Self { id: _, route, producer, seq, size, parts, plain, zstd, encoding } = self;
        let fields = [route, producer, seq, size, parts, plain, zstd, encoding];
        fields.into_iter().fold(size_of::<Self>(), |sum, field| sum.saturating_add(field.len()))
    }

    /// What Redis has to be told of it in the end.
    pub(super) fn receipt(&self, deliveries: u64) -> Receipt {
        let producer = self.producer.text(NAME_BYTES_MAX);
        let seq: Option<u64> = self.seq.number();
        let part_of = producer.zip(seq).map(|(producer, seq)| format!("{producer}:{seq}"));
        let parts = part_of.as_ref().and(self.parts.number()).unwrap_or(0);
        Receipt {
            bytes: self.size.number().unwrap_or(0),
            parts,
            deliveries,
            is_foreign: part_of.is_none(),
            part_of: part_of.unwrap_or_default(),
        }
    }

    /// What is in it, with a value of at most `value_bytes_max` in the stream itself.
    pub(super) fn into_content(
        self,
        value_bytes_max: usize,
        parts_max: usize,
    ) -> Result<Content, Unreadable> {
        let receipt_parts: Option<u32> = self.parts.number();
        let Self { id: _, route, producer: _, seq: _, size: _, parts, plain, zstd, encoding } = self;
        let route = route.text(ROUTE_BYTES_MAX).ok_or(Unreadable::Field("route"))?.to_owned();
        if parts != Field::Absent {
            let parts = receipt_parts.ok_or(Unreadable::Field("parts"))?;
            if parts == 0 || usize::try_from(parts).map_or(true, |parts| parts > parts_max) {
                return Err(Unreadable::Parts { parts, limit: parts_max });
            }
            let name = encoding.text(NAME_BYTES_MAX).unwrap_or_default().as_bytes();
            let encoding = Encoding::of_field(name).ok_or(Unreadable::Field("encoding"))?;
            return Ok(Content { route, encoding, value: Place::Parts });
        }
        let (encoding, value) =
            if zstd == Field::Absent { (Encoding::Plain, plain) } else { (Encoding::Zstd, zstd) };
        match value {
            Field::Absent => Err(Unreadable::NoExchange),
            Field::Bytes(value) => Ok(Content { route, encoding, value: Place::Here(value) }),
            Field::TooLong(bytes) => Err(Unreadable::TooLong { bytes, limit: value_bytes_max }),
        }
    }
}

// === impl Field ===

impl Field {
    fn of(value: Value) -> Option<Self> {
        if let Value::BulkString(bytes) = value {
            return Some(Field::Bytes(bytes));
        }
        if let Value::Int(bytes) = value {
            return Some(Field::TooLong(bytes.unsigned_abs()));
        }
        (value == Value::Nil).then_some(Field::Absent)
    }

    fn len(&self) -> usize {
        match self {
            Field::Absent | Field::TooLong(_) => 0,
            Field::Bytes(bytes) => bytes.len(),
        }
    }

    fn text(&self, bytes_max: usize) -> Option<&str> {
        match self {
            Field::Bytes(bytes) if bytes.len() <= bytes_max => std::str::from_utf8(bytes).ok(),
            Field::Bytes(_) | Field::Absent | Field::TooLong(_) => None,
        }
    }

    fn number<T: std::str::FromStr>(&self) -> Option<T> {
        let digits = self.text(20)?;
        // `parse` alone would take a sign.
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    /// Fields in the order of the scripts: route, producer, seq, size, parts, exchange, exchange.zst, encoding.
    fn raw(fields: [Value; 8]) -> RawEntry {
        let mut values = vec![text("5-1")];
        values.extend(fields);
        RawEntry::parse(Value::Array(values)).expect("it has the form of an entry")
    }

    fn entry(parts: Value, plain: Value, zstd: Value) -> RawEntry {
        raw([text("/a"), text("ab12"), text("7"), text("99"), parts, plain, zstd, Value::Nil])
    }

    fn in_parts(parts: &str, encoding: &str) -> RawEntry {
        let nil = || Value::Nil;
        raw([text("/a"), text("ab12"), text("7"), text("99"), text(parts), nil(), nil(), text(encoding)])
    }

    #[track_caller]
    fn check(entry: RawEntry, expected: Result<(Encoding, Place), Unreadable>) {
        let got = entry.into_content(100, 8);
        let expected = expected.map(|(encoding, value)| Content { route: "/a".to_owned(), encoding, value });
        assert_eq!(got, expected);
    }

    #[test]
    fn a_value_is_here_or_in_parts() {
        let nil = || Value::Nil;
        check(entry(nil(), text("x"), nil()), Ok((Encoding::Plain, Place::Here(b"x".to_vec()))));
        check(entry(nil(), nil(), text("z")), Ok((Encoding::Zstd, Place::Here(b"z".to_vec()))));
        check(in_parts("3", "exchange"), Ok((Encoding::Plain, Place::Parts)));
        check(in_parts("3", "exchange.zst"), Ok((Encoding::Zstd, Place::Parts)));
    }

    #[test]
    fn what_cannot_be_an_entry_says_why() {
        let nil = || Value::Nil;
        check(entry(nil(), nil(), nil()), Err(Unreadable::NoExchange));
        check(
            entry(nil(), Value::Int(600 << 20), nil()),
            Err(Unreadable::TooLong { bytes: 600 << 20, limit: 100 }),
        );
        check(in_parts("9", "exchange"), Err(Unreadable::Parts { parts: 9, limit: 8 }));
        check(in_parts("0", "exchange"), Err(Unreadable::Parts { parts: 0, limit: 8 }));
        check(in_parts("+3", "exchange"), Err(Unreadable::Field("parts")));
        check(in_parts("3", "gzip"), Err(Unreadable::Field("encoding")));
        check(
            raw([nil(), nil(), nil(), nil(), nil(), text("x"), nil(), nil()]),
            Err(Unreadable::Field("route")),
        );
    }

    #[test]
    fn a_receipt_is_of_our_producers_alone() {
        let ours = in_parts("3", "exchange").receipt(2);
        let expected =
            Receipt { bytes: 99, parts: 3, part_of: "ab12:7".into(), deliveries: 2, is_foreign: false };
        assert_eq!(ours, expected);
        let nil = || Value::Nil;
        let foreign = raw([nil(), nil(), text("7"), text("-5"), text("9"), nil(), nil(), nil()]).receipt(1);
        let expected = Receipt { deliveries: 1, is_foreign: true, ..Receipt::default() };
        assert_eq!(foreign, expected);
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        for value in [Value::Nil, Value::Int(1), Value::Array(vec![]), Value::Array(vec![text("x")])] {
            assert_eq!(RawEntry::parse(value), None);
        }
    }
}
