//! Sends requests to a candidate.
//!
//! Never retries and never follows a redirect: what the captured client did once is done once.

mod arrival;
mod body;
mod connect;
pub mod credentials;
pub mod guard;
pub mod http;
mod loop_guard;
mod rewrite;

use std::time::Duration;

use crate::model::{ExchangeId, Observation, Request};

pub use credentials::{CredentialConfig, CredentialSource, Credentials, OwnFields};
pub use guard::{CapturedPorts, GuardError};
pub use http::{BranchConfigError, BranchLimits, HostPolicy, HttpBranch, HttpBranchConfig, SentSecrets};
pub use loop_guard::{LoopGuard, Returned};
pub use rewrite::Inexpressible;

static NO_CREDENTIALS: Credentials = Credentials::NONE;

/// One version of a service, to which requests can be sent.
pub trait Branch: Send + Sync + 'static {
    /// Fields that its requests need. Default: none.
    fn credentials(&self) -> &Credentials {
        &NO_CREDENTIALS
    }

    /// Sends one request, once, with these fields in place of captured ones, and says what came of it no later than
    /// `deadline` from now.
    fn send(
        &self,
        id: ExchangeId,
        request: &Request,
        own: &OwnFields,
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
