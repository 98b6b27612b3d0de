//! Turns the journal into words and a verdict.
//!
//! Changes nothing, and trusts nothing that was captured: control characters never reach a terminal.

mod curl;
mod facts;
mod json;
mod junit;
mod markdown;
mod text;
mod verdict;
mod words;

pub use facts::{
    CauseReport, Count, DifferenceReport, ExampleReport, ExperimentReport, IntervalReport, LatencyReport,
    Report, ReportError, RequestReport, RouteReport, RuleReport, RunReport, SlowerReport,
};
pub use verdict::{Conclusion, PolicyError, Verdict, VerdictPolicy};
pub use words::plain;

#[cfg(test)]
mod tests;
