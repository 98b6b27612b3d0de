//! What to hide, as the configuration says it, and what can be wrong with that.
//!
//! Hides nothing itself.

/// How much is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedactMode {
    /// Nothing.
    Off,
    /// What is known to be a secret by its name or by its looks.
    #[default]
    Standard,
    /// Everything but what is allowed.
    Strict,
    /// Nothing; what `Standard` would hide is counted.
    DryRun,
}

/// What to hide, as the configuration says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedactRules {
    /// How much. Default: [`RedactMode::Standard`].
    pub mode: RedactMode,
    /// Names of header fields, more than those that are known; `-name` takes one away. Default: none.
    pub headers: Vec<String>,
    /// The same for parameters of queries.
    pub query: Vec<String>,
    /// The same for fields of forms, parts of multipart bodies, and elements and fields of markup.
    pub form: Vec<String>,
    /// Names of members of JSON, in the same way, or places: `$.user.ssn`, `$.items[*].iban`, `$.**.note`.
    pub json: Vec<String>,
    /// Regular expressions for values anywhere; `-email`, `-card`, `-bearer`, `-jwt`, `-key` and `-url` take away those that are
    /// known.
    pub patterns: Vec<String>,
    /// What passes, also where nothing else does: `header:NAME`, `cookie:NAME`, `query:NAME`, `form:NAME`, `json:$.PATH`,
    /// `path:/PATTERN`. Default: none.
    pub allow: Vec<String>,
    /// Bounds.
    pub limits: RedactLimits,
}

/// Bounds of looking for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedactLimits {
    /// Bytes of a body after content decoding; of a larger one, length and hash are kept. Default: 8 MiB.
    pub decoded_bytes_max: usize,
    /// Levels of JSON whose names are looked at. Default: 128.
    pub depth_max: usize,
}

/// An entry of a list that says nothing that can be done.
#[derive(Debug, thiserror::Error)]
pub enum RedactRulesError {
    /// It is no name.
    #[error("`{entry}` is not the name of {what}")]
    Name {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
        /// Of what.
        what: &'static str,
    },
    /// It is no place.
    #[error(
        "`{entry}` must be `header:NAME`, `cookie:NAME`, `query:NAME`, `form:NAME`, `json:$.PATH` or `path:/PATTERN`"
    )]
    Place {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// It is no path in JSON.
    #[error("`{entry}` is no path such as `$.user.ssn`, `$.items[*].iban` or `$.**.note`")]
    Path {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
    /// It is no regular expression.
    #[error("`{entry}` is no regular expression")]
    Pattern {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
        /// Why.
        source: regex::Error,
    },
    /// There is no such pattern to take away.
    #[error(
        "`{entry}` takes away nothing: known are `-email`, `-card`, `-bearer`, `-jwt`, `-key` and `-url`"
    )]
    Unknown {
        /// The list.
        list: &'static str,
        /// The entry.
        entry: String,
    },
}

// === impl RedactMode ===

impl RedactMode {
    /// All modes.
    pub const ALL: [RedactMode; 4] =
        [RedactMode::Off, RedactMode::Standard, RedactMode::Strict, RedactMode::DryRun];

    /// The mode as configurations write it; stable.
    pub fn label(self) -> &'static str {
        match self {
            RedactMode::Off => "off",
            RedactMode::Standard => "standard",
            RedactMode::Strict => "strict",
            RedactMode::DryRun => "dry-run",
        }
    }

    /// True when secrets are replaced.
    pub fn hides(self) -> bool {
        match self {
            RedactMode::Standard | RedactMode::Strict => true,
            RedactMode::Off | RedactMode::DryRun => false,
        }
    }
}

// === impl RedactLimits ===

impl Default for RedactLimits {
    fn default() -> Self {
        Self { decoded_bytes_max: 8 << 20, depth_max: 128 }
    }
}

// === impl RedactRulesError ===

impl RedactRulesError {
    /// The list, and the entry in it.
    pub fn place(&self) -> (&'static str, &str) {
        match self {
            RedactRulesError::Name { list, entry, what: _ }
            | RedactRulesError::Place { list, entry }
            | RedactRulesError::Path { list, entry }
            | RedactRulesError::Pattern { list, entry, source: _ }
            | RedactRulesError::Unknown { list, entry } => (list, entry),
        }
    }
}
