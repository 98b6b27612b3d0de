//! Configuration files one on top of the other: the host's, and above it that of one instance.
//!
//! Knows no key. The upper file wins key by key; lists, and with them the experiments, are taken whole from one file.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{ConfigError, Fault};
use super::raw::RawConfig;

/// Files whose places are told apart by their spans: those of a file begin where it would begin if all stood in one text.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    /// None for a text that is in no file.
    path: Option<PathBuf>,
    text: String,
    start: usize,
}

// === impl Layers ===

impl Layers {
    /// Puts a text on top of the others.
    pub(super) fn push(&mut self, path: Option<&Path>, text: String) {
        // One byte between two files, so that no place belongs to both.
        let start = self.layers.last().map_or(0, |below| below.start + below.text.len() + 1);
        // A mark of the byte order may stand at the start only, which is not where the text is read from.
        let text = text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned);
        self.layers.push(Layer { path: path.map(Path::to_owned), text, start });
    }

    /// Reads a file and puts it on top of the others.
    pub(super) fn read(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        self.push(Some(path), text);
        Ok(())
    }

    /// All of them as one.
    pub(super) fn merge(&self) -> Result<RawConfig, ConfigError> {
        let Some((bottom, above)) = self.layers.split_first() else { return Ok(RawConfig::default()) };
        let whole = bottom.parse()?;
        if above.is_empty() {
            return Ok(whole);
        }
        let mut table = bottom.table(&bottom.text)?;
        let moved: Vec<_> = above.iter().map(|layer| (layer, layer.moved())).collect();
        for (layer, text) in &moved {
            // By itself first, since only there an error knows the line of its file.
            layer.parse()?;
            merge(table.get_mut(), layer.table(text)?.into_inner());
        }
        RawConfig::deserialize(Deserializer::from(table)).map_err(|error| bottom.error(error))
    }

    /// True for a value that stands above the lowest file, or in none.
    pub(super) fn is_above(&self, span: &Range<usize>) -> bool {
        span.is_empty() || self.layer(span.start).is_some_and(|layer| layer.start > 0)
    }

    /// The error, with the file and the line that the value stands on. A value without a place came from the command line.
    pub(super) fn error(&self, fault: Fault) -> ConfigError {
        let Fault { key, span, problem } = fault;
        let layer = if span.is_empty() { None } else { self.layer(span.start) };
        match layer.and_then(|layer| Some((layer, layer.path.as_deref()?))) {
            Some((Layer { path: _, text, start }, path)) => {
                let before = text.as_bytes().get(..span.start - start).unwrap_or_default();
                let line = before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
                ConfigError::Value { path: path.to_owned(), line, key, problem }
            }
            None => ConfigError::Flag { key, problem },
        }
    }

    fn layer(&self, place: usize) -> Option<&Layer> {
        self.layers.iter().rev().find(|layer| layer.start <= place)
    }
}

// === impl Layer ===

impl Layer {
    fn parse(&self) -> Result<RawConfig, ConfigError> {
        toml::from_str(&self.text).map_err(|error| self.error(error))
    }

    fn table<'a>(&self, text: &'a str) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(text).map_err(|error| self.error(error))
    }

    /// The text with so much space before it that its spans are those of its place among the others.
    fn moved(&self) -> String {
        " ".repeat(self.start) + &self.text
    }

    fn error(&self, problem: toml::de::Error) -> ConfigError {
        let path = self.path.clone().unwrap_or_else(|| PathBuf::from("-"));
        ConfigError::Parse { path, problem: Box::new(problem) }
    }
}

/// Puts the values of `above` in the place of those of `below`, table by table.
fn merge<'a>(below: &mut DeTable<'a>, above: DeTable<'a>) {
    for (key, value) in above {
        let span = value.span();
        match (below.get_mut(&key).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Table(below)), DeValue::Table(above)) => merge(below, above),
            (_, value) => {
                // The key would keep its place in the lower file.
                below.remove(&key);
                below.insert(key, Spanned::new(span, value));
            }
        }
    }
}
