//! The cases: connections written down segment by segment, and what the library has to read out of them.
//!
//! Says nothing itself about what is right; each case's README does, with the section of the RFC it rests on.
//!
//! `UPDATE_EXPECT=1` writes what is read as what is expected. `UNDERSTUDY_CASES_PCAP=FOLDER` writes each case as a
//! capture file, so that another program can be asked.

#[path = "cases/damaged.rs"]
mod damaged;
#[path = "cases/play.rs"]
mod play;
#[path = "cases/program.rs"]
mod program;
#[path = "cases/show.rs"]
mod show;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::{Arguments, Trial};
use understudy_tests::case::{Case, Event, Variant};
use understudy_tests::pcap;

use play::{Played, Ports};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let trials = match Case::load_all(&root) {
        Ok(cases) if !cases.is_empty() => cases.into_iter().map(trial).collect(),
        Ok(_) => vec![failed(format!("{} holds no case", root.display()))],
        Err(error) => vec![failed(format!("{error:#}"))],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn failed(message: String) -> Trial {
    Trial::test("cases can be read", move || Err(message.into()))
}

fn trial(case: Case) -> Trial {
    Trial::test(case.name.clone(), move || check(&case).map_err(|error| format!("{error:#}").into()))
}

/// Plays a case as it is written, and in every way that has to give the same.
fn check(case: &Case) -> Result<()> {
    ensure!(case.folder.join("README.md").is_file(), "the case has no README.md");
    let events = case.events(|_| Vec::new())?;
    if let Some(folder) = std::env::var_os("UNDERSTUDY_CASES_PCAP") {
        write_capture(case, &events, Path::new(&folder))?;
    }
    if case.options.show_stream {
        return compare(case, &play::streams(case)?);
    }
    let ports = if case.options.any_port { Ports::Any } else { Ports::Wanted };
    let played = play::exchanges(&events, ports)?;
    compare(case, &show::all(&played)?)?;
    same_in_the_program(case, &events, ports)?;
    let same = |variant: &str, other: Played| -> Result<()> {
        let (expected, got) = (show::exchanges(&played)?, show::exchanges(&other)?);
        ensure!(expected == got, "{variant}: expected\n{expected}got\n{got}");
        Ok(())
    };
    if !case.options.without.contains(&Variant::Twice) {
        let twice: Vec<Event> = events.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
        same("each segment twice", play::exchanges(&twice, ports)?)?;
    }
    if !case.options.without.contains(&Variant::AnyPort) {
        same("no port given", play::exchanges(&events, Ports::Any)?)?;
    }
    if case.options.cut_every {
        let bytes = |length: usize| (1..length).collect();
        same("byte by byte", play::exchanges(&case.events(bytes)?, ports)?)?;
        for at in 1..case.payload_bytes_max() {
            same(&format!("cut at {at}"), play::exchanges(&case.events(|_| vec![at])?, ports)?)?;
        }
    }
    Ok(())
}

/// Asks the program itself, which has no clock but that of the packets, and lets it read damaged copies, too.
fn same_in_the_program(case: &Case, events: &[Event], ports: Ports) -> Result<()> {
    let packets: Vec<Event> =
        events.iter().filter(|event| matches!(event, Event::Packet { .. })).cloned().collect();
    let read: Vec<String> = play::exchanges(&packets, ports)?.exchanges.iter().map(program::read).collect();
    let folder = tempfile::tempdir().context("failed to make a folder for a capture file")?;
    write_capture(case, events, folder.path())?;
    let file = folder.path().join(format!("{}.pcap", case.name));
    let shown = program::shown(&file.display().to_string(), ports)?;
    ensure!(read == shown, "the library reads\n{}\nthe program\n{}", read.join("\n"), shown.join("\n"));
    damaged::check(&file)
}

/// Compares with the case's `expected.txt`.
fn compare(case: &Case, got: &str) -> Result<()> {
    let path = case.folder.join("expected.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return fs::write(&path, got).with_context(|| format!("failed to write {}", path.display()));
    }
    let expected = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    if expected != got {
        bail!("{} says\n{expected}but this was read:\n{got}", path.display());
    }
    Ok(())
}

fn write_capture(case: &Case, events: &[Event], folder: &Path) -> Result<()> {
    let path = folder.join(format!("{}.pcap", case.name));
    let packets = events.iter().filter_map(|event| match event {
        Event::Packet { at_ns, bytes } => Some((*at_ns, &bytes[..])),
        Event::Silence { at_ns: _ } => None,
    });
    fs::create_dir_all(folder)
        .and_then(|()| fs::File::create(&path))
        .and_then(|mut file| pcap::write(&mut file, packets))
        .with_context(|| format!("failed to write {}", path.display()))
}
