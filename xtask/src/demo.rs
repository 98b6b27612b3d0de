//! `cargo xtask demo`: two real servers, real traffic, three planted faults, and the verdict.
//!
//! Leaves nothing running, also when it fails or is interrupted, and says yes only when exactly the planted faults
//! were found.
#![expect(clippy::print_stdout, reason = "the demo is for the person at the terminal")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use understudy_tests::app::Faults;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{Daemon, Settings, Workspace};
use understudy_tests::mix::{DEMO_ROUTES, Pace, Sent, drive, every_route};
use understudy_tests::prereq::{KERNEL, Prerequisite, missing};
use understudy_tests::process::Place;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address};
use understudy_tests::verdict::Findings;
use xshell::{Shell, cmd};

use crate::{probe, root, setup};

/// The whole load: about fifteen seconds.
const REQUESTS: usize = 2_000;
const PACE: Pace = Pace { per_second: Some(133), connections: 8 };
/// Longest time that the load may take.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(40);

/// A or B: nginx with files of its own, and the application behind it.
struct Service {
    nginx: Nginx,
    _app: App,
}

/// Builds everything and runs the demo.
///
/// # Errors
/// When something is missing, is interrupted, or the findings are not exactly the planted faults.
pub(crate) fn run() -> anyhow::Result<()> {
    setup::run()?;
    if let Some(reason) = missing(KERNEL).or_else(|| missing(&[Prerequisite::Tool("nginx")])) {
        bail!("the demo cannot run here: {reason}");
    }
    probe::run()?;
    let sh = Shell::new()?;
    let _in_root = sh.push_dir(root());
    cmd!(sh, "cargo build --release --package understudy").quiet().run()?;
    cmd!(sh, "cargo build --package understudy-tests --bin understudy-lab-app").quiet().run()?;

    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The first signal ends the demo in order; a second one at once, and the kernel ends the children.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))
            .context("failed to watch for signals")?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .context("failed to watch for signals")?;
    }
    show(&interrupted)
}

fn show(interrupted: &AtomicBool) -> anyhow::Result<()> {
    let files = StaticFiles::write()?;
    let a = Service::start(&files, Faults::None)?;
    let b = Service::start(&files, Faults::Planted)?;
    let admin = free_address()?;
    let settings = Settings {
        port: a.nginx.address.port(),
        admin,
        candidate: b.nginx.address,
        isolated: true,
        routes: DEMO_ROUTES.to_vec(),
        more: String::new(),
    };
    let workspace = Workspace::with_program(&settings.text(), root().join("target/release/understudy"))?;
    println!("A, the service in production:  http://{}  (nginx, an application behind it)", a.nginx.address);
    println!(
        "B, the candidate:              http://{}  (the same, with three faults planted)",
        b.nginx.address
    );
    println!("understudy watches A's port in the kernel and replays what it sees to B.");
    println!("Its configuration:\n");
    for line in settings.text().lines() {
        println!("    {line}");
    }
    let daemon = Daemon::run(&Place::Here, &workspace, admin, &[])?;
    println!("Sending {REQUESTS} requests to A, and none to B, for about fifteen seconds …");
    let address = a.nginx.address;
    let load = std::thread::spawn(move || drive(address, &every_route(REQUESTS), PACE));
    let sent = watch(load, interrupted)?;
    daemon.settle(sent as u64).context("not every exchange got a fate")?;
    let run = daemon.interrupt()?;
    println!("\n{}", run.stdout);

    let report = workspace.report(&["--json"])?;
    let found = Findings::parse(&report.stdout)
        .with_context(|| format!("understudy report ended with {}: {}", report.code, report.stderr))?;
    let planted = Findings::planted();
    ensure!(found == planted, "the report is not what was planted\nplanted: {planted:#?}\nfound: {found:#?}");
    ensure!(run.code == 1 && report.code == 1, "exit codes {} and {}, not 1 for FAIL", run.code, report.code);
    println!("What to look at in the report above:");
    println!("  - /items/{{id}}: `price` is one cent off, on every item. A wrong value in good JSON.");
    println!(
        "  - /search: status 500 where A says 200, only for words with a z. The example's curl repeats it."
    );
    println!("  - /quotes/{{id}}: the same answers, about 40 ms later.");
    println!("  - everything else matched, POST with effects on B included, and the ledger adds up.");
    println!("These three faults were planted; understudy found them and nothing else.");
    Ok(())
}

/// Waits for the load and gives the number of answers. Returns early on a signal; what is still being sent then
/// fails when the servers end.
fn watch(load: JoinHandle<anyhow::Result<Vec<Sent>>>, interrupted: &AtomicBool) -> anyhow::Result<usize> {
    wait_until("end of the load", LOAD_WAIT_MAX, || {
        ensure!(!interrupted.load(Ordering::Relaxed), "interrupted; everything that was started is ended");
        Ok(load.is_finished().then_some(()))
    })?;
    let sent = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(sent.len())
}

// === impl Service ===

impl Service {
    fn start(files: &StaticFiles, faults: Faults) -> anyhow::Result<Self> {
        let app = App::start(&Place::Here, free_address()?, faults)?;
        let nginx = Nginx::start(&Place::Here, free_address()?, files, app.address)?;
        Ok(Self { nginx, _app: app })
    }
}
