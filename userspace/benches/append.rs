//! How fast entries go into a Redis on this machine: `cargo bench --bench append`.
//!
//! Needs `redis-server` on the PATH, and says so; the server is a child of this process and holds nothing on disk.
//! Entries have 500 bytes and go to 16 shards. Throughput is that of one thread of ours and one of Redis.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark speaks on the terminal and may fail"
)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use understudy::queue::entry::{EncodedEntry, Encoding};
use understudy::queue::redis::config::Server;
use understudy::queue::redis::{AppendLimits, Appender, Keys, Numbered, ProducerId, Redis, RedisConfig};

const SHARDS: u32 = 16;
const VALUE_BYTES: usize = 500;

static PORT: LazyLock<u16> = LazyLock::new(|| {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
});

fn main() {
    let mut server = match start() {
        Ok(server) => server,
        Err(error) => {
            return eprintln!("redis-server does not start ({error}); `cargo xtask setup` installs it");
        }
    };
    while TcpStream::connect((Ipv4Addr::LOCALHOST, *PORT)).is_err() {
        std::thread::yield_now();
    }
    divan::main();
    server.kill().unwrap();
    server.wait().unwrap();
}

fn start() -> std::io::Result<Child> {
    Command::new("redis-server")
        .args(["--port", &PORT.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
}

/// One round trip takes so many entries, spread over the shards.
#[divan::bench(args = [64, 256, 1024, 4096])]
fn batch(bencher: Bencher<'_, '_>, entries: usize) {
    run(bencher, entries, AppendLimits { stream_entries_max: 10_000, ..AppendLimits::default() });
}

/// The same where every entry pushes another out.
#[divan::bench(args = [1024])]
fn batch_into_full_streams(bencher: Bencher<'_, '_>, entries: usize) {
    run(bencher, entries, AppendLimits { stream_entries_max: 100, ..AppendLimits::default() });
}

fn run(bencher: Bencher<'_, '_>, entries: usize, limits: AppendLimits) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server { host: "127.0.0.1".to_owned(), port: *PORT };
    let config = RedisConfig { servers: vec![server], ..RedisConfig::default() };
    let redis = runtime.block_on(Redis::connect(&config)).unwrap();
    let flushed: redis::Value = runtime.block_on(redis.query("flush", &redis::cmd("FLUSHALL"))).unwrap();
    drop(flushed);
    let keys = Keys::new("bench", "append");
    let mut appender = Appender::new(redis, keys, limits, ProducerId::new(1));
    let entry = EncodedEntry {
        route: "/items/{id}".into(),
        encoding: Encoding::Plain,
        value: Bytes::from(vec![b'v'; VALUE_BYTES]),
    };
    let of_shard = entries / SHARDS as usize;
    let mut seq = 0;
    let mut batch: Vec<Numbered<EncodedEntry>> =
        (0..of_shard).map(|_| Numbered { seq: 0, entry: entry.clone() }).collect();
    bencher.counter(ItemsCount::new(entries)).bench_local(|| {
        for numbered in &mut batch {
            seq += 1;
            numbered.seq = seq;
        }
        let batches: Vec<_> = (0..SHARDS).map(|shard| (shard, batch.as_slice())).collect();
        runtime.block_on(async {
            for result in appender.append_all(&batches).await {
                result.unwrap();
            }
        });
    });
}
