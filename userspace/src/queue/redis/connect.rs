//! The connection to Redis: one server, the server that Sentinels name, or a cluster.
//!
//! Never repeats a command whose fate it does not know: whoever gave the command decides that. A connection that broke
//! is made again by the next command, after a pause that grows with each failure.

mod dial;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, FromRedisValue, Pipeline, ServerErrorKind, Value};

use super::config::RedisConfig;
use super::error::{RedisError, RedisErrorKind};
use super::keys::ValueType;
use super::script::{Call, Script};

use dial::Dialer;

/// A handle to Redis; clones share one connection.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    /// Where, as configured, for messages.
    address: String,
    current: Mutex<Option<Connection>>,
    dialer: tokio::sync::Mutex<Dialer>,
    /// Attempts to connect that have ended. Whoever waited for one of them shares what came of it.
    attempts: AtomicU64,
}

/// A connection that works until proven otherwise.
#[derive(Clone)]
struct Connection {
    /// The attempt that made it.
    attempt: u64,
    /// Where it leads.
    address: Arc<str>,
    link: Link,
}

#[derive(Clone)]
enum Link {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

/// An error of one command.
#[derive(Clone, Debug)]
struct Problem {
    error: RedisError,
    unknown_script: bool,
}

// === impl Redis ===

impl Redis {
    /// Connects, and makes sure that Redis lets us in.
    ///
    /// # Errors
    /// [`RedisError`]; settings that cannot work are found before anything is sent.
    pub async fn connect(config: &RedisConfig) -> Result<Self, RedisError> {
        let redis = Self::lazy(config)?;
        redis.connection().await?;
        Ok(redis)
    }

    /// A handle that connects with its first command.
    ///
    /// # Errors
    /// [`RedisError::Settings`] or [`RedisError::Tls`], when the settings cannot work.
    pub fn lazy(config: &RedisConfig) -> Result<Self, RedisError> {
        let dialer = Dialer::new(config)?;
        Ok(Self {
            shared: Arc::new(Shared {
                address: dialer.address().to_owned(),
                current: Mutex::new(None),
                dialer: tokio::sync::Mutex::new(dialer),
                attempts: AtomicU64::new(0),
            }),
        })
    }

    /// Where it leads, as configured, for messages.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Makes sure that Redis answers.
    ///
    /// # Errors
    /// [`RedisError`], when it does not.
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.query::<Value>("ping", &redis::cmd("PING")).await.map(drop)
    }

    /// Runs one command; `operation` names it in messages.
    ///
    /// # Errors
    /// [`RedisError`]. Whether Redis ran the command is unknown after one that [`RedisError::is_unsettled`].
    pub async fn query<T: FromRedisValue>(
        &self,
        operation: &'static str,
        command: &Cmd,
    ) -> Result<T, RedisError> {
        let value = self.send(operation, command).await?;
        redis::from_redis_value(value)
            .map_err(|error| RedisError::answer(self.address(), operation, error.to_string()))
    }

    /// Runs several commands that need not know of each other, in one round trip to a single server. The results stand
    /// in the order of the commands.
    pub async fn query_all(
        &self,
        operation: &'static str,
        commands: Vec<Cmd>,
    ) -> Vec<Result<Value, RedisError>> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command);
        }
        let results = self.send_all(operation, &mut pipeline).await;
        results.into_iter().map(|result| result.map_err(|problem| problem.error)).collect()
    }

    /// Calls a script.
    ///
    /// # Errors
    /// [`RedisError`]. Whether the script ran is unknown after one that [`RedisError::is_unsettled`].
    pub async fn invoke(&self, script: &Script, call: Call) -> Result<Value, RedisError> {
        let result = self.invoke_all(script, vec![call]).await.pop();
        result.unwrap_or_else(|| Err(RedisError::answer(self.address(), script.name(), "missing")))
    }

    /// Calls a script several times, in one round trip to a single server. The results stand in the order of the
    /// calls; one that fails does not keep the others from running.
    pub async fn invoke_all(&self, script: &Script, calls: Vec<Call>) -> Vec<Result<Value, RedisError>> {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        let mut keys = Vec::with_capacity(calls.len());
        for call in calls {
            let Call { command, keys: of_call } = call;
            pipeline.add_command(command);
            keys.push(of_call);
        }
        let mut results = self.send_all(script.name(), &mut pipeline).await;
        let unknown =
            |result: &Result<Value, Problem>| matches!(result, Err(problem) if problem.unknown_script);
        if results.iter().any(unknown) {
            self.load(script, &mut pipeline, &mut results).await;
        }
        let mut named = Vec::with_capacity(results.len());
        for (result, keys) in results.into_iter().zip(keys) {
            named.push(match result {
                Err(problem) => Err(self.with_key(problem.error, &keys).await),
                Ok(value) => Ok(value),
            });
        }
        named
    }

    /// Makes the server know the script, and repeats the calls that it did not know.
    async fn load(&self, script: &Script, pipeline: &mut Pipeline, results: &mut [Result<Value, Problem>]) {
        // A cluster takes the script on all its primaries.
        if let Err(error) = self.send("load a script", &script.load()).await {
            for result in results.iter_mut().filter(|result| result.is_err()) {
                *result = Err(Problem { error: error.clone(), unknown_script: false });
            }
            return;
        }
        let unknown: Vec<bool> =
            results.iter().map(|result| matches!(result, Err(problem) if problem.unknown_script)).collect();
        let mut again = Pipeline::new();
        for (command, _) in pipeline.cmd_iter().zip(&unknown).filter(|(_, unknown)| **unknown) {
            again.add_command(command.clone());
        }
        let repeated = self.send_all(script.name(), &mut again).await;
        let places = results.iter_mut().zip(unknown).filter(|(_, unknown)| *unknown);
        for ((place, _), result) in places.zip(repeated) {
            *place = result;
        }
    }

    async fn send(&self, operation: &'static str, command: &Cmd) -> Result<Value, RedisError> {
        let mut connection = self.connection().await?;
        let sent = connection.link.command(command).await;
        match sent.and_then(Value::extract_error) {
            Ok(value) => Ok(value),
            Err(error) => {
                let problem = self.problem(&connection, operation, &error);
                let key = match command.args_iter().nth(1) {
                    Some(redis::Arg::Simple(bytes)) => String::from_utf8(bytes.to_vec()).ok(),
                    Some(redis::Arg::Cursor | _) | None => None,
                };
                Err(self.with_key(problem.error, key.as_slice()).await)
            }
        }
    }

    async fn send_all(
        &self,
        operation: &'static str,
        pipeline: &mut Pipeline,
    ) -> Vec<Result<Value, Problem>> {
        let count = pipeline.len();
        let all = |error: RedisError| vec![Err(Problem { error, unknown_script: false }); count];
        if count == 0 {
            return Vec::new();
        }
        let mut connection = match self.connection().await {
            Ok(connection) => connection,
            Err(error) => return all(error),
        };
        let answers = match connection.link.commands(pipeline).await {
            Ok(answers) => answers,
            Err(error) => return all(self.problem(&connection, operation, &error).error),
        };
        if answers.len() != count {
            return all(RedisError::answer(&connection.address, operation, answers.len()));
        }
        let result = |answer: redis::RedisResult<Value>| {
            answer
                .and_then(Value::extract_error)
                .map_err(|error| self.problem(&connection, operation, &error))
        };
        answers.into_iter().map(result).collect()
    }

    /// What an error means, also for the connection that it came by.
    fn problem(
        &self,
        connection: &Connection,
        operation: &'static str,
        error: &redis::RedisError,
    ) -> Problem {
        let unknown_script = error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript);
        let is_moved = matches!(error.code(), Some("MOVED" | "ASK"));
        let problem = match &connection.link {
            Link::Server(_) if is_moved => RedisError::of_a_cluster(&connection.address),
            Link::Server(_) | Link::Cluster(_) => {
                RedisError::from_driver(&connection.address, operation, error)
            }
        };
        if connection.link.is_over(&problem) || error.is_unrecoverable_error() {
            let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.as_ref().is_some_and(|current| current.attempt == connection.attempt) {
                *current = None;
            }
        }
        Problem { error: problem, unknown_script }
    }

    /// Finds the key that holds something else than ours.
    async fn with_key(&self, error: RedisError, keys: &[String]) -> RedisError {
        if error.kind() != RedisErrorKind::WrongType {
            return error;
        }
        for key in keys {
            let Some(expected) = ValueType::of(key) else { continue };
            let mut connection = match self.connection().await {
                Ok(connection) => connection,
                Err(_unreachable_now) => return error,
            };
            let answer = connection.link.command(redis::cmd("TYPE").arg(key)).await;
            let Ok(Value::SimpleString(found)) = answer else { continue };
            if found != expected.name() && found != "none" {
                let address = connection.address.to_string();
                return RedisError::WrongType { address, key: key.clone(), expected: expected.name(), found };
            }
        }
        // Each has its type: then it is the first, where all scripts keep what they are about.
        match keys.first() {
            Some(key) => error.about(key),
            None => error,
        }
    }

    /// The connection, made anew when there is none.
    async fn connection(&self) -> Result<Connection, RedisError> {
        let shared = &self.shared;
        let seen = shared.attempts.load(Ordering::Acquire);
        if let Some(connection) = shared.current() {
            return Ok(connection);
        }
        let mut dialer = shared.dialer.lock().await;
        if let Some(connection) = shared.current() {
            return Ok(connection);
        }
        let attempts = shared.attempts.load(Ordering::Acquire);
        if attempts != seen
            && let Some(error) = dialer.last_error()
        {
            return Err(error.clone());
        }
        let dialed = dialer.dial().await;
        let attempt = attempts.wrapping_add(1);
        shared.attempts.store(attempt, Ordering::Release);
        let (address, link) = dialed?;
        let connection = Connection { attempt, address, link };
        *shared.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
        Ok(connection)
    }
}

/// Shows where it leads, and nothing of the settings.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn current(&self) -> Option<Connection> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Link ===

impl Link {
    async fn command(&mut self, command: &Cmd) -> redis::RedisResult<Value> {
        match self {
            Link::Server(connection) => connection.send_packed_command(command).await,
            Link::Cluster(connection) => connection.req_packed_command(command).await,
        }
    }

    /// The outer error is one that left the outcome of all commands open.
    async fn commands(
        &mut self,
        pipeline: &mut Pipeline,
    ) -> redis::RedisResult<Vec<redis::RedisResult<Value>>> {
        match self {
            Link::Server(connection) => {
                let answers = connection.send_packed_commands(pipeline, 0, pipeline.len()).await?;
                Ok(answers.into_iter().map(Ok).collect())
            }
            // The commands go to several nodes, side by side; the order within one shard is that of its commands.
            Link::Cluster(connection) => {
                let sent = pipeline.cmd_iter().map(|command| {
                    let mut connection = connection.clone();
                    async move { connection.req_packed_command(command).await }
                });
                Ok(join_all(sent).await)
            }
        }
    }

    /// True when a new connection may do better.
    fn is_over(&self, error: &RedisError) -> bool {
        match (self, error.kind()) {
            // An answer that came late would be taken for the answer to another command by nobody, but a connection
            // that has gone silent can stay so for a quarter of an hour.
            (Link::Server(_), RedisErrorKind::Timeout | RedisErrorKind::ReadOnly) => true,
            // A cluster finds out by itself that a node is silent or has become a replica.
            (Link::Cluster(_), RedisErrorKind::Timeout | RedisErrorKind::ReadOnly) => false,
            (_, RedisErrorKind::Unreachable | RedisErrorKind::Auth) => true,
            (
                _,
                RedisErrorKind::Permission
                | RedisErrorKind::Tls
                | RedisErrorKind::OutOfMemory
                | RedisErrorKind::WrongType
                | RedisErrorKind::NoGroup
                | RedisErrorKind::NotReady
                | RedisErrorKind::Cluster
                | RedisErrorKind::Sentinel
                | RedisErrorKind::Settings
                | RedisErrorKind::Protocol,
            ) => false,
        }
    }
}
