//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, for a while each.
//!
//! Holds nothing of what must hold: that is `userspace/fuzz/src/lib.rs`. Needs no nightly compiler, because the core is
//! safe Rust: coverage comes from LLVM's own pass, and no sanitizer of memory is wanted.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to the terminal")]

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};

use crate::root;

/// What `cargo xtask fuzz` is asked for.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Only this target
    #[arg(long)]
    target: Option<Target>,
    /// Afterwards keep the smallest set of inputs that reaches the same edges, in userspace/fuzz/corpus
    #[arg(long)]
    keep: bool,
}

/// One border of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Bytes of packets
    Packet,
    /// Bytes of a capture file
    File,
    /// A stream of segments
    Segments,
    /// Bytes of both directions, whole and in pieces
    Bytes,
    /// Segments out of order and repeated
    Disorder,
    /// Two bodies of any kind
    Bodies,
    /// The value of a queue entry
    Entries,
    /// A request and a response with secrets
    Redact,
}

/// What a run did, as libFuzzer says at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reached {
    executions: u64,
    seconds: u64,
    /// Edges of the control flow that were taken.
    edges: u64,
    /// Inputs that each reach something the others do not.
    inputs: u64,
}

/// What a compiler must add to each edge and comparison for libFuzzer to see them (LLVM's SanitizerCoverage).
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// One input that takes longer than this has found an endless loop.
const INPUT_SECONDS_MAX: u32 = 60;
/// A target that needs more memory than this keeps what it should not.
const MEMORY_MB_MAX: u32 = 1_024;
/// Lines of a failed run that are shown.
const TAIL_LINES: usize = 40;

/// Runs what was asked for.
///
/// # Errors
/// When a target fails, with the input and how to run it again.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let Options { minutes, target, keep } = options;
    let targets = target.map_or(Target::value_variants().to_vec(), |target| vec![target]);
    build()?;
    let mut failed = 0;
    for target in targets {
        match once(target, Duration::from_secs(minutes.saturating_mul(60))) {
            Ok(()) if *keep => keep_inputs(target)?,
            Ok(()) => {}
            Err(error) => {
                failed += 1;
                eprintln!("fuzz: {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} fuzz targets failed");
    Ok(())
}

/// Builds all targets.
///
/// # Errors
/// When they do not build.
pub(crate) fn build() -> anyhow::Result<()> {
    eprintln!("fuzz: building the targets into target/fuzz (minutes the first time)");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .args(["build", "--quiet", "--release", "--manifest-path", "userspace/fuzz/Cargo.toml"])
        // With a target named, build scripts are built without these flags.
        .args(["--target", &host()?, "--target-dir", "target/fuzz"])
        // Not `RUSTFLAGS`: these hold for whatever the user's own settings are.
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"))
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("failed to run cargo")?;
    ensure!(status.success(), "the fuzz targets do not build; libFuzzer needs a C++ compiler (package g++)");
    Ok(())
}

/// Runs one target, which [`build`] has built, and prints what it reached.
///
/// # Errors
/// When something did not hold; says with which input.
pub(crate) fn once(target: Target, time: Duration) -> anyhow::Result<()> {
    let found = folder("corpus", target)?;
    let failures = folder("artifacts", target)?;
    let binary = binary(target)?;
    let mut command = Command::new(&binary);
    command.arg(&found);
    let kept = kept(target);
    if kept.exists() {
        command.arg(&kept);
    }
    command.arg(format!("-artifact_prefix={}/", failures.display()));
    command.arg(format!("-max_total_time={}", time.as_secs().max(1)));
    command.arg(format!("-max_len={}", target.input_bytes_max()));
    command.arg(format!("-timeout={INPUT_SECONDS_MAX}")).arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"));
    command.args(["-print_final_stats=1", "-len_control=0"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", binary.display()))?;
    let mut reached = Reached::default();
    let mut tail = VecDeque::new();
    let mut input = None;
    for line in BufReader::new(child.stderr.take().context("no output")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        reached.read(&line);
        if let Some((_, file)) = line.split_once("Test unit written to ") {
            input = Some(PathBuf::from(file));
        }
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    if child.wait()?.success() {
        println!("fuzz: {}: {reached}", target.name());
        return Ok(());
    }
    tail.iter().for_each(|line| eprintln!("{line}"));
    match input {
        Some(input) => bail!(
            "{} does not hold for {}; again with: {} {}",
            target.name(),
            input.display(),
            binary.display(),
            input.display()
        ),
        None => bail!("{} ended without success and left no input behind", target.name()),
    }
}

/// Writes the fewest inputs that reach every edge that is reached so far into the checked-in corpus.
fn keep_inputs(target: Target) -> anyhow::Result<()> {
    let fresh = folder("merged", target)?;
    std::fs::remove_dir_all(&fresh).and_then(|()| std::fs::create_dir(&fresh))?;
    let status = Command::new(binary(target)?)
        // How often an edge is taken is worth an input while searching, not in the repository.
        .args(["-merge=1", "-use_counters=0", "-use_cmp=0"])
        .arg(format!("-max_len={}", target.input_bytes_max()))
        .args([&fresh, &folder("corpus", target)?])
        .args(Some(kept(target)).filter(|kept| kept.exists()))
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "failed to choose inputs of {}", target.name());
    let kept = kept(target);
    if kept.exists() {
        std::fs::remove_dir_all(&kept).with_context(|| format!("failed to clear {}", kept.display()))?;
    }
    std::fs::create_dir_all(&kept)?;
    let mut inputs = 0;
    for input in std::fs::read_dir(&fresh)? {
        let input = input?;
        std::fs::copy(input.path(), kept.join(input.file_name()))?;
        inputs += 1;
    }
    println!("fuzz: {}: {inputs} inputs in {}", target.name(), kept.display());
    Ok(())
}

/// The checked-in inputs.
fn kept(target: Target) -> PathBuf {
    root().join("userspace/fuzz/corpus").join(target.name())
}

/// A folder of this target under `target/fuzz`, made when it is not there.
fn folder(purpose: &str, target: Target) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/fuzz").join(purpose).join(target.name());
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    Ok(folder)
}

fn binary(target: Target) -> anyhow::Result<PathBuf> {
    Ok(Path::new(root()).join("target/fuzz").join(host()?).join("release").join(target.name()))
}

/// The target triple that the compiler builds for by itself.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("failed to run rustc")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

// === impl Target ===

impl Target {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::File => "file",
            Self::Segments => "segments",
            Self::Bytes => "bytes",
            Self::Disorder => "disorder",
            Self::Bodies => "bodies",
            Self::Entries => "entries",
            Self::Redact => "redact",
        }
    }

    /// Longer inputs reach nothing more and take longer.
    fn input_bytes_max(self) -> u32 {
        match self {
            Self::Packet => 200,
            Self::Segments | Self::File | Self::Bodies | Self::Redact => 400,
            Self::Bytes | Self::Disorder => 250,
            Self::Entries => 1_000,
        }
    }
}

// === impl Reached ===

impl Reached {
    /// Takes a line of libFuzzer's: `#8 NEW cov: 3 ft: 5 corp: 2/9b …`, or `stat::number_of_executed_units: 7`.
    fn read(&mut self, line: &str) {
        let Self { executions, seconds, edges, inputs } = self;
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let slot = match word {
                "cov:" => &mut *edges,
                "corp:" => &mut *inputs,
                "stat::number_of_executed_units:" => &mut *executions,
                // `Done 1234 runs in 30 second(s)`
                "in" if line.starts_with("Done ") => &mut *seconds,
                _ => continue,
            };
            let number = words.next().and_then(|word| word.split('/').next()?.parse().ok());
            *slot = number.unwrap_or(*slot);
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { executions, seconds, edges, inputs } = self;
        write!(f, "{executions} executions in {seconds} s, {edges} edges, {inputs} inputs, nothing found")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, expected: Reached) {
        let mut reached = Reached::default();
        output.lines().for_each(|line| reached.read(line));
        assert_eq!(reached, expected, "{output}");
    }

    #[test]
    fn reads_what_libfuzzer_writes() {
        check(
            "#2\tINITED cov: 17 ft: 17 corp: 1/1b exec/s: 0 rss: 27Mb\n\
             #36262916\tREDUCE cov: 171 ft: 275 corp: 205/14942b lim: 200 exec/s: 1394727 rss: 27Mb L: 60/134\n\
             Done 43380220 runs in 31 second(s)\n\
             stat::number_of_executed_units: 43380220\n\
             stat::average_exec_per_sec:     1399361",
            Reached { executions: 43_380_220, seconds: 31, edges: 171, inputs: 205 },
        );
        check("WARNING: no interesting inputs", Reached::default());
    }
}
