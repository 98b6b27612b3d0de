//! What the evidence says now about B on one route, as plain data.
//!
//! Decides nothing: `report` fills these in, `metrics` exports them.

use std::sync::Arc;

/// In which way B does not do as A does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegressionKind {
    /// Another status.
    Status,
    /// A header field, a cookie, or a part of one.
    Header,
    /// Anything in the body.
    Body,
    /// Time.
    Latency,
}

/// What the evidence says about one route in one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// The experiment.
    pub experiment: Arc<str>,
    /// The configured route, or `other`.
    pub route: Arc<str>,
    /// In which way.
    pub kind: RegressionKind,
    /// True while the evidence suffices.
    pub detected: bool,
    /// The strongest evidence as an e-value, 0 and more; at most [`Regression::EVALUE_MAX`].
    pub evalue: f64,
}

// === impl RegressionKind ===

impl RegressionKind {
    /// All kinds.
    pub const ALL: [RegressionKind; 4] =
        [RegressionKind::Status, RegressionKind::Header, RegressionKind::Body, RegressionKind::Latency];

    /// Kinds that a difference can be of.
    pub const OF_DIFFERENCES: [RegressionKind; 3] =
        [RegressionKind::Status, RegressionKind::Header, RegressionKind::Body];

    /// The kind of a difference at this path, as [`crate::model::Difference::path`] writes it.
    pub fn of_path(path: &str) -> Self {
        match path {
            "status" => RegressionKind::Status,
            path if path.starts_with("header:") => RegressionKind::Header,
            _ => RegressionKind::Body,
        }
    }

    /// The kind as a label value; stable.
    pub fn label(self) -> &'static str {
        match self {
            RegressionKind::Status => "status",
            RegressionKind::Header => "header",
            RegressionKind::Body => "body",
            RegressionKind::Latency => "latency",
        }
    }
}

// === impl Regression ===

impl Regression {
    /// More evidence than this says nothing more.
    pub const EVALUE_MAX: f64 = 1e12;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: RegressionKind) {
        assert_eq!(RegressionKind::of_path(path), expected, "{path}");
    }

    #[test]
    fn the_path_tells_the_kind() {
        check("status", RegressionKind::Status);
        check("header:content-type", RegressionKind::Header);
        check("header:set-cookie[sid].path", RegressionKind::Header);
        check("json:$.status", RegressionKind::Body);
        check("body", RegressionKind::Body);
        check("statuses", RegressionKind::Body);
    }
}
