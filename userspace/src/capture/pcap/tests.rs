//! Capture files of every kind, written here byte by byte.
//!
//! Reads no file that it has not written.

use std::io::Write as _;
use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::model::LinkType;

/// Writes numbers in one byte order.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

const LITTLE: Order = Order { big: false };
const BIG: Order = Order { big: true };

/// A packet as the tests see it: time in nanoseconds, link type, length on the wire, bytes.
type Seen = (u64, LinkType, u32, Vec<u8>);

/// What a file holds.
#[derive(Debug, Default, PartialEq)]
struct Read {
    packets: Vec<Seen>,
    counts: FileCounts,
    error: Option<String>,
}

impl Order {
    fn u16(self, number: u16) -> [u8; 2] {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn u32s(self, numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| self.u32(*number)).collect()
    }

    fn pcap(self, magic: u32, link: u32) -> Vec<u8> {
        [&self.u32(magic)[..], &self.u16(2), &self.u16(4), &self.u32s(&[0, 0, 96, link])].concat()
    }

    fn pcap_packet(self, seconds: u32, fraction: u32, wire: u32, bytes: &[u8]) -> Vec<u8> {
        [&self.u32s(&[seconds, fraction, bytes.len() as u32, wire])[..], bytes].concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = self.u32(body.len() as u32 + 12);
        [&self.u32(kind)[..], &length, &body, &length].concat()
    }

    fn section(self) -> Vec<u8> {
        self.block(
            0x0a0d_0d0a,
            &[&self.u32(0x1a2b_3c4d)[..], &self.u16(1), &self.u16(0), &[0xff; 8]].concat(),
        )
    }

    fn interface(self, link: u16, snap: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [&self.u16(link)[..], &[0; 2], &self.u32(snap)].concat();
        for (code, value) in options {
            body.extend_from_slice(&self.u16(*code));
            body.extend_from_slice(&self.u16(value.len() as u16));
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    fn enhanced(self, interface: u32, ticks: u64, wire: u32, bytes: &[u8]) -> Vec<u8> {
        let numbers = [interface, (ticks >> 32) as u32, ticks as u32, bytes.len() as u32, wire];
        self.block(6, &[&self.u32s(&numbers)[..], bytes].concat())
    }

    fn simple(self, wire: u32, bytes: &[u8]) -> Vec<u8> {
        self.block(3, &[&self.u32(wire)[..], bytes].concat())
    }

    fn obsolete(self, interface: u16, ticks: u64, wire: u32, bytes: &[u8]) -> Vec<u8> {
        let numbers = [(ticks >> 32) as u32, ticks as u32, bytes.len() as u32, wire];
        self.block(2, &[&self.u16(interface)[..], &[0; 2], &self.u32s(&numbers), bytes].concat())
    }
}

fn limits() -> PcapLimits {
    // Small, so that blocks lie across the ends of what is read at a time.
    PcapLimits { read_bytes: 64, block_bytes_max: 1_000, skipped_bytes_max: 500, interfaces_max: 3 }
}

fn open(content: &[u8]) -> Result<PcapSource, CaptureError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    PcapSource::open(file.path(), limits())
}

fn read(content: &[u8]) -> Read {
    let mut source = open(content).unwrap();
    let mut read = Read::default();
    loop {
        let polled = source.poll(Duration::ZERO, &mut |packet| {
            let Packet { captured_at, link, wire_bytes, bytes } = *packet;
            read.packets.push((captured_at.0, link, wire_bytes, bytes.to_vec()));
        });
        match polled {
            Ok(Polled::Open { packets: _ }) => {}
            Ok(Polled::Ended) => break,
            Err(error) => {
                use std::error::Error as _;
                read.error = Some(format!("{error}: {}", error.source().unwrap()));
                assert_eq!(source.poll(Duration::ZERO, &mut |_| {}).unwrap(), Polled::Ended);
                break;
            }
        }
    }
    read.counts = source.counts().unwrap().file.unwrap();
    assert_eq!(read.counts.frames, read.packets.len() as u64);
    read
}

/// Expects these packets, and nothing else to say about the file.
#[track_caller]
fn check(blocks: &[Vec<u8>], expected: &[Seen]) {
    let read = read(&blocks.concat());
    assert_eq!(read.error, None);
    assert_eq!(read.packets, expected);
    assert_eq!(read.counts.cut_at, None);
}

#[track_caller]
fn check_refused(content: &[u8], expected: &[&str]) {
    let message = open(content).map(|_| ()).unwrap_err().to_string();
    for part in expected {
        assert!(message.contains(part), "{message}: {part}");
    }
}

#[track_caller]
fn check_damaged(blocks: &[Vec<u8>], packets: usize, expected: &str) {
    let read = read(&blocks.concat());
    assert_eq!(read.packets.len(), packets);
    let error = read.error.unwrap();
    assert!(error.contains(expected), "{error}");
    let offset: usize = blocks[..blocks.len() - 1].iter().map(Vec::len).sum();
    assert!(error.contains(&format!("at byte {offset};")), "{error}");
}

#[test]
fn pcap_in_both_byte_orders_and_resolutions() {
    for order in [LITTLE, BIG] {
        for (magic, nanos) in [(0xa1b2_c3d4, 5_000), (0xa1b2_3c4d, 5)] {
            check(
                &[
                    order.pcap(magic, 1),
                    order.pcap_packet(3, 5, 3, b"abc"),
                    order.pcap_packet(4, 0, 9, b"de"),
                ],
                &[
                    (3_000_000_000 + nanos, LinkType::Ethernet, 3, b"abc".to_vec()),
                    (4_000_000_000, LinkType::Ethernet, 9, b"de".to_vec()),
                ],
            );
        }
    }
    // With what Alexey Kuznetsov's patch of libpcap wrote behind each header.
    for order in [LITTLE, BIG] {
        let mut modified = order.u32s(&[1, 2, 3, 3]);
        modified.extend_from_slice(b"12345678abc");
        check(
            &[order.pcap(0xa1b2_cd34, 101), modified],
            &[(1_000_002_000, LinkType::RawIp, 3, b"abc".to_vec())],
        );
    }
}

#[test]
fn the_upper_half_of_a_link_type_is_none_of_it() {
    check(
        &[LITTLE.pcap(0xa1b2_c3d4, 0x1400_0001), LITTLE.pcap_packet(0, 0, 1, b"a")],
        &[(0, LinkType::Ethernet, 1, b"a".to_vec())],
    );
}

#[test]
fn a_packet_longer_than_the_snap_length_is_read_like_any_other() {
    let long = vec![7; 300];
    check(
        &[
            LITTLE.pcap(0xa1b2_c3d4, 1),
            LITTLE.pcap_packet(0, 0, 300, &long),
            LITTLE.pcap_packet(0, 0, 1, b"a"),
        ],
        &[(0, LinkType::Ethernet, 300, long), (0, LinkType::Ethernet, 1, b"a".to_vec())],
    );
}

#[test]
fn pcapng_with_interfaces_resolutions_and_every_kind_of_packet() {
    for order in [LITTLE, BIG] {
        let offset = if order.big { 100i64.to_be_bytes() } else { 100i64.to_le_bytes() };
        check(
            &[
                order.section(),
                order.interface(1, 2, &[]),
                order.interface(113, 0, &[(9, &[9]), (14, &offset)]),
                order.interface(276, 0, &[(9, &[0x80 | 10])]),
                order.enhanced(0, 7, 3, b"abc"),
                order.block(5, &[1; 16]),
                order.enhanced(1, 7, 4, b"defg"),
                order.simple(5, b"hijkl"),
                order.enhanced(2, 1536, 9, b""),
                order.obsolete(0, 1 << 32, 1, b"m"),
            ],
            &[
                (7_000, LinkType::Ethernet, 3, b"abc".to_vec()),
                (100_000_000_007, LinkType::LinuxCooked, 4, b"defg".to_vec()),
                // No time of its own, and cut at the snap length of the first interface.
                (100_000_000_007, LinkType::Ethernet, 5, b"hi".to_vec()),
                (1_500_000_000, LinkType::LinuxCooked2, 9, Vec::new()),
                ((1 << 32) * 1_000, LinkType::Ethernet, 1, b"m".to_vec()),
            ],
        );
    }
}

#[test]
fn each_section_has_its_own_byte_order_and_interfaces() {
    check(
        &[
            LITTLE.section(),
            LITTLE.interface(1, 0, &[]),
            LITTLE.enhanced(0, 1, 1, b"a"),
            BIG.section(),
            BIG.interface(101, 0, &[]),
            BIG.enhanced(0, 2, 1, b"b"),
        ],
        &[(1_000, LinkType::Ethernet, 1, b"a".to_vec()), (2_000, LinkType::RawIp, 1, b"b".to_vec())],
    );
    check_damaged(
        &[LITTLE.section(), LITTLE.interface(1, 0, &[]), LITTLE.section(), LITTLE.enhanced(0, 1, 1, b"a")],
        0,
        "interface 0",
    );
}

#[test]
fn resolutions_finer_than_a_nanosecond_and_coarser_than_a_second_stay_in_range() {
    let at = |resolution, ticks| {
        let blocks = [
            LITTLE.section(),
            LITTLE.interface(1, 0, &[(9, &[resolution])]),
            LITTLE.enhanced(0, ticks, 0, b""),
        ];
        read(&blocks.concat()).packets[0].0
    };
    assert_eq!(at(12, 5_000), 5);
    assert_eq!(at(0, 5), 5_000_000_000);
    assert_eq!(at(0, u64::MAX), u64::MAX);
    assert_eq!(at(127, u64::MAX), 0);
    assert_eq!(at(0x80, 2), 2_000_000_000);
    assert_eq!(at(0xff, u64::MAX), 0);
}

#[test]
fn a_cut_file_gives_what_is_whole_and_says_where_it_is_cut() {
    let header = LITTLE.pcap(0xa1b2_c3d4, 1);
    let whole = [header, LITTLE.pcap_packet(0, 0, 3, b"abc"), LITTLE.pcap_packet(0, 0, 3, b"def")].concat();
    let first_ends = 24 + 16 + 3;
    for end in first_ends..whole.len() {
        let read = read(&whole[..end]);
        assert_eq!(read.packets.len(), 1);
        assert_eq!(read.counts.cut_at, (end > first_ends).then_some(first_ends as u64), "{end}");
        assert_eq!(read.error, None);
    }
    // In a block that is read over.
    let blocks = [LITTLE.section(), LITTLE.block(5, &[1; 100])];
    let cut = blocks.concat();
    assert!(read(&cut[..cut.len() - 50]).counts.cut_at.is_some());
}

#[test]
fn no_length_is_believed_that_no_block_can_have() {
    let pcap = LITTLE.pcap(0xa1b2_c3d4, 1);
    let packet = LITTLE.pcap_packet(0, 0, 3, b"abc");
    let claims = |bytes: u32| LITTLE.u32s(&[0, 0, bytes, bytes, 0]);
    check_damaged(&[pcap.clone(), packet, claims(u32::MAX)], 1, "claims to be 4294967311 bytes long");
    check_damaged(&[pcap, claims(1_000)], 0, "at most 1000 are read");
    let section = LITTLE.section();
    for kind in [6, 5, 77] {
        let block = LITTLE.u32s(&[kind, u32::MAX, 0, 0, 0, 0, 0, 0]);
        check_damaged(&[section.clone(), block], 0, "claims to be 42949672");
    }
    check_damaged(&[section.clone(), LITTLE.u32s(&[77, 8, 0, 0])], 0, "contradicts itself");
    check_damaged(&[section.clone(), LITTLE.u32s(&[6, 4, 0, 0, 0, 0, 0, 0])], 0, "contradicts itself");
    let mut contradicting = LITTLE.enhanced(0, 1, 1, b"a");
    let last = contradicting.len() - 4;
    contradicting[last] ^= 1;
    check_damaged(&[section, LITTLE.interface(1, 0, &[]), contradicting], 0, "contradicts itself");
}

#[test]
fn interfaces_are_bounded() {
    let interface = LITTLE.interface(1, 0, &[]);
    let blocks = [LITTLE.section(), interface.clone(), interface.clone(), interface.clone(), interface];
    check_damaged(&blocks, 0, "more than 3 interfaces");
}

#[test]
fn other_files_are_refused_with_their_first_bytes() {
    check_refused(b"", &["nothing"]);
    check_refused(b"GET / HTTP/1.1", &["47 45 54 20 2f 20 48 54", "editcap"]);
    check_refused(&[0x1f, 0x8b, 8, 0], &["1f 8b 08 00", "gzip -dc"]);
    check_refused(&LITTLE.pcap(0xa1b2_c3d4, 1)[..20], &["d4 c3 b2 a1"]);
    let missing = PcapSource::open(Path::new("no/such/file.pcap"), limits()).map(|_| ()).unwrap_err();
    assert!(missing.to_string().contains("no/such/file.pcap"));
}

#[test]
fn a_pipe_that_is_silent_makes_nobody_wait_longer_than_asked() {
    let (reader, mut writer) = io::pipe().unwrap();
    let (go_on, wait) = mpsc::sync_channel(1);
    let other_end = std::thread::spawn(move || {
        let whole = [LITTLE.pcap(0xa1b2_c3d4, 1), LITTLE.pcap_packet(0, 0, 3, b"abc")].concat();
        writer.write_all(&whole[..30]).unwrap();
        wait.recv().unwrap();
        writer.write_all(&whole[30..]).unwrap();
    });
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    let mut source = PcapSource::new("pipe".to_owned(), file, limits()).unwrap();
    let mut poll = |wait| source.poll(wait, &mut |packet| assert_eq!(packet.bytes, b"abc")).unwrap();
    assert_eq!(poll(Duration::from_millis(1)), Polled::Open { packets: 0 });
    go_on.send(()).unwrap();
    assert_eq!(poll(Duration::from_secs(60)), Polled::Open { packets: 1 });
    other_end.join().unwrap();
    assert_eq!(poll(Duration::from_secs(60)), Polled::Ended);
}

/// A file with packets of these lengths.
fn file(lengths: &[usize], pcapng: bool) -> Vec<u8> {
    let mut content = if pcapng {
        [LITTLE.section(), LITTLE.interface(1, 0, &[])].concat()
    } else {
        LITTLE.pcap(0xa1b2_c3d4, 1)
    };
    for length in lengths {
        let bytes = vec![*length as u8; *length];
        let block =
            if pcapng { LITTLE.enhanced(0, 1, 500, &bytes) } else { LITTLE.pcap_packet(0, 1, 500, &bytes) };
        content.extend_from_slice(&block);
    }
    content
}

proptest! {
    #[test]
    fn every_packet_is_read_wherever_the_reads_end(lengths in prop::collection::vec(0usize..200, 0..20), pcapng: bool) {
        let read = read(&file(&lengths, pcapng));
        let got: Vec<usize> = read.packets.iter().map(|(_, _, _, bytes)| bytes.len()).collect();
        prop_assert_eq!(got, lengths);
    }

    #[test]
    fn damage_never_panics_and_never_takes_memory(
        lengths in prop::collection::vec(0usize..50, 0..8),
        pcapng: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut content = file(&lengths, pcapng);
        for (at, value) in changes {
            let at = at.index(content.len());
            content[at] = value;
        }
        if let Ok(mut source) = open(&content) {
            while let Ok(Polled::Open { packets: _ }) = source.poll(Duration::ZERO, &mut |_| {}) {}
            prop_assert!(source.buffer.len() <= limits().block_bytes_max);
            prop_assert!(source.counts().is_ok());
        }
    }
}

#[test]
fn packets_that_are_earlier_than_the_one_before_are_counted() {
    let order = BIG;
    let packets = [3, 1, 1, 2, 1].map(|second| order.pcap_packet(second, 0, 1, b"x"));
    let read = read(&[order.pcap(0xa1b2_c3d4, 1), packets.concat()].concat());
    assert_eq!((read.counts.frames, read.counts.frames_back), (5, 2));
}
