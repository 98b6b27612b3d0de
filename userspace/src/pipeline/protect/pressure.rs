//! What the kernel says about who waits for the CPU and for memory on this host (PSI,
//! `Documentation/accounting/psi.rst`).
//!
//! Decides nothing. Works where the kernel says nothing: an old one, or one started with `psi=0`.

use std::fs;
use std::path::{Path, PathBuf};

/// Part of the last ten seconds, from 0.0 to 1.0, in which somebody waited (`some avg10`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some task that could have run waited for a CPU; none where the kernel does not say.
    pub cpu: Option<f64>,
    /// Some task waited for memory that had to be read back or freed.
    pub memory: Option<f64>,
}

/// Reads it: of the host, and of the captured service's own cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PressureReader {
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

/// Where the kernel says it for the host.
const HOST: &str = "/proc/pressure";

// === impl PressureReader ===

impl PressureReader {
    /// Of this host, and of the cgroup in this folder, where there is one.
    pub fn new(cgroup: Option<&Path>) -> Self {
        Self::reading(Path::new(HOST), cgroup)
    }

    /// Reads `cpu` and `memory` in the folder `host`, `cpu.pressure` and `memory.pressure` in `cgroup`. Files that are
    /// not there now are not looked for again.
    fn reading(host: &Path, cgroup: Option<&Path>) -> Self {
        let files = |kind: &str| {
            let of_cgroup = cgroup.map(|folder| folder.join(format!("{kind}.pressure")));
            [Some(host.join(kind)), of_cgroup]
                .into_iter()
                .flatten()
                .filter(|file| read(file).is_some())
                .collect()
        };
        Self { cpu: files("cpu"), memory: files("memory") }
    }

    /// Of no host: the kernel is asked nothing.
    pub fn nowhere() -> Self {
        Self { cpu: Vec::new(), memory: Vec::new() }
    }

    /// The greater of the host's and the service's.
    pub fn read(&self) -> Pressure {
        let greatest = |files: &[PathBuf]| files.iter().filter_map(|file| read(file)).reduce(f64::max);
        Pressure { cpu: greatest(&self.cpu), memory: greatest(&self.memory) }
    }
}

fn read(file: &Path) -> Option<f64> {
    // Opening works where reading does not: with `psi=0` the files are there.
    parse(&fs::read_to_string(file).ok()?)
}

/// Reads `some avg10=1.41 avg60=4.92 avg300=13.88 total=17389986625`.
fn parse(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent = some.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    let percent: f64 = percent.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(percent: &str) -> String {
        format!(
            "some avg10={percent} avg60=4.92 avg300=13.88 total=17389986625\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=0\n"
        )
    }

    /// Writes these files, and reads them.
    #[track_caller]
    fn check(host: &[(&str, &str)], cgroup: Option<&[(&str, &str)]>, cpu: Option<f64>, memory: Option<f64>) {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("shop.service");
        std::fs::create_dir(&own).expect("a folder");
        for (name, percent) in host {
            std::fs::write(folder.path().join(name), file(percent)).expect("a file");
        }
        for (name, percent) in cgroup.unwrap_or_default() {
            std::fs::write(own.join(name), file(percent)).expect("a file");
        }
        let reader = PressureReader::reading(folder.path(), cgroup.map(|_| own.as_path()));
        assert_eq!(reader.read(), Pressure { cpu, memory });
    }

    #[test]
    fn reads_what_is_there() {
        check(&[("cpu", "1.41"), ("memory", "50.00")], None, Some(0.0141), Some(0.5));
        check(&[("cpu", "0.00")], None, Some(0.0), None);
        check(&[], None, None, None);
        check(&[], Some(&[]), None, None);
    }

    #[test]
    fn the_greater_of_host_and_service_counts() {
        check(&[("cpu", "10.00")], Some(&[("cpu.pressure", "25.00")]), Some(0.25), None);
        check(&[("cpu", "30.00")], Some(&[("cpu.pressure", "25.00")]), Some(0.3), None);
        check(&[], Some(&[("memory.pressure", "25.00")]), None, Some(0.25));
    }

    #[test]
    fn what_is_no_pressure_is_none() {
        for text in [
            "",
            "full avg10=1.00",
            "some avg60=1.00",
            "some avg10=",
            "some avg10=-1",
            "some avg10=NaN",
            "some avg10=101",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
