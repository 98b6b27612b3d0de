//! What runs here, and the CPU time and memory that it takes.
//!
//! Reads them from the kernel at each scrape; keeps nothing.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::collect::{export, one};
use super::table;

/// Exports what the kernel says about this process (proc_pid_statm(5), clock_gettime(2), proc_sys_kernel(5)).
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// CPU time in seconds, all threads.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    // Exact for the first 285 years.
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Resident memory in bytes; none when the kernel does not say.
fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

// === impl ProcessCollector ===

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let system = rustix::system::uname();
        let kernel = system.release().to_string_lossy();
        export(encoder, &table::BUILD_INFO, &[(vec![env!("CARGO_PKG_VERSION"), &kernel], 1_u64)])?;
        one(encoder, &table::PROCESS_CPU, cpu_seconds())?;
        one(encoder, &table::PROCESS_MEMORY, resident_bytes().unwrap_or_default())
    }
}
