//! Asks for the credentials that a candidate needs: at the start, when it refuses one, and when one is due.
//!
//! Shows none. Asks one question at a time, and none for a refusal so soon after the last.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::clock::now;
use super::tasks::spawn;
use crate::branch::credentials::{Credential, CredentialField, Held, Refused, Standing};
use crate::branch::{CredentialConfig, CredentialSource, Credentials};
use crate::metrics::{CredentialResult, ReplayStats};
use crate::secret::{Secret, SecretFileError, read_private};

/// Why a credential cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Its file cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// Its program cannot be started.
    #[error("failed to start `{program}` for a credential")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its program failed.
    #[error("`{program}` gave no credential ({status}); run it by hand to see why")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// There was no answer in time.
    #[error("`{name}` gave no credential within {wait_max:?}; see `wait_max`")]
    TimedOut {
        /// The program, or the file.
        name: String,
        /// The limit.
        wait_max: Duration,
    },
    /// What there is cannot be sent. It is not repeated.
    #[error(
        "what `{name}` holds or prints is no credential: it must be one line of printable ASCII, of at most {limit} bytes"
    )]
    Form {
        /// The program, or the file.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// The field cannot be one. The configuration was checked before.
    #[error("`{header}` is no name of a field")]
    Header {
        /// The name.
        header: String,
    },
    /// Nobody is left to read a file.
    #[error("a part of the pipeline failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Asks for one field's value.
struct Asker {
    config: CredentialConfig,
    /// For the log and the counts.
    experiment: Arc<str>,
    stats: Arc<ReplayStats>,
    held: watch::Sender<Held>,
    refusals: mpsc::Receiver<Refused>,
    /// When the source was asked last.
    asked_at: Instant,
    /// What came of it.
    last: Standing,
}

/// Bytes of a value, and of what may stand around it. Servers take no longer fields.
const VALUE_BYTES_MAX: usize = 8192;

/// Refusals that wait for an answer; as many as requests under way by default.
const REFUSALS_MAX: usize = 64;

/// Asks for all fields of a candidate once, and from then on whenever it is due.
///
/// # Errors
/// When one cannot be had now.
pub(super) async fn hold(
    configs: &[CredentialConfig],
    experiment: &Arc<str>,
    stats: &Arc<ReplayStats>,
) -> Result<Credentials, CredentialError> {
    let mut fields = Vec::new();
    for config in configs {
        let credential = ask(config).await?;
        let (held, receiver) = watch::channel(Held { credential, generation: 0, is_asked: false });
        let (refusals, refused) = mpsc::channel(REFUSALS_MAX);
        let asker = Asker {
            config: config.clone(),
            experiment: Arc::clone(experiment),
            stats: Arc::clone(stats),
            held,
            refusals: refused,
            asked_at: now(),
            last: Standing::Holds,
        };
        let field = CredentialField::new(config, receiver, refusals);
        fields.push(field.ok_or_else(|| CredentialError::Header { header: config.header.clone() })?);
        drop(spawn(asker.run()));
    }
    Ok(Credentials::new(fields))
}

// === impl Asker ===

impl Asker {
    /// Runs until nobody can be refused any more.
    async fn run(mut self) {
        loop {
            let due = self.config.refresh.and_then(|every| self.asked_at.checked_add(every));
            tokio::select! {
                refused = self.refusals.recv() => {
                    let Some(Refused { generation, answer }) = refused else { return };
                    let standing = self.judge(generation).await;
                    if answer.send(standing).is_err() {
                        tracing::trace!("Whoever was refused was cut off.");
                    }
                }
                () = sleep_until(due.unwrap_or_else(now)), if due.is_some() => {
                    self.last = self.renew().await;
                }
            }
        }
    }

    /// What the refusal of a value means; asks the source where that may change something.
    async fn judge(&mut self, generation: u64) -> Standing {
        if generation < self.held.borrow().generation {
            return Standing::Replaced;
        }
        if now().saturating_duration_since(self.asked_at) < self.config.refresh_min {
            // Got so lately, it is what there is; where nothing was got, nobody knows.
            return match self.last {
                Standing::Holds | Standing::Replaced => Standing::Holds,
                Standing::Unknown => Standing::Unknown,
            };
        }
        self.last = self.renew().await;
        if self.last == Standing::Holds {
            tracing::warn!(
                experiment = %self.experiment,
                field = self.config.header,
                "The candidate refuses the credential, and its source has no other; its 401 counts as its answer."
            );
        }
        self.last
    }

    /// Asks the source, while requests wait.
    async fn renew(&mut self) -> Standing {
        self.held.send_modify(|held| held.is_asked = true);
        let asked = ask(&self.config).await;
        self.asked_at = now();
        let mut standing = Standing::Unknown;
        self.held.send_modify(|held| {
            held.is_asked = false;
            if let Ok(credential) = &asked {
                standing = Standing::Holds;
                if !credential.is(&held.credential) {
                    held.credential = credential.clone();
                    held.generation = held.generation.saturating_add(1);
                    standing = Standing::Replaced;
                }
            }
        });
        let result = match standing {
            Standing::Replaced => CredentialResult::Renewed,
            Standing::Holds => CredentialResult::Same,
            Standing::Unknown => CredentialResult::Failed,
        };
        if let Some(count) = self.stats.credentials.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(error) = &asked {
            tracing::warn!(
                experiment = %self.experiment,
                field = self.config.header,
                error = error as &dyn std::error::Error,
                "The source of a credential gave none; the one before stays."
            );
        }
        standing
    }
}

/// Asks the source once.
async fn ask(config: &CredentialConfig) -> Result<Credential, CredentialError> {
    let CredentialConfig { source, prefix, wait_max, .. } = config;
    let name = match source {
        CredentialSource::File(path) => path.display().to_string(),
        CredentialSource::Command(command) => command.first().cloned().unwrap_or_default(),
    };
    let asked = async {
        match source {
            CredentialSource::File(path) => {
                let path = path.clone();
                Ok(tokio::task::spawn_blocking(move || read_private(&path, VALUE_BYTES_MAX)).await??)
            }
            CredentialSource::Command(command) => run(command).await,
        }
    };
    let secret = timeout(*wait_max, asked).await;
    let secret = secret
        .map_err(|_elapsed| CredentialError::TimedOut { name: name.clone(), wait_max: *wait_max })??;
    let credential = Credential::new(prefix, secret.reveal_trimmed());
    credential.ok_or(CredentialError::Form { name, limit: VALUE_BYTES_MAX })
}

/// A program and what it has started; killed when this is dropped.
struct Group(Child);

// === impl Group ===

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        // One that has ended and was waited for has no number any more.
        if let Some(group) = pid.and_then(rustix::process::Pid::from_raw)
            && let Err(error) = rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
        {
            tracing::debug!(%error, "The program for a credential was gone already.");
        }
    }
}

/// What a program prints. Its complaints are not read: they may hold what nobody is to see.
async fn run(command: &[String]) -> Result<Secret, CredentialError> {
    let program = command.first().cloned().unwrap_or_default();
    let start = |source| CredentialError::Start { program: program.clone(), source };
    let child = Command::new(&program)
        .args(command.get(1..).unwrap_or_default())
        // What it says there would be taken for our word by systemd (sd_notify(3)).
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own: Ctrl-C is for us, and what it starts can be killed with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let mut group = Group(child);
    let stdout = group.0.stdout.take().ok_or_else(|| start(io::ErrorKind::BrokenPipe.into()))?;
    let room = VALUE_BYTES_MAX.saturating_add(1);
    // Room for all of it at once: a vector that grows leaves copies of its contents behind.
    let mut printed = Vec::with_capacity(room);
    let read = stdout.take(u64::try_from(room).unwrap_or(u64::MAX)).read_to_end(&mut printed).await;
    let printed = Secret::new(printed);
    read.map_err(start)?;
    if printed.reveal().len() > VALUE_BYTES_MAX {
        return Err(CredentialError::Form { name: program, limit: VALUE_BYTES_MAX });
    }
    let status = group.0.wait().await.map_err(start)?;
    if status.success() { Ok(printed) } else { Err(CredentialError::Failed { program, status }) }
}

#[cfg(test)]
mod tests;
