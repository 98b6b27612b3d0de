//! What is expected of each capture: the readers' lines, and what this project decided about those that are in dispute.
//!
//! Decides nothing itself: a line in dispute without a decision is an error, and so is a decision about no such line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::read;

/// All captures and where they are.
pub(crate) struct Corpus {
    pub(crate) folder: PathBuf,
    pub(crate) captures: Vec<Capture>,
}

/// One capture.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    pub(crate) file: String,
    /// What is in it, in the manifest's words.
    pub(crate) tags: Vec<String>,
    pub(crate) lines: Vec<Line>,
    /// Why it cannot be read, when it cannot.
    pub(crate) unsupported: Option<String>,
}

/// What one exchange is expected to look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) facts: Facts,
    /// What is done about it.
    pub(crate) wanted: Wanted,
    /// True when the readers agree, so that it counts for the score.
    pub(crate) agreed: bool,
}

/// What is done about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It must be shown.
    Shown,
    /// It may be shown.
    Optional,
    /// It must not be shown.
    Hidden,
}

/// All that is compared of an exchange. Names as in `expected.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Facts {
    pub(crate) method: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) req_headers: Option<u64>,
    pub(crate) req_body_len: Option<u64>,
    pub(crate) req_body_sha256: Option<String>,
    pub(crate) req_body_complete: Option<bool>,
    pub(crate) answered: bool,
    pub(crate) status: Option<u16>,
    pub(crate) resp_version: Option<String>,
    pub(crate) resp_headers: Option<u64>,
    pub(crate) resp_body_len: Option<u64>,
    pub(crate) resp_body_sha256: Option<String>,
    pub(crate) resp_body_complete: Option<bool>,
    pub(crate) interim: Vec<u16>,
}

/// A line of `expected.jsonl`, but for its facts.
#[derive(Deserialize)]
struct RawLine {
    file: String,
    client: String,
    server: String,
    target: Option<String>,
    optional: bool,
    confidence: String,
}

/// A line of `tests/corpus/decided.jsonl`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    file: String,
    client: String,
    server: String,
    target: String,
    /// A heading of `tests/corpus/README.md`.
    reason: String,
    /// False when it must not be shown.
    shown: bool,
    /// Facts that differ from the readers'.
    #[serde(default)]
    facts: Map<String, Value>,
}

/// By file, client, server and target.
type Decisions = BTreeMap<[String; 4], Decision>;

// === impl Corpus ===

impl Corpus {
    /// Reads what is expected of the captures in `folder`, and what `package` decided about them.
    pub(crate) fn read(folder: &Path, package: &Path) -> anyhow::Result<Self> {
        let mut decisions = decisions(&package.join("corpus"))?;
        let mut unsupported = unsupported(&package.join("corpus/unsupported.tsv"))?;
        let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        for text in read(&folder.join("expected.jsonl"))?.lines() {
            let (file, line) = line(text, &mut decisions).with_context(|| format!("expected line {text}"))?;
            lines.entry(file).or_default().push(line);
        }
        if let Some(([file, _, _, target], _)) = decisions.first_key_value() {
            bail!("a decision about {file}, {target}, which is not in dispute");
        }
        let mut captures = Vec::new();
        for row in read(&folder.join("MANIFEST.tsv"))?.lines().skip(1) {
            let columns: Vec<&str> = row.split('\t').collect();
            let [file, .., tags, _note] = columns.as_slice() else { bail!("manifest row {row}") };
            captures.push(Capture {
                file: (*file).to_owned(),
                tags: tags.split(',').map(str::to_owned).collect(),
                lines: lines.remove(*file).unwrap_or_default(),
                unsupported: unsupported.remove(*file),
            });
        }
        let unknown: BTreeSet<&String> = lines.keys().chain(unsupported.keys()).collect();
        ensure!(unknown.is_empty(), "captures that the manifest does not have: {unknown:?}");
        Ok(Self { folder: folder.to_owned(), captures })
    }
}

fn decisions(folder: &Path) -> anyhow::Result<Decisions> {
    let readme = read(&folder.join("README.md"))?;
    let mut decisions = Decisions::new();
    for text in read(&folder.join("decided.jsonl"))?.lines() {
        let decision: Decision =
            serde_json::from_str(text).with_context(|| format!("failed to read the decision {text}"))?;
        let heading = format!("### {}", decision.reason);
        ensure!(readme.lines().any(|line| line == heading), "README.md does not explain {}", decision.reason);
        let Decision { file, client, server, target, reason: _, shown: _, facts: _ } = &decision;
        let key = [file, client, server, target].map(String::clone);
        ensure!(decisions.insert(key, decision).is_none(), "two decisions: {text}");
    }
    Ok(decisions)
}

/// Files by name with the reason why each cannot be read.
fn unsupported(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let row = |row: &str| {
        let (file, reason) = row.split_once('\t').with_context(|| format!("row {row} has no reason"))?;
        Ok((file.to_owned(), reason.to_owned()))
    };
    read(path)?.lines().skip(1).map(row).collect()
}

fn line(text: &str, decisions: &mut Decisions) -> anyhow::Result<(String, Line)> {
    let raw: RawLine = serde_json::from_str(text)?;
    let mut facts: Map<String, Value> = serde_json::from_str(text)?;
    let agreed = raw.confidence == "agree";
    let mut wanted = if raw.optional { Wanted::Optional } else { Wanted::Shown };
    if !agreed && !raw.optional {
        let key = [raw.file.clone(), raw.client.clone(), raw.server.clone(), raw.target.unwrap_or_default()];
        let decision = decisions.remove(&key).context("the readers do not agree, and nothing is decided")?;
        if !decision.shown {
            wanted = Wanted::Hidden;
        }
        for (name, value) in decision.facts {
            let known = facts.insert(name.clone(), value);
            ensure!(known.is_some(), "a decision about the unknown fact {name}");
        }
    }
    let mut facts: Facts = serde_json::from_value(Value::Object(facts))?;
    facts.method = facts.method.map(|text| shown_text(&text));
    facts.target = facts.target.map(|text| shown_text(&text));
    let line = Line { client: address(&raw.client)?, server: address(&raw.server)?, facts, wanted, agreed };
    Ok((raw.file, line))
}

/// Text of the corpus, where a character stands for a byte, as the binary shows it: UTF-8 as what it means, and other
/// bytes like the corpus.
fn shown_text(text: &str) -> String {
    let bytes: Option<Vec<u8>> =
        text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| text.to_owned())
}

/// An address in the one form that all are compared in.
pub(crate) fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let address: SocketAddr = text.parse().with_context(|| format!("address {text}"))?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}
