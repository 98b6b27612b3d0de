//! What becomes of exchanges on their way into a recording: written, shed, beyond the bound, on a disk that fails.
//!
//! Nothing is written to a disk.

use std::io;

use super::*;
use crate::model::{ExchangeId, LedgerSnapshot, Timestamp, samples};
use crate::queue::memory::MemoryQueueLimits;
use crate::recording::RecordingLimits;

/// A disk with room for so many bytes; then it fails.
struct Disk {
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tape(disk: Disk, file_bytes_max: u64, exchanges_max: usize) -> (Tape, TapeWriter<Disk>) {
    let limits = RecordingLimits { file_bytes_max, ..RecordingLimits::default() };
    let writer = RecordingWriter::begin(disk, "disk".to_owned(), limits).unwrap();
    let (offer, queue) = memory_queue(MemoryQueueLimits { exchanges_max, ..MemoryQueueLimits::default() });
    let ledger = Arc::new(Ledger::default());
    let tape = Tape { offer, ledger: Arc::clone(&ledger) };
    (tape, TapeWriter { queue, writer, ledger, full: watch::Sender::new(false), secrets: None })
}

fn exchange(number: u64) -> Arc<Exchange> {
    let id = ExchangeId { flow: 1, offset: number };
    let request = samples::request("GET", "/", &[]);
    Arc::new(samples::exchange(id, Timestamp(1), request, samples::response(200, &[], "hello")))
}

/// Gives the fates of ten exchanges, and whether the recording is whole.
async fn record(disk: Disk, file_bytes_max: u64) -> (LedgerSnapshot, bool, bool) {
    let (tape, writer) = tape(disk, file_bytes_max, 100);
    let ledger = Arc::clone(&tape.ledger);
    let taping = writer.start();
    let full = taping.full.clone();
    (0..10).for_each(|number| tape.take(&exchange(number), &Patience::none()));
    drop(tape);
    let whole = taping.finish().await.is_ok();
    let counts = ledger.snapshot();
    assert!(counts.balances() && counts.in_flight == 0 && counts.seen == 10, "{counts:?}");
    (counts, whole, *full.borrow())
}

#[tokio::test]
async fn everything_is_written_when_there_is_room() {
    let (counts, whole, full) = record(Disk { room: 1 << 20 }, 1 << 20).await;
    assert_eq!((counts.count(Fate::Recorded), whole, full), (10, true, false));
}

#[tokio::test]
async fn at_its_bound_the_recording_ends_whole_and_the_rest_is_counted() {
    let (counts, whole, full) = record(Disk { room: 1 << 20 }, 3000).await;
    let recorded = counts.count(Fate::Recorded);
    assert!(recorded > 0 && recorded < 10, "{counts:?}");
    assert_eq!((counts.count(Fate::NotRecorded), whole, full), (10 - recorded, true, true));
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_recording_and_the_rest_is_counted() {
    let (counts, whole, full) = record(Disk { room: 2000 }, 1 << 20).await;
    let recorded = counts.count(Fate::Recorded);
    assert!(recorded > 0 && recorded < 10, "{counts:?}");
    assert_eq!((counts.count(Fate::NotRecorded), whole, full), (10 - recorded, false, true));
}

#[tokio::test]
async fn live_traffic_does_not_wait_for_the_disk() {
    let (tape, writer) = tape(Disk { room: 1 << 20 }, 1 << 20, 3);
    (0..10).for_each(|number| tape.take(&exchange(number), &Patience::none()));
    drop(tape);
    let status = writer.status();
    writer.start().finish().await.unwrap();
    let counts = status.ledger.snapshot();
    assert_eq!((counts.count(Fate::Recorded), counts.count(Fate::Shed)), (3, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_from_a_file_waits_for_the_disk() {
    let (tape, writer) = tape(Disk { room: 1 << 20 }, 1 << 20, 1);
    let (_stop, stopped) = watch::channel(false);
    let patience = Patience::until(stopped);
    let status = writer.status();
    let taping = writer.start();
    let taken = tokio::task::spawn_blocking(move || {
        (0..50).for_each(|number| tape.take(&exchange(number), &patience));
    });
    taken.await.unwrap();
    taping.finish().await.unwrap();
    let counts = status.ledger.snapshot();
    assert_eq!((counts.count(Fate::Recorded), counts.count(Fate::Shed)), (50, 0));
}
