//! Connections to Redis: those that work, and those that say why they do not.
//!
//! Stores nothing.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use understudy::queue::redis::config::{Credentials, Location, Mode, Pem, Tls};
use understudy::queue::redis::{Redis, RedisConfig, RedisError, RedisErrorKind, Script};
use understudy_tests::redis::{Cluster, Options, Server, stranger};

use crate::{Case, REDIS, TLS, block_on};

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_script_is_loaded_where_it_is_unknown", needs: REDIS, run: scripts },
    Case { name: "a_broken_connection_is_made_again", needs: REDIS, run: reconnects },
    Case { name: "tls_with_our_own_authority_and_client_certificate", needs: TLS, run: tls },
    Case { name: "a_cluster_is_one_handle", needs: REDIS, run: cluster },
    Case { name: "every_refusal_has_its_kind", needs: TLS, run: refusals },
];

/// Settings for a server that may be slow on a busy machine.
pub(crate) fn config(url: &str) -> anyhow::Result<RedisConfig> {
    let Location { server, tls, database } = Location::parse(url)?;
    Ok(RedisConfig {
        servers: vec![server],
        tls: tls.then(Tls::default),
        database: database.unwrap_or(0),
        connect_wait_max: Duration::from_secs(30),
        answer_wait_max: Duration::from_secs(30),
        ..RedisConfig::default()
    })
}

fn pem(path: &Path) -> anyhow::Result<Pem> {
    let text = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(Pem { name: path.display().to_string(), text })
}

fn echo() -> Script {
    Script::new("echo", "return ARGV[1]")
}

async fn check_echo(redis: &Redis, text: &str) -> anyhow::Result<()> {
    let script = echo();
    let calls = ["{a}:stream", "{b}:stream", "{c}:stream"].map(|key| {
        let mut call = script.call(vec![key.to_owned()]);
        call.arg(text).arg(key);
        call
    });
    for result in redis.invoke_all(&script, calls.to_vec()).await {
        ensure!(result? == redis::Value::BulkString(text.into()), "not what was sent");
    }
    Ok(())
}

fn scripts() -> anyhow::Result<()> {
    let server = Server::start()?;
    block_on(async {
        let redis = Redis::connect(&config(&server.url())?).await?;
        check_echo(&redis, "first").await?;
        server.command(&["SCRIPT", "FLUSH"])?;
        check_echo(&redis, "again").await
    })
}

fn reconnects() -> anyhow::Result<()> {
    let mut server = Server::start()?;
    block_on(async {
        let redis = Redis::connect(&config(&server.url())?).await?;
        server.kill()?;
        let error = redis.ping().await.err().context("it is gone")?;
        ensure!(error.kind() == RedisErrorKind::Unreachable && error.may_pass(), "{error}");
        server.restart()?;
        redis.ping().await?;
        check_echo(&redis, "back").await?;
        server.freeze()?;
        let error = redis.ping().await.err().context("it does not answer")?;
        server.thaw()?;
        ensure!(error.kind() == RedisErrorKind::Timeout && error.is_unsettled(), "{error}");
        redis.ping().await?;
        Ok(())
    })
}

fn tls() -> anyhow::Result<()> {
    let server = Server::start_with(Options { tls: true, ..Options::default() })?;
    let certificates = server.certificates();
    let (certificate, key) = certificates.client();
    let tls =
        Tls { ca: Some(pem(&certificates.authority())?), client: Some((pem(&certificate)?, pem(&key)?)) };
    let config = RedisConfig { tls: Some(tls), ..config(&server.url())? };
    block_on(async { check_echo(&Redis::connect(&config).await?, "secret").await })
}

fn cluster() -> anyhow::Result<()> {
    let cluster = Cluster::start(0)?;
    let mut servers = Vec::new();
    for url in cluster.urls() {
        servers.push(Location::parse(&url)?.server);
    }
    let config = RedisConfig { servers, mode: Mode::Cluster, ..RedisConfig::default() };
    block_on(async {
        let redis = Redis::connect(&config).await?;
        check_echo(&redis, "three nodes").await?;
        cluster.nodes[1].command(&["SCRIPT", "FLUSH"])?;
        check_echo(&redis, "one has forgotten").await?;
        let node = RedisConfig { servers: config.servers[..1].to_vec(), ..RedisConfig::default() };
        let single = Redis::connect(&node).await?;
        let kinds: Vec<_> = ["{a}:stream", "{b}:stream", "{c}:stream", "{d}:stream"]
            .map(|key| redis::cmd("XLEN").arg(key).take())
            .to_vec();
        let errors: Vec<RedisError> =
            single.query_all("count", kinds).await.into_iter().filter_map(Result::err).collect();
        ensure!(!errors.is_empty(), "no key lies on another node");
        for error in errors {
            let message = error.to_string();
            ensure!(
                error.kind() == RedisErrorKind::Settings && message.contains("mode = \"cluster\""),
                "{message}"
            );
        }
        Ok(())
    })
}

fn refusals() -> anyhow::Result<()> {
    let open = Server::start()?;
    let locked = Server::start_with(Options { password: Some("correct".to_owned()), ..Options::default() })?;
    locked.command(&["ACL", "SETUSER", "reader", "on", ">reads", "~*", "+@read", "+ping"])?;
    let secret = Server::start_with(Options { tls: true, ..Options::default() })?;
    let authority = secret.certificates().authority();
    let web = stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
    let silent = stranger(b"")?;
    let with = |url: &str, user: Option<&str>, password: &str| {
        let credentials = Credentials { user: user.map(str::to_owned), password: password.to_owned() };
        Ok::<_, anyhow::Error>(RedisConfig { credentials: Some(credentials), ..config(url)? })
    };
    let trusting = |pem: Pem| {
        let tls = Tls { ca: Some(pem), client: None };
        Ok::<_, anyhow::Error>(RedisConfig { tls: Some(tls), ..config(&secret.url())? })
    };
    let garbage = Pem { name: "/etc/ca.pem".to_owned(), text: b"no certificate".to_vec() };
    let cases = [
        (
            config(&format!("redis://127.0.0.1:{}", unused_port()?))?,
            RedisErrorKind::Unreachable,
            "[queue] redis",
        ),
        (config("redis://no-such-host.invalid")?, RedisErrorKind::Unreachable, "no-such-host.invalid"),
        (config(&locked.url())?, RedisErrorKind::Auth, "credentials"),
        (with(&locked.url(), None, "wrong")?, RedisErrorKind::Auth, "credentials"),
        (with(&locked.url(), Some("nobody"), "correct")?, RedisErrorKind::Auth, "does not know this user"),
        (with(&open.url(), None, "needless")?, RedisErrorKind::Auth, "credentials"),
        (config(&format!("{}/99", open.url()))?, RedisErrorKind::Settings, "number"),
        (
            with(&format!("{}/1", locked.url()), Some("reader"), "reads")?,
            RedisErrorKind::Permission,
            "'select'",
        ),
        (config(&open.url().replace("redis:", "rediss:"))?, RedisErrorKind::Tls, "`redis://`"),
        (config(&secret.url().replace("rediss:", "redis:"))?, RedisErrorKind::Tls, "`rediss://`"),
        (config(&secret.url())?, RedisErrorKind::Tls, "UnknownIssuer"),
        (trusting(garbage)?, RedisErrorKind::Tls, "/etc/ca.pem"),
        // The server asks for a certificate of ours.
        (trusting(pem(&authority)?)?, RedisErrorKind::Tls, "client_cert"),
        (config(&format!("redis://{web}"))?, RedisErrorKind::Protocol, "check the port"),
        (config(&format!("rediss://{web}"))?, RedisErrorKind::Protocol, "check the port"),
        (config(&format!("redis://{silent}"))?, RedisErrorKind::Unreachable, "127.0.0.1"),
        (RedisConfig { mode: Mode::Cluster, ..config(&open.url())? }, RedisErrorKind::Settings, "no cluster"),
        (
            RedisConfig { mode: Mode::Sentinel { master: "main".to_owned() }, ..config(&open.url())? },
            RedisErrorKind::Sentinel,
            "main",
        ),
    ];
    block_on(async {
        for (config, kind, part) in cases {
            let error = Redis::connect(&config).await.err().with_context(|| format!("{config:?} works"))?;
            let message = error.to_string();
            ensure!(
                error.kind() == kind && message.contains(part),
                "{config:?}: {message}, expected {kind:?}"
            );
            ensure!(!message.contains("correct") && !message.contains("wrong"), "{message} holds a secret");
        }
        let reader = Redis::connect(&with(&locked.url(), Some("reader"), "reads")?).await?;
        let written = reader.query::<redis::Value>("set a key", redis::cmd("SET").arg("k").arg("v")).await;
        let error = written.err().context("it may only read")?;
        ensure!(error.kind() == RedisErrorKind::Permission, "{error}");
        open.command(&["SET", "{p:e:0}:stream", "in the way"])?;
        let redis = Redis::connect(&config(&open.url())?).await?;
        let counted = redis.query::<u64>("count", redis::cmd("XLEN").arg("{p:e:0}:stream")).await;
        let message = counted.err().context("it is no stream")?.to_string();
        ensure!(message.contains("a string lies under the key `{p:e:0}:stream`"), "{message}");
        Ok(())
    })
}

/// A port that nobody listens on.
fn unused_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
