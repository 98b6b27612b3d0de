//! Gives up the right to load and attach programs, once the probe is attached.
//!
//! Asks for nothing. Capabilities belong to threads: those of the runtime drop theirs when they start, the one that attaches
//! when it has, and those that it starts have none.

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

use crate::capture::Source;

/// What is kept in any case. Somebody who types `sudo` works in folders that are not root's. For root this gives nothing
/// away: root's own files are enough to become anything.
fn kept() -> CapabilitySet {
    if geteuid().is_root() { CapabilitySet::DAC_OVERRIDE } else { CapabilitySet::empty() }
}

/// Drops what a thread needs that neither loads nor attaches: all of it. Says nothing: it is called for each thread.
pub fn drop_in_thread() {
    // A kernel that refuses leaves things as they are without this program.
    set_no_new_privs(true).unwrap_or_default();
    if let Ok(sets) = capabilities(None) {
        hold(kept() & sets.permitted).unwrap_or_default();
    }
}

/// Drops what the calling thread and those that it starts do not need now that this source is attached. Keeps `CAP_BPF`
/// where the kernel wants it for maps that are open already: before 5.19, while `kernel.unprivileged_bpf_disabled` is set;
/// and `CAP_NET_ADMIN` where that is needed to detach in order.
pub fn drop_after_attach(source: &mut dyn Source, needs_net_admin: bool) {
    if let Err(error) = set_no_new_privs(true) {
        tracing::debug!(%error, "Programs that are started could gain privileges.");
    }
    let Ok(sets) = capabilities(None) else { return };
    let to_detach = if needs_net_admin { CapabilitySet::NET_ADMIN } else { CapabilitySet::empty() };
    let least = (kept() | to_detach) & sets.permitted;
    for keep in [least, least | (CapabilitySet::BPF & sets.permitted)] {
        // What is not in effect can be brought back while it is permitted.
        let tried = set_capabilities(None, CapabilitySets { effective: keep, ..sets });
        if tried.is_ok() && source.counts().is_ok() {
            match hold(keep) {
                Ok(()) => {
                    let bpf = keep.contains(CapabilitySet::BPF);
                    tracing::info!(keeps_cap_bpf = bpf, "The probe is attached; capabilities are dropped.");
                }
                Err(error) => tracing::warn!(%error, "Capabilities are kept: the kernel does not drop them."),
            }
            return;
        }
    }
    tracing::warn!("Capabilities are kept: without them the kernel does not let the probe be read.");
    set_capabilities(None, sets).unwrap_or_default();
}

/// Has these and no others, for good.
fn hold(keep: CapabilitySet) -> rustix::io::Result<()> {
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_dropped_its_capabilities_cannot_take_them_back() {
        let after = std::thread::spawn(|| {
            let before = capabilities(None).expect("the kernel says");
            drop_in_thread();
            let after = capabilities(None).expect("the kernel says");
            let wanted = CapabilitySets { effective: before.permitted, ..before };
            let took_back = set_capabilities(None, wanted).is_ok();
            (before, after, took_back)
        });
        let (before, after, took_back) = after.join().expect("it ends");
        assert_eq!(after.permitted, kept() & before.permitted);
        assert_eq!(after.effective, after.permitted);
        assert!(after.inheritable.is_empty());
        assert_eq!(took_back, after.permitted == before.permitted);
    }
}
