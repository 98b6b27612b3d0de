//! Turns the journal into words and a verdict.
//!
//! Changes nothing, and trusts nothing that was captured: control characters never reach a terminal.

mod build;
mod causes;
mod curl;
mod facts;
mod fleet;
mod json;
mod junit;
mod latency;
mod live;
mod markdown;
mod rate;
mod reasons;
mod regression;
mod remedy;
mod side;
mod text;
mod verdict;
mod words;

pub use causes::{JudgePath, PathName, UnknownCause};
pub use curl::RepeatedRequest;
pub use facts::{
    CauseReport, ChangeReport, Count, DifferenceReport, ExampleReport, ExperimentReport, IntervalReport,
    LatencyReport, Report, ReportError, RequestReport, RouteReport, RuleReport, RunReport, ShareReport,
    SlowerReport, TailReport,
};
pub use fleet::{
    BookReport, CaptureShare, Field, FleetAnswers, FleetReport, MemberName, MemberReport, PauseShare,
    WorkerShare,
};
pub use live::{LiveExperiment, LiveLimits, Look};
pub use regression::{EvidenceInForce, RegressionConfig, RegressionWatch};
pub use side::{AnswerReport, SideBySide, SideLimits};
pub use verdict::{Conclusion, PolicyError, Verdict, VerdictPolicy};
pub use words::plain;

#[cfg(test)]
mod tests;
