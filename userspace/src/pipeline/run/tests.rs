//! Tests of how a run ends, with a source that is silent.
//!
//! They send nothing to anybody.

use std::time::Duration;

use super::super::reload::{Load, Reloads};
use super::*;
use crate::branch::Returned;
use crate::capture::{CaptureError, FlowSample, Polled, Source, SourceCounts};
use crate::config::{Flags, parse};
use crate::metrics::ReloadResult;
use crate::model::{ExchangeId, FlowKey, Packet};

/// A source that never has a packet and never ends.
struct Silence;

impl Source for Silence {
    fn poll(&mut self, wait: Duration, _: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        std::thread::park_timeout(wait);
        Ok(Polled::Open { packets: 0 })
    }

    fn forget_flow(&mut self, _: &FlowKey) -> Result<(), CaptureError> {
        Ok(())
    }

    fn keep_flows(&mut self, _: FlowSample) -> Result<(), CaptureError> {
        Ok(())
    }

    fn close(&mut self) {}

    fn counts(&mut self) -> Result<SourceCounts, CaptureError> {
        Ok(SourceCounts::default())
    }
}

/// The text of a configuration with one experiment, which ends with these lines.
fn text(folder: &tempfile::TempDir, experiment: &str) -> String {
    format!(
        "capture.ports = [8080]\nadmin.listen = \"off\"\njournal.path = {:?}\n\
         [[experiment]]\nname = \"x\"\ncandidate.url = \"http://127.0.0.1:9\"\n{experiment}\n",
        folder.path().join("journal.db")
    )
}

async fn prepare(folder: &tempfile::TempDir) -> Run {
    let text = text(folder, "");
    let config = parse(&text, None, Flags::default()).expect("the configuration is good");
    Run::prepare(config).await.expect("the run can be set up")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let end = prepare(&folder).await.run(Silence, std::future::ready(())).await.expect("nothing broke");
    assert!(end.looped.is_empty());
    assert!(end.ledgers.iter().all(|(_, ledger)| ledger.balances() && ledger.in_flight == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_an_experiment_left_ends_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = prepare(&folder).await;
    for replayer in &run.replays.replayers {
        let id = ExchangeId { flow: 1, offset: 0 };
        replayer.loop_guard.note_sent(id);
        replayer.loop_guard.note_taken(1);
        assert_eq!(replayer.loop_guard.saw(id, 1), Returned::Looped);
    }
    let end = run.run(Silence, std::future::pending()).await.expect("nothing broke");
    assert_eq!(end.looped, [std::sync::Arc::<str>::from("x")]);
}

/// Runs with one configuration, reads each of the others, and says what came of each, with what holds after it.
async fn check_reloads(others: &[(&str, ReloadResult, &[&str])]) {
    let folder = tempfile::tempdir().expect("a folder");
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let texts: Vec<String> = others.iter().map(|(other, _, _)| text(&folder, other)).collect();
    let mut next = texts.into_iter();
    let load: Load = Box::new(move || {
        let text = next.next().unwrap_or_default();
        Ok(parse(&text, None, Flags::default())?)
    });
    let mut run = prepare(&folder).await;
    run.reload(Reloads::at_message(asked, load));
    let (science, metrics) = (Arc::clone(&run.replays.changeable[0].science), run.replays.metrics.clone());
    let steps = async {
        let mut counts = [0; 3];
        for (other, result, rules) in others {
            ask.send(()).await.expect("the run goes on");
            counts[*result as usize] += 1;
            while metrics.reloads() != counts {
                assert!(metrics.reloads().iter().sum::<u64>() <= counts.iter().sum(), "{other}");
                tokio::task::yield_now().await;
            }
            let judging = science.judge().judging();
            let have: Vec<String> =
                judging.comparator().expect("rules compare").rules().map(ToString::to_string).collect();
            assert_eq!(have, *rules, "after {other}");
        }
    };
    let end = run.run(Silence, steps).await.expect("nothing broke");
    assert!(end.ledgers.iter().all(|(_, ledger)| ledger.balances() && ledger.in_flight == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_taken_whole_or_refused_whole() {
    use ReloadResult::{Failed, Ok, RestartNeeded};
    check_reloads(&[
        ("compare.ignore = [\"json:$.a\"]\nroutes = [\"/x\"]", Ok, &["json:$.a"]),
        ("compare.ignore = [\"json:$.b\"]\nroutes = [\"no\"]", Failed, &["json:$.a"]),
        ("compare.ignore = [\"nonsense\"]", Failed, &["json:$.a"]),
        ("compare.ignore = [\"json:$.b\"]\nreplay.lag = \"1s\"", RestartNeeded, &["json:$.a"]),
        (
            "compare.ignore = [\"json:$.b\"]\n[[experiment]]\nname = \"y\"\ncandidate.url = \"http://b\"",
            RestartNeeded,
            &["json:$.a"],
        ),
        ("compare.ignore = [\"json:$.b\"]\nverdict.comparisons_min = 3", RestartNeeded, &["json:$.a"]),
        ("compare.unordered = [\"json:$.b\"]", Ok, &["unordered json:$.b"]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_reads_the_configuration_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let changed = text(&folder, "compare.ignore = [\"json:$.a\"]");
    let mut run = prepare(&folder).await;
    let load: Load = Box::new(move || Ok(parse(&changed, None, Flags::default())?));
    run.reload(Reloads::at_hangup(load).expect("signals can be received"));
    let metrics = run.replays.metrics.clone();
    let hang_up = async {
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::HUP).expect("a signal to ourselves");
        while metrics.reloads() == [0; 3] {
            tokio::task::yield_now().await;
        }
    };
    run.run(Silence, hang_up).await.expect("nothing broke");
    assert_eq!(metrics.reloads(), [1, 0, 0]);
}
