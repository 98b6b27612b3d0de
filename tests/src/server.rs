//! Servers of the lab: the application, and a real nginx that serves files and passes the rest on to it.
//!
//! Returns only when a server accepts connections; what it cannot start is an error, never a hang.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tempfile::TempDir;

use crate::app::{Faults, LogLine, read_log};
use crate::clock::wait_until;
use crate::lab::within;
use crate::prereq::{app_program, find_tool};
use crate::process::{Place, Process};

/// How long a server may take until it accepts.
const START_WAIT_MAX: Duration = Duration::from_secs(10);
/// Pages of each kind under `/static/`.
const STATIC_PAGES: u32 = 20;

/// A running application.
#[derive(Debug)]
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
    _folder: TempDir,
    _process: Process,
}

/// Files that several nginx serve; one folder, since `Last-Modified` and `ETag` come from the files' times.
#[derive(Debug)]
pub struct StaticFiles(TempDir);

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    _folder: TempDir,
    _process: Process,
}

/// A port that no other test of this process uses, in any namespace: the probe sees them all, so two daemons that
/// watch one port would see each other's traffic. Below the range of ephemeral ports, for the same reason.
pub fn unique_port() -> u16 {
    static PORTS: AtomicU16 = AtomicU16::new(0);
    // Test processes side by side get ranges of their own, most of the time; each has more than its tests use.
    let range = (std::process::id() % 21) as u16;
    10_000 + range * 1_000 + PORTS.fetch_add(1, Ordering::Relaxed) % 1_000
}

/// An address of loopback that nobody listens at. Another process may take it before it is used.
///
/// # Errors
/// When none of many is free.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    (0..120)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, unique_port())))
        .find(|address| TcpListener::bind(address).is_ok())
        .context("no free port on loopback")
}

/// Waits until something accepts connections at `address`, as seen from `place`.
///
/// # Errors
/// When nothing does in time, or the process ends.
pub fn wait_listening(place: &Place, address: SocketAddr, process: &mut Process) -> anyhow::Result<()> {
    let address = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    };
    within(place, || {
        wait_until(&format!("listener at {address}"), START_WAIT_MAX, || {
            process.must_run()?;
            Ok(TcpStream::connect(address).is_ok().then_some(()))
        })
    })
}

// === impl App ===

impl App {
    /// Starts the application.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub fn start(place: &Place, address: SocketAddr, faults: Faults) -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for the application")?;
        let log = folder.path().join("requests.jsonl");
        let faults = match faults {
            Faults::None => "none",
            Faults::Planted => "planted",
            Faults::Hang => "hang",
            Faults::Close => "close",
            Faults::Half => "half",
            Faults::Garbage => "garbage",
        };
        let mut command = place.command(app_program());
        command.args(["--listen", &address.to_string(), "--faults", faults, "--log"]).arg(&log);
        let mut process = Process::start("understudy-lab-app", &mut command)?;
        wait_listening(place, address, &mut process)?;
        Ok(Self { address, log, _folder: folder, _process: process })
    }

    /// What it has received so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn received(&self) -> anyhow::Result<Vec<LogLine>> {
        read_log(&self.log)
    }
}

// === impl StaticFiles ===

impl StaticFiles {
    /// Writes the files.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write() -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for static files")?;
        let pages = folder.path().join("static");
        fs::create_dir(&pages)?;
        for number in 1..=STATIC_PAGES {
            let value =
                json!({"page": number, "title": format!("Page {number}"), "links": [number + 1, number + 2]});
            fs::write(pages.join(format!("{number}.json")), value.to_string())?;
            let html = format!("<!doctype html><title>Page {number}</title><p>{}</p>\n", "text ".repeat(200));
            fs::write(pages.join(format!("{number}.html")), html)?;
        }
        Ok(Self(folder))
    }
}

// === impl Nginx ===

impl Nginx {
    /// Starts an nginx that answers `/ping` and `/counts` (its `stub_status`) itself, serves `/static/` from `files` and passes
    /// everything else on to `app`.
    ///
    /// # Errors
    /// When nginx is missing or does not come to listen.
    pub fn start(
        place: &Place,
        address: SocketAddr,
        files: &StaticFiles,
        app: SocketAddr,
    ) -> anyhow::Result<Self> {
        let folder = TempDir::new().context("failed to make a folder for nginx")?;
        let config = folder.path().join("nginx.conf");
        fs::write(&config, nginx_config(folder.path(), address, files.0.path(), app))?;
        let program =
            find_tool("nginx").context("`nginx` is not installed (Debian: apt install nginx-light)")?;
        let mut command = place.command(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&config).args(["-e", "stderr"]);
        let mut process = Process::start("nginx", &mut command)?;
        wait_listening(place, address, &mut process)?;
        Ok(Self { address, _folder: folder, _process: process })
    }
}

fn nginx_config(folder: &Path, listen: SocketAddr, files: &Path, app: SocketAddr) -> String {
    let (folder, files) = (folder.display(), files.display());
    // A worker that root starts becomes `nobody`, who may not read a temporary folder.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ application/json json; text/html html; }}
    client_max_body_size 64m;
    client_body_buffer_size 2m;
    large_client_header_buffers 4 32k;
    keepalive_requests 1000000;
    upstream app {{ server {app}; keepalive 32; keepalive_requests 1000000; }}
    server {{
        listen {listen};
        location /static/ {{ root {files}; }}
        location = /ping {{ return 200 \"pong\"; }}
        location = /counts {{ stub_status; }}
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_buffering off;
        }}
    }}
}}
"
    )
}
