//! `cargo xtask probe`: builds the eBPF object that `userspace/build.rs` embeds.
//!
//! Never touches the target folder of ordinary builds, which belongs to another compiler.

use std::fs;

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::{root, setup};

const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "understudy-probe";

/// Builds the probe and copies it to `target/probe/` when it differs from the one there, so that cargo embeds it
/// again only then.
pub(crate) fn run() -> anyhow::Result<()> {
    let sh = Shell::new()?;
    let toolchain = setup::toolchain(&sh)?;
    let setup::Toolchain { cargo, rustc, linker_folder, llvm_major } = &toolchain;
    let build_folder = root().join("target/probe-build");

    let _in_root = sh.push_dir(root());
    let mut path = vec![linker_folder.clone()];
    path.extend(std::env::split_paths(&sh.var_os("PATH").unwrap_or_default()));
    let path = std::env::join_paths(path).context("PATH cannot be extended")?;
    cmd!(sh, "{cargo} build --package {OBJECT} --profile probe --target {TARGET} -Z build-std=core")
        .env("PATH", path)
        .env("RUSTC", rustc)
        // The compiler is the distribution's stable one, or a nightly that does not mind.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-C link-arg=--btf")
        .env("CARGO_TARGET_DIR", &build_folder)
        // Those that the outer cargo and rustup set for their own toolchain.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC_WRAPPER")
        .quiet()
        .run()
        .with_context(|| {
            format!(
                "failed to build the probe; where the linker says `Invalid record`, bpf-linker knows less than LLVM \
                 {llvm_major}, which {} is made with: `cargo install bpf-linker` brings a newer one",
                rustc.display()
            )
        })?;

    let built = build_folder.join(TARGET).join("probe").join(OBJECT);
    let embedded = root().join("target/probe").join(OBJECT);
    let object = fs::read(&built).with_context(|| format!("failed to read {}", built.display()))?;
    if fs::read(&embedded).is_ok_and(|old| old == object) {
        eprintln!("probe: {} is up to date", embedded.display());
        return Ok(());
    }
    sh.create_dir(root().join("target/probe"))?;
    fs::write(&embedded, object).with_context(|| format!("failed to write {}", embedded.display()))?;
    eprintln!("probe: wrote {}; the next build embeds it", embedded.display());
    Ok(())
}
