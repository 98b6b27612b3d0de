//! Redis servers of our own: alone, with a password, with TLS, as a cluster, or watched by Sentinels.
//!
//! Listens on loopback only, keeps nothing on disk unless asked to, and leaves no server behind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::clock::wait_until;
use crate::process::{Place, Process};

/// How long a server may take to answer its first question.
const START_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long three servers may take to agree that they are a cluster.
const CLUSTER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Slots of a cluster (Redis Cluster specification).
const SLOTS: u16 = 16_384;
/// How long Sentinels may take to know their servers and each other, or to agree on another primary.
const SENTINEL_WAIT_MAX: Duration = Duration::from_secs(30);
/// A cluster's nodes talk to each other on their port and this.
const BUS_OFFSET: u16 = 10_000;

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where it runs; in a namespace it listens on all addresses.
    pub place: Place,
    /// More settings, as on its command line: `--maxmemory 10mb`.
    pub arguments: Vec<String>,
    /// Listens with TLS only.
    pub tls: bool,
    /// Password of the user `default`.
    pub password: Option<String>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Option<Process>,
    options: Options,
    port: u16,
    folder: TempDir,
}

/// Three servers that form a cluster, and as many replicas as asked for.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, primaries first.
    pub nodes: Vec<Server>,
}

/// A primary and a replica, and three Sentinels that watch them.
#[derive(Debug)]
pub struct Sentinels {
    /// The primary first, as it was at the start.
    pub servers: Vec<Server>,
    /// Ports of the Sentinels.
    ports: Vec<u16>,
    processes: Vec<(Process, TempDir)>,
}

/// Certificates of an authority that nobody else knows.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
}

// === impl Server ===

impl Server {
    /// Starts a server with its own defaults, without persistence.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default())
    }

    /// Starts a server.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_with(options: Options) -> anyhow::Result<Self> {
        let port = free_port()?;
        let folder = TempDir::new().context("failed to make a folder for Redis")?;
        if options.tls {
            Certificates::make(folder.path())?;
        }
        let mut server = Self { process: None, options, port, folder };
        server.run()?;
        Ok(server)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address in the form of our configuration.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its certificates, when it speaks TLS.
    pub fn certificates(&self) -> Certificates {
        Certificates { folder: self.folder.path().to_path_buf() }
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops it in place: connections stay, nothing is answered.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Server::freeze`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        if let Some(mut process) = self.process.take() {
            process.wait(START_WAIT_MAX)?;
        }
        Ok(())
    }

    /// Starts it again on the same port after [`Server::kill`]: empty, unless its settings keep data on disk.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.run()
    }

    /// Ends it at once, as [`Server::kill`] does, and starts it again with nothing.
    ///
    /// # Errors
    /// When it does not end or start.
    pub fn empty(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        let kept = self.folder.path().join("appendonlydir");
        if kept.exists() {
            fs::remove_dir_all(&kept).context("failed to remove the data of Redis")?;
        }
        self.restart()
    }

    /// Runs one command and gives the answer as text, one element a line.
    ///
    /// # Errors
    /// When Redis answers with an error, or not at all.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.client().args(arguments).output().context("failed to run redis-cli")?;
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let failed = !output.status.success() || said.starts_with("(error)");
        ensure!(!failed, "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }

    /// Changes a setting while it runs.
    ///
    /// # Errors
    /// When Redis refuses it.
    pub fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let said = self.command(&["CONFIG", "SET", name, value])?;
        ensure!(said == "OK", "CONFIG SET {name} {value}: {said}");
        Ok(())
    }

    /// One number of `INFO`.
    ///
    /// # Errors
    /// When Redis does not tell it.
    pub fn number(&self, name: &str) -> anyhow::Result<u64> {
        let all = self.command(&["INFO", "all"])?;
        let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let text = line.with_context(|| format!("INFO has no {name}"))?;
        text.trim().parse().with_context(|| format!("{name} is {text}"))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.as_ref().context("Redis does not run")?.signal(signal)
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let Options { place, arguments, tls, password } = &self.options;
        let bind = match place {
            Place::Here | Place::Cgroup(_) => "127.0.0.1",
            Place::Namespace(_) => "0.0.0.0",
        };
        let port = self.port.to_string();
        let folder = self.folder.path();
        let mut command = place.command("redis-server");
        command.args(["--bind", bind, "--protected-mode", "no", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder);
        if *tls {
            command.args(["--port", "0", "--tls-port", &port]);
            for (option, file) in [
                ("--tls-cert-file", "server.pem"),
                ("--tls-key-file", "server.key"),
                ("--tls-ca-cert-file", "ca.pem"),
            ] {
                command.arg(option).arg(folder.join(file));
            }
        } else {
            command.args(["--port", &port]);
        }
        if let Some(password) = password {
            command.args(["--requirepass", password]);
        }
        command.args(arguments);
        self.process = Some(Process::start("redis-server", &mut command)?);
        wait_until("an answer of Redis", START_WAIT_MAX, || {
            if let Some(process) = &mut self.process {
                process.must_run()?;
            }
            let output = self.client().arg("PING").output().context("failed to run redis-cli")?;
            // One that asks for a client's certificate or a password runs as well.
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            Ok((said.contains("PONG") || said.contains("NOAUTH")).then_some(()))
        })
    }

    fn client(&self) -> Command {
        let Options { place, arguments: _, tls, password } = &self.options;
        let mut command = client_of(place, self.port);
        if *tls {
            let Certificates { folder } = self.certificates();
            command.arg("--tls").arg("--cacert").arg(folder.join("ca.pem"));
            command.arg("--cert").arg(folder.join("client.pem")).arg("--key").arg(folder.join("client.key"));
        }
        if let Some(password) = password {
            command.env("REDISCLI_AUTH", password);
        }
        command
    }
}

// === impl Cluster ===

impl Cluster {
    /// Starts three primaries, each with `replicas` replicas, on loopback.
    ///
    /// # Errors
    /// When they do not become a cluster.
    pub fn start(replicas: usize) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for _ in 0..3 * (replicas + 1) {
            let arguments = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "2000",
                "--repl-diskless-sync-delay",
                "0",
            ];
            let arguments = arguments.map(str::to_owned).to_vec();
            nodes.push(Server::start_with(Options { arguments, ..Options::default() })?);
        }
        let output = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)))
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .output()
            .context("failed to run redis-cli")?;
        if !output.status.success() {
            bail!("no cluster: {}", String::from_utf8_lossy(&output.stdout));
        }
        let cluster = Self { nodes };
        wait_until("a cluster that answers", CLUSTER_WAIT_MAX, || {
            let assigned = format!("cluster_slots_ok:{SLOTS}");
            let mut ready = true;
            for node in &cluster.nodes {
                let said = node.command(&["CLUSTER", "INFO"])?;
                ready &= said.contains("cluster_state:ok") && said.contains(&assigned);
                let known = node.command(&["CLUSTER", "NODES"])?;
                ready &= known.lines().count() == cluster.nodes.len();
                ready &= known.matches("slave").count() == 3 * replicas;
            }
            Ok(ready.then_some(()))
        })?;
        Ok(cluster)
    }

    /// The addresses of all nodes in the form of our configuration.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }
}

// === impl Sentinels ===

impl Sentinels {
    /// The name under which they know the primary.
    pub const MASTER: &str = "main";
    /// So many of them have to agree.
    const QUORUM: usize = 2;

    /// Starts two servers and three Sentinels on loopback. A server that is silent for a second counts as gone.
    ///
    /// # Errors
    /// When they do not find each other.
    pub fn start() -> anyhow::Result<Self> {
        let prompt = ["--repl-diskless-sync-delay", "0"].map(str::to_owned).to_vec();
        let primary = Server::start_with(Options { arguments: prompt.clone(), ..Options::default() })?;
        let source = ["--replicaof".to_owned(), "127.0.0.1".to_owned(), primary.port.to_string()];
        let arguments = [prompt, source.to_vec()].concat();
        let replica = Server::start_with(Options { arguments, ..Options::default() })?;
        let mut sentinels =
            Self { servers: vec![primary, replica], ports: Vec::new(), processes: Vec::new() };
        for _ in 0..3 {
            sentinels.start_one()?;
        }
        wait_until("Sentinels that know each other", SENTINEL_WAIT_MAX, || {
            let mut ready =
                sentinels.servers[1].command(&["INFO", "replication"])?.contains("link_status:up");
            for port in &sentinels.ports {
                let said = ask(*port, &["SENTINEL", "MASTER", Self::MASTER])?;
                let lines: Vec<&str> = said.lines().map(str::trim).collect();
                let has = |name, value| lines.windows(2).any(|pair| pair == [name, value]);
                ready &= has("num-slaves", "1") && has("num-other-sentinels", "2") && has("flags", "master");
            }
            Ok(ready.then_some(()))
        })?;
        Ok(sentinels)
    }

    fn start_one(&mut self) -> anyhow::Result<()> {
        let (port, folder) =
            (free_port()?, TempDir::new().context("failed to make a folder for a Sentinel")?);
        let (name, quorum, primary) = (Self::MASTER, Self::QUORUM, self.servers[0].port);
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "bind 127.0.0.1\nport {port}\nprotected-mode no\ndir {}\n\
             sentinel monitor {name} 127.0.0.1 {primary} {quorum}\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 5000\n",
            folder.path().display()
        );
        fs::write(&config, text).context("failed to write the settings of a Sentinel")?;
        let mut command = Place::Here.command("redis-sentinel");
        let mut process = Process::start("redis-sentinel", command.arg(&config))?;
        wait_until("an answer of a Sentinel", START_WAIT_MAX, || {
            process.must_run()?;
            Ok(ask(port, &["PING"]).is_ok_and(|said| said == "PONG").then_some(()))
        })?;
        self.ports.push(port);
        self.processes.push((process, folder));
        Ok(())
    }

    /// Their addresses in the form of our configuration.
    pub fn urls(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("redis://127.0.0.1:{port}")).collect()
    }

    /// Waits until all of them name the server with this index as the primary.
    ///
    /// # Errors
    /// When that does not come about.
    pub fn wait_for_primary(&self, index: usize) -> anyhow::Result<()> {
        let port = self.servers[index].port.to_string();
        wait_until("another primary", SENTINEL_WAIT_MAX, || {
            let mut agreed = true;
            for sentinel in &self.ports {
                let said = ask(*sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::MASTER])?;
                agreed &= said.lines().nth(1).is_some_and(|named| named.trim() == port);
            }
            Ok(agreed.then_some(()))
        })
    }
}

/// A client of a server without TLS or password.
fn client_of(place: &Place, port: u16) -> Command {
    let mut command = place.command("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    command
}

/// Asks a server on loopback; the answer as text, one element a line.
fn ask(port: u16, arguments: &[&str]) -> anyhow::Result<String> {
    let output = client_of(&Place::Here, port).args(arguments).output().context("failed to run redis-cli")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

// === impl Certificates ===

impl Certificates {
    /// Makes an authority, and certificates of a server (127.0.0.1) and of a client that it has signed.
    fn make(folder: &Path) -> anyhow::Result<()> {
        openssl(
            folder,
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        )?;
        fs::write(
            folder.join("names"),
            "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
        )
        .context("failed to write the names of a certificate")?;
        for name in ["server", "client"] {
            openssl(
                folder,
                &format!(
                    "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
                ),
            )?;
            openssl(
                folder,
                &format!(
                    "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
                ),
            )?;
        }
        Ok(())
    }

    /// The authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A client's certificate and key.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("client.pem"), self.folder.join("client.key"))
    }
}

fn openssl(folder: &Path, arguments: &str) -> anyhow::Result<()> {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .context("failed to run openssl")?;
    ensure!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A port that nobody listens on now, with room for the second port of a cluster's node.
fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a free port")?;
        let port = listener.local_addr().context("failed to find a free port")?.port();
        let Some(bus) = port.checked_add(BUS_OFFSET) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, bus)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port below {}", u16::MAX - BUS_OFFSET)
}

/// Listens on loopback and answers whatever comes with `answer`, as something that is not Redis; one connection after
/// the other, until the process ends.
///
/// # Errors
/// When no port is free.
pub fn stranger(answer: &'static [u8]) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to listen")?;
    let address = listener.local_addr().context("failed to listen")?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answered = stream.and_then(|mut stream: TcpStream| {
                let length = stream.read(&mut [0; 1024])?;
                stream.write_all(if length > 0 { answer } else { b"" })
            });
            if answered.is_err() {
                // Whoever asked has gone; the next one comes.
                continue;
            }
        }
    });
    Ok(address)
}
