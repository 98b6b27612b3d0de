//! Flags that say what to capture, and what a command that runs has in common with others.
//!
//! Opens the probe, a capture file or a recording; what is read from it is `pipeline`'s.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::capture::listeners::listening_ports;
use crate::capture::{FlowSample, Hook, KernelConfig, KernelSource, PcapSource};
use crate::config::Flags;
use crate::pipeline::feed::Feed;
use crate::pipeline::protect::pause::PauseFlag;
use crate::pipeline::protect::privileges;
use crate::pipeline::settings::{CaptureConfig, Input};
use crate::pipeline::{clock, step_back};
use crate::recording::RecordingReader;

/// Which traffic.
#[derive(Debug, Args)]
pub(super) struct CaptureFlags {
    /// Port that the service listens on; may be given several times, or as a list with commas. With --pcap it may be
    /// left out: every connection that speaks HTTP is read then.
    #[arg(short, long = "port", value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// Only sockets of this cgroup v2 folder or systemd unit, such as `system.slice/shop.service` or
    /// `shop.service`. Default: every service of the host.
    #[arg(long, value_name = "CGROUP")]
    cgroup: Option<String>,
    /// Packets that pass this network interface, in the place of those of sockets: for a gateway, whose traffic ends
    /// elsewhere. May be given several times, or as a list with commas; a packet that passes several is copied once.
    #[arg(long = "interface", value_name = "INTERFACE", value_delimiter = ',', conflicts_with = "cgroup")]
    interfaces: Vec<String>,
    /// Stop after this time, such as `30s` or `10m`. Default: at Ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) duration: Option<Duration>,
    /// Read this capture file (pcap or pcapng) in the place of live traffic; `-` is standard input, as in
    /// `tcpdump -U -w - tcp port 8080 | understudy inspect --pcap -`. Needs no root.
    #[arg(long, value_name = "FILE", group = "offline", conflicts_with_all = ["cgroup", "interfaces", "duration"])]
    pcap: Option<PathBuf>,
    /// Read this recording in the place of live traffic; `-` is standard input. Needs no root.
    #[arg(long, value_name = "FILE", group = "offline", conflicts_with_all = ["ports", "cgroup", "interfaces", "duration"])]
    recording: Option<PathBuf>,
    /// The configuration file; flags win over it. `understudy config template` prints one.
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// One of several on this host: what `conf.d/NAME.toml` beside the configuration file says wins over that file, and a
    /// NAME that is a port is the port to capture.
    #[arg(long, value_name = "NAME", requires = "config")]
    instance: Option<String>,
}

// === impl CaptureFlags ===

impl CaptureFlags {
    /// What these flags say.
    pub(super) fn flags(&self) -> Flags {
        Flags {
            ports: self.ports.clone(),
            cgroup: self.cgroup.clone(),
            interfaces: self.interfaces.clone(),
            pcap: self.pcap.clone(),
            recording: self.recording.clone(),
            instance: self.instance.clone(),
            ..Flags::default()
        }
    }
}

/// Opens what is configured. While the process pauses, the probe copies nothing until the pause is over.
pub(super) fn open_feed(config: &CaptureConfig, pause: &PauseFlag) -> anyhow::Result<Feed> {
    Ok(match &config.input {
        Input::Probe => {
            let mut kernel = config.kernel.clone();
            if pause.is_set() {
                kernel.flow_sample = FlowSample::NONE;
            }
            open_kernel(&kernel)?.into()
        }
        Input::Pcap(path) => {
            PcapSource::open(path, config.pcap).context("cannot read a capture file")?.into()
        }
        Input::Recording(path) => Feed::Recording(RecordingReader::open(path)?),
    })
}

/// Loads and attaches the probe, and says what is captured.
fn open_kernel(config: &KernelConfig) -> anyhow::Result<KernelSource> {
    let mut source = KernelSource::open(config, clock::boot()).context("cannot capture")?;
    let needs_net_admin = source.needs_net_admin_to_detach();
    privileges::drop_after_attach(&mut source, needs_net_admin);
    let ports: Vec<String> = config.ports.iter().map(u16::to_string).collect();
    tracing::info!(ports = ports.join(","), at = source.place(), "Capturing; Ctrl-C stops.");
    // What passes an interface is listened to elsewhere.
    let Hook::Cgroup(_) = config.hook else { return Ok(source) };
    match listening_ports() {
        Ok(listening) => {
            for port in config.ports.iter().filter(|port| !listening.contains(port)) {
                tracing::warn!(
                    port,
                    "Nobody listens on this port in this network namespace; waiting for traffic."
                );
            }
        }
        Err(error) => tracing::debug!(%error, "Listening ports are not known."),
    }
    Ok(source)
}

/// Steps back where CPU time is short, and starts the threads that replay and serve, which do the same. Where no
/// traffic passes, nobody needs us to.
pub(super) fn start_runtime(config: &CaptureConfig) -> anyhow::Result<tokio::runtime::Runtime> {
    if config.input.is_live() {
        step_back(config.nice);
    }
    tokio::runtime::Builder::new_multi_thread()
        // One: work that wakes another thread for each request costs more than it gains below 60,000 a second.
        .worker_threads(1)
        // What the probe needs is needed in the thread that opens it, and only until then.
        .on_thread_start(privileges::drop_in_thread)
        .enable_all()
        .build()
        .context("failed to start the async runtime")
}

/// Ends when it is time to stop; also when signals cannot be received, since nobody could stop us then. Signals count from
/// the call on, not from the first look at what it gives: whoever hears that we are ready may send one at once. Must be called
/// within a runtime.
pub(super) fn stopped(duration: Option<Duration>) -> impl Future<Output = ()> {
    stopped_or(duration, std::future::pending())
}

/// As [`stopped`], and also when `early` ends.
pub(super) fn stopped_or(
    duration: Option<Duration>,
    early: impl Future<Output = ()>,
) -> impl Future<Output = ()> {
    let signals = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    async move {
        let stopped = match signals {
            Ok((interrupt, terminate)) => signal_or_time(interrupt, terminate, duration, early).await,
            Err(error) => Err(error),
        };
        if let Err(error) = stopped {
            tracing::error!(%error, "Signals cannot be received; stopping.");
        }
    }
}

/// Ends at the first SIGINT or SIGTERM, when the time is over, or when `early` ends. Another signal after that ends the
/// process at once.
async fn signal_or_time(
    mut interrupt: Signal,
    mut terminate: Signal,
    duration: Option<Duration>,
    early: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let time_over = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("Stopping; what is under way is finished. Ctrl-C again stops at once."),
        _ = terminate.recv() => tracing::info!("Stopping; what is under way is finished. A second SIGTERM stops at once."),
        // From here on nothing else looks at signals, so that what follows has to know of a second one, too.
        () = time_over => {}
        () = early => {}
    }
    std::thread::Builder::new().name("second-signal".to_owned()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            // 128 and the signal's number, as shells say it.
            let status = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            std::process::exit(status);
        });
    })?;
    Ok(())
}
