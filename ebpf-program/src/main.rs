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

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::{cgroup_skb, classifier, map};
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::{SkBuffContext, TcContext};
use understudy_abi::{
    EGRESS, GATE_IN_ETHERNET, GATE_IN_PLAIN, GATE_OUT_ETHERNET, GATE_OUT_PLAIN, GATES, INGRESS,
};

/// What a `cgroup_skb` program returns to let the packet go on (`kernel/bpf/cgroup.c`).
const PASS: i32 = 1;
/// What a classifier returns to leave the packet to the programs behind it (`tcx_run`, `net/core/dev.c`).
const NEXT: i32 = TC_ACT_UNSPEC;

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

/// Runs for each packet that comes in at a named interface, with its Ethernet header.
#[classifier]
fn understudy_in(ctx: TcContext) -> i32 {
    watch(&ctx, LinkHeader::Ethernet, Way::In)
}

/// Runs for each packet that goes out at a named interface, with its Ethernet header.
#[classifier]
fn understudy_out(ctx: TcContext) -> i32 {
    watch(&ctx, LinkHeader::Ethernet, Way::Out)
}

/// As `understudy_in`, at an interface whose packets begin with their IP header.
#[classifier]
fn understudy_plain_in(ctx: TcContext) -> i32 {
    watch(&ctx, LinkHeader::None, Way::In)
}

/// As `understudy_out`, at an interface whose packets begin with their IP header.
#[classifier]
fn understudy_plain_out(ctx: TcContext) -> i32 {
    watch(&ctx, LinkHeader::None, Way::Out)
}

/// The programs behind the gates. The kernel empties an array of programs as soon as no process holds it any more
/// (`prog_array_map_clear`, `kernel/bpf/arraymap.c`).
#[map]
static BEHIND_GATES: ProgramArray = ProgramArray::with_max_entries(GATES, 0);

/// Stands where a program cannot be attached by descriptor and so outlives whoever attached it (clsact, before kernel
/// 6.6): opens to `understudy_in` for as long as user space lives, and does nothing afterwards.
#[classifier]
fn understudy_gate_in(ctx: TcContext) -> i32 {
    pass_gate(&ctx, GATE_IN_ETHERNET)
}

/// The gate of `understudy_out`.
#[classifier]
fn understudy_gate_out(ctx: TcContext) -> i32 {
    pass_gate(&ctx, GATE_OUT_ETHERNET)
}

/// The gate of `understudy_plain_in`.
#[classifier]
fn understudy_plain_gate_in(ctx: TcContext) -> i32 {
    pass_gate(&ctx, GATE_IN_PLAIN)
}

/// The gate of `understudy_plain_out`.
#[classifier]
fn understudy_plain_gate_out(ctx: TcContext) -> i32 {
    pass_gate(&ctx, GATE_OUT_PLAIN)
}

/// What stands before the IP header.
#[derive(Clone, Copy)]
enum LinkHeader {
    Ethernet,
    None,
}

/// Into the host or out of it.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// Whose packets a program sees.
#[derive(Clone, Copy)]
enum Sight {
    /// Those of local sockets.
    Sockets,
    /// Those that pass an interface; the number tells interfaces and ways apart.
    Interface(u32),
}

#[inline(always)]
fn pass_gate(ctx: &TcContext, gate: u32) -> i32 {
    // SAFETY: there is nothing to drop here.
    unsafe { BEHIND_GATES.tail_call(ctx, gate) };
    NEXT
}

/// Copies the packet out when its local port is wanted.
#[inline(always)]
fn observe(ctx: &SkBuffContext, direction: u8) {
    let Some(tally) = emit::Tally::this_cpu() else { return };
    tally.saw_packet();
    // The port decides first: most packets of a busy host belong to other services.
    let Some(found) = headers::find_tcp(ctx, 0) else { return };
    if !select::port_is_wanted(found.local_port(direction)) {
        return;
    }
    take(ctx, &found, direction, Sight::Sockets, &tally);
}

/// Copies the packet out when one of its ports is wanted, and no other interface has copied it.
#[inline(always)]
fn watch(ctx: &TcContext, link_header: LinkHeader, way: Way) -> i32 {
    let ctx = &SkBuffContext::new(ctx.skb.skb);
    let Some(tally) = emit::Tally::this_cpu() else { return NEXT };
    tally.saw_packet();
    let ip_at = match link_header {
        LinkHeader::Ethernet => headers::behind_ethernet(ctx),
        LinkHeader::None => Some(0),
    };
    let Some(found) = ip_at.and_then(|ip_at| headers::find_tcp(ctx, ip_at)) else { return NEXT };
    let Some(direction) = found.direction(select::port_is_wanted) else { return NEXT };
    // SAFETY: the context is the one that the kernel gave to this run.
    let interface = unsafe { (*ctx.skb.skb).ifindex };
    let place = match way {
        Way::In => interface << 1,
        Way::Out => interface << 1 | 1,
    };
    take(ctx, &found, direction, Sight::Interface(place), &tally);
    NEXT
}

/// Copies one wanted packet out, or counts why not.
#[inline(always)]
fn take(ctx: &SkBuffContext, found: &headers::Found, direction: u8, sight: Sight, tally: &emit::Tally) {
    tally.wanted_packet();
    if let Err(reason) = copy_out(ctx, found, direction, sight, tally) {
        tally.dropped_packet(ctx, reason);
    }
}

/// Copies one wanted packet into the ring.
#[inline(always)]
fn copy_out(
    ctx: &SkBuffContext,
    found: &headers::Found,
    direction: u8,
    sight: Sight,
    tally: &emit::Tally,
) -> Result<(), emit::DropReason> {
    let Some(settings) = select::settings() else { return Err(emit::DropReason::Malformed) };
    // Most packets of a busy service, when only some of its connections are copied: they pay for nothing else.
    select::keep_sampled(&found.ends(direction), settings)?;
    let packet = headers::read(ctx, found, direction, matches!(sight, Sight::Sockets))?;
    select::keep_wanted(&packet.header, settings)?;
    match sight {
        Sight::Sockets => emit::emit(ctx, packet, settings, tally),
        Sight::Interface(place) => {
            let passage = select::Passage::first(&packet.header, place)?;
            emit::emit(ctx, packet, settings, tally)?;
            passage.remember();
            Ok(())
        }
    }
}

/// The verifier proves that no path gets here.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
