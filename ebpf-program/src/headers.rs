//! Finds the TCP header of a packet and reads it.
//!
//! Knows nothing of ports that are wanted, and trusts no length that the packet claims.

use core::hint::black_box;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_cgroup_id, bpf_skb_load_bytes};
use aya_ebpf::programs::SkBuffContext;
use understudy_abi::{INGRESS, RecordHeader};

use crate::emit::DropReason;

/// IPv6 extension headers that are walked before the packet is given up. RFC 8200 section 4.1 lists seven.
const EXTENSION_HEADERS_MAX: usize = 8;
/// A TCP header starts at most here: the verifier allows variable offsets below 64 KiB only.
const TCP_OFFSET_MASK: u32 = 0x3fff;

const IPV6_HEADER_BYTES: u32 = 40;
const TCP_HEADER_BYTES: u32 = 20;

// Protocol numbers, https://www.iana.org/assignments/protocol-numbers.
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// Where the TCP header is, and the ports that are asked for first.
pub(crate) struct Found {
    is_ipv6: bool,
    tcp_at: u32,
    source_port: u16,
    destination_port: u16,
}

// === impl Found ===

impl Found {
    /// The port of this host's end.
    #[inline(always)]
    pub(crate) fn local_port(&self, direction: u8) -> u16 {
        if direction == INGRESS { self.destination_port } else { self.source_port }
    }

    #[inline(always)]
    fn remote_port(&self, direction: u8) -> u16 {
        if direction == INGRESS { self.source_port } else { self.destination_port }
    }
}

/// Finds the TCP header. `None` when the packet has none that can be read.
#[inline(always)]
pub(crate) fn find_tcp(ctx: &SkBuffContext) -> Option<Found> {
    let [first, ..] = read_bytes::<4>(ctx, 0)?;
    match first >> 4 {
        4 => find_tcp_v4(ctx, first),
        6 => find_tcp_v6(ctx),
        _ => None,
    }
}

/// Fills the record header of a wanted packet, as if it needed only one record, and returns where its payload starts.
///
/// Writes into the caller's header, because the stack of 512 bytes has no room for copies. Calls the helper without trying the linear part first: the verifier would
/// have to follow everything that comes after each of the two ways.
#[inline(always)]
pub(crate) fn read(
    ctx: &SkBuffContext,
    found: &Found,
    direction: u8,
    header: &mut RecordHeader,
) -> Result<u32, DropReason> {
    let (source, destination) = if direction == INGRESS {
        (&mut header.remote_addr, &mut header.local_addr)
    } else {
        (&mut header.local_addr, &mut header.remote_addr)
    };
    let claimed_end = if found.is_ipv6 {
        let [high, low] = load_bytes::<2>(ctx, 4).ok_or(DropReason::Malformed)?;
        *source = load_bytes::<16>(ctx, 8).ok_or(DropReason::Malformed)?;
        *destination = load_bytes::<16>(ctx, 24).ok_or(DropReason::Malformed)?;
        let claimed = u32::from(u16::from_be_bytes([high, low]));
        // A payload length of zero means a jumbo packet (RFC 2675), or one that the kernel has yet to cut.
        if claimed == 0 { u32::MAX } else { claimed + IPV6_HEADER_BYTES }
    } else {
        let ip = load_bytes::<20>(ctx, 0).ok_or(DropReason::Malformed)?;
        *source = mapped([ip[12], ip[13], ip[14], ip[15]]);
        *destination = mapped([ip[16], ip[17], ip[18], ip[19]]);
        let claimed = u32::from(u16::from_be_bytes([ip[2], ip[3]]));
        // The kernel writes zero into the total length of packets above 64 KiB (`iph_set_totlen`).
        if claimed == 0 { u32::MAX } else { claimed }
    };
    let tcp = load_bytes::<20>(ctx, found.tcp_at).ok_or(DropReason::Malformed)?;
    let header_bytes = u32::from(tcp[12] >> 4) * 4;
    let payload_at = found.tcp_at + header_bytes;
    let ends_at = claimed_end.min(ctx.len());
    if header_bytes < TCP_HEADER_BYTES || payload_at > ends_at {
        return Err(DropReason::Malformed);
    }
    // SAFETY: the helper only reads a clock.
    header.boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: the context is the one that the kernel gave to this run.
    header.scope = unsafe { bpf_skb_cgroup_id(ctx.skb.skb) };
    header.sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    header.acknowledgement = u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]);
    header.payload_bytes = ends_at - payload_at;
    header.packet_payload_bytes = header.payload_bytes;
    header.local_port = found.local_port(direction);
    header.remote_port = found.remote_port(direction);
    header.window = u16::from_be_bytes([tcp[14], tcp[15]]);
    header.tcp_flags = tcp[13];
    header.direction = direction;
    Ok(payload_at)
}

#[inline(always)]
fn find_tcp_v4(ctx: &SkBuffContext, first: u8) -> Option<Found> {
    let ip = read_bytes::<20>(ctx, 0)?;
    let fragment_offset = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff;
    if ip[9] != TCP || fragment_offset != 0 {
        return None;
    }
    found_at(ctx, u32::from(first & 0xf) * 4, false)
}

#[inline(always)]
fn find_tcp_v6(ctx: &SkBuffContext) -> Option<Found> {
    let [_, _, mut next, _] = read_bytes::<4>(ctx, 4)?;
    let mut at = IPV6_HEADER_BYTES;
    for _ in 0..EXTENSION_HEADERS_MAX {
        if next == TCP {
            break;
        }
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS) {
            return None;
        }
        let extension = read_bytes::<4>(ctx, at)?;
        // Later fragments begin in the middle of a TCP segment (RFC 8200 section 4.5).
        if next == FRAGMENT && u16::from_be_bytes([extension[2], extension[3]]) & !7 != 0 {
            return None;
        }
        let bytes = match next {
            FRAGMENT => 8,
            // RFC 4302 section 2.2: in 32-bit words, minus two.
            AUTHENTICATION => (u32::from(extension[1]) + 2) * 4,
            _ => (u32::from(extension[1]) + 1) * 8,
        };
        next = extension[0];
        at = bounded(ctx, at + bytes);
    }
    if next != TCP {
        return None;
    }
    found_at(ctx, at, true)
}

#[inline(always)]
fn found_at(ctx: &SkBuffContext, tcp_at: u32, is_ipv6: bool) -> Option<Found> {
    let tcp_at = bounded(ctx, tcp_at);
    let ports = read_bytes::<4>(ctx, tcp_at)?;
    Some(Found {
        is_ipv6,
        tcp_at,
        source_port: u16::from_be_bytes([ports[0], ports[1]]),
        destination_port: u16::from_be_bytes([ports[2], ports[3]]),
    })
}

/// Reads `N` bytes at an offset: straight from the linear part of the packet, or with a helper call when they
/// lie outside it. `N` is at least 2: LLVM turns a comparison by one byte into one that the verifier does not know.
#[inline(always)]
fn read_bytes<const N: usize>(ctx: &SkBuffContext, at: u32) -> Option<[u8; N]> {
    // SAFETY: the context is the one that the kernel gave to this run.
    let (start, end) = unsafe { ((*ctx.skb.skb).data as usize, (*ctx.skb.skb).data_end as usize) };
    let from = start + at as usize;
    if from + N <= end {
        // SAFETY: the comparison above holds, and the verifier insists on it.
        return Some(unsafe { (from as *const [u8; N]).read_unaligned() });
    }
    load_bytes(ctx, at)
}

/// Reads `N` bytes at an offset, wherever they lie.
#[inline(always)]
fn load_bytes<const N: usize>(ctx: &SkBuffContext, at: u32) -> Option<[u8; N]> {
    let mut bytes = MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: the helper writes all `N` bytes or fails.
    let status = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
    // SAFETY: see above.
    (status == 0).then(|| unsafe { bytes.assume_init() })
}

/// The same offset, of which the verifier knows nothing but a bound. An offset past the bound is wrong and finds no
/// sense there.
///
/// Adding and subtracting a number that it cannot know makes the verifier forget what it knew, so that the many ways
/// to a TCP header count as one from here on. The probe is verified in a tenth of the steps.
#[inline(always)]
fn bounded(ctx: &SkBuffContext, at: u32) -> u32 {
    let unknown = ctx.len();
    // LLVM would remove what it can prove redundant.
    let sum = black_box(at.wrapping_add(unknown));
    sum.wrapping_sub(unknown) & TCP_OFFSET_MASK
}

/// RFC 4291 section 2.5.5.2.
#[inline(always)]
fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}
