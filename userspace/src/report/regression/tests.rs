//! Evidence that grows while B misbehaves, and goes when it is healed.
//!
//! Times are made up; no clock is read.

use super::*;
use crate::model::samples::compared;

const ROUTE: &str = "/search";

struct Watched {
    watch: RegressionWatch,
    at: Timestamp,
    state: PathState,
}

impl Watched {
    /// Nothing measures noise.
    fn new() -> Self {
        let routes = [ROUTE.into()];
        let watch = RegressionWatch::new(
            "lab".into(),
            &VerdictPolicy::default(),
            routes,
            RegressionConfig::default(),
        );
        Self { watch, at: Timestamp(0), state: PathState::Unmeasured }
    }

    /// Takes so many comparisons in, one a second, each with these differences; B takes so much longer.
    fn compare(&mut self, times: usize, paths: &[&str], extra: Duration) -> &mut Self {
        let control = Duration::from_millis(20);
        for _ in 0..times {
            self.at = self.at.after(Duration::from_secs(1));
            self.watch.observe(&compared("lab", ROUTE, self.at, [control, control + extra], paths));
        }
        self
    }

    fn detected(&mut self) -> Vec<RegressionKind> {
        let state = self.state;
        let all = self.watch.look(&|_| state, &EvidenceInForce::default());
        assert_eq!(all.len(), RegressionKind::ALL.len());
        let enough = 1.0 / RegressionConfig::default().error_max;
        assert!(all.iter().all(|one| one.detected == (one.evalue >= enough)), "{all:?}");
        all.into_iter().filter(|one| one.detected).map(|one| one.kind).collect()
    }

    #[track_caller]
    fn check(&mut self, expected: &[RegressionKind]) -> &mut Self {
        assert_eq!(self.detected(), expected);
        self
    }
}

const NO_TIME: Duration = Duration::ZERO;

#[test]
fn nothing_is_detected_while_nothing_differs() {
    Watched::new().check(&[]).compare(2_000, &[], NO_TIME).check(&[]);
}

#[test]
fn what_nothing_measures_counts_by_its_share() {
    let mut watched = Watched::new();
    watched.compare(1, &["status", "json:$.a"], NO_TIME).check(&[]);
    watched.compare(5, &["status", "json:$.a"], NO_TIME);
    watched.check(&[RegressionKind::Status, RegressionKind::Body]);
    // As few as are allowed are no regression.
    let mut watched = Watched::new();
    for _ in 0..20 {
        watched.compare(199, &[], NO_TIME).compare(1, &["header:etag"], NO_TIME);
    }
    watched.check(&[]);
}

#[test]
fn what_the_noise_model_judges_does_not_count_by_its_share() {
    for state in [PathState::Noise, PathState::Undecided, PathState::Withheld, PathState::Ceased] {
        let mut watched = Watched { state, ..Watched::new() };
        watched.compare(300, &["json:$.id"], NO_TIME).check(&[]);
    }
}

#[test]
fn a_reported_path_is_a_regression_of_its_kind() {
    let mut watched = Watched::new();
    let mut in_force = EvidenceInForce::default();
    in_force.hear(ROUTE, "header:etag", PathState::Reported, 5.0);
    in_force.hear(ROUTE, "header:age", PathState::Undecided, 1.0);
    in_force.hear(ROUTE, "json:$.a", PathState::Undecided, 2.0);
    let all = watched.watch.look(&|_| PathState::Unmeasured, &in_force);
    let seen: Vec<_> = all.iter().map(|one| (one.kind, one.detected, one.evalue.round())).collect();
    assert_eq!(
        seen,
        [
            (RegressionKind::Status, false, 0.0),
            (RegressionKind::Header, true, 148.0),
            (RegressionKind::Body, false, 7.0),
            (RegressionKind::Latency, false, 0.0),
        ]
    );
}

#[test]
fn a_slow_candidate_is_detected_and_one_that_was_healed_is_not() {
    let slow = Duration::from_millis(40);
    let mut watched = Watched::new();
    watched.compare(300, &[], slow).check(&[RegressionKind::Latency]);
    watched.compare(1_100, &[], NO_TIME).check(&[]);
}

#[test]
fn a_wrong_candidate_that_was_healed_is_forgotten_after_two_generations() {
    let mut watched = Watched::new();
    watched.compare(600, &["status"], NO_TIME).check(&[RegressionKind::Status]);
    watched.compare(1_100, &[], NO_TIME).check(&[]);
}

#[test]
fn paths_are_bounded() {
    let mut watched = Watched::new();
    let paths: Vec<String> = (0..1_000).map(|at| format!("json:$.a{at}")).collect();
    for path in &paths {
        watched.compare(1, &[path], NO_TIME);
    }
    let kept = watched.watch.routes.values().map(|route| route.current.differing.len()).max();
    assert!(kept <= Some(RegressionConfig::default().paths_max), "{kept:?}");
}

proptest::proptest! {
    /// B is never called slower by chance alone: A and B swap their times at random.
    #[test]
    fn equal_times_in_any_order_are_no_regression(swaps in proptest::collection::vec(proptest::prelude::any::<bool>(), 50..400)) {
        let mut watched = Watched::new();
        for (index, swap) in swaps.iter().enumerate() {
            let extra = Duration::from_millis(if *swap { 0 } else { (index % 7) as u64 });
            watched.compare(1, &[], extra);
        }
        proptest::prop_assert!(watched.detected().is_empty());
    }
}
