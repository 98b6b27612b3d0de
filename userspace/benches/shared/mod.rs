//! What several benches need: nginx, exchanges with its answers, and the CPU time of this process.
//!
//! Measures nothing, leaves nothing running, and sends nothing off this host.

mod exchange;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use understudy::model::{Body, Headers, Response, Version};

pub(crate) use exchange::exchange;

/// A candidate that costs little: it answers every request in the same way.
pub(crate) struct Nginx {
    process: Child,
    pub(crate) port: u16,
    _folder: tempfile::TempDir,
}

/// Header fields that every answer of [`Nginx`] has and that are compared.
pub(crate) const ANSWER_FIELDS: [(&str, &str); 3] =
    [("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Vary", "Accept-Encoding")];

/// User and system time of all threads.
pub(crate) fn cpu_of_this_process() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// An answer as [`Nginx`] gives it.
pub(crate) fn answer(body: impl Into<Vec<u8>>) -> Response {
    let others = [("Server", "nginx"), ("Date", "Sun, 22 Nov 2026 06:00:00 GMT")];
    Response {
        status: 200,
        version: Version::Http11,
        headers: Headers::from_pairs(others.into_iter().chain(ANSWER_FIELDS)),
        trailers: Headers::default(),
        body: Body::whole(body.into()),
    }
}

// === impl Nginx ===

impl Nginx {
    /// One that answers with this body, which holds neither a quote `'` nor a `$`.
    pub(crate) fn start(body: &str) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let [(_, content_type), fields @ ..] = ANSWER_FIELDS;
        let fields = fields.map(|(name, value)| format!("add_header {name} {value};")).join(" ");
        let config = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; server_tokens off; keepalive_requests 1000000;\n\
             client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
             server {{ listen 127.0.0.1:{port}; default_type {content_type}; {fields} location / {{ return 200 '{body}'; }} }} }}\n",
            folder.path().display()
        );
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, config)?;
        let process = Command::new("nginx")
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .arg("-c")
            .arg(&path)
            .env("PATH", "/usr/sbin:/usr/bin:/usr/local/bin")
            .stderr(Stdio::null())
            .spawn()?;
        let nginx = Self { process, port, _folder: folder };
        // It listens before it is ready to answer; a connection waits for it.
        for _ in 0..10_000 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(nginx);
            }
            std::thread::yield_now();
        }
        Err(io::Error::other("nginx does not listen"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing left to stop.
        let stopped = Pid::from_raw(self.process.id().cast_signed())
            .is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        drop((stopped, self.process.wait()));
    }
}
