//! Whether understudy can work here: one finding for each thing that it depends on, each with its remedy.
//!
//! Changes nothing: a probe that is loaded is gone again, no request is sent to a candidate, and Redis is only asked.

mod files;
mod host;
mod kernel;
mod remote;

use serde::Serialize;

use crate::capture::Hook;
use crate::pipeline::settings::Config;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; stable.
    pub check: &'static str,
    /// What came of it.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do about it; none where nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is as it should be.
    Ok,
    /// It works, and something is worth knowing.
    Warning,
    /// It does not work so.
    Failure,
}

/// What is to be done here, which decides what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duties {
    /// Traffic is captured, which takes the kernel and privileges.
    pub capture: bool,
    /// Requests are sent to candidates.
    pub replay: bool,
}

/// Looks at everything that these duties need, as `config` has it.
pub async fn examine(config: &Config, duties: Duties) -> Vec<Finding> {
    let mut findings = Vec::new();
    if duties.capture {
        findings.extend(kernel::examine(config));
        // Behind an interface others listen.
        if let Hook::Cgroup(_) = config.capture.kernel.hook {
            findings.extend(host::captured_ports(&config.capture.kernel.ports));
        }
    }
    findings.extend(host::examine(config, duties));
    findings.extend(files::examine(config, duties));
    findings.extend(remote::redis(config).await);
    if duties.replay {
        findings.extend(remote::candidates(config).await);
    }
    findings
}

// === impl Finding ===

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, state: State::Ok, detail: detail.into(), remedy: None }
    }

    /// Worth knowing.
    pub fn warning(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// Does not work.
    pub fn failure(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Failure, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// An error with what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
