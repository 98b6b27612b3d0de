//! The probe on real connections over loopback: what it copies, what it counts, what it leaves behind.
//!
//! Needs root. Without it every test here says `skipped`, and with `UNDERSTUDY_REQUIRE_BPF=1` it fails instead.
#![expect(clippy::print_stdout, reason = "a skipped test says so")]
#![expect(clippy::unwrap_used, reason = "a test stops where something unexpected happens")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::mem::offset_of;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fs, process, thread};

use understudy::capture::cgroup::CgroupSelector;
use understudy::capture::kernel::{BootClock, KernelConfig, KernelSource};
use understudy::capture::{CaptureError, FlowSample, Hook, Polled, Source, SourceCounts};
use understudy::model::{Endpoint, FlowKey, Packet, Timestamp};
use understudy_abi::{EGRESS, INGRESS, RECORD_FIRST, RECORD_LAST, RecordHeader};

/// Probes of tests that run side by side would see each other's links.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// One record as the ring held it.
#[derive(Debug)]
struct Record {
    scope: u64,
    sequence: u32,
    packet_payload_bytes: u32,
    remote_port: u16,
    tcp_flags: u8,
    direction: u8,
    part: u8,
    payload: Vec<u8>,
}

/// What a source handed over, and its counts afterwards.
struct Captured {
    records: Vec<Record>,
    counts: SourceCounts,
}

/// A cgroup with this process in it, undone on drop.
struct OwnCgroup {
    folder: PathBuf,
    home: PathBuf,
}

// === impl Record ===

impl Record {
    fn parse(packet: &Packet<'_>) -> Self {
        let (header, payload) = packet.bytes.split_at(size_of::<RecordHeader>());
        let u32_at = |at: usize| u32::from_ne_bytes(*header[at..].first_chunk().unwrap());
        assert_eq!(u32_at(offset_of!(RecordHeader, payload_bytes)) as usize, payload.len());
        Self {
            scope: u64::from_ne_bytes(*header[offset_of!(RecordHeader, scope)..].first_chunk().unwrap()),
            sequence: u32_at(offset_of!(RecordHeader, sequence)),
            packet_payload_bytes: u32_at(offset_of!(RecordHeader, packet_payload_bytes)),
            remote_port: u16::from_ne_bytes(
                *header[offset_of!(RecordHeader, remote_port)..].first_chunk().unwrap(),
            ),
            tcp_flags: header[offset_of!(RecordHeader, tcp_flags)],
            direction: header[offset_of!(RecordHeader, direction)],
            part: header[offset_of!(RecordHeader, part)],
            payload: payload.to_vec(),
        }
    }
}

// === impl Captured ===

impl Captured {
    /// Takes everything that is in the ring.
    fn drain(source: &mut KernelSource) -> Self {
        let mut records = Vec::new();
        loop {
            let polled = source
                .poll(Duration::from_millis(50), &mut |packet| records.push(Record::parse(packet)))
                .unwrap();
            if polled == (Polled::Open { packets: 0 }) {
                break;
            }
        }
        Self { records, counts: source.counts().unwrap() }
    }

    /// The bytes of one direction of the only connection, put together by sequence number alone.
    fn stream(&self, direction: u8) -> Vec<u8> {
        let of_direction = || self.records.iter().filter(|record| record.direction == direction);
        let syn = of_direction().find(|record| record.tcp_flags & SYN != 0).expect("a SYN");
        let start = syn.sequence.wrapping_add(1);
        let mut bytes: Vec<Option<u8>> = Vec::new();
        for record in of_direction().filter(|record| !record.payload.is_empty()) {
            let at = record.sequence.wrapping_sub(start) as usize;
            bytes.resize(bytes.len().max(at + record.payload.len()), None);
            for (slot, byte) in bytes[at..].iter_mut().zip(&record.payload) {
                *slot = Some(*byte);
            }
        }
        bytes.into_iter().map(|byte| byte.expect("no gap")).collect()
    }

    fn drops(&self, reason: &str) -> u64 {
        self.counts.drops.iter().find(|(label, _)| *label == reason).expect("a reason").1
    }

    /// The law of the counters, and what the records of each packet say of their part in it.
    #[track_caller]
    fn assert_law(&self) {
        let SourceCounts { seen, wanted, captured, captured_bytes, drops, file: _ } = &self.counts;
        assert_eq!(
            *wanted,
            captured + drops.iter().map(|(_, count)| count).sum::<u64>(),
            "{:?}",
            self.counts
        );
        assert!(seen >= wanted);
        let ends = self.records.iter().filter(|record| record.part & RECORD_LAST != 0).count();
        assert_eq!(ends as u64, *captured);
        let bytes: usize = self.records.iter().map(|record| record.payload.len()).sum();
        assert_eq!(bytes as u64, *captured_bytes);
    }
}

// === impl OwnCgroup ===

impl OwnCgroup {
    fn enter() -> Self {
        let mount = CgroupSelector::Root.resolve().unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let home = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup v2 line");
        let folder = mount.join(format!("understudy-test-{}.service", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.procs"), process::id().to_string()).unwrap();
        Self { folder, home: mount.join(home) }
    }

    fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        fs::write(self.home.join("cgroup.procs"), process::id().to_string()).expect("leaves the cgroup");
        fs::remove_dir(&self.folder).expect("removes the cgroup");
    }
}

/// The turn of a test, or nothing when it cannot run here.
fn turn(test: &str) -> Option<MutexGuard<'static, ()>> {
    if rustix::process::geteuid().is_root() {
        return Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    }
    assert!(env::var_os("UNDERSTUDY_REQUIRE_BPF").is_none_or(|value| value != "1"), "{test} needs root");
    println!("skipped: {test} needs root");
    None
}

fn open(config: &KernelConfig) -> KernelSource {
    KernelSource::open(config, BootClock::new(Timestamp(0), Duration::ZERO))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn config(listener: &TcpListener) -> KernelConfig {
    KernelConfig { ports: vec![listener.local_addr().unwrap().port()], ..KernelConfig::default() }
}

/// Bytes that repeat nowhere near, so that a wrong offset shows.
fn body(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_be_bytes()).take(bytes).collect()
}

/// One connection: the client sends `request` and closes its side, the server answers `response` and closes.
/// Returns the client's address.
fn talk(listener: &TcpListener, request: &[u8], response: &[u8]) -> SocketAddr {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    talk_on(listener, client, request, response)
}

fn talk_on(listener: &TcpListener, mut client: TcpStream, request: &[u8], response: &[u8]) -> SocketAddr {
    let address = client.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut server, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).unwrap();
            assert!(received == request);
            server.write_all(response).unwrap();
        });
        client.write_all(request).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received == response);
    });
    address
}

/// Both directions of one connection arrive byte for byte.
#[track_caller]
fn check_exact(listen: &str, request_bytes: usize, response_bytes: usize) -> Captured {
    let listener = TcpListener::bind(listen).unwrap();
    let mut source = open(&config(&listener));
    let (request, response) = (body(request_bytes), body(response_bytes));
    let client = talk(&listener, &request, &response);
    let captured = Captured::drain(&mut source);
    captured.assert_law();
    assert_eq!(captured.counts.wanted, captured.counts.captured, "{:?}", captured.counts);
    assert!(captured.stream(INGRESS) == request, "request of {request_bytes} bytes on {listen}");
    assert!(captured.stream(EGRESS) == response, "response of {response_bytes} bytes on {listen}");
    for direction in [INGRESS, EGRESS] {
        let fins = |record: &&Record| record.direction == direction && record.tcp_flags & FIN != 0;
        assert!(captured.records.iter().any(|record| fins(&record)), "a FIN in direction {direction}");
    }
    let scopes: BTreeSet<u64> = captured.records.iter().map(|record| record.scope).collect();
    assert_eq!(scopes.len(), 1, "one scope for SYN, payload and FIN of both directions: {scopes:?}");
    assert!(captured.records.iter().all(|record| record.remote_port == client.port()));
    captured
}

#[test]
fn copies_ipv4_byte_for_byte() {
    let Some(_turn) = turn("copies_ipv4_byte_for_byte") else { return };
    for bytes in [1, 127, 128, 129, 2048, 2049, 32_767, 32_768, 32_769, 65_536] {
        check_exact("127.0.0.1:0", bytes, bytes + 1);
    }
}

#[test]
fn copies_ipv6_byte_for_byte() {
    let Some(_turn) = turn("copies_ipv6_byte_for_byte") else { return };
    for bytes in [1, 1536, 1537, 4096, 8193, 40_000] {
        check_exact("[::1]:0", bytes, bytes + 1);
    }
}

#[test]
fn copies_a_mebibyte_without_loss() {
    let Some(_turn) = turn("copies_a_mebibyte_without_loss") else { return };
    check_exact("127.0.0.1:0", 1 << 20, 1 << 20);
    check_exact("[::1]:0", 1 << 20, 1 << 20);
}

#[test]
fn copies_packets_above_64_kib() {
    let Some(_turn) = turn("copies_packets_above_64_kib") else { return };
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        // How much one packet holds depends on how far the sender is ahead; several connections make sure.
        let largest = (0..16)
            .map(|_| check_exact(listen, 1 << 20, 1 << 20))
            .filter_map(|captured| captured.records.iter().map(|record| record.packet_payload_bytes).max())
            .find(|bytes| *bytes > 1 << 16);
        assert!(largest.is_some(), "no packet of more than 64 KiB on {listen}");
    }
}

#[test]
fn marks_the_parts_of_a_packet() {
    let Some(_turn) = turn("marks_the_parts_of_a_packet") else { return };
    let captured = check_exact("127.0.0.1:0", 1 << 20, 1);
    let mut open_packet = None;
    for record in &captured.records {
        if record.part & RECORD_FIRST != 0 {
            assert_eq!(open_packet, None, "a packet starts inside another");
            open_packet = Some(record.packet_payload_bytes);
        }
        let rest = open_packet.expect("a record outside a packet") - record.payload.len() as u32;
        open_packet = (record.part & RECORD_LAST == 0).then_some(rest);
        assert_eq!(record.part & RECORD_LAST != 0, rest == 0);
        assert!(record.tcp_flags & FIN == 0 || record.part & RECORD_LAST != 0);
    }
    assert_eq!(open_packet, None);
}

#[test]
fn forgets_a_flow_when_asked() {
    let Some(_turn) = turn("forgets_a_flow_when_asked") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut source = open(&config(&listener));
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let opened = Captured::drain(&mut source);
    let key = FlowKey {
        client: Endpoint::from(client.local_addr().unwrap()),
        server: Endpoint::from(listener.local_addr().unwrap()),
        scope: opened.records.first().expect("the SYN").scope,
    };
    source.forget_flow(&key).unwrap();
    talk_on(&listener, client, b"unwanted", b"unwanted");
    let forgotten = Captured::drain(&mut source);
    assert_eq!(forgotten.records.len(), 0, "{:?}", forgotten.records);
    assert!(forgotten.drops("flow_unwanted") >= 4, "{:?}", forgotten.counts);

    talk(&listener, b"wanted", b"wanted");
    let next = Captured::drain(&mut source);
    assert_eq!(next.stream(INGRESS), b"wanted");
}

#[test]
fn copies_a_new_connection_on_the_ports_of_a_forgotten_one() {
    let Some(_turn) = turn("copies_a_new_connection_on_the_ports_of_a_forgotten_one") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut source = open(&config(&listener));
    talk(&listener, b"first", b"first");
    let scope = Captured::drain(&mut source).records.first().expect("the SYN").scope;
    // A port that is free now; the connection is forgotten before it exists.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = listener.local_addr().unwrap();
    source.forget_flow(&FlowKey { client: port.into(), server: server.into(), scope }).unwrap();
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &port).unwrap();
    rustix::net::connect(&socket, &server).unwrap();
    talk_on(&listener, TcpStream::from(socket), b"second", b"second");
    assert_eq!(Captured::drain(&mut source).stream(INGRESS), b"second");
}

#[test]
fn counts_what_a_full_ring_cannot_take() {
    let Some(_turn) = turn("counts_what_a_full_ring_cannot_take") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut source = open(&KernelConfig { ring_bytes: 4096, ..config(&listener) });
    talk(&listener, &body(1 << 16), &body(1 << 16));
    let captured = Captured::drain(&mut source);
    let counts = &captured.counts;
    assert!(captured.drops("ring_full") > 0, "{counts:?}");
    assert!(counts.captured > 0, "{counts:?}");
    captured.assert_law();
}

#[test]
fn leaves_out_flows_outside_the_sample() {
    let Some(_turn) = turn("leaves_out_flows_outside_the_sample") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let flow_sample = FlowSample::from_fraction(0.5).unwrap();
    let mut source = open(&KernelConfig { flow_sample, ..config(&listener) });
    for _ in 0..64 {
        talk(&listener, b"request", b"response");
    }
    let captured = Captured::drain(&mut source);
    captured.assert_law();
    let kept: BTreeSet<u16> = captured.records.iter().map(|record| record.remote_port).collect();
    // Of 64 flows fewer than 8 or more than 56 are kept once in 10^10 runs.
    assert!((8..=56).contains(&kept.len()), "{} of 64 flows were kept", kept.len());
    let whole = captured.records.iter().filter(|record| record.payload == b"response").count();
    assert_eq!(whole, kept.len(), "a kept flow is whole");
    assert!(captured.drops("sampled_out") > 0);
}

#[test]
fn keeps_those_flows_that_user_space_counts_on() {
    let Some(_turn) = turn("keeps_those_flows_that_user_space_counts_on") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let mut source = open(&config(&listener));
    for sample in [FlowSample::ALL.halved(1), FlowSample::ALL.halved(20), FlowSample::ALL] {
        source.keep_flows(sample).unwrap();
        let mut expected = BTreeSet::new();
        for _ in 0..32 {
            let client = talk(&listener, b"request", b"response");
            let flow = FlowKey { client: client.into(), server: server.into(), scope: 0 };
            expected.extend(sample.keeps(&flow).then_some(client.port()));
        }
        let captured = Captured::drain(&mut source);
        let kept: BTreeSet<u16> = captured.records.iter().map(|record| record.remote_port).collect();
        assert_eq!(kept, expected, "{sample:?}");
    }
}

#[test]
fn ignores_other_ports() {
    let Some(_turn) = turn("ignores_other_ports") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut source = open(&KernelConfig::default());
    talk(&listener, b"request", b"response");
    let captured = Captured::drain(&mut source);
    assert_eq!((captured.records.len(), captured.counts.wanted), (0, 0));
    assert!(captured.counts.seen > 0);
}

#[test]
fn watches_one_cgroup_and_names_it_in_the_scope() {
    let Some(_turn) = turn("watches_one_cgroup_and_names_it_in_the_scope") else { return };
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let cgroup = OwnCgroup::enter();
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [&inside, &outside].map(|listener| listener.local_addr().unwrap().port()).to_vec();
    let everywhere = KernelConfig { ports, ..KernelConfig::default() };
    let own = Hook::Cgroup(CgroupSelector::Unit(cgroup.name()));
    let one_service = KernelConfig { hook: own, ..everywhere.clone() };
    let mut source = open(&one_service);
    talk(&outside, b"outside", b"outside");
    assert_eq!(Captured::drain(&mut source).records.len(), 0, "a listener from before is in the old cgroup");

    let mut root_source = open(&everywhere);
    talk(&inside, b"inside", b"inside");
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&cgroup.folder).unwrap());
    for captured in [Captured::drain(&mut source), Captured::drain(&mut root_source)] {
        assert_eq!(
            (captured.stream(INGRESS), captured.stream(EGRESS)),
            (b"inside".to_vec(), b"inside".to_vec())
        );
        let scopes: BTreeSet<u64> = captured.records.iter().map(|record| record.scope).collect();
        assert_eq!(scopes, BTreeSet::from([inode]), "the scope is the cgroup's inode from SYN to FIN");
    }

    // Nobody listens any more: the refusal comes from no socket of this cgroup.
    let closed = inside.local_addr().unwrap();
    drop(inside);
    assert!(TcpStream::connect(closed).is_err());
    let refused = Captured::drain(&mut root_source);
    let flags: Vec<u8> = refused.records.iter().map(|record| record.tcp_flags).collect();
    assert_eq!(flags, [RST | ACK], "{:?}", refused.records);
    assert!(refused.records.iter().all(|record| record.scope != inode));
}

#[test]
fn sees_into_other_network_namespaces() {
    let Some(_turn) = turn("sees_into_other_network_namespaces") else { return };
    let captured = thread::spawn(|| {
        // SAFETY: only this thread moves, and it ends with the test.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        check_exact("127.0.0.1:0", 1000, 2000)
    });
    assert!(captured.join().unwrap().counts.captured > 0);
}

/// A packet that a raw socket sends from the wanted port to the discard port of loopback is copied as written.
#[track_caller]
fn check_raw(ip: &[u8], tcp_and_payload: &[u8], destination: &str, expected: Option<&[u8]>) {
    use rustix::net::{AddressFamily, Protocol, SendFlags, SocketType, sendto, socket};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut source = open(&config(&listener));
    let mut packet = [ip, tcp_and_payload].concat();
    packet[ip.len()..][..2].copy_from_slice(&listener.local_addr().unwrap().port().to_be_bytes());
    let destination: SocketAddr = destination.parse().unwrap();
    let family = if destination.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let raw = Protocol::from_raw(255.try_into().unwrap());
    let sender = socket(family, SocketType::RAW, Some(raw)).unwrap();
    assert_eq!(sendto(&sender, &packet, SendFlags::empty(), &destination), Ok(packet.len()));
    let captured = Captured::drain(&mut source);
    captured.assert_law();
    let sent = captured.records.iter().find(|record| record.direction == EGRESS);
    assert_eq!(sent.map(|record| record.payload.as_slice()), expected, "{:?}", captured.counts);
    assert_eq!(captured.drops("malformed"), u64::from(expected.is_none()));
}

/// A TCP header to port 9 with this data offset (in 32-bit words), then a payload.
fn tcp(offset: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2, offset << 4, 0x10, 0, 1, 0, 0, 0, 0];
    bytes.extend_from_slice(payload);
    bytes
}

/// An IPv4 header from and to loopback, with options that fill `words` 32-bit words.
fn ipv4(words: u8, payload_bytes: usize) -> Vec<u8> {
    let total = (20 + usize::from(words) * 4 + payload_bytes) as u16;
    let mut bytes = vec![0x45 + words, 0, 0, 0, 0, 1, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
    bytes[2..4].copy_from_slice(&total.to_be_bytes());
    // No-operation options (RFC 791 section 3.1).
    bytes.extend(std::iter::repeat_n(1, usize::from(words) * 4));
    bytes
}

/// An IPv6 header from and to loopback, then these bytes of extension headers.
fn ipv6(first: u8, extensions: &[u8], payload_bytes: usize) -> Vec<u8> {
    let payload = (extensions.len() + payload_bytes) as u16;
    let mut bytes = vec![0x60, 0, 0, 0, 0, 0, first, 64];
    bytes[4..6].copy_from_slice(&payload.to_be_bytes());
    for _ in 0..2 {
        bytes.extend([0; 15]);
        bytes.push(1);
    }
    bytes.extend_from_slice(extensions);
    bytes
}

#[test]
fn reads_past_ipv4_options() {
    let Some(_turn) = turn("reads_past_ipv4_options") else { return };
    let segment = tcp(5, b"after options");
    for words in [0, 1, 10] {
        check_raw(&ipv4(words, segment.len()), &segment, "127.0.0.1:0", Some(b"after options"));
    }
}

#[test]
fn reads_past_ipv6_extension_headers() {
    let Some(_turn) = turn("reads_past_ipv6_extension_headers") else { return };
    let segment = tcp(5, b"after extensions");
    let check = |first: u8, extensions: &[u8]| {
        check_raw(&ipv6(first, extensions, segment.len()), &segment, "[::1]:0", Some(b"after extensions"));
    };
    check(6, &[]);
    // Hop-by-hop with padding, then destination options of 16 bytes, then a fragment header of a whole packet.
    let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
    let destination = [44, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let fragment = [6, 0, 0, 0, 0, 0, 0, 1];
    check(0, &[hop_by_hop.as_slice(), &destination, &fragment].concat());
    // Routing header without segments left (RFC 8200 section 4.4).
    check(43, &[6, 0, 4, 0, 0, 0, 0, 0]);
    // The longest extension header there is.
    let mut longest = vec![0; 2048];
    longest[1] = 255;
    longest[0] = 6;
    check(60, &longest);
}

#[test]
fn counts_and_logs_a_tcp_header_that_contradicts_itself() {
    let Some(_turn) = turn("counts_and_logs_a_tcp_header_that_contradicts_itself") else { return };
    static LINES: Lines = Lines(Mutex::new(Vec::new()));
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    for offset in [0, 4, 15] {
        let segment = tcp(offset, b"short");
        check_raw(&ipv4(0, segment.len()), &segment, "127.0.0.1:0", None);
    }
    log::set_max_level(log::LevelFilter::Off);
    let lines = LINES.0.lock().unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains("contradicts itself")).count(), 3, "{lines:?}");
}

/// A logger that keeps what it is given.
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn leaves_no_link_behind() {
    let Some(_turn) = turn("leaves_no_link_behind") else { return };
    let source = open(&KernelConfig::default());
    let own = own_links();
    assert_eq!(own.len(), 2);
    drop(source);
    let left: BTreeSet<u32> =
        aya::programs::loaded_links().filter_map(Result::ok).map(|link| link.id()).collect();
    assert_eq!(left.intersection(&own).count(), 0);
}

/// Ids of the links that this process holds, as bpf_link_show_fdinfo (`kernel/bpf/syscall.c`) prints them. Other
/// processes may attach and detach meanwhile.
fn own_links() -> BTreeSet<u32> {
    let files = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    texts
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse().ok()))
        .collect()
}

#[test]
fn refuses_a_ring_size_that_the_kernel_would_refuse() {
    let config = KernelConfig { ring_bytes: 5000, ..KernelConfig::default() };
    let result = KernelSource::open(&config, BootClock::new(Timestamp(0), Duration::ZERO));
    assert!(matches!(result, Err(CaptureError::RingBytes { ring_bytes: 5000 } | CaptureError::NoProbe)));
}
