//! What a replayed request costs: CPU of this process for each 1,000, against nginx on loopback.
//!
//! Leaves nothing running, and sends nothing off this host. Skips itself, saying so, where nginx is not installed.

use std::error::Error;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use understudy::branch::{CapturedPorts, HttpBranch, HttpBranchConfig, LoopGuard};
use understudy::compare::CompareLimits;
use understudy::compare::noise::{NoiseConfig, NoiseModel};
use understudy::metrics::ReplayStats;
use understudy::model::{
    Body, Endpoint, Exchange, ExchangeId, Fate, Flow, FlowKey, Headers, Ledger, Marks, Observation, Outcome,
    Request, Response, Times, Timestamp, Version,
};
use understudy::pipeline::handover::{HandoverLimits, handover};
use understudy::pipeline::judge::Judge;
use understudy::pipeline::pace::{Anchor, Pace};
use understudy::pipeline::protect::pause::PauseFlag;
use understudy::pipeline::replay::{ReplayLimits, Replayer};
use understudy::pipeline::science::{NoiseSettings, Science};
use understudy::queue::memory::{MemoryQueueLimits, memory_queue};
use understudy::queue::{Offer as _, Offered};

const ROUNDS: usize = 5;
const REQUESTS: u64 = 10_000;

/// One way to run.
struct Way {
    name: &'static str,
    /// Requests a second; 0 for as fast as it goes.
    per_second: u64,
    /// Worker threads; 0 for a runtime of one thread.
    workers: usize,
}

const WAYS: [Way; 5] = [
    Way { name: "2,000/s, current thread", per_second: 2_000, workers: 0 },
    Way { name: "2,000/s, 2 workers", per_second: 2_000, workers: 2 },
    Way { name: "10,000/s, current thread", per_second: 10_000, workers: 0 },
    Way { name: "full speed, current thread", per_second: 0, workers: 0 },
    Way { name: "full speed, 2 workers", per_second: 0, workers: 2 },
];

struct Nginx {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

struct Round {
    cpu: Duration,
    wall: Duration,
}

#[expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let Ok(nginx) = Nginx::start() else {
        println!("replay: skipped, nginx is not installed");
        return Ok(());
    };
    println!("{:30} {:>16} {:>14}   {ROUNDS} rounds of {REQUESTS}", "replay", "CPU ms / 1,000", "requests/s");
    // `cargo bench --bench replay -- current` runs the ways that have `current` in their name.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for way in WAYS.iter().filter(|way| way.name.contains(&wanted)) {
        let mut rounds = (0..ROUNDS).map(|_| run(nginx.port, way)).collect::<Result<Vec<_>, _>>()?;
        rounds.sort_by_key(|round| round.cpu);
        let cpu = rounds[ROUNDS / 2].cpu.as_secs_f64() * 1e6 / REQUESTS as f64;
        rounds.sort_by_key(|round| round.wall);
        let rate = REQUESTS as f64 / rounds[ROUNDS / 2].wall.as_secs_f64();
        println!("{:30} {cpu:16.1} {rate:14.0}", way.name);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn run(port: u16, way: &'static Way) -> Result<Round, Box<dyn Error>> {
    let mut builder = match way.workers {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if way.workers > 0 {
        builder.worker_threads(way.workers);
    }
    let runtime = builder.enable_all().build()?;
    let before = (cpu_of_this_process(), Instant::now());
    let matched = runtime.block_on(async move {
        // A task, as in the daemon: each wake-up of the future in `block_on` itself is a system call.
        tokio::spawn(replay(port, way)).await
    })?;
    let matched = matched.map_err(|error| error.to_string())?;
    let round = Round { cpu: cpu_of_this_process() - before.0, wall: before.1.elapsed() };
    if matched == REQUESTS { Ok(round) } else { Err(format!("only {matched} of {REQUESTS} matched").into()) }
}

#[expect(clippy::disallowed_methods, reason = "a bench stands where `pipeline` stands")]
async fn replay(port: u16, way: &Way) -> Result<u64, Box<dyn Error + Send + Sync>> {
    let limits = MemoryQueueLimits { exchanges_max: REQUESTS as usize, bytes_max: 1 << 30 };
    let (offer, queue) = memory_queue(limits);
    let ledger = Arc::new(Ledger::default());
    for number in 0..REQUESTS {
        let at = Timestamp((number * 1_000_000_000).checked_div(way.per_second).unwrap_or(0));
        let offered = Offered {
            exchange: Arc::new(exchange(number, at)),
            route: "other".into(),
            ticket: ledger.admit(),
        };
        offer.offer(offered).map_err(|ticket| {
            ticket.settle(Fate::Shed);
            "the queue is large enough"
        })?;
    }
    drop(offer);
    let (comparisons, mut journal) = handover(HandoverLimits::default());
    let replayer = Replayer {
        experiment: "bench".into(),
        branch: Arc::new(HttpBranch::new(
            HttpBranchConfig::new(format!("http://127.0.0.1:{port}")),
            CapturedPorts::default(),
        )?),
        queue,
        pace: Pace::offline(1.0),
        anchor: Anchor { wall: Timestamp(0), at: tokio::time::Instant::now() },
        limits: ReplayLimits { slot_wait_max: Duration::from_secs(60), ..ReplayLimits::default() },
        twin: None,
        science: Arc::new(Science::new(
            Judge::by(same),
            CompareLimits::default(),
            false,
            NoiseSettings::default(),
            NoiseModel::new(NoiseConfig::default())?,
        )),
        comparisons,
        pause: PauseFlag::never(),
        loop_guard: Arc::new(LoopGuard::default()),
        stats: Arc::new(ReplayStats::default()),
    };
    let journal = async move {
        let mut batch = Vec::new();
        while journal.recv_many(&mut batch, 256).await > 0 {
            batch.clear();
        }
    };
    tokio::join!(replayer.run(std::future::pending()), journal);
    Ok(ledger.snapshot().count(Fate::Matched))
}

/// Stands for the comparison, whose cost has its own bench.
fn same(exchange: &Exchange, observation: &Observation) -> Outcome {
    match (&exchange.response, observation) {
        (Some(control), Observation::Answered { response, .. })
            if control.status == response.status && control.body.kept == response.body.kept =>
        {
            Outcome::Match
        }
        _ => Outcome::Ignored(Vec::new()),
    }
}

fn exchange(number: u64, at: Timestamp) -> Exchange {
    let end = Endpoint { addr: [0; 16], port: 80 };
    Exchange {
        id: ExchangeId { flow: number, offset: 0 },
        flow: Flow { key: FlowKey { client: end, server: end, scope: 0 }, opened: at },
        request: Request {
            method: "GET".into(),
            target: format!("/items/{number}?full=1").into(),
            version: Version::Http11,
            headers: Headers::from_pairs([
                ("Host", "shop.example.org"),
                ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
                ("Accept", "application/json"),
                ("Accept-Encoding", "gzip, deflate, br"),
                ("Cookie", "session=0123456789abcdef0123456789abcdef"),
                ("X-Request-Id", "4f1c2d3e-0000-4000-8000-0123456789ab"),
            ]),
            trailers: Headers::default(),
            body: Body::whole(""),
        },
        response: Some(Response {
            status: 200,
            version: Version::Http11,
            headers: Headers::default(),
            trailers: Headers::default(),
            body: Body::whole("{\"id\":7,\"name\":\"lamp\"}"),
        }),
        interim: Vec::new(),
        times: Times { request_first: at, request_last: at, response: None },
        marks: Marks::default(),
    }
}

/// User and system time of all threads.
fn cpu_of_this_process() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

// === impl Nginx ===

impl Nginx {
    fn start() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; keepalive_requests 1000000;\n\
             client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 '{{\"id\":7,\"name\":\"lamp\"}}'; }} }} }}\n",
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
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(nginx);
            }
            std::thread::yield_now();
        }
        Err("nginx does not listen".into())
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
