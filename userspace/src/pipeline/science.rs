//! Compares the answers of one experiment, and learns which differences are noise.
//!
//! Sends nothing and waits for nothing: it says whom to ask a second time and when, and is told what came of it.

use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::judge::Judge;
use super::secrets::{Kept, Secrets};
use crate::compare::noise::{
    AgainConfig, DifferingPaths, NoiseConfig, NoiseModel, NoiseShare, PathId, PathSketch, Repeat,
    RepeatConfig, RepeatIndex, Triple,
};
use crate::compare::{CompareLimits, Purpose};
use crate::model::{
    EvidenceSource, Exchange, ExchangeId, NOISE_RULE, Observation, Outcome, PathState, Response,
};

/// How the noise of an experiment is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSettings {
    /// How evidence is weighed.
    pub model: NoiseConfig,
    /// When the candidate is asked a second time. None: never. Default: as [`AgainConfig`] says.
    pub again: Option<AgainConfig>,
    /// Which requests to A are the same. None: A's answers are not compared with each other. Default: as
    /// [`RepeatConfig`] says.
    pub repeats: Option<RepeatConfig>,
}

/// The science of one experiment: control, candidate, compare.
pub struct Science {
    judge: Arc<Judge>,
    measures: Measures,
    /// Its bounds: they say when a list of differences names every path.
    limits: CompareLimits,
    again: Option<AgainConfig>,
    repeats: Option<Mutex<RepeatIndex>>,
    model: Mutex<NoiseModel>,
    /// What hides secrets before anything is kept; none where nothing is hidden.
    secrets: Option<Arc<Secrets>>,
    /// Whether requests are sent without secrets, too.
    sends_redacted: bool,
}

/// Which comparisons a source of evidence may say something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measures {
    /// Each: there is a twin.
    All,
    /// Those of safe requests: these come, and are sent, more than once.
    Safe,
    /// None.
    Nothing,
}

/// The comparison of A's answer with the candidate's.
pub struct Judged {
    /// What came of it; noise is hidden in it.
    pub outcome: Outcome,
    /// Where they differ, noise or not; none where nothing could be compared.
    pub differing: Option<DifferingPaths>,
    /// What may be kept of exchange and answer; none where that is all of it.
    pub kept: Option<Kept>,
}

/// A comparison whose request the candidate is to be asked again.
#[derive(Debug)]
pub struct Again {
    /// Request, and A's answer.
    pub exchange: Arc<Exchange>,
    /// Its route.
    pub route: Arc<str>,
    /// The candidate's first answer, as if it were A's.
    pub first: Exchange,
    /// Where A's answer and that one differ.
    pub differing: DifferingPaths,
    /// Time from A's answer to the first one of the candidate.
    pub lag: Duration,
    /// How long to wait.
    pub wait: Duration,
}

/// What a random number is drawn for.
#[derive(Clone, Copy, Debug)]
pub enum Draw {
    /// Whether the twin goes first.
    TwinFirst = 1,
    /// Whether a request without a difference is asked again.
    Again = 2,
}

/// A number from 0 up to 1 that is uniform over exchanges, and the same each time for one: a run over the same packets
/// asks the same questions.
pub fn draw(id: ExchangeId, purpose: Draw) -> f64 {
    let hash = foldhash::quality::FixedState::with_seed(purpose as u64).hash_one((id.flow, id.offset));
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept on purpose")]
    let uniform = (hash >> 11) as f64 / (1_u64 << 53) as f64;
    uniform
}

// === impl NoiseSettings ===

impl Default for NoiseSettings {
    fn default() -> Self {
        Self {
            model: NoiseConfig::default(),
            again: Some(AgainConfig::default()),
            repeats: Some(RepeatConfig::default()),
        }
    }
}

// === impl Science ===

impl Science {
    /// With a way to compare, and its bounds.
    pub fn new(
        judge: Arc<Judge>,
        limits: CompareLimits,
        has_twin: bool,
        settings: NoiseSettings,
        model: NoiseModel,
    ) -> Self {
        let NoiseSettings { model: _, again, repeats } = settings;
        let measures = match (has_twin, again.is_some() || repeats.is_some()) {
            (true, _) => Measures::All,
            (false, true) => Measures::Safe,
            (false, false) => Measures::Nothing,
        };
        // With a twin nothing else is evidence: what B's environment makes different is noise of neither A nor B alone.
        Self {
            judge,
            measures,
            limits,
            again: again.filter(|_| !has_twin),
            repeats: repeats.filter(|_| !has_twin).map(|config| Mutex::new(RepeatIndex::new(config))),
            model: Mutex::new(model),
            secrets: None,
            sends_redacted: false,
        }
    }

    /// Hides secrets in what is kept, and where `sends_redacted` in what is sent as well.
    #[must_use]
    pub fn hiding(self, secrets: Option<Arc<Secrets>>, sends_redacted: bool) -> Self {
        let hides = secrets.as_ref().is_some_and(|secrets| secrets.hides());
        Self { secrets, sends_redacted: sends_redacted && hides, ..self }
    }

    /// The exchange with the request that candidate and twin are sent.
    pub fn sent(&self, exchange: Arc<Exchange>) -> Arc<Exchange> {
        match &self.secrets {
            Some(secrets) if self.sends_redacted => secrets.sent(&exchange),
            Some(_) | None => exchange,
        }
    }

    /// How answers are compared.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What may be kept of exchange and answer; none where that is all of it.
    pub fn kept(&self, exchange: &Exchange, candidate: &Observation) -> Option<Kept> {
        self.secrets.as_ref().and_then(|secrets| secrets.kept(exchange, candidate))
    }

    /// Takes note of an exchange, in the order of capture: gives A's earlier answer to the same request.
    pub fn note(&self, exchange: &Arc<Exchange>) -> Option<Repeat> {
        let repeats = self.repeats.as_ref()?;
        lock(repeats).observe(exchange)
    }

    /// Compares A's answer with the candidate's, and with the twin's where that was asked. What the twin says is known
    /// together with the difference: nobody sees a difference that is only unmeasured for a moment.
    pub async fn compare(
        &self,
        exchange: &Exchange,
        route: &str,
        candidate: &Observation,
        twin: Option<&Observation>,
    ) -> Judged {
        let (outcome, kept) = self.judged(route, exchange, candidate, Purpose::Outcome).await;
        let differing = self.paths(&outcome);
        let Some(paths) = &differing else { return Judged { outcome, differing, kept } };
        let same_version = match twin {
            Some(twin) => self.differing(exchange, route, twin).await,
            None => None,
        };
        let mut model = self.model();
        model.observe(route, paths, self.measures.holds(exchange));
        if let Some(same_version) = &same_version {
            let source = EvidenceSource::Twin;
            model
                .evidence(route, &Triple { source, candidate: paths, same_version, third: None, fair: true });
        }
        let outcome = hide_noise(outcome, self.limits.differences_max, |path| {
            matches!(model.state(route, path), PathState::Noise)
        });
        drop(model);
        Judged { outcome, differing, kept }
    }

    /// The outcome of a comparison, and what may be kept of it. Answers that match as they are have nothing that would be
    /// kept, and are looked at once. Of all others the outcome is that without secrets: what differed by a secret alone, as
    /// A's answer and that to a request without secrets do, does not any more.
    async fn judged(
        &self,
        route: &str,
        exchange: &Exchange,
        candidate: &Observation,
        purpose: Purpose,
    ) -> (Outcome, Option<Kept>) {
        let Some(secrets) = &self.secrets else {
            return (self.judge.judge(route, exchange, candidate, purpose).await, None);
        };
        // Somebody else's process is somewhere else.
        if !self.judge.asks_others() {
            let glance = if purpose == Purpose::Outcome { Purpose::Glance } else { purpose };
            let plain = self.judge.judge(route, exchange, candidate, glance).await;
            if plain == Outcome::Match {
                return (plain, None);
            }
        }
        let kept = secrets.kept(exchange, candidate);
        let (exchange, candidate) =
            kept.as_ref().map_or((exchange, candidate), |(exchange, candidate)| (&**exchange, candidate));
        let outcome = self.judge.judge(route, exchange, candidate, purpose).await;
        (outcome, kept)
    }

    /// What A's own earlier answer says about a comparison. False when it says nothing.
    pub async fn hear_repeat(
        &self,
        exchange: &Exchange,
        route: &str,
        candidate: &DifferingPaths,
        repeat: &Repeat,
        lag: Duration,
    ) -> bool {
        let Some(response) = exchange.response.clone().filter(|_| repeat.is_fair(lag)) else { return false };
        let later = answered(response);
        let Some(same_version) = self.differing(&repeat.earlier, route, &later).await else { return false };
        let source = EvidenceSource::Repeat;
        let triple = Triple { source, candidate, same_version: &same_version, third: None, fair: true };
        self.model().evidence(route, &triple);
        true
    }

    /// Whether the candidate is to be asked again.
    pub fn wants_again(
        &self,
        exchange: &Arc<Exchange>,
        route: &Arc<str>,
        candidate: &Observation,
        differing: DifferingPaths,
        lag: Duration,
    ) -> Option<Again> {
        let again = self.again.as_ref().filter(|_| exchange.request.is_safe())?;
        let open = {
            let model = self.model();
            let decided =
                |path: &str| matches!(model.state(route, path), PathState::Noise | PathState::Reported);
            differing.iter().any(|differing| !decided(&differing.path))
        };
        if !again.asks(open, draw(exchange.id, Draw::Again)) {
            return None;
        }
        let Observation::Answered { response, ttfb: _, served: _ } = candidate else { return None };
        let first = Exchange { response: Some(Response::clone(response)), ..Exchange::clone(exchange) };
        let wait = again.wait(lag);
        self.model().expect(route, &differing);
        Some(Again { exchange: Arc::clone(exchange), route: Arc::clone(route), first, differing, lag, wait })
    }

    /// What the candidate answered when it was asked again, `waited` after its first answer.
    pub async fn hear_again(&self, again: &Again, second: &Observation, waited: Duration) {
        let Again { exchange, route, first, differing, lag, wait: _ } = again;
        let Some(same_version) = self.differing(first, route, second).await else { return };
        let third = self.differing(exchange, route, second).await;
        let fair = self.again.as_ref().is_some_and(|config| config.is_fair(*lag, waited));
        let source = EvidenceSource::Again;
        let triple =
            Triple { source, candidate: differing, same_version: &same_version, third: third.as_ref(), fair };
        self.model().evidence(route, &triple);
    }

    /// As [`NoiseModel::take_news`].
    pub fn take_news(&self) -> Vec<PathId> {
        self.model().take_news()
    }

    /// As [`NoiseModel::changes`].
    pub fn changes(&self) -> u64 {
        self.model().changes()
    }

    /// As [`NoiseModel::states`].
    pub fn states(&self) -> Vec<PathState> {
        self.model().states()
    }

    /// As [`NoiseModel::sketches`].
    pub fn sketches(&self, paths: &[PathId]) -> Vec<(PathId, PathSketch)> {
        self.model().sketches(paths)
    }

    /// What is known about one path.
    pub fn state(&self, route: &str, path: &str) -> PathState {
        self.model().state(route, path)
    }

    /// Tells `hear` of each path that is reported now, or may come to be: as [`NoiseModel::evidence_in_force`].
    pub fn evidence_in_force(&self, mut hear: impl FnMut(&str, &str, PathState, f64)) {
        let model = self.model();
        model.evidence_in_force().for_each(|(route, path, state, ln)| hear(route, path, state, ln));
    }

    /// What others may know about noise.
    pub fn share(&self) -> NoiseShare {
        self.model().share()
    }

    /// Where two answers differ.
    async fn differing(
        &self,
        exchange: &Exchange,
        route: &str,
        other: &Observation,
    ) -> Option<DifferingPaths> {
        self.paths(&self.judged(route, exchange, other, Purpose::Evidence).await.0)
    }

    fn paths(&self, outcome: &Outcome) -> Option<DifferingPaths> {
        DifferingPaths::of_outcome(outcome, &self.limits)
    }

    fn model(&self) -> MutexGuard<'_, NoiseModel> {
        lock(&self.model)
    }
}

impl std::fmt::Debug for Science {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Science").field("again", &self.again).finish_non_exhaustive()
    }
}

// === impl Measures ===

impl Measures {
    fn holds(self, exchange: &Exchange) -> bool {
        match self {
            Measures::All => true,
            Measures::Safe => exchange.request.is_safe(),
            Measures::Nothing => false,
        }
    }
}

// === impl Again ===

impl Again {
    /// Bytes of memory that this holds, roughly.
    pub fn memory_bytes(&self) -> usize {
        let Self { exchange, route: _, first, differing: _, lag: _, wait: _ } = self;
        size_of::<Self>().saturating_add(exchange.memory_bytes()).saturating_add(first.memory_bytes())
    }
}

/// A lock that nothing can break: whoever panicked with it left counts behind, not half a thought.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A's answer in the place of a candidate's; its times are not looked at.
fn answered(response: Response) -> Observation {
    let response = Box::new(response);
    Observation::Answered { response, ttfb: Duration::ZERO, served: Duration::ZERO }
}

/// Hides the differences at paths that are noise, as a rule would.
fn hide_noise(outcome: Outcome, differences_max: usize, is_noise: impl Fn(&str) -> bool) -> Outcome {
    let Outcome::Mismatch { differences, mut ignored, omitted } = outcome else { return outcome };
    let (noise, rest): (Vec<_>, Vec<_>) =
        differences.into_iter().partition(|difference| is_noise(&difference.path));
    // What was left out of a full list may be at any path; of a list with room, only at the paths that are in it.
    let all_known = omitted == 0 || noise.len().saturating_add(rest.len()) < differences_max;
    if rest.is_empty() && !all_known {
        return Outcome::Mismatch { differences: noise, ignored, omitted };
    }
    if !noise.is_empty() {
        ignored.push((NOISE_RULE.into(), u32::try_from(noise.len()).unwrap_or(u32::MAX)));
    }
    if rest.is_empty() {
        return Outcome::Ignored(ignored);
    }
    Outcome::Mismatch { differences: rest, ignored, omitted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Difference, DifferenceKind};

    /// Hides `noise` of differences at these paths, of which two are kept at most: what is left, what was hidden.
    #[track_caller]
    fn check(paths: &[&str], omitted: u32, noise: &[&str], expected: (&str, &[&str], u32)) {
        let difference = |path: &&str| Difference {
            path: (*path).to_owned(),
            kind: DifferenceKind::Value,
            place: (*path).to_owned(),
            control: None,
            candidate: None,
        };
        let differences = paths.iter().map(difference).collect();
        let before = Outcome::Mismatch { differences, ignored: Vec::new(), omitted };
        let after = hide_noise(before, 2, |path| noise.contains(&path));
        let (left, ignored): (Vec<&str>, _) = match &after {
            Outcome::Mismatch { differences, ignored, omitted: _ } => {
                (differences.iter().map(|difference| difference.path.as_str()).collect(), ignored)
            }
            Outcome::Ignored(ignored) => (Vec::new(), ignored),
            Outcome::Match | Outcome::Incomparable(_) => panic!("{after:?}"),
        };
        let hidden = ignored.iter().map(|(_, count)| count).sum::<u32>();
        assert_eq!((after.label(), &left[..], hidden), expected);
    }

    #[test]
    fn noise_is_hidden_where_it_is_all_that_differs() {
        check(&["a", "b"], 0, &["a"], ("mismatch", &["b"], 1));
        check(&["a", "b"], 0, &["a", "b"], ("ignored", &[], 2));
        check(&["a"], 3, &["a"], ("ignored", &[], 1));
    }

    #[test]
    fn a_list_that_is_cut_off_is_not_all_noise() {
        check(&["a", "b"], 1, &["a", "b"], ("mismatch", &["a", "b"], 0));
        check(&["a", "b"], 1, &["a"], ("mismatch", &["b"], 1));
    }

    #[test]
    fn a_draw_is_uniform_and_the_same_each_time() {
        let id = |offset| ExchangeId { flow: 7, offset };
        let below = (0..10_000).filter(|offset| draw(id(*offset), Draw::Again) < 0.05).count();
        assert!((400..600).contains(&below), "{below}");
        assert_eq!(draw(id(1), Draw::Again), draw(id(1), Draw::Again));
        assert_ne!(draw(id(1), Draw::Again), draw(id(1), Draw::TwinFirst));
    }
}
