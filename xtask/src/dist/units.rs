//! What systemd itself thinks of the units: whether it understands them, and how exposed it finds them.
//!
//! The numbers stand in docs/operations.md as well; a unit that becomes more exposed than they say is a failure.

use anyhow::{Context as _, ensure};

use super::check::System;
use crate::root;

/// The exposure that `systemd-analyze security` of Debian 12 (systemd 252) finds, from 0 (none) to 10.
const EXPOSURE_MAX: [(&str, f64); 3] =
    [("understudy@.service", 1.8), ("understudy-capture.service", 1.8), ("understudy-replay.service", 1.2)];

const DOCUMENT: &str = "docs/operations.md";

/// Checks the installed units.
///
/// # Errors
/// Names the unit and what is wrong with it.
pub(super) fn check(system: &System) -> anyhow::Result<()> {
    let document =
        std::fs::read_to_string(root().join(DOCUMENT)).context("failed to read the operator's page")?;
    for (unit, exposure_max) in EXPOSURE_MAX {
        ensure!(
            document.contains(&format!("| `{unit}` | {exposure_max:.1} |")),
            "{DOCUMENT} does not say that the exposure of {unit} is {exposure_max:.1}"
        );
        let instance = unit.replace("@.", "@8080.");
        let complaints = system.run(&["systemd-analyze", "verify", "--man=no", &instance])?;
        ensure!(complaints.is_empty(), "systemd does not like {unit}: {complaints}");
        let found =
            system.run(&["systemd-analyze", "security", "--offline=true", "--no-pager", &instance])?;
        let exposure = exposure(&found).with_context(|| format!("no exposure of {unit} in: {found}"))?;
        ensure!(exposure <= exposure_max, "{unit} is more exposed than {exposure_max:.1}: {found}");
        eprintln!("dist: {unit}: exposure {exposure:.1}");
    }
    Ok(())
}

/// The number in `→ Overall exposure level for x.service: 2.0 OK`.
fn exposure(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains("Overall exposure level"))?;
    line.rsplit_once(": ")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposure_is_read() {
        assert_eq!(
            exposure("✗ X\n→ Overall exposure level for understudy@8080.service: 2.1 OK 🙂\n"),
            Some(2.1)
        );
        assert_eq!(exposure("nothing"), None);
    }
}
