//! What the end-to-end tests need of the machine: root, cgroup v2, a network tool, servers, the two programs.
//!
//! Installs nothing: it says what is missing, and who counts skips decides what that means.

use std::path::{Path, PathBuf};

/// Something that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prerequisite {
    /// The right to load BPF programs and to make network namespaces.
    Root,
    /// A mounted cgroup v2 hierarchy.
    Cgroup2,
    /// This program on the PATH.
    Tool(&'static str),
}

/// What all tests with the probe need.
pub const KERNEL: &[Prerequisite] =
    &[Prerequisite::Root, Prerequisite::Cgroup2, Prerequisite::Tool("setpriv")];

/// What tests with hosts of their own need besides.
pub const NETWORK: &[Prerequisite] = &[
    Prerequisite::Root,
    Prerequisite::Cgroup2,
    Prerequisite::Tool("setpriv"),
    Prerequisite::Tool("nsenter"),
    Prerequisite::Tool("ip"),
];

/// What tests of a fleet need besides.
pub const FLEET: &[Prerequisite] = &[
    Prerequisite::Root,
    Prerequisite::Cgroup2,
    Prerequisite::Tool("setpriv"),
    Prerequisite::Tool("nginx"),
    Prerequisite::Tool("redis-server"),
    Prerequisite::Tool("redis-cli"),
];

/// What tests of a fleet with one program more need.
pub const fn fleet_and(tool: &'static str) -> [Prerequisite; FLEET.len() + 1] {
    let mut needs = [Prerequisite::Tool(tool); FLEET.len() + 1];
    let mut index = 0;
    while index < FLEET.len() {
        needs[index] = FLEET[index];
        index += 1;
    }
    needs
}

/// True when a skip must count as a failure: `UNDERSTUDY_REQUIRE_BPF=1`.
pub fn required() -> bool {
    std::env::var_os("UNDERSTUDY_REQUIRE_BPF").is_some_and(|value| value == "1")
}

/// The first of `needed` that is missing, in words.
pub fn missing(needed: &[Prerequisite]) -> Option<String> {
    needed.iter().find_map(|prerequisite| match prerequisite {
        Prerequisite::Root => {
            (!rustix::process::geteuid().is_root()).then(|| "it needs root to load a BPF program".to_owned())
        }
        Prerequisite::Cgroup2 => {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            (!mounts.contains(" - cgroup2 ")).then(|| "no cgroup v2 is mounted".to_owned())
        }
        Prerequisite::Tool(tool) => find_tool(tool).is_none().then(|| format!("`{tool}` is not on the PATH")),
    })
}

/// Where a program lies; the folders for administrators count too, since a user's PATH often lacks them.
pub fn find_tool(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(tool))
        .find(|file| file.is_file())
}

/// The folder of this build's programs, two above a test's own file and one above a program's.
fn programs() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.to_path_buf()
}

/// The daemon under test: `UNDERSTUDY_BIN`, or the one of this build.
pub fn daemon_program() -> PathBuf {
    std::env::var_os("UNDERSTUDY_BIN").map_or_else(|| programs().join("understudy"), PathBuf::from)
}

/// The lab's application: `UNDERSTUDY_LAB_APP`, or the one of this build.
pub fn app_program() -> PathBuf {
    std::env::var_os("UNDERSTUDY_LAB_APP")
        .map_or_else(|| programs().join("understudy-lab-app"), PathBuf::from)
}
