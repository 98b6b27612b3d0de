//! The memory of this process against its ceiling: how much there is, and when to take nothing more.
//!
//! Frees nothing: whoever holds something lets it go when nothing new comes.

use std::fs;

/// Says when memory is so near the ceiling that nothing more may be taken.
#[derive(Clone, Copy, Debug)]
pub struct MemoryGuard {
    ceiling: u64,
    /// Memory that is held by the kernel for us, and is not in our own.
    fixed: u64,
    holds: bool,
}

/// From this part of the ceiling on, nothing more is taken.
pub const HOLD_AT: f64 = 0.9;
/// Below this part of it, things are taken again.
pub const RELEASE_AT: f64 = 0.75;

// === impl MemoryGuard ===

impl MemoryGuard {
    /// Keeps below `ceiling` bytes, of which the kernel holds `fixed` for the ring.
    pub fn new(ceiling: u64, fixed: u64) -> Self {
        Self { ceiling, fixed, holds: false }
    }

    /// True while nothing more may be taken. `own` is what [`own_bytes`] says.
    pub fn look(&mut self, own: u64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a ratio of bytes needs no more than 52 bits")]
        let share = own.saturating_add(self.fixed) as f64 / self.ceiling.max(1) as f64;
        self.holds = share >= if self.holds { RELEASE_AT } else { HOLD_AT };
        self.holds
    }
}

/// Bytes of memory that this process has for itself: its own pages, without files and rings that are mapped
/// (proc_pid_statm(5)). None where the kernel does not say.
pub fn own_bytes() -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/statm").ok()?)
        .map(|pages| pages.saturating_mul(rustix::param::page_size() as u64))
}

/// Resident pages less those that are shared.
fn parse(statm: &str) -> Option<u64> {
    let mut words = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (words.next()?.ok()?, words.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these numbers of bytes with a ceiling of 100, of which 10 are the ring's.
    #[track_caller]
    fn check(own: &[u64], expected: &[bool]) {
        let mut guard = MemoryGuard::new(100, 10);
        let held: Vec<bool> = own.iter().map(|own| guard.look(*own)).collect();
        assert_eq!(held, expected, "{own:?}");
    }

    #[test]
    fn holds_near_the_ceiling_until_memory_has_fallen() {
        check(&[0, 79, 80, 70, 65, 64, 79], &[false, false, true, true, true, false, false]);
        check(&[1_000, u64::MAX, 0], &[true, true, false]);
    }

    #[test]
    fn reads_what_the_kernel_says() {
        assert_eq!(parse("10000 5000 1200 900 0 3000 0\n"), Some(3_800));
        assert_eq!(parse("10000 5000"), None);
        assert_eq!(parse("10000 x 1"), None);
        assert!(own_bytes().is_some_and(|bytes| bytes > 100_000));
    }
}
