//! The process: started with the first question, killed when it hangs, started again after a pause.
//!
//! Asks one question at a time, so that a process needs to keep nothing in mind.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::lines::{Line, read_line};
use super::message::read_answer;
use super::{ExternalConfig, Question};
use crate::compare::ExternalDifference;
use crate::metrics::{ExternalFailure, ReplayStats};
use crate::pipeline::clock::now;
use crate::pipeline::tasks::spawn;

/// Hands the questions of one experiment to its process, one after the other.
pub(super) struct Worker {
    config: ExternalConfig,
    experiment: Arc<str>,
    stats: Arc<ReplayStats>,
    process: Option<Process>,
    /// The next pause.
    pause: Duration,
    /// Until then it is not started again.
    paused_until: Option<Instant>,
    started: u64,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// True once it has answered.
    has_answered: bool,
}

/// Variables that a process inherits. Others may hold secrets of ours.
const VARIABLES: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"];

/// Bytes of a line on its standard error that are logged, and lines in ten seconds.
const LOG_BYTES_MAX: usize = 512;
const LOG_LINES_MAX: u32 = 20;
const LOG_WINDOW: Duration = Duration::from_secs(10);

// === impl Worker ===

impl Worker {
    pub(super) fn new(config: ExternalConfig, experiment: Arc<str>, stats: Arc<ReplayStats>) -> Self {
        let pause = config.pause_min;
        Self { config, experiment, stats, process: None, pause, paused_until: None, started: 0 }
    }

    /// Runs until nobody can ask any more. The process is told so by the end of its input, and killed.
    pub(super) async fn run(mut self, mut questions: mpsc::Receiver<Question>) {
        while let Some(Question { id, line, answer }) = questions.recv().await {
            if answer.is_closed() {
                continue;
            }
            let given = self.ask(id, &line).await;
            if given.is_ok() {
                self.stats.external.answers.fetch_add(1, Ordering::Relaxed);
            }
            // Whoever asked may have been cut off.
            drop(answer.send(given));
        }
    }

    async fn ask(&mut self, id: u64, line: &[u8]) -> Result<Vec<ExternalDifference>, ExternalFailure> {
        let running = self.process.take();
        // One that ended after its last answer is no failure of this question.
        let mut process = match running.and_then(Process::if_alive) {
            Some(process) => process,
            None => self.start()?,
        };
        let wait = if process.has_answered { self.config.deadline } else { self.config.start_max };
        let asked = timeout(wait, process.ask(line, self.config.answer_bytes_max)).await;
        let given = match asked {
            Ok(Ok(answer)) => read_answer(&answer, id, self.config.differences_max),
            Ok(Err(failure)) => Err(failure),
            Err(_elapsed) => Err(ExternalFailure::TimedOut),
        };
        match given {
            // It said itself that it could not compare, and is well.
            Ok(_) | Err(ExternalFailure::Refused) => {
                process.has_answered = true;
                self.pause = self.config.pause_min;
                self.process = Some(process);
            }
            Err(failure) => {
                self.postpone();
                tracing::warn!(
                    experiment = %self.experiment,
                    failure = failure.label(),
                    "The external comparator failed and is killed."
                );
                drop(process);
            }
        }
        given
    }

    fn start(&mut self) -> Result<Process, ExternalFailure> {
        if self.paused_until.is_some_and(|until| now() < until) {
            return Err(ExternalFailure::Unavailable);
        }
        if self.started > 0 {
            self.stats.external.restarts.fetch_add(1, Ordering::Relaxed);
        }
        self.started = self.started.saturating_add(1);
        match Process::start(&self.config, &self.experiment) {
            Ok(process) => Ok(process),
            Err(error) => {
                let program = self.config.command.first().map_or("", String::as_str);
                tracing::warn!(experiment = %self.experiment, program, %error, "The external comparator cannot be started.");
                self.postpone();
                Err(ExternalFailure::Unavailable)
            }
        }
    }

    fn postpone(&mut self) {
        self.paused_until = now().checked_add(self.pause);
        self.pause = self.pause.saturating_mul(2).min(self.config.pause_max);
    }
}

// === impl Process ===

impl Process {
    fn start(config: &ExternalConfig, experiment: &Arc<str>) -> std::io::Result<Self> {
        let missing = || std::io::Error::other("the process has no standard streams");
        let (program, arguments) = config.command.split_first().ok_or_else(missing)?;
        let variables = VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(variables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C is for us, and what it starts can be killed with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(missing());
        };
        // Ends with the process, which has the other end.
        drop(spawn(log(stderr, Arc::clone(experiment))));
        Ok(Self { child, stdin, stdout: BufReader::new(stdout), has_answered: false })
    }

    async fn ask(&mut self, line: &[u8], answer_bytes_max: usize) -> Result<Vec<u8>, ExternalFailure> {
        let Self { child: _, stdin, stdout, has_answered: _ } = self;
        if stdin.write_all(line).await.is_err() || stdin.flush().await.is_err() {
            return Err(ExternalFailure::Ended);
        }
        match read_line(stdout, answer_bytes_max, false).await {
            Ok(Line::Whole(answer)) => Ok(answer),
            Ok(Line::TooLong(_)) => Err(ExternalFailure::Unreadable),
            Ok(Line::End) | Err(_) => Err(ExternalFailure::Ended),
        }
    }

    fn if_alive(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    /// Kills it and what it has started. The runtime takes its exit status, so that it does not stay in the table of
    /// processes.
    fn kill(&mut self) {
        let pid =
            self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(group) = pid
            && let Err(error) = rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
        {
            tracing::debug!(%error, "The external comparator was gone already.");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Logs what a process complains about, within bounds.
async fn log(stderr: ChildStderr, experiment: Arc<str>) {
    let mut reader = BufReader::new(stderr);
    let (mut window, mut lines, mut omitted) = (now(), 0_u32, 0_u64);
    loop {
        let line = match read_line(&mut reader, LOG_BYTES_MAX, true).await {
            Ok(Line::Whole(line) | Line::TooLong(line)) => line,
            Ok(Line::End) | Err(_) => return,
        };
        if now().saturating_duration_since(window) >= LOG_WINDOW {
            (window, lines) = (now(), 0);
            if omitted > 0 {
                tracing::warn!(%experiment, lines = omitted, "The external comparator said more than is logged.");
                omitted = 0;
            }
        }
        if lines >= LOG_LINES_MAX {
            omitted = omitted.saturating_add(1);
            continue;
        }
        lines += 1;
        let text = String::from_utf8_lossy(&line);
        tracing::warn!(%experiment, text = %crate::report::plain(&text), "The external comparator says something.");
    }
}
