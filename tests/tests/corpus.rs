//! Captures of real traffic, read by the real binary, against what independent readers found in them.
//!
//! Holds no capture: `UNDERSTUDY_CAPTURES` names the folder. Without it there is nothing to test, which is said and
//! counted as skipped. Whatever is expected differently from the readers stands in `tests/corpus`, with its reason.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test program says on the terminal what it found"
)]

#[path = "corpus/compare.rs"]
mod compare;
#[path = "corpus/expected.rs"]
mod expected;
#[path = "corpus/inspect.rs"]
mod inspect;
#[path = "corpus/score.rs"]
mod score;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use libtest_mimic::{Arguments, Trial};

use compare::differences;
use expected::{Capture, Corpus};
use inspect::{Asked, inspect};
use score::Score;

/// The variable that names the folder of captures.
const FOLDER: &str = "UNDERSTUDY_CAPTURES";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let score = Arc::new(Mutex::new(Score::default()));
    let trials = match std::env::var_os(FOLDER) {
        Some(folder) => match Corpus::read(Path::new(&folder), Path::new(env!("CARGO_MANIFEST_DIR"))) {
            Ok(corpus) => trials(&corpus, &score),
            Err(error) => {
                let message = format!("{error:#}");
                vec![Trial::test("the_corpus_can_be_read", move || Err(message.into()))]
            }
        },
        None => {
            eprintln!("skipped every capture: {FOLDER} is not set");
            vec![Trial::test("every_capture_is_read_right", || Ok(())).with_ignored_flag(true)]
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    print!("{}", score.lock().unwrap_or_else(PoisonError::into_inner));
    conclusion.exit_code()
}

fn trials(corpus: &Corpus, score: &Arc<Mutex<Score>>) -> Vec<Trial> {
    corpus
        .captures
        .iter()
        .map(|capture| {
            let (capture, folder, score) = (capture.clone(), corpus.folder.clone(), Arc::clone(score));
            Trial::test(capture.file.clone(), move || {
                check(&capture, &folder, &score).map_err(|error| format!("{error:#}").into())
            })
        })
        .collect()
}

/// Reads a capture without being told a port, and then with the ports of its servers: both must give what is expected.
fn check(capture: &Capture, folder: &Path, score: &Mutex<Score>) -> anyhow::Result<()> {
    let path: PathBuf = folder.join(&capture.file);
    let without = differences(capture, &inspect(&path, Asked::AnyPort)?);
    score.lock().unwrap_or_else(PoisonError::into_inner).add(capture, without.missed);
    let with = differences(capture, &inspect(&path, Asked::Ports(&capture.ports()))?);
    if let Some(reason) = &capture.unsupported {
        ensure!(
            !(without.problems.is_empty() && with.problems.is_empty()),
            "it is read right, but listed as unsupported ({reason}): take it off the list"
        );
        return Ok(());
    }
    for (how, found) in [("any port", without), ("ports given", with)] {
        ensure!(found.problems.is_empty(), "{how}:\n{}", found.problems.join("\n"));
    }
    Ok(())
}

impl Capture {
    /// The ports of all servers in it.
    fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.lines.iter().map(|line| line.server.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        // A capture without an exchange is asked for the port that would have one.
        if ports.is_empty() { vec![80] } else { ports }
    }
}

/// Reads a file that must be there.
fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}
