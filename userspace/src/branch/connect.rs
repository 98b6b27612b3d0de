//! Opens connections to a candidate and notes when bytes pass them.
//!
//! Never connects to an address that the guard refuses, whatever its name resolved to a moment ago.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::arrival::{self, note_arrivals};
use super::guard::CapturedPorts;
use super::http::BranchConfigError;

/// Bytes of one read.
const READ_BYTES_MAX: usize = 16 * 1024;

/// Resolves, asks the guard about each address, and connects to the first that answers.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) shared: Arc<Destination>,
}

/// Where a candidate is.
pub(super) struct Destination {
    /// `host:port` as the configuration says it.
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) guard: CapturedPorts,
}

/// A connection that notes when it last wrote, and when it first read after that.
pub(super) struct TimedStream {
    stream: TokioIo<TcpStream>,
    times: ByteTimes,
}

/// The times of a connection's bytes. Without pipelining, the last write before the first read is the end of the
/// request, and that read is the start of its response.
#[derive(Clone, Debug)]
pub(super) struct ByteTimes(Arc<Moments>);

#[derive(Debug)]
struct Moments {
    opened: Instant,
    /// Nanoseconds from `opened`; 0 for never.
    written: AtomicU64,
    /// Nanoseconds from `opened`; 0 when nothing was read since the last write.
    answered: AtomicU64,
    /// The same of the newest byte.
    newest: AtomicU64,
}

/// The clock of this module: durations of one connection, and nothing that is compared with captured times.
#[expect(clippy::disallowed_methods, reason = "the one place in `branch` that measures durations")]
pub(super) fn now() -> Instant {
    Instant::now()
}

// === impl Connector ===

impl tower_service::Service<Uri> for Connector {
    type Response = TimedStream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TimedStream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let destination = Arc::clone(&self.shared);
        Box::pin(async move { destination.connect().await })
    }
}

// === impl Destination ===

impl Destination {
    /// Resolves the name and asks the guard about each address.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, BranchConfigError> {
        let addresses = tokio::net::lookup_host((&self.host[..], self.port))
            .await
            .map_err(|source| BranchConfigError::Resolve { candidate: self.name.clone(), source })?;
        let addresses: Vec<_> = addresses.collect();
        addresses.iter().try_for_each(|address| self.guard.check(&self.name, *address))?;
        Ok(addresses)
    }

    async fn connect(&self) -> io::Result<TimedStream> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.addresses().await.map_err(io::Error::other)? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // A head and its body may be two writes; Nagle's algorithm would hold the second.
                    stream.set_nodelay(true)?;
                    // A kernel that refuses leaves the times at which we read.
                    drop(note_arrivals(&stream));
                    return Ok(TimedStream { stream: TokioIo::new(stream), times: ByteTimes::new() });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

// === impl TimedStream ===

impl Connection for TimedStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.times.clone())
    }
}

impl Read for TimedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, times } = self.get_mut();
        let stream = stream.inner();
        let mut bytes = [0; READ_BYTES_MAX];
        let room = bytes.len().min(buffer.remaining());
        let room = bytes.get_mut(..room).unwrap_or_default();
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_io(Interest::READABLE, || arrival::read(stream, room)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok((count, ago)) => {
                    if count > 0 {
                        times.read(ago);
                    }
                    buffer.put_slice(room.get(..count).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl Write for TimedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Before, since the candidate may be given the processor the moment it has something to do.
        let at = self.times.since_opened();
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.times.wrote(at);
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let at = self.times.since_opened();
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.times.wrote(at);
        Poll::Ready(result)
    }
}

// === impl ByteTimes ===

impl ByteTimes {
    fn new() -> Self {
        let [written, answered, newest] = [0; 3].map(AtomicU64::new);
        Self(Arc::new(Moments { opened: now(), written, answered, newest }))
    }

    /// When the request's last byte was written and the response's first byte was read.
    pub(super) fn request_end_and_response_start(&self) -> Option<(Instant, Instant)> {
        let moment = |nanoseconds: &AtomicU64| match nanoseconds.load(Ordering::Relaxed) {
            0 => None,
            since_opened => self.0.opened.checked_add(Duration::from_nanos(since_opened)),
        };
        Some((moment(&self.0.written)?, moment(&self.0.answered)?))
    }

    /// When the newest byte came.
    pub(super) fn newest_read(&self) -> Option<Instant> {
        match self.0.newest.load(Ordering::Relaxed) {
            0 => None,
            since_opened => self.0.opened.checked_add(Duration::from_nanos(since_opened)),
        }
    }

    fn wrote(&self, at: u64) {
        self.0.written.store(at, Ordering::Relaxed);
        self.0.answered.store(0, Ordering::Relaxed);
        self.0.newest.store(0, Ordering::Relaxed);
    }

    fn read(&self, ago: Duration) {
        let ago = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        // Whatever clocks do, nothing came before it was asked for.
        let at = self.since_opened().saturating_sub(ago).max(self.0.written.load(Ordering::Relaxed));
        self.0.newest.fetch_max(at, Ordering::Relaxed);
        if self.0.answered.load(Ordering::Relaxed) == 0 {
            self.0.answered.store(at, Ordering::Relaxed);
        }
    }

    fn since_opened(&self) -> u64 {
        u64::try_from(now().duration_since(self.0.opened).as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}
