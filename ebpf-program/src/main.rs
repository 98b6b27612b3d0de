//! Entry points of the probe.
//!
//! Lets every packet pass, whatever happens, and never changes one.
#![no_std]
#![no_main]
// Assembly for eBPF is not stable; `Tally::add` says why it is needed.
#![feature(asm_experimental_arch)]

mod emit;
mod headers;
mod select;

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use understudy_abi::{EGRESS, INGRESS};

/// What a `cgroup_skb` program returns to let the packet go on (`kernel/bpf/cgroup.c`).
const PASS: i32 = 1;

/// The border that this object was built for; user space compares it with its own before it attaches.
/// A section of its own, because user space reads the whole section as one value.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.abi")]
static UNDERSTUDY_ABI: u32 = understudy_abi::ABI_VERSION;

/// The licence that the kernel is told. No helper used here asks for one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Runs for each packet on its way to a local socket.
#[cgroup_skb(ingress)]
fn understudy_ingress(ctx: SkBuffContext) -> i32 {
    observe(&ctx, INGRESS);
    PASS
}

/// Runs for each packet that a local socket sends, before the network interface cuts it.
#[cgroup_skb(egress)]
fn understudy_egress(ctx: SkBuffContext) -> i32 {
    observe(&ctx, EGRESS);
    PASS
}

/// Copies the packet out when its local port is wanted.
#[inline(always)]
fn observe(ctx: &SkBuffContext, direction: u8) {
    let Some(tally) = emit::Tally::this_cpu() else { return };
    tally.saw_packet();
    // The port decides first: most packets of a busy host belong to other services.
    let Some(found) = headers::find_tcp(ctx) else { return };
    if !select::port_is_wanted(found.local_port(direction)) {
        return;
    }
    tally.wanted_packet();
    if let Err(reason) = copy_out(ctx, &found, direction, &tally) {
        tally.dropped_packet(ctx, reason);
    }
}

/// Copies one wanted packet into the ring.
#[inline(always)]
fn copy_out(
    ctx: &SkBuffContext,
    found: &headers::Found,
    direction: u8,
    tally: &emit::Tally,
) -> Result<(), emit::DropReason> {
    let Some(settings) = select::settings() else { return Err(emit::DropReason::Malformed) };
    // Most packets of a busy service, when only some of its connections are copied: they pay for nothing else.
    select::keep_sampled(&found.ends(direction), settings)?;
    let packet = headers::read(ctx, found, direction)?;
    select::keep_wanted(&packet.header, settings)?;
    emit::emit(ctx, packet, settings, tally)
}

/// The verifier proves that no path gets here.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
