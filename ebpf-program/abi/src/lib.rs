//! What the kernel probe and user space both know: the layout of records, counters and settings.
//!
//! Holds plain integers only. No `bool` and no `enum` crosses the kernel border, because a byte that the other
//! side wrote may hold any value; both sides read named constants instead. Sizes are asserted at compile time.
#![no_std]

/// Changes whenever a layout here changes; user space refuses a probe that was built with another one.
pub const ABI_VERSION: u32 = 2;

/// Payload capacities of the record classes, in bytes. A ring-buffer record has one of these sizes plus the
/// header, because `bpf_ringbuf_reserve` takes a size that the verifier must know. Most HTTP messages are small,
/// so the steps are small there: at most half of a record of 128 to 16,384 bytes is padding.
///
/// A payload above the largest class is cut into full records of that class and one more for the rest.
pub const PAYLOAD_CLASSES: [usize; 11] = [0, 128, 256, 512, 1024, 1536, 2048, 4096, 8192, 16_384, 32_768];

/// Records that one packet may need. 24 records of 32 KiB hold 768 KiB, more than `GSO_MAX_SIZE` with BIG TCP
/// (8 × 65,535, `include/linux/netdevice.h`).
pub const RECORDS_PER_PACKET_MAX: usize = 24;

/// The largest payload that is captured.
pub const PAYLOAD_BYTES_MAX: u32 =
    (RECORDS_PER_PACKET_MAX * PAYLOAD_CLASSES[PAYLOAD_CLASSES.len() - 1]) as u32;

/// One record's header; `payload_bytes` bytes of payload follow it, then padding up to the record's class.
///
/// All numbers are in host byte order. IPv4 addresses are written as IPv4-mapped IPv6 addresses (RFC 4291
/// section 2.5.5.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// `bpf_ktime_get_boot_ns`, nanoseconds since boot, suspended time included.
    pub boot_ns: u64,
    /// Cgroup v2 id of the local socket (`bpf_skb_cgroup_id`, the inode of its folder), 0 where it is not known, and
    /// for packets of an interface, which belong to no local socket.
    /// A listener hands its own to the connections it accepts, so it is the same from SYN to FIN and in both
    /// directions. It tells apart flows with equal addresses in different network namespaces as far as those run
    /// in cgroups of their own. A RST or ACK that the kernel sends for a connection without a full socket (refused,
    /// or in TIME-WAIT) carries the root's.
    pub scope: u64,
    /// Address of the local end: the server's, when the port is wanted. On an interface: of the end with the wanted port.
    pub local_addr: [u8; 16],
    /// Address of the other end.
    pub remote_addr: [u8; 16],
    /// TCP sequence number of the SYN when `tcp_flags` has it, and payload then starts one later; else of the
    /// first payload byte of this record, or of the FIN when there is none.
    pub sequence: u32,
    /// TCP acknowledgement number; meaningful when `tcp_flags` has ACK.
    pub acknowledgement: u32,
    /// Payload bytes in this record.
    pub payload_bytes: u32,
    /// Payload bytes of the whole packet.
    pub packet_payload_bytes: u32,
    /// Port of the local end.
    pub local_port: u16,
    /// Port of the other end.
    pub remote_port: u16,
    /// TCP window, unscaled.
    pub window: u16,
    /// The TCP flag byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16. SYN is set on a packet's first record only, FIN
    /// and RST on its last only.
    pub tcp_flags: u8,
    /// [`INGRESS`] or [`EGRESS`], as the local end sees it.
    pub direction: u8,
    /// Bits [`RECORD_FIRST`] and [`RECORD_LAST`].
    pub part: u8,
    /// Always zero.
    pub reserved: [u8; 7],
}

/// [`RecordHeader::direction`]: toward the local socket, so from client to server.
pub const INGRESS: u8 = 1;
/// [`RecordHeader::direction`]: from the local socket, so from server to client.
pub const EGRESS: u8 = 2;

/// [`RecordHeader::part`]: the first record of its packet.
pub const RECORD_FIRST: u8 = 1;
/// [`RecordHeader::part`]: the last record of its packet. A packet counts as captured when this one arrives.
pub const RECORD_LAST: u8 = 2;

/// Index into the counters, which are one array of 64-bit numbers per CPU. The law, for packets of wanted ports:
/// `WANTED = CAPTURED + Σ drops`, where the drops are [`DROP_COUNTERS`].
pub mod counter {
    /// Packets that the probe ran for.
    pub const SEEN: u32 = 0;
    /// TCP packets whose local port is wanted.
    pub const WANTED: u32 = 1;
    /// Packets whose last record was submitted.
    pub const CAPTURED: u32 = 2;
    /// Payload bytes in submitted records.
    pub const CAPTURED_BYTES: u32 = 3;
    /// Packets not (wholly) captured because the ring had no room.
    pub const DROP_RING_FULL: u32 = 4;
    /// Packets whose TCP header could not be read or contradicts itself.
    pub const DROP_MALFORMED: u32 = 5;
    /// Packets whose payload could not be copied.
    pub const DROP_COPY_FAILED: u32 = 6;
    /// Packets with more payload than [`super::RECORDS_PER_PACKET_MAX`] records hold.
    pub const DROP_OVERSIZE: u32 = 7;
    /// Packets of flows outside the sample; meant.
    pub const DROP_SAMPLED_OUT: u32 = 8;
    /// Packets of flows that user space no longer wants (not HTTP, upgraded); meant.
    pub const DROP_FLOW_UNWANTED: u32 = 9;
    /// Packets that passed another named interface before and were copied there; meant.
    pub const DROP_PASSED_BEFORE: u32 = 10;
    /// Number of counters.
    pub const COUNT: u32 = 11;
}

/// Each drop counter with its label, in the order of the indices.
pub const DROP_COUNTERS: [(u32, &str); 7] = [
    (counter::DROP_RING_FULL, "ring_full"),
    (counter::DROP_MALFORMED, "malformed"),
    (counter::DROP_COPY_FAILED, "copy_failed"),
    (counter::DROP_OVERSIZE, "oversize"),
    (counter::DROP_SAMPLED_OUT, "sampled_out"),
    (counter::DROP_FLOW_UNWANTED, "flow_unwanted"),
    (counter::DROP_PASSED_BEFORE, "passed_before"),
];

/// Settings that user space writes once before it attaches, and may change while running.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// [`ABI_VERSION`] of user space.
    pub abi_version: u32,
    /// A flow is kept when its [`flow_hash`] is at most this; `u32::MAX` keeps all.
    pub flow_sample_max: u32,
    /// Wake user space when the ring holds at least this many bytes; below it a timer drains.
    pub wake_bytes: u32,
    /// Not zero once user space has put a flow into the map of unwanted flows; until then no packet pays for a
    /// look into it.
    pub has_unwanted_flows: u32,
}

/// Hash of both ends of a flow, the same for both directions; compared with [`Settings::flow_sample_max`]. User
/// space computes it too, to know which flows it will hear no more of.
///
/// Must spread well, need not resist an adversary: a client that chooses its port can choose whether it is sampled.
#[inline(always)]
pub const fn flow_hash(
    local_addr: &[u8; 16],
    remote_addr: &[u8; 16],
    local_port: u16,
    remote_port: u16,
) -> u32 {
    let (local_high, local_low) = halves(local_addr);
    let (remote_high, remote_low) = halves(remote_addr);
    let state = (local_port as u64) << 16 | remote_port as u64;
    let state = mix(state ^ local_high);
    let state = mix(state ^ local_low);
    let state = mix(state ^ remote_high);
    let state = mix(state ^ remote_low);
    (state >> 32) as u32
}

#[inline(always)]
const fn halves(address: &[u8; 16]) -> (u64, u64) {
    let whole = u128::from_ne_bytes(*address);
    (whole as u64, (whole >> 64) as u64)
}

/// Hash of what stays the same of a packet on its way through a host: everything that this header says of it but the
/// time. A router changes TTL, checksums and addresses of the link, and none of these counts.
///
/// Two packets with one hash are taken for one and the same, so it has 64 bits. It need not resist an adversary either:
/// who finds two packets with one hash hides one of his own.
#[inline(always)]
pub const fn packet_hash(header: &RecordHeader) -> u64 {
    let flow =
        flow_hash(&header.local_addr, &header.remote_addr, header.local_port, header.remote_port) as u64;
    let control = (header.window as u64) << 16 | (header.tcp_flags as u64) << 8 | header.direction as u64;
    let state = mix(flow << 32 | control);
    let state = mix(state ^ ((header.sequence as u64) << 32 | header.acknowledgement as u64));
    mix(state ^ header.packet_payload_bytes as u64)
}

/// One round of a multiply-and-shift mixer; the constant is 2^64 divided by the golden ratio.
#[inline(always)]
const fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state ^ (state >> 29)
}

/// Flows that the map of unwanted flows holds before the oldest falls out.
pub const UNWANTED_FLOWS_MAX: u32 = 65_536;

/// Key of the map of flows that user space no longer wants.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// [`RecordHeader::scope`].
    pub scope: u64,
    /// [`RecordHeader::local_addr`].
    pub local_addr: [u8; 16],
    /// [`RecordHeader::remote_addr`].
    pub remote_addr: [u8; 16],
    /// [`RecordHeader::local_port`].
    pub local_port: u16,
    /// [`RecordHeader::remote_port`].
    pub remote_port: u16,
    /// Always zero.
    pub reserved: u32,
}

/// Packets that are remembered so that none is copied at two interfaces, one 64-bit number each. A packet needs to be
/// remembered for as long as it takes through the host, which is a batch of the driver's (64 packets) or a few.
pub const PASSED_PACKETS_MAX: u32 = 65_536;

/// Index into the array of programs behind the gates, where interfaces have no links of their own (before kernel 6.6):
/// packets that come in, with an Ethernet header.
pub const GATE_IN_ETHERNET: u32 = 0;
/// As [`GATE_IN_ETHERNET`], for packets that go out.
pub const GATE_OUT_ETHERNET: u32 = 1;
/// As [`GATE_IN_ETHERNET`], for packets that begin with their IP header.
pub const GATE_IN_PLAIN: u32 = 2;
/// As [`GATE_IN_PLAIN`], for packets that go out.
pub const GATE_OUT_PLAIN: u32 = 3;
/// Number of gates.
pub const GATES: u32 = 4;

/// The set of wanted ports is an array of this many 32-bit words: port `p` is bit `p % 32` of word `p / 32`.
pub const PORT_WORDS: u32 = 65_536 / 32;

const _: () = {
    assert!(size_of::<RecordHeader>() == 80);
    assert!(align_of::<RecordHeader>() == 8);
    assert!(size_of::<Settings>() == 16);
    assert!(size_of::<FlowKey>() == 48);
};
