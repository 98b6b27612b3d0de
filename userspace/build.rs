//! Embeds the eBPF object into the library.
//!
//! Never builds the probe and never fails for want of it: without one the library holds no bytes, and says so when
//! it is asked to capture.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, io};

/// Names another object than the one of `cargo xtask probe`; a packager's build sets it.
const OVERRIDE: &str = "UNDERSTUDY_PROBE";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let probe = match env::var_os(OVERRIDE).filter(|path| !path.is_empty()) {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            PathBuf::from(path)
        }
        None => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/probe");
            // Cargo takes a watched file that is missing as changed at every build, so the folder is watched, and
            // is made when it is not there. Where that is forbidden there is no probe to wait for either.
            if make_old_folder(&folder).is_ok() {
                println!("cargo::rerun-if-changed={}", folder.display());
            }
            folder.join("understudy-probe")
        }
    };
    let object = match fs::read(&probe) {
        Ok(object) => object,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            println!("cargo::warning=failed to read the probe {}: {error}", probe.display());
            Vec::new()
        }
    };
    if object.is_empty() {
        if env::var_os(OVERRIDE).is_some_and(|path| !path.is_empty()) {
            println!("cargo::warning={OVERRIDE} names {}, which holds no probe", probe.display());
        } else {
            println!(
                "cargo::warning=no kernel probe to embed, so this build cannot capture: run `cargo xtask probe`, then build again"
            );
        }
    }
    let Some(out) = env::var_os("OUT_DIR") else {
        return Err(io::Error::other("OUT_DIR is not set; cargo sets it"));
    };
    fs::write(Path::new(&out).join("understudy-probe"), object)
}

/// Makes the folder unless it exists. Its time is set back, because cargo would take a folder that is younger than
/// the start of this script as changed and build once more.
fn make_old_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    File::open(folder)?.set_modified(SystemTime::UNIX_EPOCH)
}
