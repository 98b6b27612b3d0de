//! The shell command that repeats a request against B.
//!
//! Sends nothing. Whatever was captured is quoted, so that a shell takes it as text.

use std::fmt::Write as _;

use crate::journal::{Example, JournalLimits};
use crate::model::{Exchange, REDACTED, is_per_connection};

/// Bytes of body that are still readable on a command line.
const BODY_BYTES_MAX: usize = 4096;

/// Fields that curl writes itself.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

/// A command with what must be known before it is run.
pub(super) struct Curl {
    pub(super) command: String,
    /// What the command lacks, one sentence each.
    pub(super) notes: Vec<String>,
}

/// How a request can be sent again by hand.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RepeatedRequest {
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// The shell command that sends it to a candidate.
    pub curl: String,
    /// What must be known before the command is run.
    pub curl_notes: Vec<String>,
}

impl RepeatedRequest {
    /// The request of an exchange, for the candidate at `base`. Secrets in its header fields are left out.
    pub fn of(exchange: &Exchange, base: &str) -> Self {
        let example = Example::of_exchange(exchange, &JournalLimits::default());
        let Curl { command: curl, notes: curl_notes } = curl(&example, base);
        let Example { method, target, .. } = example;
        Self { method, target, curl, curl_notes }
    }
}

/// The command that sends the request of `example` to the branch at `base`.
pub(super) fn curl(example: &Example, base: &str) -> Curl {
    let mut notes = Vec::new();
    let mut command = "curl -sS -i --path-as-is -g".to_owned();
    match example.method.as_str() {
        "GET" => {}
        "HEAD" => command.push_str(" --head"),
        method => push(&mut command, "-X", method.as_bytes()),
    }
    push_headers(&mut command, &mut notes, example);
    push_body(&mut command, &mut notes, example);
    let base = base.trim_end_matches('/');
    if example.target.starts_with('/') {
        push(&mut command, "", format!("{base}{}", example.target).as_bytes());
    } else {
        // The absolute and the asterisk form (RFC 9112 section 3.2).
        push(&mut command, "--request-target", example.target.as_bytes());
        push(&mut command, "", base.as_bytes());
    }
    Curl { command, notes }
}

fn push(command: &mut String, option: &str, value: &[u8]) {
    command.push(' ');
    if !option.is_empty() {
        command.push_str(option);
        command.push(' ');
    }
    command.push_str(&quoted(value));
}

fn push_headers(command: &mut String, notes: &mut Vec<String>, example: &Example) {
    let is_sent = |wanted: &str| example.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    for (name, value) in &example.headers {
        if is_per_connection(name) || FRAMING.iter().any(|field| field.eq_ignore_ascii_case(name)) {
            continue;
        }
        if value == REDACTED {
            notes.push(format!("{name} was redacted: add it yourself."));
        } else if value.is_empty() {
            // curl's way to send a field without a value.
            push(command, "-H", format!("{name};").as_bytes());
        } else {
            push(command, "-H", format!("{name}: {value}").as_bytes());
        }
    }
    // Fields that curl would add of itself.
    let mut added = vec!["User-Agent", "Accept"];
    if example.body_bytes > 0 {
        added.push("Content-Type");
    }
    for name in added.into_iter().filter(|name| !is_sent(name)) {
        push(command, "-H", format!("{name}:").as_bytes());
    }
    if is_sent("Accept-Encoding") {
        command.push_str(" --compressed");
    }
    if example.headers_omitted > 0 {
        notes.push(format!("{} header fields were too long to keep.", example.headers_omitted));
    }
}

fn push_body(command: &mut String, notes: &mut Vec<String>, example: &Example) {
    let body = &example.body;
    if example.body_bytes == 0 {
        return;
    }
    let is_whole = body.len() as u64 == example.body_bytes;
    if !is_whole || body.len() > BODY_BYTES_MAX {
        notes.push(format!("The body of {} bytes is too large to show.", example.body_bytes));
        push(command, "--data-binary", b"@body.bin");
    } else if body.contains(&0) {
        notes.push("The body holds zero bytes, which no command line can: put it into body.bin.".to_owned());
        push(command, "--data-binary", b"@body.bin");
    } else {
        // `--data-binary` would take text after a leading @ for the name of a file.
        let option = if body.first() == Some(&b'@') { "--data-raw" } else { "--data-binary" };
        push(command, option, body);
    }
}

/// One word for the shell: as it is, in single quotes, or as `$'…'` where it holds control or other bytes.
pub(super) fn quoted(value: &[u8]) -> String {
    let safe = |b: &u8| b.is_ascii_alphanumeric() || b"-_./:@%+,".contains(b);
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && value.iter().all(safe) => text.to_owned(),
        Ok(text) if super::words::plain(text) == text => format!("'{}'", text.replace('\'', r"'\''")),
        Ok(_) | Err(_) => {
            let mut word = "$'".to_owned();
            for byte in value {
                match byte {
                    b'\\' | b'\'' => word.extend(['\\', char::from(*byte)]),
                    b'\n' => word.push_str("\\n"),
                    b'\r' => word.push_str("\\r"),
                    b'\t' => word.push_str("\\t"),
                    b' '..=b'~' => word.push(char::from(*byte)),
                    // Three octal digits: no digit that follows can belong to them.
                    other => write!(word, "\\{other:03o}").unwrap_or_default(),
                }
            }
            word.push('\'');
            word
        }
    }
}
