//! The probe's object and its maps: parsed, made, opened.
//!
//! Loads no program and attaches nothing. Holds the only `unsafe` code of the library.

use std::fs;
use std::io;

use aya::maps::{Array, Map, MapError};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use understudy_abi as abi;

use crate::capture::CaptureError;

/// The object; empty when the library was built without one.
pub(super) static PROBE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/understudy-probe"));

/// What one CPU has counted.
pub(super) type Counters = [u64; abi::counter::COUNT as usize];

/// [`abi::Settings`] as the value of a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct SettingsValue(pub(super) abi::Settings);

/// [`abi::FlowKey`] as the key of a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct FlowKeyValue(pub(super) abi::FlowKey);

// SAFETY: plain integers without padding; `abi` asserts the size.
unsafe impl aya::Pod for SettingsValue {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowKeyValue {}

/// Parses the object and makes its maps.
pub(super) fn load_maps(ring_bytes: u32, passed_packets: u32) -> Result<Ebpf, CaptureError> {
    // The numbers of `log::Level` and of the probe's log agree: 1 is ERROR, 5 is TRACE, 0 is none.
    let log_level = log::max_level() as u8;
    EbpfLoader::new()
        // The probe has no relocations that need the kernel's types.
        .btf(None)
        .verifier_log_level(VerifierLogLevel::DEBUG | VerifierLogLevel::STATS)
        .map_max_entries("RECORDS", ring_bytes)
        .map_max_entries("PASSED", passed_packets)
        .override_global("AYA_LOG_LEVEL", &log_level, false)
        .load(PROBE)
        .map_err(|source| CaptureError::LoadMaps { kernel: kernel_release(), source: Box::new(source) })
}

/// Refuses a probe that was built from another version of the border.
pub(super) fn check_abi(ebpf: &Ebpf) -> Result<(), CaptureError> {
    let probe = ebpf
        .map(".rodata.abi")
        .and_then(|map| Array::<_, u32>::try_from(map).ok())
        .and_then(|version| version.get(&0, 0).ok())
        .unwrap_or(0);
    if probe == abi::ABI_VERSION {
        return Ok(());
    }
    Err(CaptureError::AbiMismatch { probe, binary: abi::ABI_VERSION })
}

/// Tells the probe which ports are wanted.
pub(super) fn write_ports(ebpf: &mut Ebpf, ports: &[u16]) -> Result<(), CaptureError> {
    let mut words = Array::<_, u32>::try_from(borrow_map(ebpf, "PORTS")?)
        .map_err(|source| map_error("open", "PORTS", source))?;
    for (index, word) in (0..).zip(port_words(ports)).filter(|(_, word)| *word != 0) {
        words.set(index, word, 0).map_err(|source| map_error("write", "PORTS", source))?;
    }
    Ok(())
}

/// A map that stays in the probe.
fn borrow_map<'a>(ebpf: &'a mut Ebpf, map: &'static str) -> Result<&'a mut Map, CaptureError> {
    ebpf.map_mut(map).ok_or(CaptureError::IncompleteProbe { part: map })
}

/// Takes a map out of the probe. It must live until the programs are loaded, which refer to it by descriptor.
pub(super) fn open_map<M>(ebpf: &mut Ebpf, map: &'static str) -> Result<M, CaptureError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let taken = ebpf.take_map(map).ok_or(CaptureError::IncompleteProbe { part: map })?;
    M::try_from(taken).map_err(|source| map_error("open", map, source))
}

pub(super) fn map_error(operation: &'static str, map: &'static str, source: MapError) -> CaptureError {
    CaptureError::Map { operation, map, source: Box::new(source) }
}

/// The bit set of these ports, word by word as the probe reads it.
fn port_words(ports: &[u16]) -> Vec<u32> {
    let mut words = vec![0; abi::PORT_WORDS as usize];
    for port in ports {
        if let Some(word) = words.get_mut(usize::from(port / 32)) {
            *word |= 1 << (port % 32);
        }
    }
    words
}

/// The running kernel's release.
pub(super) fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|release| release.trim().to_owned())
        .unwrap_or_else(|_: io::Error| "of unknown release".to_owned())
}
