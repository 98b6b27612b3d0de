//! What can go wrong between us and Redis, in words that say what to do.
//!
//! Decides nothing about trying again, and never holds a password: Redis does not repeat one.

use redis::ErrorKind;

/// Where the settings stand, for messages.
const SECTION: &str = "[queue]";

/// What went wrong with Redis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisError {
    /// No connection, or it broke.
    #[error(
        "Redis at {address} cannot be reached: {said}; check that it runs, and the address in `{SECTION} redis`"
    )]
    Unreachable {
        /// Where.
        address: String,
        /// What the system said.
        said: String,
    },
    /// No answer in time.
    #[error("Redis at {address} did not answer in time: {said}; look at its load and at the network")]
    Timeout {
        /// Where.
        address: String,
        /// What was waited for.
        said: String,
    },
    /// It asks for a password, or for another one.
    #[error(
        "Redis at {address} does not let us in: {said}; give the right `user` and `password` in the file that `{SECTION} credentials` names, or in systemd's credential `redis`"
    )]
    Auth {
        /// Where.
        address: String,
        /// What Redis said.
        said: String,
    },
    /// The user's access control list forbids it.
    #[error(
        "Redis at {address} forbids it to this user: {said}; widen the user's rules (`ACL SETUSER`) to what the guide lists"
    )]
    Permission {
        /// Where.
        address: String,
        /// What Redis said.
        said: String,
    },
    /// The two sides do not agree about TLS.
    #[error("no TLS with Redis at {address}: {said}")]
    Tls {
        /// Where.
        address: String,
        /// What is wrong, and the remedy.
        said: String,
    },
    /// `maxmemory` is reached and nothing may be evicted.
    #[error(
        "Redis at {address} is out of memory: {said}; give it more (`maxmemory`), or lower `{SECTION} stream_bytes_max`"
    )]
    OutOfMemory {
        /// Where.
        address: String,
        /// What Redis said.
        said: String,
    },
    /// Somebody else's value lies where ours belongs.
    #[error(
        "a {found} lies under the key `{key}` of Redis at {address}, where a {expected} belongs; move it away, or set another `{SECTION} prefix`"
    )]
    WrongType {
        /// Where.
        address: String,
        /// The key; all that may be meant, when Redis did not say.
        key: String,
        /// What we keep there.
        expected: &'static str,
        /// What Redis found.
        found: String,
    },
    /// The consumer group is gone.
    #[error("a stream of Redis at {address} has lost its group of workers: {said}; it is made again")]
    NoGroup {
        /// Where.
        address: String,
        /// What Redis said, with the stream.
        said: String,
    },
    /// It takes no writes: a replica, too few replicas, or a disk that fails.
    #[error(
        "Redis at {address} takes no writes: {said}; name the primary, or mend what Redis complains about"
    )]
    ReadOnly {
        /// Where.
        address: String,
        /// What Redis said.
        said: String,
    },
    /// It has just been started, or cannot reach its primary.
    #[error("Redis at {address} is not ready: {said}; it is asked again")]
    NotReady {
        /// Where.
        address: String,
        /// What Redis said.
        said: String,
    },
    /// A cluster that is broken, or that moves.
    #[error("the cluster of Redis at {address} cannot answer: {said}")]
    Cluster {
        /// Where.
        address: String,
        /// What is wrong, and the remedy.
        said: String,
    },
    /// The Sentinels name no server.
    #[error(
        "the Sentinels at {address} name no server `{master}`: {said}; check `{SECTION} sentinel_master`"
    )]
    Sentinel {
        /// Where.
        address: String,
        /// The name that they were asked for.
        master: String,
        /// What they said.
        said: String,
    },
    /// A setting that cannot work.
    #[error("Redis at {address} cannot be used with these settings: {said}")]
    Settings {
        /// Where.
        address: String,
        /// What is wrong, and the remedy.
        said: String,
    },
    /// An answer that we do not understand, or a request that Redis does not.
    #[error(
        "Redis at {address} did not take {operation}: {said}; check that this is Redis 6.2 or newer, or Valkey"
    )]
    Protocol {
        /// Where.
        address: String,
        /// What was asked.
        operation: &'static str,
        /// What came back.
        said: String,
    },
}

/// What went wrong, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedisErrorKind {
    /// [`RedisError::Unreachable`].
    Unreachable,
    /// [`RedisError::Timeout`].
    Timeout,
    /// [`RedisError::Auth`].
    Auth,
    /// [`RedisError::Permission`].
    Permission,
    /// [`RedisError::Tls`].
    Tls,
    /// [`RedisError::OutOfMemory`].
    OutOfMemory,
    /// [`RedisError::WrongType`].
    WrongType,
    /// [`RedisError::NoGroup`].
    NoGroup,
    /// [`RedisError::ReadOnly`].
    ReadOnly,
    /// [`RedisError::NotReady`].
    NotReady,
    /// [`RedisError::Cluster`].
    Cluster,
    /// [`RedisError::Sentinel`].
    Sentinel,
    /// [`RedisError::Settings`].
    Settings,
    /// [`RedisError::Protocol`].
    Protocol,
}

/// Stands for a key that Redis has not named.
const UNKNOWN_KEY: &str = "(unknown)";

/// Codes that Redis starts an error with, and what they mean. Before version 7 an error inside a script stands in the
/// middle of the message, so the whole of it is searched.
const CODES: [(&str, RedisErrorKind); 18] = [
    ("NOAUTH", RedisErrorKind::Auth),
    ("WRONGPASS", RedisErrorKind::Auth),
    ("NOPERM", RedisErrorKind::Permission),
    ("OOM", RedisErrorKind::OutOfMemory),
    ("WRONGTYPE", RedisErrorKind::WrongType),
    ("NOGROUP", RedisErrorKind::NoGroup),
    ("READONLY", RedisErrorKind::ReadOnly),
    ("MISCONF", RedisErrorKind::ReadOnly),
    ("NOREPLICAS", RedisErrorKind::ReadOnly),
    ("LOADING", RedisErrorKind::NotReady),
    ("MASTERDOWN", RedisErrorKind::NotReady),
    ("BUSY", RedisErrorKind::NotReady),
    ("MOVED", RedisErrorKind::Cluster),
    ("ASK", RedisErrorKind::Cluster),
    ("CLUSTERDOWN", RedisErrorKind::Cluster),
    ("CROSSSLOT", RedisErrorKind::Cluster),
    ("TRYAGAIN", RedisErrorKind::Cluster),
    ("DENIED", RedisErrorKind::Auth),
];

// === impl RedisError ===

impl RedisError {
    /// What went wrong, as a label.
    pub fn kind(&self) -> RedisErrorKind {
        match self {
            RedisError::Unreachable { .. } => RedisErrorKind::Unreachable,
            RedisError::Timeout { .. } => RedisErrorKind::Timeout,
            RedisError::Auth { .. } => RedisErrorKind::Auth,
            RedisError::Permission { .. } => RedisErrorKind::Permission,
            RedisError::Tls { .. } => RedisErrorKind::Tls,
            RedisError::OutOfMemory { .. } => RedisErrorKind::OutOfMemory,
            RedisError::WrongType { .. } => RedisErrorKind::WrongType,
            RedisError::NoGroup { .. } => RedisErrorKind::NoGroup,
            RedisError::ReadOnly { .. } => RedisErrorKind::ReadOnly,
            RedisError::NotReady { .. } => RedisErrorKind::NotReady,
            RedisError::Cluster { .. } => RedisErrorKind::Cluster,
            RedisError::Sentinel { .. } => RedisErrorKind::Sentinel,
            RedisError::Settings { .. } => RedisErrorKind::Settings,
            RedisError::Protocol { .. } => RedisErrorKind::Protocol,
        }
    }

    /// True when waiting can help without anybody changing a setting.
    pub fn may_pass(&self) -> bool {
        match self.kind() {
            RedisErrorKind::Unreachable
            | RedisErrorKind::Timeout
            | RedisErrorKind::OutOfMemory
            | RedisErrorKind::NoGroup
            | RedisErrorKind::ReadOnly
            | RedisErrorKind::NotReady
            | RedisErrorKind::Cluster
            | RedisErrorKind::Sentinel => true,
            RedisErrorKind::Auth
            | RedisErrorKind::Permission
            | RedisErrorKind::Tls
            | RedisErrorKind::WrongType
            | RedisErrorKind::Settings
            | RedisErrorKind::Protocol => false,
        }
    }

    /// True when Redis will not do what it was asked to, however often: something about the request, or a key in its way.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.kind(),
            RedisErrorKind::WrongType | RedisErrorKind::Permission | RedisErrorKind::Protocol
        )
    }

    /// True when Redis may have run the command all the same: only asking again, in a way that does not double, tells.
    pub fn is_unsettled(&self) -> bool {
        matches!(
            self.kind(),
            RedisErrorKind::Unreachable | RedisErrorKind::Timeout | RedisErrorKind::Protocol
        )
    }

    /// Redis names another node, to whoever takes it for a single server.
    pub(super) fn of_a_cluster(address: &str) -> Self {
        let said = format!("it is a node of a cluster; set `{SECTION} mode = \"cluster\"`");
        Self::Settings { address: address.to_owned(), said }
    }

    /// The same about this key, where Redis has not named one.
    pub(super) fn about(mut self, named: &str) -> Self {
        if let Self::WrongType { key, .. } = &mut self
            && key == UNKNOWN_KEY
        {
            named.clone_into(key);
        }
        self
    }

    /// An answer of another form than `operation` has.
    pub(super) fn answer(address: &str, operation: &'static str, said: impl std::fmt::Debug) -> Self {
        // An answer can be large; its start is enough to see what it is.
        let said: String = format!("the answer is {said:?}").chars().take(200).collect();
        Self::Protocol { address: address.to_owned(), operation, said }
    }

    /// What the driver reports, in our words.
    pub(super) fn from_driver(address: &str, operation: &'static str, error: &redis::RedisError) -> Self {
        let address = address.to_owned();
        let said = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            (Some(_), None) | (None, _) => error.to_string(),
        };
        match error.kind() {
            ErrorKind::Io if error.is_timeout() => {
                Self::Timeout { address, said: format!("{operation} ({said})") }
            }
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => Self::Unreachable { address, said },
            // The driver keeps what Redis said to itself.
            ErrorKind::AuthenticationFailed => Self::Auth {
                address,
                said: "it does not know this user, or not with this password".to_owned(),
            },
            ErrorKind::InvalidClientConfig => Self::Settings { address, said },
            ErrorKind::Server(_) | ErrorKind::Extension => {
                Self::from_server(address, operation, error.code().unwrap_or_default(), said)
            }
            // The driver may get more kinds; what it says is kept.
            ErrorKind::Parse
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::Client
            | ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel
            | ErrorKind::EmptySentinelList
            | ErrorKind::RESP3NotSupported
            | _ => Self::Protocol { address, operation, said },
        }
    }

    fn from_server(address: String, operation: &'static str, code: &str, said: String) -> Self {
        let starts = |part: &str| CODES.iter().find(|(code, _)| *code == part).map(|(_, kind)| *kind);
        let kind = starts(code).or_else(|| said.split([' ', ':']).find_map(starts));
        match kind {
            Some(RedisErrorKind::Auth) => Self::Auth { address, said },
            Some(RedisErrorKind::Permission) => Self::Permission { address, said },
            Some(RedisErrorKind::OutOfMemory) => Self::OutOfMemory { address, said },
            Some(RedisErrorKind::WrongType) => Self::WrongType {
                address,
                key: UNKNOWN_KEY.to_owned(),
                expected: "value of ours",
                found: "value of another type".to_owned(),
            },
            Some(RedisErrorKind::NoGroup) => Self::NoGroup { address, said },
            Some(RedisErrorKind::ReadOnly) => Self::ReadOnly { address, said },
            Some(RedisErrorKind::NotReady) => Self::NotReady { address, said },
            Some(RedisErrorKind::Cluster) => Self::Cluster { address, said },
            _ if said.contains("cluster support disabled") => {
                let said = format!("it is no cluster; remove `{SECTION} mode = \"cluster\"`");
                Self::Settings { address, said }
            }
            _ if said.contains("DB index is out of range") => {
                let said =
                    "it has no database of that number; change the number at the end of `redis`".to_owned();
                Self::Settings { address, said }
            }
            // Redis 7.0 says NOPERM only of what the script itself is called with.
            _ if said.contains("The user executing the script can't") => Self::Permission { address, said },
            // The driver tells it in its own words where it is about the database.
            _ if said.contains("user has no permissions") => Self::Permission { address, said },
            _ if said.contains("exhausted the last possible ID") => Self::WrongType {
                address,
                key: UNKNOWN_KEY.to_owned(),
                expected: "stream that takes entries",
                found: "stream that somebody has given the last possible id".to_owned(),
            },
            _ if said.contains("max number of clients") => Self::NotReady { address, said },
            _ => Self::Protocol { address, operation, said },
        }
    }
}

// === impl RedisErrorKind ===

impl RedisErrorKind {
    /// All of them.
    pub const ALL: [RedisErrorKind; 14] = [
        RedisErrorKind::Unreachable,
        RedisErrorKind::Timeout,
        RedisErrorKind::Auth,
        RedisErrorKind::Permission,
        RedisErrorKind::Tls,
        RedisErrorKind::OutOfMemory,
        RedisErrorKind::WrongType,
        RedisErrorKind::NoGroup,
        RedisErrorKind::ReadOnly,
        RedisErrorKind::NotReady,
        RedisErrorKind::Cluster,
        RedisErrorKind::Sentinel,
        RedisErrorKind::Settings,
        RedisErrorKind::Protocol,
    ];

    /// The value of the label `kind` in metrics.
    pub fn label(self) -> &'static str {
        match self {
            RedisErrorKind::Unreachable => "unreachable",
            RedisErrorKind::Timeout => "timeout",
            RedisErrorKind::Auth => "auth",
            RedisErrorKind::Permission => "permission",
            RedisErrorKind::Tls => "tls",
            RedisErrorKind::OutOfMemory => "out_of_memory",
            RedisErrorKind::WrongType => "wrong_type",
            RedisErrorKind::NoGroup => "no_group",
            RedisErrorKind::ReadOnly => "read_only",
            RedisErrorKind::NotReady => "not_ready",
            RedisErrorKind::Cluster => "cluster",
            RedisErrorKind::Sentinel => "sentinel",
            RedisErrorKind::Settings => "settings",
            RedisErrorKind::Protocol => "protocol",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reply: &str, kind: RedisErrorKind, part: &str) {
        let line = format!("-{reply}\r\n");
        let driver = redis::parse_redis_value(line.as_bytes())
            .and_then(|value| value.extract_error())
            .expect_err("it is an error");
        let error = RedisError::from_driver("redis.internal:6379", "append", &driver);
        assert_eq!(error.kind(), kind, "{reply}: {error}");
        let message = error.to_string();
        assert!(message.contains("redis.internal:6379") && message.contains(part), "{message}");
    }

    #[test]
    fn each_reply_has_its_kind_and_its_remedy() {
        check("NOAUTH Authentication required.", RedisErrorKind::Auth, "credentials");
        check("WRONGPASS invalid username-password pair", RedisErrorKind::Auth, "credentials");
        check(
            "NOPERM this user has no permissions to run the 'xadd' command",
            RedisErrorKind::Permission,
            "xadd",
        );
        check(
            "OOM command not allowed when used memory > 'maxmemory'.",
            RedisErrorKind::OutOfMemory,
            "maxmemory",
        );
        check("WRONGTYPE Operation against a key", RedisErrorKind::WrongType, "prefix");
        check("NOGROUP No such key '{p:e:0}:stream'", RedisErrorKind::NoGroup, "{p:e:0}:stream");
        check("READONLY You can't write against a read only replica.", RedisErrorKind::ReadOnly, "primary");
        check("MISCONF Redis is configured to save RDB snapshots", RedisErrorKind::ReadOnly, "snapshots");
        check("LOADING Redis is loading the dataset in memory", RedisErrorKind::NotReady, "loading");
        check("MASTERDOWN Link with MASTER is down", RedisErrorKind::NotReady, "MASTER");
        check("BUSY Redis is busy running a script.", RedisErrorKind::NotReady, "script");
        check("MOVED 3999 127.0.0.1:6381", RedisErrorKind::Cluster, "3999");
        check("CLUSTERDOWN Hash slot not served", RedisErrorKind::Cluster, "Hash slot");
        check("ERR This instance has cluster support disabled", RedisErrorKind::Settings, "no cluster");
        check("ERR DB index is out of range", RedisErrorKind::Settings, "number");
        check(
            "ERR The user executing the script can't run this command or subcommand script: e8",
            RedisErrorKind::Permission,
            "ACL SETUSER",
        );
        check(
            "ERR The stream has exhausted the last possible ID, unable to add more items script: e8",
            RedisErrorKind::WrongType,
            "last possible id",
        );
        check("ERR unknown command 'EVALSHA'", RedisErrorKind::Protocol, "EVALSHA");
    }

    #[test]
    fn older_servers_say_it_in_the_middle() {
        check(
            "ERR Error running script (call to f_1): @user_script:1: OOM command not allowed when used memory",
            RedisErrorKind::OutOfMemory,
            "maxmemory",
        );
        check(
            "ERR Error running script (call to f_1): @user_script: 4: WRONGTYPE Operation against a key",
            RedisErrorKind::WrongType,
            "prefix",
        );
    }
}
