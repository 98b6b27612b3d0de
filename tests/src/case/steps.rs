//! The lines of a case.
//!
//! Knows no sequence number but those that a line gives.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Options, Variant};

/// One line.
#[derive(Clone, Debug)]
pub enum Step {
    /// Somebody sends a segment.
    Segment(Segment),
    /// Nothing happens for so long.
    Wait(Duration),
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `>`
    Client,
    /// `<`
    Server,
}

/// What a checksum is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// That of the segment.
    Right,
    /// That of another one.
    Wrong,
    /// What the sending host leaves for its network card: the sum of the pseudo header.
    Unfinished,
}

/// A segment as a line gives it; what it leaves out follows from the lines before.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Who sends it.
    pub side: Side,
    /// Which connection on the same ports, from 0.
    pub connection: usize,
    /// Number of the first byte, 0 being the first byte after SYN.
    pub seq: Option<i64>,
    /// Number of the next byte that is expected, 0 being the first byte after SYN.
    pub ack: Option<i64>,
    /// It acknowledges nothing.
    pub without_ack: bool,
    /// Flags.
    pub syn: bool,
    /// Flags.
    pub fin: bool,
    /// Flags.
    pub rst: bool,
    /// Its window.
    pub window: u16,
    /// It was sent and not captured.
    pub lost: bool,
    /// What its checksum is like.
    pub checksum: Checksum,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Initial numbers where a case gives none.
const INITIAL: (u32, u32) = (1_000, 50_000);

/// Reads the lines of a case.
pub(super) fn parse(text: &str) -> Result<(Options, Vec<Step>)> {
    let mut options = Options {
        show_stream: false,
        cut_every: false,
        any_port: false,
        without: Vec::new(),
        initial: Vec::new(),
    };
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = words(line).with_context(|| format!("line {}", number + 1))?;
        let words: Vec<&Word> = words.iter().collect();
        let step = match words.as_slice() {
            [Word::Plain(first), rest @ ..] if first == "option" => option(rest, &mut options).map(|()| None),
            [Word::Plain(first), Word::Plain(time)] if first == "wait" => {
                wait(time).map(|time| Some(Step::Wait(time)))
            }
            [Word::Plain(side), rest @ ..] => segment(side, rest).map(|segment| Some(Step::Segment(segment))),
            _ => Err(anyhow::anyhow!("begins with neither `>`, `<`, `wait` nor `option`")),
        };
        steps.extend(step.with_context(|| format!("line {}: {line}", number + 1))?);
    }
    if options.initial.is_empty() {
        options.initial.push(INITIAL);
    }
    Ok((options, steps))
}

fn option(words: &[&Word], options: &mut Options) -> Result<()> {
    let words: Vec<&str> = words.iter().map(|word| word.text()).collect();
    match words.as_slice() {
        ["show", "stream"] => options.show_stream = true,
        ["cut", "every"] => options.cut_every = true,
        ["port", "any"] => options.any_port = true,
        ["without", "twice"] => options.without.push(Variant::Twice),
        ["without", "any-port"] => options.without.push(Variant::AnyPort),
        ["initial", client, server] => options.initial.push((client.parse()?, server.parse()?)),
        _ => bail!("no such option"),
    }
    Ok(())
}

fn wait(time: &str) -> Result<Duration> {
    let seconds = time.strip_suffix('s').context("a time is given in seconds: `61s`")?;
    Ok(Duration::from_secs(seconds.parse()?))
}

fn segment(side: &str, words: &[&Word]) -> Result<Segment> {
    let (side, connection) = match side.split_at(1) {
        (">", connection) => (Side::Client, connection),
        ("<", connection) => (Side::Server, connection),
        _ => bail!("a segment begins with `>` or `<`"),
    };
    let connection = match connection {
        "" => 0,
        number => number.parse::<usize>()?.checked_sub(1).context("connections are counted from 1")?,
    };
    let mut segment = Segment {
        side,
        connection,
        seq: None,
        ack: None,
        without_ack: false,
        syn: false,
        fin: false,
        rst: false,
        window: 0xffff,
        lost: false,
        checksum: Checksum::Right,
        payload: Vec::new(),
    };
    for word in words {
        let word = match word {
            Word::Quoted(bytes) => {
                segment.payload.extend_from_slice(bytes);
                continue;
            }
            Word::Plain(word) => word.as_str(),
        };
        match word.split_once('=') {
            Some(("seq", number)) => segment.seq = Some(number.parse()?),
            Some(("ack", "none")) => segment.without_ack = true,
            Some(("ack", number)) => segment.ack = Some(number.parse()?),
            Some(("win", number)) => segment.window = number.parse()?,
            Some(_) => bail!("`{word}` is none of seq=, ack=, win="),
            None => match word {
                "syn" => segment.syn = true,
                "fin" => segment.fin = true,
                "rst" => segment.rst = true,
                "lost" => segment.lost = true,
                "damaged" => segment.checksum = Checksum::Wrong,
                "offloaded" => segment.checksum = Checksum::Unfinished,
                _ => bail!("`{word}` is none of syn, fin, rst, lost, damaged, offloaded"),
            },
        }
    }
    Ok(segment)
}

/// A word of a line.
#[derive(Clone, Debug)]
enum Word {
    Plain(String),
    /// What stood in quotes, with its escapes resolved and repeated as often as asked.
    Quoted(Vec<u8>),
}

impl Word {
    fn text(&self) -> &str {
        match self {
            Word::Plain(text) => text,
            Word::Quoted(_) => "\"",
        }
    }
}

fn words(line: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (bytes, after) = unescape(quoted)?;
                match after.strip_prefix('*') {
                    Some(after) => {
                        let end = after.find(char::is_whitespace).unwrap_or(after.len());
                        let (times, after) = after.split_at(end);
                        (Word::Quoted(bytes.repeat(times.parse()?)), after)
                    }
                    None => (Word::Quoted(bytes), after),
                }
            }
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                (Word::Plain(word.to_owned()), after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// The bytes up to the closing quote, and what follows it.
fn unescape(quoted: &str) -> Result<(Vec<u8>, &str)> {
    let mut bytes = Vec::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((bytes, quoted.split_at(at + 1).1)),
            '\\' => {
                let (_, escape) = characters.next().context("a backslash at the end")?;
                bytes.push(match escape {
                    'r' => b'\r',
                    'n' => b'\n',
                    't' => b'\t',
                    '\\' => b'\\',
                    '"' => b'"',
                    'x' => {
                        let digits: String = characters.by_ref().take(2).map(|(_, digit)| digit).collect();
                        u8::from_str_radix(&digits, 16).with_context(|| format!("\\x{digits}"))?
                    }
                    _ => bail!("no such escape: \\{escape}"),
                });
            }
            _ => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bail!("a quote that does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_segment() {
        let line = r#">2 seq=-1 ack=7 syn fin win=0 lost "a\r\n\x00\"" "xy"*3"#;
        let (_, steps) = parse(line).unwrap();
        let [Step::Segment(segment)] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((segment.side, segment.connection), (Side::Client, 1));
        assert_eq!((segment.seq, segment.ack, segment.window), (Some(-1), Some(7), 0));
        assert!(segment.syn && segment.fin && segment.lost && !segment.rst && !segment.without_ack);
        assert_eq!(segment.payload, b"a\r\n\0\"xyxyxy");
    }

    #[test]
    fn a_line_that_means_nothing_is_refused() {
        for line in ["> sny", "option x", "wait 3", "=", "> \"a", "> \"\\q\"", "> seq=x", ">0"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
