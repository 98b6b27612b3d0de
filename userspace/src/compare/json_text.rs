//! Reads JSON (RFC 8259) into a tree that borrows from the text.
//!
//! Loses nothing that a comparison needs: numbers stay text, members keep their order and repetition. Accepts
//! raw control characters in strings, which the RFC forbids, since servers send them.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::url::OwnOrigin;

/// One value and the hash of what it means: the order of an object's members does not enter.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) hash: u64,
    pub(super) value: Value<'a>,
}

/// A JSON value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// As it was written: `1.0` and `1.00` are different, and so are integers beyond 64 bits.
    Number(&'a str),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    /// Members as they were sent; a key that was sent twice is here twice.
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// Why a text is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    Malformed,
    TooDeep,
    TooMany,
}

struct Parser<'a, 'o> {
    text: &'a str,
    at: usize,
    values_left: usize,
    hashing: FixedState,
    origin: Option<&'o OwnOrigin<'o>>,
    /// Elements and members of what is being read, so that each array and object is allocated once, as large as it is.
    elements: Vec<Node<'a>>,
    members: Vec<(Cow<'a, str>, Node<'a>)>,
}

/// Bytes of a string that are looked at one by one.
const SHORT_BYTES: usize = 16;

const SEED: u64 = 0x756e_6465_7273_7475;

/// Reads one document, with white space and a byte order mark around it. Texts that are the same but for the own
/// origin get one hash.
pub(super) fn parse<'a>(
    text: &'a [u8],
    depth_max: usize,
    values_max: usize,
    origin: Option<&OwnOrigin<'_>>,
) -> Result<Node<'a>, ParseError> {
    let mut parser = Parser::new(text, values_max, origin)?;
    parser.skip_space();
    let node = parser.value(depth_max)?;
    parser.skip_space();
    if parser.at == parser.text.len() { Ok(node) } else { Err(ParseError::Malformed) }
}

/// Reads documents with line ends between them (NDJSON, JSON Lines) as the elements of one array.
pub(super) fn parse_lines<'a>(
    text: &'a [u8],
    depth_max: usize,
    values_max: usize,
    origin: Option<&OwnOrigin<'_>>,
) -> Result<Node<'a>, ParseError> {
    let mut parser = Parser::new(text, values_max, origin)?;
    let mut elements: Vec<Node<'a>> = Vec::new();
    let mut hasher = parser.hashing.build_hasher();
    parser.skip_space();
    while parser.at < parser.text.len() {
        let element = parser.value(depth_max)?;
        hasher.write_u64(element.hash);
        elements.push(element);
        let end = parser.at;
        parser.skip_space();
        let between = parser.text.as_bytes().get(end..parser.at).unwrap_or_default();
        if parser.at < parser.text.len() && !between.contains(&b'\n') {
            return Err(ParseError::Malformed);
        }
    }
    Ok(Node { hash: hasher.finish(), value: Value::Array(elements) })
}

// === impl Parser ===

impl<'a, 'o> Parser<'a, 'o> {
    fn new(text: &'a [u8], values_max: usize, origin: Option<&'o OwnOrigin<'o>>) -> Result<Self, ParseError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let Ok(text) = std::str::from_utf8(text) else { return Err(ParseError::Malformed) };
        let hashing = FixedState::with_seed(SEED);
        let (elements, members) = (Vec::with_capacity(16), Vec::with_capacity(16));
        Ok(Parser { text, at: 0, values_left: values_max, hashing, origin, elements, members })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.advance(1);
        }
    }

    fn eat(&mut self, wanted: &str) -> bool {
        let found =
            self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(wanted.as_bytes()));
        if found {
            self.advance(wanted.len());
        }
        found
    }

    fn eat_byte(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.advance(1);
        }
        found
    }

    fn expect_byte(&mut self, wanted: u8) -> Result<(), ParseError> {
        if self.eat_byte(wanted) { Ok(()) } else { Err(ParseError::Malformed) }
    }

    fn expect(&mut self, wanted: &str) -> Result<(), ParseError> {
        if self.eat(wanted) { Ok(()) } else { Err(ParseError::Malformed) }
    }

    fn hash(&self, tag: u8, bytes: &[u8]) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        hasher.write_u8(tag);
        hasher.write(bytes);
        hasher.finish()
    }

    fn value(&mut self, depth_left: usize) -> Result<Node<'a>, ParseError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(ParseError::TooMany)?;
        match self.peek().ok_or(ParseError::Malformed)? {
            b'{' => self.object(depth_left.checked_sub(1).ok_or(ParseError::TooDeep)?),
            b'[' => self.array(depth_left.checked_sub(1).ok_or(ParseError::TooDeep)?),
            b'"' => {
                let text = self.string()?;
                let hash = match self.origin {
                    None => self.hash(b's', text.as_bytes()),
                    Some(origin) => self.hash(b's', &origin.canonical(text.as_bytes())),
                };
                Ok(Node { hash, value: Value::Text(text) })
            }
            b't' => {
                self.expect("true").map(|()| Node { hash: self.hash(b't', b""), value: Value::Bool(true) })
            }
            b'f' => {
                self.expect("false").map(|()| Node { hash: self.hash(b'f', b""), value: Value::Bool(false) })
            }
            b'n' => self.expect("null").map(|()| Node { hash: self.hash(b'0', b""), value: Value::Null }),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth_left: usize) -> Result<Node<'a>, ParseError> {
        let first = self.elements.len();
        let mut hasher = self.hashing.build_hasher();
        hasher.write_u8(b'[');
        self.advance(1);
        self.skip_space();
        if !self.eat_byte(b']') {
            loop {
                self.skip_space();
                let element = self.value(depth_left)?;
                hasher.write_u64(element.hash);
                self.elements.push(element);
                self.skip_space();
                if !self.eat_byte(b',') {
                    self.expect_byte(b']')?;
                    break;
                }
            }
        }
        let elements = self.elements.drain(first..).collect();
        Ok(Node { hash: hasher.finish(), value: Value::Array(elements) })
    }

    fn object(&mut self, depth_left: usize) -> Result<Node<'a>, ParseError> {
        let first = self.members.len();
        // A sum does not depend on the order of what is summed.
        let mut sum = 0_u64;
        self.advance(1);
        self.skip_space();
        if !self.eat_byte(b'}') {
            loop {
                self.skip_space();
                let key = self.string()?;
                self.skip_space();
                self.expect_byte(b':')?;
                self.skip_space();
                let member = self.value(depth_left)?;
                let mut hasher = self.hashing.build_hasher();
                hasher.write(key.as_bytes());
                hasher.write_u64(member.hash);
                sum = sum.wrapping_add(hasher.finish());
                self.members.push((key, member));
                self.skip_space();
                if !self.eat_byte(b',') {
                    self.expect_byte(b'}')?;
                    break;
                }
            }
        }
        let members = self.members.drain(first..).collect();
        Ok(Node { hash: self.hash(b'{', &sum.to_le_bytes()), value: Value::Object(members) })
    }

    /// RFC 8259 section 6: `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`.
    fn number(&mut self) -> Result<Node<'a>, ParseError> {
        let start = self.at;
        self.eat_byte(b'-');
        if !self.eat_byte(b'0') {
            self.digits()?;
        }
        if self.eat_byte(b'.') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.advance(1);
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.advance(1);
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).ok_or(ParseError::Malformed)?;
        Ok(Node { hash: self.hash(b'n', text.as_bytes()), value: Value::Number(text) })
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.advance(1);
        }
        if self.at > start { Ok(()) } else { Err(ParseError::Malformed) }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, ParseError> {
        self.expect_byte(b'"')?;
        let mut text = Cow::Borrowed("");
        loop {
            let rest = self.text.get(self.at..).ok_or(ParseError::Malformed)?;
            let stop = end_of_run(rest.as_bytes()).ok_or(ParseError::Malformed)?;
            let run = rest.get(..stop).ok_or(ParseError::Malformed)?;
            if text.is_empty() {
                text = Cow::Borrowed(run);
            } else {
                text.to_mut().push_str(run);
            }
            self.advance(stop.saturating_add(1));
            if rest.as_bytes().get(stop) == Some(&b'"') {
                return Ok(text);
            }
            self.escape(text.to_mut())?;
        }
    }

    /// What follows a backslash (RFC 8259 section 7).
    fn escape(&mut self, text: &mut String) -> Result<(), ParseError> {
        let letter = self.peek().ok_or(ParseError::Malformed)?;
        self.advance(1);
        let c = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(text),
            _ => return Err(ParseError::Malformed),
        };
        text.push(c);
        Ok(())
    }

    fn unicode_escape(&mut self, text: &mut String) -> Result<(), ParseError> {
        let first = self.four_digits()?;
        if let Some(c) = char::from_u32(first) {
            text.push(c);
            return Ok(());
        }
        let behind_first = self.at;
        if (0xd800..0xdc00).contains(&first) && self.eat("\\u") {
            let second = self.four_digits()?;
            let pair = char::decode_utf16([first, second].map(|unit| u16::try_from(unit).unwrap_or(0)));
            if let Some(Ok(c)) = pair.into_iter().next() {
                text.push(c);
                return Ok(());
            }
        }
        // Half a surrogate pair is no character; as written it stays different from any other half.
        self.at = behind_first;
        text.push_str(&format!("\\u{first:04x}"));
        Ok(())
    }

    fn four_digits(&mut self) -> Result<u32, ParseError> {
        let end = self.at.saturating_add(4);
        let digits = self.text.get(self.at..end).ok_or(ParseError::Malformed)?;
        self.at = end;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseError::Malformed);
        }
        match u32::from_str_radix(digits, 16) {
            Ok(number) => Ok(number),
            Err(_) => Err(ParseError::Malformed),
        }
    }
}

/// The position of the next quote or backslash.
fn end_of_run(bytes: &[u8]) -> Option<usize> {
    let stops = |byte: &u8| matches!(byte, b'"' | b'\\');
    // Keys and words are short: looking at them is over before a vectorised search has begun.
    let near = bytes.get(..SHORT_BYTES).unwrap_or(bytes);
    match near.iter().position(stops) {
        Some(at) => Some(at),
        None => {
            let far = bytes.get(near.len()..)?;
            memchr::memchr2(b'"', b'\\', far).map(|at| at.saturating_add(near.len()))
        }
    }
}

// === impl Value ===

impl Value<'_> {
    /// The type's name, to tell types apart.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::Text(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }
}

// === impl Node ===

/// Compact JSON.
impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => value.fmt(f),
            Value::Number(text) => f.write_str(text),
            Value::Text(text) => write_string(f, text),
            Value::Array(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    element.fmt(f)?;
                }
                f.write_str("]")
            }
            Value::Object(members) => {
                f.write_str("{")?;
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        f.write_str(",")?;
                    }
                    write_string(f, key)?;
                    f.write_str(":")?;
                    member.fmt(f)?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    // In pieces, so that a bounded writer stops early in a long string.
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if u32::from(c) < 0x20 => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
