//! Reads a `.gor` file: cuts it into records, finds the two halves of each exchange, and has `http` read them.
//!
//! Any bytes may be given: what cannot be read is left out and counted. Knows no rule of HTTP.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, ErrorKind};
use std::time::Duration;

use memchr::memchr;

use super::meta::{Kind, Meta};
use super::{GorLimits, SEPARATOR};
use crate::http::{Connection, HttpContext, HttpLimits};
use crate::model::{
    Chunk, Direction, Endpoint, Exchange, ExchangeId, Flow, FlowKey, Opened, StreamEvent, Timestamp, fnv1a,
};
use crate::recording::{Loss, Losses};

/// Reads exchanges in the order in which they are complete.
#[derive(Debug)]
pub struct GorReader<R> {
    input: R,
    limits: GorLimits,
    context: HttpContext,
    losses: Losses,
    /// Halves that wait for the other one, by id.
    waiting: HashMap<Vec<u8>, Half>,
    /// Their ids and numbers in the order in which they came; some may be gone.
    order: VecDeque<(Vec<u8>, u64)>,
    waiting_bytes: usize,
    records: u64,
    bytes: u64,
    /// Exchanges that were given up together.
    ready: VecDeque<Exchange>,
    ended: bool,
}

/// One record without its first line.
#[derive(Debug)]
struct Half {
    /// Of the record, in the file.
    number: u64,
    is_request: bool,
    time_ns: u64,
    duration_ns: Option<u64>,
    message: Vec<u8>,
    /// False when the end of the file cut it off.
    whole: bool,
}

/// What one step of reading came to.
enum Record {
    /// A record with its first line.
    Bytes {
        bytes: Vec<u8>,
        whole: bool,
    },
    TooLong,
    Ended,
}

/// An address that nobody has: the format holds none.
const NOWHERE: Endpoint = Endpoint { addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], port: 0 };

/// Bytes of a message that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes that one waiting record takes besides its own.
const HALF_BYTES: usize = 256;

// === impl GorReader ===

impl<R: BufRead> GorReader<R> {
    /// Begins to read.
    pub fn begin(input: R, limits: GorLimits) -> Self {
        let bytes = limits.record_bytes_max;
        // A record is in memory as a whole, so that its body can be kept as a whole.
        let http = HttpLimits {
            body_kept_max: bytes,
            kept_bytes_max: bytes.saturating_mul(2),
            ..HttpLimits::default()
        };
        Self {
            input,
            limits,
            context: HttpContext::new(http),
            losses: Losses::default(),
            waiting: HashMap::new(),
            order: VecDeque::new(),
            waiting_bytes: 0,
            records: 0,
            bytes: 0,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// The next exchange; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_exchange(&mut self) -> io::Result<Option<Exchange>> {
        loop {
            if let Some(exchange) = self.ready.pop_front() {
                return Ok(Some(exchange));
            }
            if self.ended {
                match self.order.pop_front() {
                    Some((id, number)) => self.give_up(id, number),
                    None => return Ok(None),
                }
                continue;
            }
            match self.next_record()? {
                Record::Ended => self.ended = true,
                Record::TooLong => self.losses.count(Loss::RecordTooLong),
                Record::Bytes { bytes, whole } => self.take(bytes, whole),
            }
        }
    }

    /// What could not be read so far.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that messages take up of the bounds of `http`: none between two exchanges.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.context.kept_bytes()
    }

    /// The bytes up to the next separator, without the line's end that belongs to it.
    fn next_record(&mut self) -> io::Result<Record> {
        let mut bytes: Vec<u8> = Vec::new();
        let mut seen = false;
        let mut too_long = false;
        // The line that is being read, as far as it may be the separator.
        let mut line: Vec<u8> = Vec::new();
        loop {
            let input = match self.input.fill_buf() {
                Ok(input) => input,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if input.is_empty() {
                return Ok(match (seen, too_long) {
                    (false, _) => Record::Ended,
                    (true, true) => Record::TooLong,
                    (true, false) => Record::Bytes { bytes, whole: false },
                });
            }
            seen = true;
            let line_end = memchr(b'\n', input).map(|at| at.saturating_add(1));
            let piece = input.get(..line_end.unwrap_or(input.len())).unwrap_or_default();
            let room = SEPARATOR.len().saturating_add(1).saturating_sub(line.len());
            line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            // One separator more than the record may have: that is what stands at its end.
            let bound = self.limits.record_bytes_max.saturating_add(SEPARATOR.len()).saturating_add(1);
            too_long |= bytes.len().saturating_add(piece.len()) > bound;
            if too_long {
                bytes = Vec::new();
            } else {
                bytes.extend_from_slice(piece);
            }
            let taken = piece.len();
            self.input.consume(taken);
            self.bytes = self.bytes.saturating_add(taken as u64);
            if line_end.is_none() {
                continue;
            }
            if line == SEPARATOR {
                if too_long {
                    return Ok(Record::TooLong);
                }
                let end = bytes.len().saturating_sub(SEPARATOR.len());
                bytes.truncate(end);
                if bytes.last() == Some(&b'\n') {
                    bytes.pop();
                }
                return Ok(Record::Bytes { bytes, whole: true });
            }
            line.clear();
        }
    }

    /// Takes one record: it waits for its other half, or finds it.
    fn take(&mut self, bytes: Vec<u8>, whole: bool) {
        self.records = self.records.saturating_add(1);
        let number = self.records;
        if !whole {
            if bytes.trim_ascii().is_empty() {
                return;
            }
            self.losses.count(Loss::RecordCut);
        }
        let line_bytes = memchr(b'\n', &bytes).unwrap_or(bytes.len());
        let (line, message) = bytes.split_at_checked(line_bytes).unwrap_or_default();
        let Some(Meta { kind, id, time_ns, duration_ns }) = Meta::parse(line) else {
            self.losses.count(Loss::RecordMalformed);
            return;
        };
        let is_request = match kind {
            Kind::Request => true,
            Kind::Response => false,
            Kind::Replayed => {
                self.losses.count(Loss::ReplayedResponse);
                return;
            }
        };
        let message = message.get(1..).unwrap_or_default().to_vec();
        let half = Half { number, is_request, time_ns, duration_ns, message, whole };
        match self.remove(id) {
            Some(other) if other.is_request != is_request => {
                let (request, response) = if is_request { (half, other) } else { (other, half) };
                self.build(id, &request, Some(&response));
            }
            Some(other) if is_request => {
                self.losses.count(Loss::RequestRepeated);
                self.build(id, &other, None);
                self.wait(id.to_vec(), half);
            }
            Some(other) => {
                self.losses.count(Loss::ResponseAlone);
                drop(other);
                self.wait(id.to_vec(), half);
            }
            None => self.wait(id.to_vec(), half),
        }
    }

    fn wait(&mut self, id: Vec<u8>, half: Half) {
        self.waiting_bytes = self.waiting_bytes.saturating_add(half.memory_bytes());
        self.order.push_back((id.clone(), half.number));
        self.waiting.insert(id, half);
        // Entries of `order` whose half was found are gone from `waiting` and count against the bound until they come to
        // the front, so that the list cannot grow without it.
        while self.order.len() > self.limits.waiting_max || self.waiting_bytes > self.limits.waiting_bytes_max
        {
            let Some((id, number)) = self.order.pop_front() else { return };
            self.give_up(id, number);
        }
    }

    /// Lets the half of this number go on alone, if it still waits.
    fn give_up(&mut self, id: Vec<u8>, number: u64) {
        if self.waiting.get(&id).is_none_or(|half| half.number != number) {
            return;
        }
        match self.remove(&id) {
            Some(half) if half.is_request => self.build(&id, &half, None),
            Some(_) => self.losses.count(Loss::ResponseAlone),
            None => {}
        }
    }

    fn remove(&mut self, id: &[u8]) -> Option<Half> {
        let half = self.waiting.remove(id)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(half.memory_bytes());
        Some(half)
    }

    /// Has `http` read both halves, each as one direction of a connection of its own.
    fn build(&mut self, id: &[u8], request: &Half, response: Option<&Half>) {
        let opened = Timestamp(request.time_ns);
        let flow = Flow { key: FlowKey { client: NOWHERE, server: NOWHERE, scope: 0 }, opened };
        let mut connection = Connection::from(Opened { flow, mid_stream: false });
        let sent = (opened, later(opened, request.duration_ns.unwrap_or_default()));
        self.feed(&mut connection, Direction::ToServer, request, sent, 0);
        if let Some(response) = response {
            let (first, last) = self.response_times(request, response);
            let acknowledged = request.message.len() as u64;
            self.feed(&mut connection, Direction::ToClient, response, (first, last), acknowledged);
        }
        for (half, direction) in [(Some(request), Direction::ToServer), (response, Direction::ToClient)] {
            let whole = half.is_some_and(|half| half.whole);
            let chunk = if whole { Chunk::End } else { Chunk::Abort };
            let event = StreamEvent { direction, offset: 0, acknowledged: 0, at: opened, chunk };
            connection.read(event, &mut self.context);
        }
        let mut found = self.context.exchanges.drain(..);
        let Some(mut exchange) = found.next() else {
            self.losses.count(Loss::MessageUnreadable);
            return;
        };
        if found.next().is_some() {
            self.losses.count(Loss::MessageFollowed);
        }
        drop(found);
        if response.is_some() && exchange.response.is_none() {
            self.losses.count(Loss::MessageUnreadable);
        }
        exchange.id = exchange_id(id, request.number);
        self.ready.push_back(exchange);
    }

    /// Gives one record to the connection: its first byte at one time, the others at another.
    fn feed(
        &mut self,
        connection: &mut Connection,
        direction: Direction,
        half: &Half,
        (first, last): (Timestamp, Timestamp),
        acknowledged: u64,
    ) {
        let Some((start, rest)) = half.message.split_at_checked(1) else { return };
        let requests = self.context.tally.requests;
        let mut offset = 0u64;
        for (at, bytes) in
            [(first, start)].into_iter().chain(rest.chunks(PIECE_BYTES).map(|piece| (last, piece)))
        {
            let event = StreamEvent { direction, offset, acknowledged, at, chunk: Chunk::Bytes(bytes) };
            connection.read(event, &mut self.context);
            offset = offset.saturating_add(bytes.len() as u64);
            // A record has one message. Of one with a million only a few are read.
            if self.context.tally.requests > requests.saturating_add(1) {
                return;
            }
        }
    }

    /// First and last byte of a response, by the three meanings that the numbers have.
    fn response_times(&mut self, request: &Half, response: &Half) -> (Timestamp, Timestamp) {
        let sent = Timestamp(request.time_ns);
        let at = Timestamp(response.time_ns);
        let (first, last) = match (request.duration_ns, response.duration_ns) {
            (Some(_), duration) => (Some(at), later(at, duration.unwrap_or_default())),
            (None, Some(since_request)) => ((at > sent).then_some(at), later(sent, since_request)),
            (None, None) if at >= sent => (Some(at), at),
            (None, None) => (None, later(sent, response.time_ns)),
        };
        if first.is_none() {
            self.losses.count(Loss::FirstByteTime);
        }
        let last = last.max(first.unwrap_or(last));
        (first.unwrap_or(last), last)
    }
}

fn later(time: Timestamp, nanos: u64) -> Timestamp {
    time.after(Duration::from_nanos(nanos))
}

/// The id that this program has written, or one made of another program's id and the place in the file.
fn exchange_id(id: &[u8], number: u64) -> ExchangeId {
    let ours = std::str::from_utf8(id).ok().and_then(ExchangeId::from_hex);
    ours.unwrap_or_else(|| ExchangeId { flow: fnv1a(id.iter().copied()), offset: number })
}

// === impl Half ===

impl Half {
    fn memory_bytes(&self) -> usize {
        self.message.len().saturating_add(HALF_BYTES)
    }
}
