//! Writes packets into the ring buffer, in as many records as they need, and counts.
//!
//! Never waits for room: a packet that does not fit is counted as dropped.

use core::hint::black_box;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::{debug, warn};
use understudy_abi::{
    PAYLOAD_BYTES_MAX, PAYLOAD_CLASSES, RECORD_FIRST, RECORD_LAST, RECORDS_PER_PACKET_MAX, RecordHeader,
    Settings, counter,
};

use crate::headers::{TcpPacket, forgotten};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

/// Capacity of the records that a large payload is cut into.
const PIECE_BYTES: usize = PAYLOAD_CLASSES[PAYLOAD_CLASSES.len() - 1];

/// At most one wake-up in this time while the ring is past its mark. A reader that sleeps needs one, and a
/// reader that is busy needs none; each costs more than a microsecond.
const WAKE_SPACING_NS: u64 = 1_000_000;

/// Submits a record and wakes nobody.
const SLEEP_ON: u64 = BPF_RB_NO_WAKEUP as u64;
/// Submits a record and wakes user space.
const WAKE: u64 = BPF_RB_FORCE_WAKEUP as u64;

/// User space sets the size when it loads the probe.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

/// All counters of one CPU as one value, so that a packet needs one lookup.
#[map]
static COUNTERS: PerCpuArray<[u64; counter::COUNT as usize]> = PerCpuArray::with_max_entries(1, 0);

/// When user space was last woken, `boot_ns`. Written only while the ring is past its mark.
#[map]
static LAST_WAKE: Array<u64> = Array::with_max_entries(1, 0);

/// Why a wanted packet was not captured.
#[derive(Clone, Copy)]
pub(crate) enum DropReason {
    RingFull,
    Malformed,
    CopyFailed,
    Oversize,
    SampledOut,
    FlowUnwanted,
    PassedBefore,
}

/// The counters of this CPU.
pub(crate) struct Tally {
    counters: *mut [u64; counter::COUNT as usize],
}

/// A ring-buffer record with room for `CLASS` bytes of payload.
#[repr(C)]
struct Record<const CLASS: usize> {
    header: RecordHeader,
    payload: [u8; CLASS],
}

// === impl Tally ===

impl Tally {
    #[inline(always)]
    pub(crate) fn this_cpu() -> Option<Self> {
        COUNTERS.get_ptr_mut(0).map(|counters| Self { counters })
    }

    #[inline(always)]
    pub(crate) fn saw_packet(&self) {
        self.add(counter::SEEN, 1);
    }

    #[inline(always)]
    pub(crate) fn wanted_packet(&self) {
        self.add(counter::WANTED, 1);
    }

    #[inline(always)]
    pub(crate) fn dropped_packet(&self, ctx: &SkBuffContext, reason: DropReason) {
        let index = match reason {
            DropReason::RingFull => counter::DROP_RING_FULL,
            DropReason::Malformed => {
                log_malformed(ctx);
                counter::DROP_MALFORMED
            }
            DropReason::CopyFailed => counter::DROP_COPY_FAILED,
            DropReason::Oversize => {
                log_oversize(ctx);
                counter::DROP_OVERSIZE
            }
            DropReason::SampledOut => counter::DROP_SAMPLED_OUT,
            DropReason::FlowUnwanted => counter::DROP_FLOW_UNWANTED,
            DropReason::PassedBefore => counter::DROP_PASSED_BEFORE,
        };
        self.add(index, 1);
    }

    /// Atomic although the memory is this CPU's own: an egress run in a system call can be interrupted by an
    /// ingress run, and a plain addition would then lose one of the two.
    ///
    /// In assembly, because Rust offers no `fetch_add` on a target without compare-and-swap.
    #[inline(always)]
    fn add(&self, index: u32, amount: u64) {
        // SAFETY: the map holds `COUNT` aligned numbers and `index` is one of the constants.
        unsafe {
            let counter = self.counters.cast::<u64>().add(index as usize);
            core::arch::asm!("lock *(u64 *)({counter} + 0) += {amount}", counter = in(reg) counter, amount = in(reg) amount);
        }
    }
}

/// A function of its own, as below, because the stack of one eBPF function has 512 bytes and a log line takes many.
#[inline(never)]
fn log_malformed(ctx: &SkBuffContext) {
    debug!(ctx, "A packet of a wanted port has a TCP header that contradicts itself.");
}

#[inline(never)]
fn log_oversize(ctx: &SkBuffContext) {
    warn!(ctx, "A packet is larger than the probe can cut.");
}

/// Writes one packet. On an error some of its records may have been written; none of them is marked as the last.
#[inline(always)]
pub(crate) fn emit(
    ctx: &SkBuffContext,
    packet: TcpPacket,
    settings: &Settings,
    tally: &Tally,
) -> Result<(), DropReason> {
    let TcpPacket { mut header, payload_at: mut at } = packet;
    let flags = header.tcp_flags;
    let mut remaining = header.packet_payload_bytes;
    if remaining > PAYLOAD_BYTES_MAX {
        return Err(DropReason::Oversize);
    }

    header.part = RECORD_FIRST;
    header.tcp_flags = flags & !(FIN | RST);
    header.payload_bytes = PIECE_BYTES as u32;
    // Only full pieces are written in the loop, which wake nobody, and each round begins with the same knowledge. So the
    // verifier meets one shape of it and of what follows, however many rounds came before. Without, that of 6.1 gives up.
    for _ in 1..RECORDS_PER_PACKET_MAX {
        remaining = forgotten(ctx, remaining);
        at = forgotten(ctx, at);
        if remaining <= PIECE_BYTES as u32 {
            break;
        }
        write::<PIECE_BYTES>(ctx, &header, at, SLEEP_ON, tally)?;
        // The SYN occupies the number before the first payload byte (RFC 9293 section 3.4).
        let syn = u32::from(header.tcp_flags & SYN != 0);
        header.sequence = header.sequence.wrapping_add(PIECE_BYTES as u32 + syn);
        header.part = 0;
        header.tcp_flags &= !SYN;
        at += PIECE_BYTES as u32;
        remaining -= PIECE_BYTES as u32;
    }

    header.tcp_flags |= flags & (FIN | RST);
    header.part |= RECORD_LAST;
    header.payload_bytes = remaining;
    let wake = wake_flag(&header, settings);
    const CLASS: [usize; 11] = PAYLOAD_CLASSES;
    match remaining as usize {
        0 => write::<0>(ctx, &header, at, wake, tally),
        n if n <= CLASS[1] => write::<{ CLASS[1] }>(ctx, &header, at, wake, tally),
        n if n <= CLASS[2] => write::<{ CLASS[2] }>(ctx, &header, at, wake, tally),
        n if n <= CLASS[3] => write::<{ CLASS[3] }>(ctx, &header, at, wake, tally),
        n if n <= CLASS[4] => write::<{ CLASS[4] }>(ctx, &header, at, wake, tally),
        n if n <= CLASS[5] => write::<{ CLASS[5] }>(ctx, &header, at, wake, tally),
        n if n <= CLASS[6] => write::<{ CLASS[6] }>(ctx, &header, at, wake, tally),
        n if n <= CLASS[7] => write::<{ CLASS[7] }>(ctx, &header, at, wake, tally),
        n if n <= CLASS[8] => write::<{ CLASS[8] }>(ctx, &header, at, wake, tally),
        n if n <= CLASS[9] => write::<{ CLASS[9] }>(ctx, &header, at, wake, tally),
        _ => write::<{ CLASS[10] }>(ctx, &header, at, wake, tally),
    }?;
    tally.add(counter::CAPTURED, 1);
    if wake == WAKE {
        remember_wake(&header);
    }
    Ok(())
}

/// Writes one record of the given class.
#[inline(always)]
fn write<const CLASS: usize>(
    ctx: &SkBuffContext,
    header: &RecordHeader,
    at: u32,
    wake: u64,
    tally: &Tally,
) -> Result<(), DropReason> {
    let Some(mut entry) = RECORDS.reserve::<Record<CLASS>>(0) else { return Err(DropReason::RingFull) };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record and aligned to 8 bytes.
    unsafe { (&raw mut (*record).header).write(*header) };
    if CLASS > 0 {
        // The caller chose the class by this length; LLVM knows it and would remove the test that the verifier
        // needs next to the helper call. One less and then one more, because the verifiers of older kernels (6.1) learn
        // from `bytes == 0` that the number is not zero only when it is known otherwise, and refuse a length of zero.
        let less_one = black_box(header.payload_bytes.wrapping_sub(1));
        if less_one >= CLASS as u32 {
            entry.discard(SLEEP_ON);
            return Err(DropReason::CopyFailed);
        }
        let bytes = less_one + 1;
        // SAFETY: `bytes` is at most `CLASS`, the length of the payload part.
        let status =
            unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), at, (&raw mut (*record).payload).cast(), bytes) };
        if status != 0 {
            entry.discard(SLEEP_ON);
            return Err(DropReason::CopyFailed);
        }
        tally.add(counter::CAPTURED_BYTES, u64::from(bytes));
    }
    entry.submit(wake);
    Ok(())
}

/// Whether submitting a packet's last record wakes user space: only past the mark, and not again at once.
#[inline(always)]
fn wake_flag(header: &RecordHeader, settings: &Settings) -> u64 {
    if RECORDS.query(u64::from(BPF_RB_AVAIL_DATA)) < u64::from(settings.wake_bytes) {
        return SLEEP_ON;
    }
    let Some(last) = LAST_WAKE.get_ptr(0) else { return SLEEP_ON };
    // SAFETY: the map holds one aligned number, which eBPF loads whole.
    let last = unsafe { last.read_volatile() };
    if header.boot_ns.wrapping_sub(last) < WAKE_SPACING_NS { SLEEP_ON } else { WAKE }
}

/// Remembers when user space was woken. CPUs that race here wake once more than needed.
#[inline(always)]
fn remember_wake(header: &RecordHeader) {
    let Some(last) = LAST_WAKE.get_ptr_mut(0) else { return };
    // SAFETY: as above, and eBPF stores it whole.
    unsafe { last.write_volatile(header.boot_ns) };
}
