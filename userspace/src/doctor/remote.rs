//! What is reached over the network: Redis, and the candidates.
//!
//! Sends no request to a candidate: that a connection can be made is all that is looked at.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Finding;
use crate::branch::{CapturedPorts, HttpBranchConfig};
use crate::config;
use crate::pipeline::clock;
use crate::pipeline::settings::{Config, QueueAccess};
use crate::queue::redis::health::Health;
use crate::queue::redis::{Redis, RedisError};

/// Longest wait for a name, and for a connection to one address.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// Clocks of hosts that lie further apart make times in reports of a fleet hard to read.
const CLOCK_APART_MAX: Duration = Duration::from_secs(1);
/// Part of its memory limit above which Redis is nearly full, in percent.
const NEARLY_FULL_PERCENT: u64 = 80;

/// Redis, where the configuration names one.
pub(super) async fn redis(config: &Config) -> Vec<Finding> {
    let Some(queue) = &config.queue else { return Vec::new() };
    let redis = match connect(&queue.access).await {
        Ok(redis) => redis,
        Err(finding) => return vec![finding],
    };
    let mut findings = Vec::new();
    match redis.health().await {
        Ok(servers) => {
            let versions: Vec<_> = servers.iter().map(|health| health.version.as_str()).collect();
            let detail = format!("{} answers (version {})", redis.address(), versions.join(", "));
            findings.push(Finding::ok("redis", detail));
            findings.extend(servers.iter().map(memory));
            findings.extend(servers.iter().find(|health| !health.keeps_on_disk).map(durability));
        }
        Err(error) => findings.push(refused(&error, "let this user run INFO: ACL SETUSER name +info")),
    }
    if let Ok(theirs) = redis.time().await {
        findings.push(clock_apart(Duration::from_nanos(clock::wall().0), theirs));
    }
    findings
}

async fn connect(access: &QueueAccess) -> Result<Redis, Finding> {
    let directory = config::credentials_directory();
    let access = config::read_access(access, directory.as_deref()).map_err(|error| {
        Finding::failure(
            "redis",
            super::chain(&error),
            "mend the file that is named, or the key that names it",
        )
    })?;
    // What to do stands in the message.
    Redis::connect(&access).await.map_err(|error| refused(&error, "mend [queue], or Redis"))
}

fn refused(error: &RedisError, remedy: &str) -> Finding {
    Finding::failure("redis", super::chain(error), remedy)
}

fn memory(health: &Health) -> Finding {
    let Health { memory_max, memory_used, memory_policy, .. } = health;
    let used_mib = memory_used >> 20;
    if health.may_delete() && *memory_max > 0 {
        return Finding::failure(
            "redis-memory",
            format!(
                "at its limit this Redis deletes keys by itself (maxmemory-policy {memory_policy}): entries would be lost"
            ),
            "CONFIG SET maxmemory-policy noeviction, or a Redis of its own",
        );
    }
    if *memory_max == 0 {
        return Finding::warning(
            "redis-memory",
            format!("no limit (maxmemory 0), {used_mib} MiB used"),
            "set maxmemory above what `shards` times `stream_bytes_max` may take, so that Redis cannot fill its host",
        );
    }
    let max_mib = memory_max >> 20;
    if memory_used.saturating_mul(100) / (*memory_max).max(1) >= NEARLY_FULL_PERCENT {
        return Finding::warning(
            "redis-memory",
            format!("{used_mib} of {max_mib} MiB used"),
            "raise maxmemory, or lower `stream_bytes_max` under [queue]",
        );
    }
    Finding::ok("redis-memory", format!("{used_mib} of {max_mib} MiB used, nothing is deleted at the limit"))
}

fn durability(_: &Health) -> Finding {
    Finding::warning(
        "redis-disk",
        "no append-only file: what lies in Redis is gone when it crashes (and counted as forgotten)",
        "CONFIG SET appendonly yes, if that matters to you",
    )
}

fn clock_apart(ours: Duration, theirs: Duration) -> Finding {
    let apart = ours.abs_diff(theirs);
    if apart > CLOCK_APART_MAX {
        let detail = format!("this host's clock and that of Redis lie {:.1} s apart", apart.as_secs_f64());
        return Finding::warning("clock", detail, "synchronise both (timedatectl set-ntp true)");
    }
    Finding::ok("clock", "this host and Redis agree on the time")
}

/// Each candidate and each twin.
pub(super) async fn candidates(config: &Config) -> Vec<Finding> {
    let captured = match config.capture.input.is_live() {
        true => CapturedPorts::new(config.capture.kernel.ports.iter().copied()),
        false => CapturedPorts::default(),
    };
    let mut findings = Vec::new();
    for experiment in &config.experiments {
        let branches = std::iter::once(("candidate", &experiment.candidate));
        for (check, branch) in branches.chain(experiment.twin.iter().map(|twin| ("twin", twin))) {
            findings.push(candidate(check, &experiment.name, branch, &captured).await);
        }
    }
    findings
}

async fn candidate(
    check: &'static str,
    experiment: &str,
    branch: &HttpBranchConfig,
    captured: &CapturedPorts,
) -> Finding {
    let shown = format!("{} (experiment `{experiment}`)", branch.url);
    let unreachable = |why: String| {
        let remedy = "start it, or mend its `url`; until then exchanges count as incomparable";
        Finding::warning(check, format!("{shown} cannot be reached: {why}"), remedy)
    };
    let (host, port) = match branch.endpoint() {
        Ok(target) => target,
        Err(error) => return Finding::failure(check, super::chain(&error), "mend its `url`"),
    };
    let addresses: Vec<SocketAddr> = match timeout(WAIT_MAX, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return unreachable(error.to_string()),
        Err(_) => return unreachable(format!("its name was not found within {WAIT_MAX:?}")),
    };
    let mut why = "its name has no address".to_owned();
    for address in addresses {
        if let Err(error) = captured.check(&branch.url, address) {
            return Finding::failure(
                check,
                super::chain(&error),
                "name a candidate that is not captured itself",
            );
        }
        match timeout(WAIT_MAX, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Finding::ok(check, format!("{shown} takes connections at {address}")),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address}: no answer within {WAIT_MAX:?}"),
        }
    }
    unreachable(why)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_redis_that_deletes_by_itself_does_not_work() {
        let check = |memory_max: u64, memory_used: u64, policy: &str, state: State| {
            let health =
                Health { memory_max, memory_used, memory_policy: policy.to_owned(), ..Health::default() };
            assert_eq!(memory(&health).state, state, "{health:?}");
        };
        check(100 << 20, 1 << 20, "noeviction", State::Ok);
        check(100 << 20, 90 << 20, "noeviction", State::Warning);
        check(0, 1 << 20, "noeviction", State::Warning);
        check(0, 1 << 20, "allkeys-lru", State::Warning);
        check(100 << 20, 1 << 20, "volatile-lru", State::Failure);
    }

    #[test]
    fn clocks_may_lie_a_little_apart() {
        let second = Duration::from_secs(1);
        assert_eq!(clock_apart(second * 100, second * 99).state, State::Ok);
        assert_eq!(clock_apart(second * 100, second * 102).state, State::Warning);
    }

    #[tokio::test]
    async fn a_candidate_that_takes_connections_is_told_from_one_that_does_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (branch, nobody) = (HttpBranchConfig::new(format!("http://{address}")), CapturedPorts::default());
        assert_eq!(candidate("candidate", "x", &branch, &nobody).await.state, State::Ok);
        let captured = CapturedPorts::new([address.port()]);
        assert_eq!(candidate("candidate", "x", &branch, &captured).await.state, State::Failure);
        // A port that is taken, on which nobody listens: no other process can be given it meanwhile.
        let silent = tokio::net::TcpSocket::new_v4().unwrap();
        silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let branch = HttpBranchConfig::new(format!("http://{}", silent.local_addr().unwrap()));
        assert_eq!(candidate("candidate", "x", &branch, &nobody).await.state, State::Warning);
        assert_eq!(
            candidate("candidate", "x", &HttpBranchConfig::new("ftp://b"), &nobody).await.state,
            State::Failure
        );
    }
}
