//! Capture files with bytes changed, put in, taken out and cut off: the program ends in order whatever they hold.
//!
//! Judges nothing that is read out of them; the numbers it draws are the same in every run.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use understudy_tests::daemon::run_to_end;
use understudy_tests::process::Place;

/// Copies of each case that are damaged.
const COPIES: u64 = 2;
/// Places that are damaged in a copy, at most.
const PLACES_MAX: u64 = 8;

/// Numbers that look random: xorshift (Marsaglia 2003).
struct Draws(u64);

/// Lets the program read damaged copies of a capture file. It may refuse one, and must say why.
pub(crate) fn check(file: &Path) -> Result<()> {
    let whole = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
    let seed = whole.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut draws = Draws(seed | 1);
    for copy in 0..COPIES {
        let damaged = file.with_extension(format!("damaged-{copy}.pcap"));
        fs::write(&damaged, draws.damage(&whole)).context("failed to write a damaged capture file")?;
        let shown = damaged.display().to_string();
        let finished = run_to_end(&Place::Here, &["inspect", "--json", "--pcap", &shown])?;
        let (code, said) = (finished.code, finished.stderr);
        let refused = code == 2 && said.lines().any(|line| line.starts_with("error: "));
        ensure!(
            (code == 0 || refused) && !said.contains("panicked"),
            "copy {copy}: exit code {code}: {said}"
        );
    }
    Ok(())
}

// === impl Draws ===

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn damage(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        for _ in 0..=self.below(PLACES_MAX as usize) {
            let at = self.below(bytes.len());
            let until = bytes.len().min(at + self.below(64));
            match self.below(6) {
                0 => bytes[at..until].fill(0xff),
                1 => bytes[at..until].fill(0),
                2 => drop(bytes.drain(at..until)),
                3 => {
                    let again = bytes[at..until].to_vec();
                    drop(bytes.splice(at..at, again));
                }
                4 => bytes.truncate(bytes.len().saturating_sub(until - at)),
                _ => bytes[at] ^= 1 << self.below(8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }
}
