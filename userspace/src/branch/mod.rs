//! Sends requests to a candidate.
//!
//! Never retries and never follows a redirect: what the captured client did once is done once.

mod arrival;
mod body;
mod connect;
pub mod guard;
pub mod http;
mod loop_guard;
mod rewrite;

use std::time::Duration;

use crate::model::{ExchangeId, Observation, Request};

pub use guard::{CapturedPorts, GuardError};
pub use http::{BranchConfigError, BranchLimits, HostPolicy, HttpBranch, HttpBranchConfig};
pub use loop_guard::LoopGuard;
pub use rewrite::Inexpressible;

/// One version of a service, to which requests can be sent.
pub trait Branch: Send + Sync + 'static {
    /// Sends one request, once, and says what came of it no later than `deadline` from now.
    fn send(
        &self,
        id: ExchangeId,
        request: &Request,
        deadline: Duration,
    ) -> impl Future<Output = Sent> + Send;
}

/// What came of sending a request.
#[derive(Clone, Debug)]
pub enum Sent {
    /// It was sent, or a connection for it was tried.
    Observed(Observation),
    /// Nothing was sent: the client cannot say what the captured request said.
    NotSent(Inexpressible),
}

#[cfg(test)]
mod tests;
