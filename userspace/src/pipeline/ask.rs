//! One request of a replay: asked of the candidate, and of the twin where there is one, and compared.
//!
//! Knows no queue and no other request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::again::Due;
use super::clock::now;
use super::handover::{Closed, ComparisonSender};
use super::pace::Anchor;
use super::replay::fate_of;
use super::science::{Again, Draw, Judged, Science, draw};
use crate::branch::credentials::Standing;
use crate::branch::{Branch, Sent};
use crate::compare::noise::Repeat;
use crate::model::{BranchFailure, Comparison, Exchange, Fate, IncomparableReason, Observation, Outcome};

/// What every request of a replay needs.
pub(super) struct Shared<B> {
    pub(super) experiment: Arc<str>,
    pub(super) branch: Arc<B>,
    pub(super) twin: Option<Arc<B>>,
    pub(super) anchor: Anchor,
    /// Whether A answers now, so that the time from its answer to B's means something.
    pub(super) is_live: bool,
    pub(super) deadline: Duration,
    pub(super) science: Arc<Science>,
    pub(super) comparisons: ComparisonSender,
}

/// A request and what is known about it.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) exchange: Arc<Exchange>,
    pub(super) route: Arc<str>,
    /// A's earlier answer to the same request.
    pub(super) repeat: Option<Repeat>,
}

/// What one request came to.
#[derive(Debug)]
pub(super) enum Done {
    /// The client cannot say it.
    NotSent,
    /// Compared and handed over.
    Compared {
        /// Its fate.
        fate: Fate,
        /// Why the candidate gave no answer, if so.
        failure: Option<BranchFailure>,
        /// Why the twin gave none, if it was asked and did not.
        twin_failure: Option<BranchFailure>,
        /// The same request, to be asked again.
        again: Option<(Box<Again>, Instant)>,
    },
    /// Asked for the second time, or could not be said any more.
    Repeated {
        /// Why the candidate gave no answer, if it was asked and did not.
        failure: Option<BranchFailure>,
    },
    /// Compared, but nobody takes comparisons any more.
    Unwanted,
}

/// Sends one request and hands on its comparison. Nothing is awaited after that: a task that is cut off has
/// either handed nothing over, or returns its fate all the same.
pub(super) async fn ask<B: Branch>(shared: Arc<Shared<B>>, question: Question) -> Done {
    let Shared { experiment, branch, twin, anchor, is_live, deadline, science, comparisons } = &*shared;
    let Question { exchange, route, repeat } = question;
    // What is compared is what was captured: only that says which secrets A repeats.
    let asked = science.sent(Arc::clone(&exchange));
    let send = async |branch: &Arc<B>| {
        let (sent, answered_at, standing) = send(&**branch, &asked, *deadline).await;
        ((sent, standing), answered_at)
    };
    // Whoever comes second meets a warmer cache: the order is drawn for each request.
    let (sent, twin) = match twin {
        None => (send(branch).await, None),
        Some(twin) if draw(exchange.id, Draw::TwinFirst) < 0.5 => {
            let twin = send(twin).await;
            (send(branch).await, Some(twin))
        }
        Some(twin) => {
            let sent = send(branch).await;
            (sent, Some(send(twin).await))
        }
    };
    let ((Sent::Observed(candidate), standing), answered_at) = sent else {
        tracing::trace!(id = %exchange.id, "Request cannot be expressed.");
        return Done::NotSent;
    };
    let failure = failure_of(&candidate);
    let twin = twin.and_then(|((sent, standing), _)| match (sent, standing) {
        (Sent::Observed(observation), Standing::Holds) => Some(observation),
        // A twin that refused a credential which had run out says nothing about A's version.
        (Sent::Observed(_), Standing::Unknown | Standing::Replaced) | (Sent::NotSent(_), _) => None,
    });
    let twin_failure = twin.as_ref().and_then(failure_of);
    let compared_at = anchor.wall_at(now());

    let Judged { outcome, differing, kept } = match standing {
        Standing::Holds => science.compare(&exchange, &route, &candidate, twin.as_ref()).await,
        Standing::Unknown | Standing::Replaced => Judged {
            outcome: Outcome::Incomparable(IncomparableReason::CredentialsRefused),
            differing: None,
            kept: science.kept(&exchange, &candidate),
        },
    };
    let mut again = None;
    if let Some(differing) = differing {
        // A file says nothing about how long B is behind A: what changed since then is a difference.
        let lag = match exchange.times.response {
            Some((first, _)) if *is_live => anchor.wall_at(answered_at).since(first),
            Some(_) | None => Duration::ZERO,
        };
        let was_heard = match &repeat {
            Some(repeat) => science.hear_repeat(&exchange, &route, &differing, repeat, lag).await,
            None => false,
        };
        if !was_heard {
            let wanted = science.wants_again(&exchange, &route, &candidate, differing, lag);
            again = wanted.map(|again| (Box::new(again), answered_at));
        }
    }
    let fate = fate_of(&outcome);
    let experiment = Arc::clone(experiment);
    let (exchange, candidate) = kept.unwrap_or((exchange, candidate));
    let comparison = Comparison { experiment, route, exchange, candidate, compared_at, outcome };
    match comparisons.send(comparison).await {
        Ok(()) => Done::Compared { fate, failure, twin_failure, again },
        Err(Closed) => Done::Unwanted,
    }
}

/// Sends one request for the second time.
pub(super) async fn ask_again<B: Branch>(shared: Arc<Shared<B>>, due: Due) -> Done {
    let Due { at: _, answered_at, again } = due;
    let waited = now().saturating_duration_since(answered_at);
    let asked = shared.science.sent(Arc::clone(&again.exchange));
    let (sent, _, standing) = send(&*shared.branch, &asked, shared.deadline).await;
    let Sent::Observed(second) = sent else { return Done::Repeated { failure: None } };
    if standing == Standing::Holds {
        shared.science.hear_again(&again, &second, waited).await;
    }
    Done::Repeated { failure: failure_of(&second) }
}

/// Sends one request with the fields that the branch needs. Says what came of it, when, and whether those fields were good:
/// a 401 to one that had run out says nothing about the branch.
async fn send(branch: &impl Branch, exchange: &Exchange, deadline: Duration) -> (Sent, Instant, Standing) {
    let Exchange { id, request, response, .. } = exchange;
    let own = branch.credentials().for_request(request, response.as_ref()).await;
    let mut sent = branch.send(*id, request, &own, deadline).await;
    let answered_at = now();
    let standing = match &mut sent {
        Sent::Observed(observation) => {
            own.take_out(request, observation);
            branch.credentials().standing(&own, observation).await
        }
        Sent::NotSent(_) => Standing::Holds,
    };
    (sent, answered_at, standing)
}

fn failure_of(observation: &Observation) -> Option<BranchFailure> {
    match observation {
        Observation::Answered { response: _, ttfb: _, served: _ } => None,
        Observation::Failed(failure) => Some(*failure),
    }
}
