//! What `understudy doctor` finds on hosts that can capture, and on those that cannot: each failure with its remedy.
//!
//! Does not ask whether what it says of this machine's memory, clock and disk is right; unit tests do.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use understudy_tests::app::Faults;
use understudy_tests::daemon::{Finished, Settings, Workspace, finish};
use understudy_tests::prereq::{KERNEL, Prerequisite, daemon_program};
use understudy_tests::process::Place;
use understudy_tests::redis::{Options, Server};
use understudy_tests::server::{App, free_address};

use crate::Case;

const REDIS: &[Prerequisite] = &[
    Prerequisite::Root,
    Prerequisite::Cgroup2,
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
];
/// Time for all checks of one host.
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_host_that_can_do_it_is_told_so", needs: KERNEL, run: all_well },
    Case { name: "without_privileges_the_missing_ones_are_named", needs: KERNEL, run: no_privileges },
    Case { name: "with_cgroup_v1_only_it_says_how_to_mount_v2", needs: KERNEL, run: no_cgroup },
    Case { name: "a_user_namespace_is_told_from_the_host", needs: KERNEL, run: user_namespace },
    Case { name: "what_a_container_hides_is_named", needs: KERNEL, run: hidden },
    Case { name: "in_another_network_nobody_listens", needs: KERNEL, run: other_network },
    Case { name: "a_wrong_configuration_is_one_finding_of_many", needs: KERNEL, run: wrong_configuration },
    Case { name: "a_redis_that_deletes_entries_is_refused", needs: REDIS, run: redis },
];

/// What one run of doctor found.
struct Findings {
    code: i32,
    list: Vec<Value>,
}

// === impl Findings ===

impl Findings {
    fn of(finished: &Finished) -> anyhow::Result<Self> {
        let list = serde_json::from_str(&finished.stdout)
            .with_context(|| format!("no JSON: {} {}", finished.stdout, finished.stderr))?;
        Ok(Self { code: finished.code, list })
    }

    /// Fails unless one finding of this check has this state and says each of `parts`, in detail or remedy.
    fn expect(&self, check: &str, state: &str, parts: &[&str]) -> anyhow::Result<()> {
        let fits = |finding: &&Value| {
            let text = format!("{} {}", finding["detail"], finding["remedy"]);
            finding["check"] == check
                && finding["state"] == state
                && parts.iter().all(|part| text.contains(part))
        };
        ensure!(self.list.iter().any(|one| fits(&one)), "no {check} {state} {parts:?} in {:#?}", self.list);
        Ok(())
    }
}

fn settings(port: u16, candidate: SocketAddr, more: &str) -> anyhow::Result<Workspace> {
    let admin = free_address()?;
    let more = more.to_owned();
    Workspace::new(&Settings { port, admin, candidate, isolated: false, routes: Vec::new(), more }.text())
}

/// Runs doctor over a configuration, behind the words of another command such as `unshare --net`.
fn ask(around: &[&str], workspace: &Workspace) -> anyhow::Result<Findings> {
    let program = daemon_program();
    let mut command = match around {
        [] => Command::new(&program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
    };
    command.args(["doctor", "--json", "--config"]).arg(workspace.config());
    Findings::of(&finish(&mut command, WAIT_MAX)?)
}

fn all_well() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let workspace = settings(a.address.port(), b.address, "")?;
    let found = ask(&[], &workspace)?;
    ensure!(found.code == 0, "exit code {}: {:#?}", found.code, found.list);
    for check in
        ["configuration", "probe", "kernel", "bpf-features", "capabilities", "cgroup", "capture", "pressure"]
    {
        found.expect(check, "ok", &[])?;
    }
    // The kernel keeps 15 bytes of a program's name.
    found.expect("port", "ok", &[&a.address.port().to_string(), "understudy-lab-"])?;
    found.expect("candidate", "ok", &[&b.address.to_string()])?;

    let mut command = Command::new(daemon_program());
    command.args(["doctor", "--config"]).arg(workspace.config());
    let text = finish(&mut command, WAIT_MAX)?;
    ensure!(text.code == 0 && text.stdout.contains("ok       capture"), "{}", text.stdout);

    let own = settings(a.address.port(), a.address, "")?;
    let found = ask(&[], &own)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect("candidate", "failure", &["captured"])
}

fn no_privileges() -> anyhow::Result<()> {
    let workspace = settings(free_address()?.port(), free_address()?, "")?;
    let found = ask(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], &workspace)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect(
        "capabilities",
        "failure",
        &["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "AmbientCapabilities"],
    )?;
    found.expect("bpf-features", "warning", &["root"])?;
    found.expect("capture", "failure", &["CAP_BPF"])?;
    found.expect("cgroup", "ok", &[])
}

fn no_cgroup() -> anyhow::Result<()> {
    let workspace = settings(free_address()?.port(), free_address()?, "")?;
    let without = ["unshare", "--mount", "sh", "-c", "umount --all --types cgroup2 && exec \"$0\" \"$@\""];
    let found = ask(&without, &workspace)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect("cgroup", "failure", &["mount -t cgroup2"])?;
    found.expect("kernel", "ok", &[])
}

fn user_namespace() -> anyhow::Result<()> {
    let workspace = settings(free_address()?.port(), free_address()?, "")?;
    let found = ask(&["unshare", "--user", "--map-root-user"], &workspace)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect("capabilities", "failure", &["user namespace", "on the host"])?;
    found.expect("capture", "failure", &[])
}

fn hidden() -> anyhow::Result<()> {
    let workspace = settings(free_address()?.port(), free_address()?, "")?;
    let hide =
        "mount -t tmpfs none /proc/pressure && mount -t tmpfs none /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let found = ask(&["unshare", "--mount", "sh", "-c", hide], &workspace)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect("pressure", "warning", &["CPU and memory", "psi=1"])?;
    found.expect("cgroup", "failure", &["/sys/fs/cgroup"])
}

fn other_network() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let b = App::start(&Place::Here, free_address()?, Faults::None)?;
    let workspace = settings(a.address.port(), b.address, "")?;
    let found = ask(&["unshare", "--net"], &workspace)?;
    // Both may be mended without a change to this host, so both are warnings.
    ensure!(found.code == 0, "exit code {}: {:#?}", found.code, found.list);
    found.expect("port", "warning", &["nobody listens", &a.address.port().to_string()])?;
    found.expect("candidate", "warning", &["cannot be reached"])
}

fn wrong_configuration() -> anyhow::Result<()> {
    let workspace = Workspace::new("[capture]\nports = [80]\nportz = 1\n")?;
    let found = ask(&[], &workspace)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect("configuration", "failure", &["portz", "line 3"])?;
    found.expect("capture", "ok", &[])
}

fn redis() -> anyhow::Result<()> {
    let a = App::start(&Place::Here, free_address()?, Faults::None)?;
    let redis = Server::start()?;
    let workspace =
        |url: &str| settings(a.address.port(), free_address()?, &format!("[queue]\nredis = \"{url}\""));
    redis.set("maxmemory", "100mb")?;
    let found = ask(&[], &workspace(&redis.url())?)?;
    ensure!(found.code == 0, "exit code {}: {:#?}", found.code, found.list);
    found.expect("redis", "ok", &["version"])?;
    found.expect("role", "ok", &["`capture`", "[queue]"])?;
    found.expect("redact-key", "ok", &["key"])?;
    ensure!(found.list.iter().all(|finding| finding["check"] != "candidate"), "a capture asks no candidate");
    found.expect("redis-memory", "ok", &[])?;
    found.expect("clock", "ok", &["Redis"])?;

    redis.set("maxmemory-policy", "allkeys-lru")?;
    let found = ask(&[], &workspace(&redis.url())?)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect("redis-memory", "failure", &["allkeys-lru", "noeviction"])?;

    let locked = Server::start_with(Options { password: Some("open sesame".into()), ..Options::default() })?;
    let found = ask(&[], &workspace(&locked.url())?)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect("redis", "failure", &["password"])?;

    let nobody = format!("redis://{}/0", free_address()?);
    let found = ask(&[], &workspace(&nobody)?)?;
    ensure!(found.code == 1, "exit code {}", found.code);
    found.expect("redis", "failure", &[&nobody["redis://".len()..nobody.len() - 2]])
}
