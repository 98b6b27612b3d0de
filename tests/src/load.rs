//! A constant load of one small request, light enough that measuring does not become what is measured.
//!
//! Checks no content: an answer is as many bytes as the first one had. Use `mix` where the truth matters.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::client::request;
use crate::clock;

/// What is sent, how fast, for how long.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The target of each GET.
    pub target: &'a str,
    /// Requests per second over all connections.
    pub per_second: u32,
    /// Connections, each with a thread.
    pub connections: u32,
    /// How long.
    pub time: Duration,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When its request was sent, from the start of the load.
    pub sent: Duration,
    /// From sending the request to the last byte of the answer.
    pub took: Duration,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub struct LoadResult {
    /// Answers.
    pub answered: u64,
    /// Median time from sending a request to the last byte of its answer.
    pub median: Duration,
    /// The 99th percentile of these times.
    pub slow: Duration,
}

/// Sends the load and sums up what came back.
///
/// # Errors
/// As [`answers`].
pub fn constant(address: SocketAddr, load: Load<'_>) -> anyhow::Result<LoadResult> {
    let mut times: Vec<Duration> =
        answers(address, load, clock::now())?.into_iter().map(|answer| answer.took).collect();
    let (middle, behind) = (times.len() / 2, times.len() * 99 / 100);
    let median = *times.select_nth_unstable(middle).1;
    let slow = *times.select_nth_unstable(behind).1;
    Ok(LoadResult { answered: times.len() as u64, median, slow })
}

/// Sends the load and gives all answers, those of each connection in their order. `start` is when it starts: now, as
/// the caller knows it.
///
/// # Errors
/// When a connection breaks, or no answer came.
pub fn answers(address: SocketAddr, load: Load<'_>, start: Instant) -> anyhow::Result<Vec<Answer>> {
    let Load { target: _, per_second, connections, time: _ } = load;
    ensure!(per_second > 0 && connections > 0, "a load needs a rate and a connection");
    let interval = Duration::from_secs_f64(f64::from(connections) / f64::from(per_second));
    let answers = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|number| {
                // Spread over the interval, so that connections do not send in step.
                let offset = interval * number / connections;
                scope.spawn(move || connection(address, load, start, offset, interval))
            })
            .collect();
        let mut answers = Vec::new();
        for worker in workers {
            answers.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        anyhow::Ok(answers)
    })?;
    ensure!(!answers.is_empty(), "no answer came");
    Ok(answers)
}

fn connection(
    address: SocketAddr,
    load: Load<'_>,
    start: Instant,
    offset: Duration,
    interval: Duration,
) -> anyhow::Result<Vec<Answer>> {
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("failed to connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = request("GET", load.target, address, &[]);
    stream.write_all(&request)?;
    let mut answer = vec![0; 16 << 10];
    let answer_bytes = first_answer(&mut stream, &mut answer)?;
    let mut answers = Vec::new();
    let mut due = offset;
    // A server that is slower than the load is measured for as long, and not until it has answered all of it.
    while due < load.time && start.elapsed() < load.time {
        clock::pause(due.saturating_sub(start.elapsed()));
        let sent = clock::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut answer[..answer_bytes])?;
        answers.push(Answer { sent: sent.duration_since(start), took: sent.elapsed() });
        due += interval;
    }
    Ok(answers)
}

/// Reads one answer with a `Content-Length` and gives the bytes of head and body.
fn first_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<usize> {
    let mut have = 0;
    loop {
        let read = stream.read(&mut buffer[have..])?;
        ensure!(read > 0, "the connection ended, or the answer is longer than {} bytes", buffer.len());
        have += read;
        let text = String::from_utf8_lossy(&buffer[..have]).to_ascii_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
        let body = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
            .context("the answer has no length")?;
        let whole = head.len() + 4 + body;
        ensure!(whole <= buffer.len(), "the answer is longer than {} bytes", buffer.len());
        if have == whole {
            return Ok(whole);
        }
    }
}
