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

/// The third word of an IPv4-mapped address, `::ffff:0:0/96` (RFC 4291 section 2.5.5.2); the two before it are zero.
const MAPPED_PREFIX: u32 = 0xffff_u32.to_be();

/// What the IP header says, where the TCP header is, and the ports that are asked for first.
///
/// Words that are not decoded here keep the order of the network.
pub(crate) struct Found {
    source: [u32; 4],
    destination: [u32; 4],
    /// Where the packet ends by its own account, 0 when it gives none.
    claimed_end: u32,
    tcp_at: u32,
    source_port: u16,
    destination_port: u16,
}

/// Both ends of a packet's flow.
pub(crate) struct Ends {
    pub(crate) local_addr: [u8; 16],
    pub(crate) remote_addr: [u8; 16],
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
}

/// A wanted packet, ready to be copied.
pub(crate) struct TcpPacket {
    /// The record header, for the whole packet as if it needed only one record.
    pub(crate) header: RecordHeader,
    /// Where the payload starts.
    pub(crate) payload_at: u32,
}

// === impl Found ===

impl Found {
    /// The port of this host's end.
    #[inline(always)]
    pub(crate) fn local_port(&self, direction: u8) -> u16 {
        if direction == INGRESS { self.destination_port } else { self.source_port }
    }

    /// This host's end and the other one.
    #[inline(always)]
    pub(crate) fn ends(&self, direction: u8) -> Ends {
        let (local_addr, remote_addr, remote_port) = if direction == INGRESS {
            (self.destination, self.source, self.source_port)
        } else {
            (self.source, self.destination, self.destination_port)
        };
        Ends {
            local_addr: address_bytes(local_addr),
            remote_addr: address_bytes(remote_addr),
            local_port: self.local_port(direction),
            remote_port,
        }
    }
}

/// Finds the TCP header. `None` when the packet has none that can be read.
#[inline(always)]
pub(crate) fn find_tcp(ctx: &SkBuffContext) -> Option<Found> {
    let [first] = read_words::<1>(ctx, 0)?;
    match u32::from_be(first) >> 28 {
        4 => find_tcp_v4(ctx),
        6 => find_tcp_v6(ctx),
        _ => None,
    }
}

/// Reads the rest of a wanted packet's headers.
#[inline(always)]
pub(crate) fn read(ctx: &SkBuffContext, found: &Found, direction: u8) -> Result<TcpPacket, DropReason> {
    let tcp = read_words::<4>(ctx, found.tcp_at + 4).ok_or(DropReason::Malformed)?;
    let [sequence, acknowledgement, control, _checksum] = tcp.map(u32::from_be);
    let header_bytes = (control >> 28) * 4;
    let payload_at = found.tcp_at + header_bytes;
    let ends_at = match found.claimed_end {
        0 => ctx.len(),
        claimed => claimed.min(ctx.len()),
    };
    if header_bytes < TCP_HEADER_BYTES || payload_at > ends_at {
        return Err(DropReason::Malformed);
    }
    let Ends { local_addr, remote_addr, local_port, remote_port } = found.ends(direction);
    let payload_bytes = ends_at - payload_at;
    let header = RecordHeader {
        // SAFETY: the helper only reads a clock.
        boot_ns: unsafe { bpf_ktime_get_boot_ns() },
        // SAFETY: the context is the one that the kernel gave to this run.
        scope: unsafe { bpf_skb_cgroup_id(ctx.skb.skb) },
        local_addr,
        remote_addr,
        sequence,
        acknowledgement,
        payload_bytes,
        packet_payload_bytes: payload_bytes,
        local_port,
        remote_port,
        window: control as u16,
        tcp_flags: (control >> 16) as u8,
        direction,
        part: 0,
        reserved: [0; 7],
    };
    Ok(TcpPacket { header, payload_at })
}

#[inline(always)]
fn find_tcp_v4(ctx: &SkBuffContext) -> Option<Found> {
    let [first, fragment, protocol, source, destination] = read_words::<5>(ctx, 0)?;
    let first = u32::from_be(first);
    let fragment_offset = u32::from_be(fragment) & 0x1fff;
    if (u32::from_be(protocol) >> 16) as u8 != TCP || fragment_offset != 0 {
        return None;
    }
    let (tcp_at, source_port, destination_port) = ports_at(ctx, (first >> 24 & 0xf) * 4)?;
    Some(Found {
        source: [0, 0, MAPPED_PREFIX, source],
        destination: [0, 0, MAPPED_PREFIX, destination],
        // The kernel writes zero into the total length of packets above 64 KiB (`iph_set_totlen`).
        claimed_end: first & 0xffff,
        tcp_at,
        source_port,
        destination_port,
    })
}

#[inline(always)]
fn find_tcp_v6(ctx: &SkBuffContext) -> Option<Found> {
    let [_, lengths, s0, s1, s2, s3, d0, d1, d2, d3] = read_words::<10>(ctx, 0)?;
    let lengths = u32::from_be(lengths);
    let mut next = (lengths >> 8) as u8;
    let mut at = IPV6_HEADER_BYTES;
    for _ in 0..EXTENSION_HEADERS_MAX {
        if next == TCP {
            break;
        }
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS) {
            return None;
        }
        let [extension] = read_words::<1>(ctx, at)?;
        let extension = extension.to_ne_bytes();
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
    let (tcp_at, source_port, destination_port) = ports_at(ctx, at)?;
    // A payload length of zero means a jumbo packet (RFC 2675), or one that the kernel has yet to cut.
    let claimed_end = match lengths >> 16 {
        0 => 0,
        payload_bytes => payload_bytes + IPV6_HEADER_BYTES,
    };
    Some(Found {
        source: [s0, s1, s2, s3],
        destination: [d0, d1, d2, d3],
        claimed_end,
        tcp_at,
        source_port,
        destination_port,
    })
}

/// The same offset, bounded, and the source and destination port that stand there.
#[inline(always)]
fn ports_at(ctx: &SkBuffContext, tcp_at: u32) -> Option<(u32, u16, u16)> {
    let tcp_at = bounded(ctx, tcp_at);
    let [ports] = read_words::<1>(ctx, tcp_at)?;
    let ports = u32::from_be(ports);
    Some((tcp_at, (ports >> 16) as u16, ports as u16))
}

/// Reads `N` words at an offset: straight from the linear part of the packet, or with a helper call when they
/// lie outside it.
///
/// Words, because eBPF has no unaligned loads for LLVM: bytes are put together again with a load, a shift and a spill
/// each, which cost a wanted packet 40 ns. The words keep the order of the network.
#[inline(always)]
fn read_words<const N: usize>(ctx: &SkBuffContext, at: u32) -> Option<[u32; N]> {
    // SAFETY: the context is the one that the kernel gave to this run.
    let (start, end) = unsafe { ((*ctx.skb.skb).data as usize, (*ctx.skb.skb).data_end as usize) };
    let from = start + at as usize;
    if from + N * 4 <= end {
        // SAFETY: the comparison above holds, and the verifier insists on it. Headers start at multiples of 4 bytes
        // from the IP header; where that one is not aligned itself, the machine loads such words as well
        // (`NET_IP_ALIGN`, `include/linux/skbuff.h`), and the verifier refuses the program on a machine that does not.
        return Some(unsafe { (from as *const [u32; N]).read() });
    }
    let mut words = MaybeUninit::<[u32; N]>::uninit();
    // SAFETY: the helper writes all `N` words or fails.
    let status =
        unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), at, words.as_mut_ptr().cast(), (N * 4) as u32) };
    // SAFETY: see above.
    (status == 0).then(|| unsafe { words.assume_init() })
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

/// The sixteen bytes of an address that was read as words.
#[inline(always)]
fn address_bytes(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: every byte pattern is valid for both, and they have one size.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
}
