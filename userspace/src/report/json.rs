//! A report as JSON: the structs of `facts` as they are, in one object.
//!
//! Adds nothing to them. Programs should look at `schema` first and pass over fields that they do not know.

use super::facts::{Report, ReportError};

impl Report {
    /// One JSON object over several lines.
    ///
    /// # Errors
    /// When a number is not finite, which no journal brings about.
    pub fn to_json(&self) -> Result<String, ReportError> {
        serde_json::to_string_pretty(self).map_err(|source| ReportError::Json { source })
    }
}
