//! `cargo xtask dist`: a Debian package and an archive of the release build, into `target/dist`.
//!
//! Signs and uploads nothing, and writes nothing outside `target`.

mod binary;
mod boot;
mod check;
mod debian;
mod files;
mod licenses;
mod units;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use xshell::{Shell, cmd};

use crate::{probe, root};
use binary::Binary;
use debian::Package;
use files::Files;

/// What to make of it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Cargo's profile: `release`, or `dev` for a package that is built in no time and is not to be given to anybody
    #[arg(long, default_value = "release")]
    profile: String,
    /// Install, upgrade, remove and purge the package in a Debian 12 of its own, and start its units under systemd there
    #[arg(long)]
    check: bool,
}

/// What came out, and what it was made of.
#[derive(Debug)]
struct Made {
    files: Files,
    depends: String,
    architecture: &'static str,
    deb: PathBuf,
}

/// The package as the tests want it.
pub(crate) const FOR_TESTS: Options = Options { profile: String::new(), check: true };

/// The version of everything in this repository.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds the artefacts, and checks them where that is asked for.
///
/// # Errors
/// When something of it cannot be built, or does not hold.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let made = make(options)?;
    if options.check { check::run(&made) } else { Ok(()) }
}

/// True where the checks can be made at all, and what is missing otherwise.
pub(crate) fn missing() -> Option<String> {
    check::missing()
}

fn make(options: &Options) -> anyhow::Result<Made> {
    let Options { profile, check: _ } = options;
    let profile = if profile.is_empty() { "dev" } else { profile };
    probe::run()?;
    let sh = Shell::new()?;
    let _in_root = sh.push_dir(root());
    let out = out();
    fs::create_dir_all(&out).with_context(|| format!("failed to make {}", out.display()))?;
    let time = source_time(&sh)?;
    let binary = Binary::build(&sh, profile)?;
    let depends = binary.needs(&sh)?.depends()?;
    let manual = manual(&sh, &out)?;
    let files = Files::collect(&binary.stripped(&sh, &out)?, &manual, &licenses::text(&sh)?)?;

    let architecture = debian::architecture()?;
    let deb = out.join(format!("understudy_{}_{architecture}.deb", debian::version(VERSION)));
    Package {
        version: debian::version(VERSION),
        architecture,
        depends: depends.clone(),
        files: &files,
        // What is made for a check is read once; what is given to others, often.
        compression: if profile == "dev" { "gzip" } else { "xz" },
    }
    .write(&sh, &deb, time)?;
    let name = format!("understudy-{VERSION}-{}-linux", std::env::consts::ARCH);
    let archive = out.join(format!("{name}.tar.gz"));
    files.write_archive(&sh, &archive, &name, time)?;
    for file in [&deb, &archive] {
        let bytes = fs::metadata(file)?.len();
        eprintln!("dist: {} ({:.1} MB); needs {depends}", file.display(), bytes as f64 / 1e6);
    }
    Ok(Made { files, depends, architecture, deb })
}

/// Where artefacts go.
fn out() -> PathBuf {
    root().join("target/dist")
}

/// The time that stands in all artefacts, in seconds since 1970: that of the last commit, unless a builder says another
/// (reproducible-builds.org, SOURCE_DATE_EPOCH).
fn source_time(sh: &Shell) -> anyhow::Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => cmd!(sh, "git log -1 --format=%ct").quiet().read().context("set SOURCE_DATE_EPOCH")?,
    };
    text.trim().parse().with_context(|| format!("`{text}` is no number of seconds"))
}

/// The manual pages and completions, made by an example of the library from the definition of the command line.
fn manual(sh: &Shell, out: &Path) -> anyhow::Result<PathBuf> {
    let folder = out.join("manual");
    sh.remove_path(&folder)?;
    // Unoptimised: it runs once, and what it links is there from the tests.
    cmd!(sh, "cargo run --quiet --package understudy --example manual --").arg(&folder).quiet().run()?;
    ensure!(folder.join("understudy.1").is_file(), "no manual page was written");
    Ok(folder)
}
