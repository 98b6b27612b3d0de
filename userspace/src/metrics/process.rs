//! CPU time and memory of this process.
//!
//! Reads them from the kernel at each scrape; keeps nothing.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::collect::export;

/// Exports what the kernel says about this process (proc_pid_statm(5), clock_gettime(2)).
#[derive(Debug)]
pub(super) struct ProcessCollector;

/// Microseconds of CPU time, all threads.
fn cpu_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let micros = |value: i64| u64::try_from(value).unwrap_or_default();
    micros(time.tv_sec).saturating_mul(1_000_000).saturating_add(micros(time.tv_nsec) / 1000)
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
        let (counter, gauge) = (MetricType::Counter, MetricType::Gauge);
        let cpu = vec![(Vec::new(), cpu_us())];
        export(&mut encoder, counter, "process_cpu_microseconds", "CPU time of this process", &cpu)?;
        let resident = vec![(Vec::new(), resident_bytes().unwrap_or_default())];
        export(&mut encoder, gauge, "process_resident_bytes", "Resident memory of this process", &resident)
    }
}
