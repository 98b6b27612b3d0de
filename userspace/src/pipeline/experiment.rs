//! One experiment, set up to replay: its parts are built from the configuration and checked.
//!
//! Sends nothing yet, and does not know where its exchanges come from.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::comparator::ExternalComparator;
use super::credentials::hold;
use super::error::{ExperimentError, PartError};
use super::handover::ComparisonSender;
use super::judge::{Judge, Judging};
use super::pace::{Anchor, Pace};
use super::protect::pause::PauseFlag;
use super::reload::Changeable;
use super::replay::Replayer;
use super::science::Science;
use super::secrets::Secrets;
use super::settings::ExperimentConfig;
use crate::branch::{CapturedPorts, HttpBranch, HttpBranchConfig, LoopGuard};
use crate::compare::Comparator;
use crate::compare::noise::NoiseModel;
use crate::journal::ExperimentStart;
use crate::metrics::{ExperimentStatus, ReplayStats};
use crate::model::Ledger;
use crate::report::VerdictPolicy;
use crate::select::Selector;

/// When the exchanges of an experiment are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Timing {
    /// They are captured now, by this process.
    Live,
    /// They were captured some other time; so many times faster than A's own spacing.
    Offline {
        /// The factor.
        speed: f64,
    },
    /// They are captured now, by other hosts.
    Queued,
}

/// One experiment, set up.
pub(super) struct Prepared<Q> {
    pub(super) start: ExperimentStart,
    pub(super) verdict: VerdictPolicy,
    pub(super) replayer: Replayer<HttpBranch, Q>,
    pub(super) status: ExperimentStatus,
    pub(super) changeable: Changeable,
}

/// Builds and checks every part. `queue` counts in `ledger`; `anchor` ties captured times to the runtime's clock; `guard` says where a candidate must
/// not be.
///
/// # Errors
/// The first part that is wrong.
pub(super) async fn prepare<Q>(
    config: &ExperimentConfig,
    guard: CapturedPorts,
    (timing, secrets): (Timing, Option<Arc<Secrets>>),
    anchor: Anchor,
    (queue, ledger): (Q, Arc<Ledger>),
    comparisons: ComparisonSender,
    pause: PauseFlag,
) -> Result<Prepared<Q>, ExperimentError> {
    let wrong = |part: PartError| part.of(&config.name);
    let experiment: Arc<str> = config.name.as_str().into();
    let stats = Arc::new(ReplayStats::default());
    let parts = Parts::build(config, guard, &experiment, &stats).await.map_err(wrong)?;
    let Parts { selector, comparator, branch, twin, model, sends_redacted } = parts;
    let ExperimentConfig {
        name: _,
        select,
        candidate,
        twin: _,
        lag,
        replay,
        queue: _,
        compare,
        comparator: external,
        noise,
        context,
        verdict,
    } = config;
    let loop_guard = Arc::new(LoopGuard::default());
    // B's times at another speed than A's own say nothing about B.
    let at_own_speed = match timing {
        Timing::Live | Timing::Queued => true,
        Timing::Offline { speed } => speed == 1.0,
    };
    let verdict = VerdictPolicy { latency_judged: verdict.latency_judged && at_own_speed, ..verdict.clone() };
    let policy = verdict.to_text().map_err(PartError::from).map_err(wrong)?;
    let start = ExperimentStart {
        name: Arc::clone(&experiment),
        candidate: candidate.url.clone(),
        rules: comparator.rules().map(Arc::clone).collect(),
        context: context.clone(),
        policy,
        routes: select.route_labels(),
    };
    let external = external.clone().map(|external| {
        let (name, stats) = (Arc::clone(&experiment), Arc::clone(&stats));
        Arc::new(ExternalComparator::new(external, compare.limits.clone(), name, stats))
    });
    let judge = Arc::new(Judge::new(Judging::new(Arc::new(comparator), external)));
    let limits = compare.limits.clone();
    if secrets.as_ref().is_some_and(|secrets| secrets.hides()) {
        note_sent(&experiment, sends_redacted);
    }
    let science = Science::new(judge, limits, twin.is_some(), noise.clone(), model);
    let science = Arc::new(science.hiding(secrets, sends_redacted));
    let changeable = Changeable {
        name: Arc::clone(&experiment),
        selector: Arc::new(ArcSwap::from_pointee(selector)),
        science: Arc::clone(&science),
        stats: Arc::clone(&stats),
    };
    let replay_stats = Some(Arc::clone(&stats));
    Ok(Prepared {
        start,
        verdict,
        changeable,
        status: ExperimentStatus { name: Arc::clone(&experiment), ledger, replay: replay_stats },
        replayer: Replayer {
            experiment,
            branch: Arc::new(branch),
            twin: twin.map(Arc::new),
            queue,
            pace: match timing {
                Timing::Live => Pace::live(anchor, *lag),
                Timing::Offline { speed } => Pace::offline(speed),
                Timing::Queued => Pace::queued(*lag),
            },
            anchor,
            limits: *replay,
            science,
            comparisons,
            pause,
            loop_guard,
            stats,
        },
    })
}

/// What can be wrong with an experiment, built.
struct Parts {
    selector: Selector,
    comparator: Comparator,
    branch: HttpBranch,
    twin: Option<HttpBranch>,
    model: NoiseModel,
    /// Whether candidate and twin, which are asked the same, are sent tokens in the place of secrets.
    sends_redacted: bool,
}

/// Says once what the candidate gets.
fn note_sent(experiment: &str, sends_redacted: bool) {
    if sends_redacted {
        tracing::info!(experiment, "The candidate is sent tokens in the place of captured secrets.");
    } else {
        tracing::info!(experiment, "The candidate is sent secrets as they were captured.");
    }
}

// === impl Parts ===

impl Parts {
    async fn build(
        config: &ExperimentConfig,
        guard: CapturedPorts,
        experiment: &Arc<str>,
        stats: &Arc<ReplayStats>,
    ) -> Result<Self, PartError> {
        let show = async |branch: HttpBranch, config: &HttpBranchConfig, name: &'static str| {
            let credentials = hold(&config.credentials, experiment, stats).await;
            let credentials =
                credentials.map_err(|source| PartError::Credentials { branch: name, source })?;
            Ok::<_, PartError>(branch.with_credentials(credentials))
        };
        let selector = Selector::new(config.select.clone())?;
        let comparator = Comparator::new(config.compare.clone())?;
        let branch =
            HttpBranch::new(config.candidate.clone(), guard.clone()).map_err(PartError::Candidate)?;
        let addresses = branch.resolve().await.map_err(PartError::Candidate)?;
        let mut sends_redacted = config.candidate.secrets.are_redacted(&addresses);
        let branch = show(branch, &config.candidate, "candidate").await?;
        let twin = match &config.twin {
            Some(config) => {
                let twin = HttpBranch::new(config.clone(), guard).map_err(PartError::Twin)?;
                let addresses = twin.resolve().await.map_err(PartError::Twin)?;
                sends_redacted |= config.secrets.are_redacted(&addresses);
                Some(show(twin, config, "twin").await?)
            }
            None => None,
        };
        let model = NoiseModel::new(config.noise.model.clone())?;
        Ok(Self { selector, comparator, branch, twin, model, sends_redacted })
    }
}
