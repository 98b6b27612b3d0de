//! Decides which packets are copied: by local port, by flow sample, by what user space has asked to forget, and each once.
//!
//! Leaves out whole flows, and of a flow only packets that were copied already, so that what is kept stays complete.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap};
use understudy_abi::{
    FlowKey, PASSED_PACKETS_MAX, PORT_WORDS, RecordHeader, Settings, UNWANTED_FLOWS_MAX, flow_hash,
    packet_hash,
};

use crate::emit::DropReason;
use crate::headers::Ends;

const SYN: u8 = 2;

/// Wanted ports, one bit each.
#[map]
static PORTS: Array<u32> = Array::with_max_entries(PORT_WORDS, 0);

/// One entry, which user space writes before it attaches.
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// Flows that user space no longer wants. At its bound the flow that was asked for longest ago falls out and is
/// copied again, which costs work and loses nothing.
#[map]
static UNWANTED_FLOWS: LruHashMap<FlowKey, u32> = LruHashMap::with_max_entries(UNWANTED_FLOWS_MAX, 0);

/// Packets that were copied at an interface: the high bits are a packet's hash, the low ones say where it passed. The hash
/// also chooses the place, where a newer packet takes the room of an older one. User space gives this map one place when
/// sockets are watched, which see each packet once.
#[map]
static PASSED: Array<u64> = Array::with_max_entries(PASSED_PACKETS_MAX, 0);

/// The part of [`PASSED`]'s numbers that says where.
const PLACE_MASK: u64 = 0xffff;

/// A packet that passes an interface.
pub(crate) struct Passage {
    slot: *mut u64,
    /// What the slot holds once this packet has been copied.
    value: u64,
}

// === impl Passage ===

impl Passage {
    /// Whether the packet may be copied here: it has not been copied elsewhere. A packet that passes one place twice was
    /// sent twice.
    ///
    /// `place` tells interfaces and directions apart. Of two places with one number, the second copies once more, which
    /// costs room and does no harm: whoever puts the stream together takes bytes once.
    #[inline(always)]
    pub(crate) fn first(header: &RecordHeader, place: u32) -> Result<Self, DropReason> {
        let hash = packet_hash(header);
        // The map has as many places as the mask has values, so there is one.
        let slot = PASSED.get_ptr_mut((hash & PLACE_MASK) as u32).ok_or(DropReason::Malformed)?;
        let value = hash & !PLACE_MASK | u64::from(place) & PLACE_MASK;
        // SAFETY: the map holds aligned numbers, which eBPF loads and stores whole.
        let seen = unsafe { slot.read_volatile() };
        if seen & !PLACE_MASK == value & !PLACE_MASK && seen != value {
            return Err(DropReason::PassedBefore);
        }
        Ok(Self { slot, value })
    }

    /// Remembers the packet, once it has been copied.
    #[inline(always)]
    pub(crate) fn remember(self) {
        // SAFETY: as above.
        unsafe { self.slot.write_volatile(self.value) };
    }
}

/// Whether user space asked for this local port.
#[inline(always)]
pub(crate) fn port_is_wanted(port: u16) -> bool {
    PORTS.get(u32::from(port) / 32).is_some_and(|word| (word >> (port % 32)) & 1 == 1)
}

/// What user space wrote.
#[inline(always)]
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// Whether packets of this flow are in the sample.
#[inline(always)]
pub(crate) fn keep_sampled(ends: &Ends, settings: &Settings) -> Result<(), DropReason> {
    if settings.flow_sample_max == u32::MAX {
        return Ok(());
    }
    let Ends { local_addr, remote_addr, local_port, remote_port } = ends;
    if flow_hash(local_addr, remote_addr, *local_port, *remote_port) > settings.flow_sample_max {
        return Err(DropReason::SampledOut);
    }
    Ok(())
}

/// Whether user space still wants packets of this flow.
#[inline(always)]
pub(crate) fn keep_wanted(header: &RecordHeader, settings: &Settings) -> Result<(), DropReason> {
    if settings.has_unwanted_flows == 0 {
        return Ok(());
    }
    let key = FlowKey {
        scope: header.scope,
        local_addr: header.local_addr,
        remote_addr: header.remote_addr,
        local_port: header.local_port,
        remote_port: header.remote_port,
        reserved: 0,
    };
    if header.tcp_flags & SYN != 0 {
        // A new connection has nothing to do with an old one that had the same ports. An absent entry is the
        // usual case and no error.
        UNWANTED_FLOWS.remove(key).unwrap_or_default();
        return Ok(());
    }
    if UNWANTED_FLOWS.get_ptr(key).is_some() {
        return Err(DropReason::FlowUnwanted);
    }
    Ok(())
}
