//! Tests of how a run ends, with a source that is silent.
//!
//! They send nothing to anybody.

use std::time::Duration;

use super::*;
use crate::capture::{CaptureError, FlowSample, Polled, Source, SourceCounts};
use crate::config::{Flags, parse};
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

async fn prepare(folder: &tempfile::TempDir) -> Run {
    let text = format!(
        "capture.ports = [8080]\nadmin.listen = \"off\"\njournal.path = {:?}\n\
         [[experiment]]\nname = \"x\"\ncandidate.url = \"http://127.0.0.1:9\"\n",
        folder.path().join("journal.db")
    );
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
    for replayer in &run.replayers {
        let id = ExchangeId { flow: 1, offset: 0 };
        replayer.loop_guard.note_sent(id);
        assert!(replayer.loop_guard.saw(id));
    }
    let end = run.run(Silence, std::future::pending()).await.expect("nothing broke");
    assert_eq!(end.looped, ["x".into()]);
}
