//! The program of the package: how it is built, and what it needs of the system that it runs on.
//!
//! Links the C library dynamically, and with it the name service of the host: a candidate's name must mean here what it means
//! to everybody else. All other libraries are inside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use xshell::{Shell, cmd};

use crate::root;

/// A built program.
#[derive(Debug)]
pub(super) struct Binary {
    path: PathBuf,
}

/// What a program needs of its system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needs {
    libraries: BTreeSet<String>,
    /// The newest symbol version of glibc.
    glibc: (u32, u32),
}

/// Debian 12 has this glibc; a program that needs a newer one is no program for it.
const GLIBC_MAX: (u32, u32) = (2, 36);

/// The libraries that may be needed, with the package that has each. The loader belongs to the C library.
const LIBRARIES: [(&str, &str); 4] = [
    ("libc.so.6", "libc6"),
    ("libm.so.6", "libc6"),
    ("libgcc_s.so.1", "libgcc-s1 (>= 4.2)"),
    ("ld-linux", "libc6"),
];

// === impl Binary ===

impl Binary {
    /// Builds with this profile. Paths of this machine stay out of a program that is given to others, in a target folder of its
    /// own, because those of ordinary builds hold them.
    pub(super) fn build(sh: &Shell, profile: &str) -> anyhow::Result<Self> {
        let build = cmd!(
            sh,
            "cargo build --quiet --locked --package understudy --bin understudy --profile {profile}"
        );
        if profile == "dev" {
            build.quiet().run()?;
            return Ok(Self { path: root().join("target/debug/understudy") });
        }
        let target = root().join("target/dist-build");
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let home = home.context("neither CARGO_HOME nor HOME is set")?;
        let places = [(root(), "/understudy"), (home.as_path(), "/cargo")];
        let remap = |flag: &str| {
            let each = places.iter().map(|(from, to)| format!("{flag}={}={to}", from.display()));
            each.collect::<Vec<_>>()
        };
        eprintln!("dist: building the {profile} program into {} (some minutes)", target.display());
        build
            // One flag an argument, whatever paths hold.
            .env("CARGO_ENCODED_RUSTFLAGS", remap("--remap-path-prefix").join("\x1f"))
            .env("CFLAGS", remap("-ffile-prefix-map").join(" "))
            .env("CARGO_TARGET_DIR", &target)
            .quiet()
            .run()?;
        Ok(Self { path: target.join(profile).join("understudy") })
    }

    /// A copy without symbols.
    pub(super) fn stripped(&self, sh: &Shell, out: &Path) -> anyhow::Result<PathBuf> {
        let (path, stripped) = (&self.path, out.join("understudy"));
        cmd!(sh, "strip --strip-unneeded --remove-section=.comment -o {stripped} {path}").quiet().run()?;
        Ok(stripped)
    }

    /// What it needs.
    pub(super) fn needs(&self, sh: &Shell) -> anyhow::Result<Needs> {
        let path = &self.path;
        let dynamic = cmd!(sh, "readelf --dynamic {path}").env("LC_ALL", "C").quiet().read()?;
        let versions = cmd!(sh, "readelf --version-info {path}").env("LC_ALL", "C").quiet().read()?;
        Needs::parse(&dynamic, &versions)
    }
}

// === impl Needs ===

impl Needs {
    fn parse(dynamic: &str, versions: &str) -> anyhow::Result<Self> {
        let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
        let libraries = needed.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned()));
        let glibc = versions.split_whitespace().filter_map(|word| {
            let (major, minor) = word.strip_prefix("GLIBC_")?.split_once('.')?;
            let minor = minor.split('.').next()?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let glibc = glibc.max().context("readelf names no version of glibc")?;
        Ok(Self { libraries: libraries.collect(), glibc })
    }

    /// The same in the words of a Debian package.
    ///
    /// # Errors
    /// When Debian 12 does not have it.
    pub(super) fn depends(&self) -> anyhow::Result<String> {
        let Self { libraries, glibc } = self;
        ensure!(*glibc <= GLIBC_MAX, "the program needs glibc {glibc:?}, and Debian 12 has {GLIBC_MAX:?}");
        let (major, minor) = glibc;
        let mut packages = BTreeSet::new();
        for library in libraries {
            match LIBRARIES.iter().find(|(name, _)| library.starts_with(name)) {
                Some((_, "libc6")) => packages.insert(format!("libc6 (>= {major}.{minor})")),
                Some((_, package)) => packages.insert((*package).to_owned()),
                None => bail!("the program needs `{library}`, which no package of the list has"),
            };
        }
        Ok(packages.into_iter().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(libraries: &[&str], versions: &str, expected: Result<&str, &str>) {
        let dynamic: String = libraries
            .iter()
            .map(|name| format!(" 0x0000000000000001 (NEEDED)  Shared library: [{name}]\n"))
            .collect();
        let depends = Needs::parse(&dynamic, versions).and_then(|needs| needs.depends());
        match (depends, expected) {
            (Ok(depends), Ok(expected)) => assert_eq!(depends, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (depends, expected) => panic!("{depends:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn dependencies_are_those_of_the_program() {
        let versions =
            "0x0010: Name: GLIBC_2.9  Flags: none\n Name: GLIBC_2.34 Name: GLIBC_2.2.5 Name: GCC_3.0";
        let all = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];
        check(&all, versions, Ok("libc6 (>= 2.34), libgcc-s1 (>= 4.2)"));
        check(&["libc.so.6"], "GLIBC_2.36", Ok("libc6 (>= 2.36)"));
    }

    #[test]
    fn what_debian_12_does_not_have_is_refused() {
        check(&["libc.so.6"], "GLIBC_2.38", Err("needs glibc (2, 38)"));
        check(&["libssl.so.3"], "GLIBC_2.30", Err("`libssl.so.3`"));
        check(&["libc.so.6"], "", Err("no version of glibc"));
    }
}
