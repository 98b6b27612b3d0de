//! Finds the TCP header of a packet, behind its link header where it has one, and reads it.
//!
//! Knows nothing of ports that are wanted, and trusts no length that the packet claims.

use core::hint::black_box;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_cgroup_id, bpf_skb_load_bytes};
use aya_ebpf::programs::SkBuffContext;
use understudy_abi::{EGRESS, INGRESS, RecordHeader};

use crate::emit::DropReason;

/// IPv6 extension headers that are walked before the packet is given up. RFC 8200 section 4.1 lists seven.
const EXTENSION_HEADERS_MAX: usize = 8;
/// VLAN tags that are skipped: that of a provider and that of a customer (IEEE 802.1ad). The device often takes the outer one
/// off the packet before we see it.
const VLAN_TAGS_MAX: usize = 2;
/// A TCP header starts at most here: the verifier allows variable offsets below 64 KiB only.
const TCP_OFFSET_MASK: u32 = 0x3fff;

/// Both addresses of an Ethernet header, before the type of what follows.
const ETHERNET_ADDRESSES_BYTES: u32 = 12;
const ETHERTYPE_BYTES: u32 = 2;
const VLAN_TAG_BYTES: u32 = 4;
const IPV6_HEADER_BYTES: u32 = 40;
const TCP_HEADER_BYTES: u32 = 20;

// Types of what follows an Ethernet header or a VLAN tag, https://www.iana.org/assignments/ieee-802-numbers.
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_VLAN_OF_PROVIDER: u16 = 0x88a8;

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
    /// The port of the local end.
    #[inline(always)]
    pub(crate) fn local_port(&self, direction: u8) -> u16 {
        if direction == INGRESS { self.destination_port } else { self.source_port }
    }

    /// [`INGRESS`] toward the end with a wanted port, [`EGRESS`] away from it; `None` when neither port is wanted. Of two
    /// wanted ports the lower one is the server's, of equal ports that of the lower address: any rule will do that says
    /// the same of both directions.
    #[inline(always)]
    pub(crate) fn direction(&self, is_wanted: impl Fn(u16) -> bool) -> Option<u8> {
        match (is_wanted(self.destination_port), is_wanted(self.source_port)) {
            (false, false) => None,
            (true, false) => Some(INGRESS),
            (false, true) => Some(EGRESS),
            (true, true) => {
                let destination = (self.destination_port, number(self.destination));
                let source = (self.source_port, number(self.source));
                Some(if destination <= source { INGRESS } else { EGRESS })
            }
        }
    }

    /// The local end and the other one.
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

/// Finds the IP header behind an Ethernet header and its VLAN tags. `None` when the packet is none of IP.
#[inline(always)]
pub(crate) fn behind_ethernet(ctx: &SkBuffContext) -> Option<u32> {
    let mut at = ETHERNET_ADDRESSES_BYTES;
    for _ in 0..=VLAN_TAGS_MAX {
        let [word] = read_words::<1>(ctx, at)?;
        match (u32::from_be(word) >> 16) as u16 {
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => return Some(bounded(ctx, at + ETHERTYPE_BYTES)),
            ETHERTYPE_VLAN | ETHERTYPE_VLAN_OF_PROVIDER => at += VLAN_TAG_BYTES,
            _ => return None,
        }
    }
    None
}

/// Finds the TCP header of a packet whose IP header is at this offset. `None` when the packet has none that can be read.
#[inline(always)]
pub(crate) fn find_tcp(ctx: &SkBuffContext, ip_at: u32) -> Option<Found> {
    let [first] = read_words::<1>(ctx, ip_at)?;
    match u32::from_be(first) >> 28 {
        4 => find_tcp_v4(ctx, ip_at),
        6 => find_tcp_v6(ctx, ip_at),
        _ => None,
    }
}

/// Reads the rest of a wanted packet's headers.
#[inline(always)]
pub(crate) fn read(
    ctx: &SkBuffContext,
    found: &Found,
    direction: u8,
    has_local_socket: bool,
) -> Result<TcpPacket, DropReason> {
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
        scope: if has_local_socket { unsafe { bpf_skb_cgroup_id(ctx.skb.skb) } } else { 0 },
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
fn find_tcp_v4(ctx: &SkBuffContext, ip_at: u32) -> Option<Found> {
    let [first, fragment, protocol, source, destination] = read_words::<5>(ctx, ip_at)?;
    let first = u32::from_be(first);
    let fragment_offset = u32::from_be(fragment) & 0x1fff;
    if (u32::from_be(protocol) >> 16) as u8 != TCP || fragment_offset != 0 {
        return None;
    }
    let (tcp_at, source_port, destination_port) = ports_at(ctx, ip_at + (first >> 24 & 0xf) * 4)?;
    Some(Found {
        source: [0, 0, MAPPED_PREFIX, source],
        destination: [0, 0, MAPPED_PREFIX, destination],
        // The kernel writes zero into the total length of packets above 64 KiB (`iph_set_totlen`).
        claimed_end: match first & 0xffff {
            0 => 0,
            total_bytes => ip_at + total_bytes,
        },
        tcp_at,
        source_port,
        destination_port,
    })
}

#[inline(always)]
fn find_tcp_v6(ctx: &SkBuffContext, ip_at: u32) -> Option<Found> {
    let [_, lengths, s0, s1, s2, s3, d0, d1, d2, d3] = read_words::<10>(ctx, ip_at)?;
    let lengths = u32::from_be(lengths);
    let mut next = (lengths >> 8) as u8;
    let mut at = ip_at + IPV6_HEADER_BYTES;
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
        payload_bytes => ip_at + IPV6_HEADER_BYTES + payload_bytes,
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
        // from the IP header; where that one is not aligned itself, as behind an Ethernet header, the machine loads such words as well
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
/// sense there. The probe is verified in a tenth of the steps.
#[inline(always)]
fn bounded(ctx: &SkBuffContext, at: u32) -> u32 {
    forgotten(ctx, at) & TCP_OFFSET_MASK
}

/// The same number, of which the verifier knows nothing.
///
/// Adding and subtracting a number that it cannot know makes it forget what it knew, so that the many ways to a point in
/// the program count as one from there on.
#[inline(always)]
pub(crate) fn forgotten(ctx: &SkBuffContext, number: u32) -> u32 {
    let unknown = ctx.len();
    // LLVM would remove what it can prove redundant.
    black_box(number.wrapping_add(unknown)).wrapping_sub(unknown)
}

/// An address as a number, in no order that means anything.
#[inline(always)]
fn number(address: [u32; 4]) -> u128 {
    u128::from_ne_bytes(address_bytes(address))
}

/// The sixteen bytes of an address that was read as words.
#[inline(always)]
fn address_bytes(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: every byte pattern is valid for both, and they have one size.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
}
