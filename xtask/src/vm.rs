//! `cargo xtask vm`: boots kernels of the distribution and runs the end-to-end tests of the probe in each.
//!
//! Installs no kernel and changes nothing outside `target/vm`: packages are unpacked there, and the machine has no disk and
//! no network.
#![expect(clippy::print_stdout, reason = "the table is for the person at the terminal")]

mod image;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use xshell::{Shell, cmd};

use crate::machine::{self, Accelerator, Ended, Kernel, Machine};
use crate::{probe, root, setup};

/// Which kernels, and how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Beginning of a kernel's version, such as `6.1` or `6.1.0-47`; may be given several times. Default: the newest of each
    /// line that the distribution has
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// Minutes that one machine may take
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

/// What one machine came to.
struct Outcome {
    release: String,
    /// Of each group of tests: how many passed, in the order of [`GROUPS`].
    passed: Vec<usize>,
    seconds: u64,
}

/// Tests that answer one question.
struct Group {
    question: &'static str,
    tests: &'static [&'static str],
}

/// Each test asks the oracle: every sum of the ledger holds, and what was shown is what was sent.
const GROUPS: &[Group] = &[
    Group {
        question: "sockets",
        tests: &[
            "inspect::tells_the_truth_about_every_kind_of_answer",
            "inspect::body_adds_bodies_in_base64",
        ],
    },
    Group { question: "kill", tests: &["faults::a_kill_leaves_no_link_behind"] },
    Group {
        question: "interfaces",
        tests: &[
            "gateway::one_interface_shows_both_directions_over_ipv4",
            "gateway::one_interface_shows_both_directions_over_ipv6",
            "gateway::a_packet_that_passes_two_interfaces_is_copied_once",
            "gateway::a_run_on_a_gateway_replays_what_passes_it",
        ],
    },
    Group {
        question: "VLANs, tunnels",
        tests: &[
            "gateway::a_tag_that_the_device_took_off_is_no_hindrance",
            "gateway::a_vlan_and_the_interface_under_it_copy_once",
            "gateway::a_tag_in_the_packet_is_skipped",
            "gateway::a_tag_in_the_packet_is_skipped_over_ipv6",
            "gateway::a_packet_that_leaves_where_it_came_in_is_copied_once",
            "gateway::a_tunnel_shows_what_passes_it",
            "gateway::a_tunnel_and_a_cable_copy_once",
        ],
    },
    Group { question: "kill, interfaces", tests: &["gateway::a_kill_leaves_nothing_that_does_anything"] },
];

/// The page that holds the table, and what stands around it there.
const PAGE: &str = "docs/kernels.md";
const TABLE_BEGIN: &str = "<!-- written by `cargo xtask vm` -->\n";
const TABLE_END: &str = "<!-- end -->\n";

/// Boots each kernel, prints the table and writes it into the docs.
///
/// # Errors
/// When something is missing, a machine does not come to its end, or a test fails in one.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let sh = Shell::new()?;
    setup::machines(&sh)?;
    let kernels = Kernel::choose(&sh, &options.kernels)?;
    probe::run()?;
    let programs = Programs::build(&sh)?;
    let accelerator = Accelerator::choose(&sh, kernels.first().context("no kernel was chosen")?)?;

    let limit = Duration::from_secs(options.minutes * 60);
    let mut outcomes = Vec::new();
    let mut failed = String::new();
    for kernel in &kernels {
        eprintln!("vm: booting {} ({accelerator})", kernel.release);
        let initramfs = image::build(&sh, kernel, &programs)?;
        let Ended { console, taken } = Machine::in_memory(kernel, &initramfs, accelerator).run(limit)?;
        let log = machine::folder().join(format!("{}.log", kernel.release));
        fs::write(&log, &console).with_context(|| format!("failed to write {}", log.display()))?;
        let outcome = Outcome::read(kernel, &console, taken.as_secs());
        if !outcome.is_whole() {
            writeln!(failed, "{}: {}, see {}", kernel.release, missing(&console).join(", "), log.display())?;
        }
        outcomes.push(outcome);
    }
    let table = table(&outcomes);
    println!("{table}");
    ensure!(failed.is_empty(), "tests failed in a machine:\n{failed}");
    if options.kernels.is_empty() {
        write_page(&table)?;
    }
    Ok(())
}

/// The programs that run in the machine.
struct Programs {
    daemon: PathBuf,
    app: PathBuf,
    tests: PathBuf,
}

// === impl Programs ===

impl Programs {
    fn build(sh: &Shell) -> anyhow::Result<Self> {
        let _in_root = sh.push_dir(root());
        cmd!(sh, "cargo build --package understudy --package understudy-tests").quiet().run()?;
        let messages = cmd!(
            sh,
            "cargo test --package understudy-tests --test e2e --no-run --message-format=json-render-diagnostics"
        )
        .quiet()
        .read()?;
        let tests = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == "e2e")
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .context("cargo did not say where the end-to-end tests are")?;
        let programs = tests.parent().and_then(Path::parent).context("the tests have no folder")?;
        Ok(Self { daemon: programs.join("understudy"), app: programs.join("understudy-lab-app"), tests })
    }
}

// === impl Outcome ===

impl Outcome {
    fn read(kernel: &Kernel, console: &str, seconds: u64) -> Self {
        let passed = GROUPS
            .iter()
            .map(|group| group.tests.iter().filter(|test| has_passed(console, test)).count())
            .collect();
        Self { release: kernel.release.clone(), passed, seconds }
    }

    fn is_whole(&self) -> bool {
        GROUPS.iter().zip(&self.passed).all(|(group, passed)| *passed == group.tests.len())
    }
}

/// Whether the harness in the machine said that this test passed.
fn has_passed(console: &str, test: &str) -> bool {
    console.lines().any(|line| {
        let mut words = line.split_whitespace();
        line.trim_start().starts_with("test ")
            && words.nth(1) == Some(test)
            && words.next_back() == Some("ok")
    })
}

/// Tests that did not pass.
fn missing(console: &str) -> Vec<&'static str> {
    let tests = GROUPS.iter().flat_map(|group| group.tests);
    tests.filter(|test| !has_passed(console, test)).copied().collect()
}

/// A line for each kernel, in Markdown.
fn table(outcomes: &[Outcome]) -> String {
    let questions: Vec<&str> = GROUPS.iter().map(|group| group.question).collect();
    let mut text = format!("| kernel | {} | seconds, emulated |\n", questions.join(" | "));
    text.push_str(&format!("|---|{}--:|\n", "---|".repeat(GROUPS.len())));
    for Outcome { release, passed, seconds } in outcomes {
        let cells: Vec<String> = GROUPS
            .iter()
            .zip(passed)
            .map(|(group, passed)| format!("{passed} of {}", group.tests.len()))
            .collect();
        text.push_str(&format!("| {release} | {} | {seconds} |\n", cells.join(" | ")));
    }
    text
}

/// Puts the table into the page, in the place of the one that is there.
fn write_page(table: &str) -> anyhow::Result<()> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("failed to read {PAGE}"))?;
    let place = page
        .split_once(TABLE_BEGIN)
        .and_then(|(before, rest)| rest.split_once(TABLE_END).map(|(_, after)| (before, after)));
    let (before, after) = place.with_context(|| format!("{PAGE} has no place for the table"))?;
    let page = format!("{before}{TABLE_BEGIN}{table}{TABLE_END}{after}");
    fs::write(&path, page).with_context(|| format!("failed to write {PAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_has_passed_only_when_its_own_line_says_so() {
        let console =
            "running 1 test\r\ntest gateway::a ... ok\r\ntest gateway::ab ... FAILED\r\nit is ok\r\n";
        for (test, expected) in [("gateway::a", true), ("gateway::ab", false), ("gateway::b", false)] {
            assert_eq!(has_passed(console, test), expected, "{test}");
        }
    }

    #[test]
    fn a_kernel_without_results_is_not_whole() {
        let kernel = Kernel { package: "linux-image-1".to_owned(), release: "1".to_owned() };
        let outcome = Outcome::read(&kernel, "Kernel panic", 3);
        assert!(!outcome.is_whole());
        assert!(table(&[outcome]).contains("| 1 | 0 of 2 | 0 of 1 |"));
    }
}
