//! `cargo xtask test`: every check and every test, and one closing line that adds them up.
//!
//! Never counts a skipped test as passed; with `UNDERSTUDY_REQUIRE_BPF=1` a skip is a failure.
#![expect(clippy::print_stdout, reason = "test output is what this prints")]

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum as _;
use understudy_tests::prereq::required;

use crate::{dist, fuzz, probe, root, setup, soak, tidy};

/// What came out of the parts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Skipped by their own word, not yet taken off the passed ones that their program counts them among.
    said_skipped: u64,
    /// Of the skipped ones, those that need captures which are not there.
    without_captures: u64,
}

/// The folder of captures, which are not part of the repository.
const CAPTURES: &str = "UNDERSTUDY_CAPTURES";
/// The package that only builds for the kernel.
const NO_PROBE: [&str; 3] = ["--workspace", "--exclude", "understudy-probe"];
const NO_WARNINGS: [&str; 4] = ["--all-targets", "--", "--deny", "warnings"];
/// What a test prints when it ends before it has tested anything (`userspace/tests/kernel.rs`).
const SKIP_MARK: &str = "skipped: ";
/// How long each fuzz target runs. `cargo xtask fuzz` is for longer.
const FUZZ_TIME: Duration = Duration::from_secs(30);
/// The short soak. `cargo xtask soak` is for longer.
const SOAK: soak::Options = soak::Options { minutes: 2.0, seed: 1, rate: 100 };

/// Runs everything and prints the closing line.
///
/// # Errors
/// When something failed, or was skipped and must not be.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut tally = Tally::default();
    let result = parts(&mut tally);
    if result.is_err() {
        tally.failed += 1;
    }
    println!("{tally}");
    result?;
    ensure!(tally.failed == 0, "{} failed", tally.failed);
    // Captures cannot be had by installing something, unlike what the other tests need.
    let avoidable = tally.skipped - tally.without_captures;
    ensure!(avoidable == 0 || !required(), "{avoidable} skipped, with UNDERSTUDY_REQUIRE_BPF=1");
    Ok(())
}

fn parts(tally: &mut Tally) -> anyhow::Result<()> {
    setup::run()?;
    probe::run()?;
    step(&[&["build"][..], &NO_PROBE].concat())?;

    tally.check("fmt", step(&["fmt", "--all", "--check"]));
    tally.check("clippy", step(&[&["clippy"][..], &NO_PROBE, &NO_WARNINGS].concat()));
    tally.check("tidy", tidy::run());

    let keep_on = ["--no-fail-fast"];
    let unit = [&["test"][..], &NO_PROBE, &keep_on, &["--lib", "--bins"]].concat();
    tally.add(tests("unit and property tests", &unit)?);
    tally.add(tests("doc tests", &[&["test"][..], &NO_PROBE, &keep_on, &["--doc"]].concat())?);
    // Without capture, because what such a test says when it skips must be seen.
    let kernel = ["test", "--package", "understudy", "--no-fail-fast", "--test", "*", "--", "--nocapture"];
    tally.add(tests("kernel tests", &kernel)?);
    let end_to_end = ["test", "--package", "understudy-tests", "--no-fail-fast", "--test", "e2e"];
    tally.add(tests("end-to-end tests", &end_to_end)?);
    let cases = ["test", "--package", "understudy-tests", "--no-fail-fast", "--test", "cases"];
    tally.add(tests("cases", &cases)?);
    let queue = ["test", "--package", "understudy-tests", "--no-fail-fast", "--test", "queue"];
    tally.add(tests("the queue between hosts", &queue)?);
    let alerts = ["test", "--package", "understudy-tests", "--no-fail-fast", "--test", "alerts"];
    tally.add(tests("alerts and dashboard", &alerts)?);
    let corpus = ["test", "--package", "understudy-tests", "--no-fail-fast", "--test", "corpus"];
    let corpus = tests("captures of real traffic", &corpus)?;
    if std::env::var_os(CAPTURES).is_none() {
        tally.without_captures = corpus.skipped;
    }
    tally.add(corpus);

    match soak::missing() {
        Some(reason) => {
            eprintln!("test: soak skipped: {reason}");
            tally.skipped += 1;
        }
        None => tally.check("soak", soak::soak(&SOAK)),
    }

    match dist::missing() {
        Some(reason) => {
            eprintln!("test: package skipped: {reason}");
            tally.skipped += 1;
        }
        None => tally.check("package", dist::run(&dist::FOR_TESTS)),
    }

    fuzz::build()?;
    for target in fuzz::Target::value_variants() {
        tally.check(&format!("fuzz target {}", target.name()), fuzz::once(*target, FUZZ_TIME));
    }
    Ok(())
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

fn step(arguments: &[&str]) -> anyhow::Result<()> {
    eprintln!("test: cargo {}", arguments.join(" "));
    let status = cargo(arguments).status().context("failed to run cargo")?;
    ensure!(status.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}

/// Runs tests, passes their output on, and counts them.
fn tests(what: &str, arguments: &[&str]) -> anyhow::Result<Tally> {
    eprintln!("test: {what}: cargo {}", arguments.join(" "));
    let mut child = cargo(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run the {what}"))?;
    let mut tally = Tally::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        tally.read(&line);
    }
    let status = child.wait()?;
    // It may fail before it prints a count: a test that does not build, or a process that was killed.
    if !status.success() && tally.failed == 0 {
        bail!("the {what} failed without a count");
    }
    Ok(tally)
}

// === impl Tally ===

impl Tally {
    fn check(&mut self, what: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                eprintln!("test: {what} failed: {error:#}");
            }
        }
    }

    fn add(&mut self, Tally { passed, failed, skipped, said_skipped: _, without_captures: _ }: Tally) {
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }

    /// Takes a line of a test program's output: `test result: ok. 3 passed; 0 failed; 1 ignored; …`, or that a
    /// test skipped, which its program counts among the passed.
    fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            for count in counts.split([';', '.']) {
                let mut words = count.split_whitespace();
                let Some(Ok(number)) = words.next().map(str::parse::<u64>) else { continue };
                match words.next() {
                    Some("passed") => self.passed += number.saturating_sub(self.said_skipped),
                    Some("failed") => self.failed += number,
                    Some("ignored") => self.skipped += number,
                    Some(_) | None => {}
                }
            }
            self.skipped += std::mem::take(&mut self.said_skipped);
        } else if line.contains(SKIP_MARK) {
            self.said_skipped += 1;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, said_skipped: _, without_captures } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")?;
        if *without_captures > 0 {
            write!(f, " (no capture of real traffic was read: {CAPTURES} is not set)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, expected: &str) {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        assert_eq!(tally.to_string(), expected, "{output}");
    }

    #[test]
    fn counts_are_read_from_every_program() {
        check(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.02s\n\
             other line\n\
             test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.02s",
            "13 passed, 2 failed, 1 skipped",
        );
        check("no tests here", "0 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn captures_that_are_not_there_are_named() {
        let tally = Tally { passed: 3, skipped: 1, without_captures: 1, ..Tally::default() };
        let closing = "3 passed, 0 failed, 1 skipped (no capture of real traffic was read: UNDERSTUDY_CAPTURES is not set)";
        assert_eq!(tally.to_string(), closing);
    }

    #[test]
    fn a_test_that_says_it_skipped_is_not_passed() {
        check(
            "test a ... skipped: a needs root\nok\ntest b ... ok\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "1 passed, 0 failed, 1 skipped",
        );
    }
}
