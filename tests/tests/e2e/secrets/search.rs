//! The search for planted secrets, in all the ways in which they may be written.
//!
//! Plants none; knows only where to look.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use understudy_tests::daemon::Finished;
use understudy_tests::redis;

use super::vault::{MARKER, OF_GARBAGE, OF_SERVERS, SECRETS};

/// In which ways a secret may be written: raw, URL-encoded, and in Base64 at each of its three alignments.
pub(super) fn spellings(secret: &str) -> Vec<String> {
    let mut spellings = vec![secret.to_owned()];
    let url: String = secret
        .bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    spellings.push(url.clone());
    spellings.push(url.replace("%20", "+"));
    spellings.push(secret.bytes().map(|byte| format!("{byte:02x}")).collect());
    for skip in 0..3 {
        // Whole groups of three bytes have the same letters whatever stands around them.
        let bytes = secret.as_bytes().get(skip..).unwrap_or_default();
        let whole = bytes.get(..bytes.len() / 3 * 3).unwrap_or_default();
        spellings.push(base64(whole));
    }
    spellings.retain(|spelling| spelling.len() >= 8);
    spellings.sort();
    spellings.dedup();
    spellings
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bytes.chunks_exact(3).flat_map(|group| {
        let number = group.iter().fold(0_usize, |number, byte| (number << 8) | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(LETTERS[(number >> shift) & 63]))
    });
    letters.collect()
}

/// Everything of one kind that the daemon let go, and its name.
pub(super) type Haystack = (String, Vec<u8>);

/// The secrets that are in one of these, with the name of where.
pub(super) fn found(haystacks: &[Haystack]) -> Vec<String> {
    let mut found = Vec::new();
    for secret in SECRETS.iter().chain(&OF_SERVERS).chain(&OF_GARBAGE) {
        for spelling in spellings(secret) {
            for (name, bytes) in haystacks {
                if contains(bytes, spelling.as_bytes()) {
                    found.push(format!("`{spelling}` in {name}"));
                }
            }
        }
    }
    found
}

pub(super) fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Fails when a secret is in one of these, or the marker is not in one that is said to have it.
pub(super) fn search(haystacks: &[Haystack], with_marker: &[&str]) -> anyhow::Result<()> {
    for name in with_marker {
        let has = haystacks
            .iter()
            .any(|(have, bytes)| have.starts_with(name) && contains(bytes, MARKER.as_bytes()));
        ensure!(has, "the search in {name} finds nothing at all");
    }
    let found = found(haystacks);
    ensure!(found.is_empty(), "secrets got out: {}", found.join("; "));
    Ok(())
}

/// All files below a folder, but for those that only the operator writes.
fn files(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else {
            all.push((path.clone(), std::fs::read(&path)?));
        }
    }
    Ok(all)
}

pub(super) fn of_folder(folder: &Path) -> anyhow::Result<Vec<Haystack>> {
    let named = |(path, bytes): (PathBuf, Vec<u8>)| {
        let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
        (format!("file {name}"), bytes)
    };
    Ok(files(folder)?.into_iter().map(named).collect())
}

/// Files are for their owner alone, and folders.
pub(super) fn check_modes(folder: &Path, expected: &[&str]) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name == "understudy.toml" {
            continue;
        }
        let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        ensure!(mode == wanted, "{} has mode {mode:o}", path.display());
        if path.is_dir() {
            check_modes(&path, &[])?;
        }
        seen.push(name);
    }
    for name in expected {
        ensure!(seen.iter().any(|have| have == name), "there is no {name} among {seen:?}");
    }
    Ok(())
}

/// Everything that Redis holds.
pub(super) fn of_redis(redis: &redis::Server) -> anyhow::Result<Vec<Haystack>> {
    let mut all = Vec::new();
    for key in redis.command(&["KEYS", "*"])?.lines().map(str::trim).filter(|key| !key.is_empty()) {
        let kind = redis.command(&["TYPE", key])?;
        let value = match kind.trim() {
            "stream" => redis.command(&["XRANGE", key, "-", "+"])?,
            "hash" => redis.command(&["HGETALL", key])?,
            "zset" => redis.command(&["ZRANGE", key, "0", "-1"])?,
            "set" => redis.command(&["SMEMBERS", key])?,
            "list" => redis.command(&["LRANGE", key, "0", "-1"])?,
            _ => redis.command(&["GET", key])?,
        };
        all.push((format!("redis {key}"), value.into_bytes()));
    }
    Ok(all)
}

pub(super) fn of_text(name: &str, text: impl Into<Vec<u8>>) -> Haystack {
    (name.to_owned(), text.into())
}

pub(super) fn of_end(name: &str, finished: &Finished) -> [Haystack; 2] {
    let Finished { code: _, stdout, stderr } = finished;
    [
        of_text(&format!("stdout of {name}"), stdout.clone()),
        of_text(&format!("stderr of {name}"), stderr.clone()),
    ]
}
