//! Packets built by `etherparse` are read back as it wrote them.
//!
//! Uses that crate as the twin; the parser under test shares nothing with it.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::model::Timestamp;

fn packet(link: LinkType, bytes: &[u8]) -> Packet<'_> {
    Packet { captured_at: Timestamp(7), link, wire_bytes: bytes.len() as u32, bytes }
}

#[test]
fn reads_what_the_twin_builds() {
    let payload = b"GET / HTTP/1.1\r\n\r\n";
    let tcp = |step: etherparse::PacketBuilderStep<etherparse::TcpHeader>| {
        let mut bytes = Vec::new();
        step.ack(99).write(&mut bytes, payload).unwrap();
        bytes
    };
    let v4 = tcp(PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(4000, 80, 5, 1000));
    let v6 = tcp(PacketBuilder::ipv6([1; 16], [2; 16], 64).tcp(4000, 80, 5, 1000));
    let mut padded = tcp(PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(4000, 80, 5, 1000));
    padded.extend_from_slice(&[0; 9]);
    for (link, bytes) in [(LinkType::RawIp, v4), (LinkType::RawIp, v6), (LinkType::Ethernet, padded)] {
        let segment = parse(&packet(link, &bytes), &WantedPorts::new([80])).unwrap();
        assert_eq!(segment.payload, payload);
        assert_eq!((segment.source.port, segment.destination.port), (4000, 80));
        assert_eq!((segment.seq, segment.ack), (Seq(5), Some(Seq(99))));
        assert_eq!(segment.direction, Some(Direction::ToServer));
        assert_eq!(parse(&packet(link, &bytes), &WantedPorts::new([81])).unwrap_err(), Unused::OtherPort);
    }
}

#[test]
fn walks_extension_headers() {
    let mut bytes = Vec::new();
    let mut tcp = etherparse::TcpHeader::new(4000, 80, 5, 1000);
    tcp.syn = true;
    let mut inner = vec![60, 0, 0, 0, 0, 0, 0, 0, 6, 1];
    inner.extend_from_slice(&[0; 14]);
    tcp.write(&mut inner).unwrap();
    bytes.extend_from_slice(&[0x60, 0, 0, 0]);
    bytes.extend_from_slice(&(inner.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 64]);
    bytes.extend_from_slice(&[1; 16]);
    bytes.extend_from_slice(&[2; 16]);
    bytes.extend_from_slice(&inner);
    let segment = parse(&packet(LinkType::RawIp, &bytes), &WantedPorts::new([80])).unwrap();
    assert!(segment.flags.syn);
    assert_eq!(segment.payload, b"");
}

#[test]
fn reads_a_record_of_the_probe() {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&1u64.to_ne_bytes());
    bytes.extend_from_slice(&42u64.to_ne_bytes());
    bytes.extend_from_slice(&mapped([127, 0, 0, 1]));
    bytes.extend_from_slice(&mapped([127, 0, 0, 2]));
    bytes.extend_from_slice(&5u32.to_ne_bytes());
    bytes.extend_from_slice(&99u32.to_ne_bytes());
    bytes.extend_from_slice(&3u32.to_ne_bytes());
    bytes.extend_from_slice(&3u32.to_ne_bytes());
    bytes.extend_from_slice(&80u16.to_ne_bytes());
    bytes.extend_from_slice(&4000u16.to_ne_bytes());
    bytes.extend_from_slice(&[0, 0, ACK | FIN, abi::EGRESS, abi::RECORD_LAST]);
    bytes.extend_from_slice(&[0; 7]);
    assert_eq!(bytes.len(), size_of::<abi::RecordHeader>());
    bytes.extend_from_slice(b"abc");
    let segment = parse(&packet(LinkType::Probe, &bytes), &WantedPorts::new([])).unwrap();
    assert_eq!(
        (segment.source.to_string(), segment.destination.to_string()),
        ("127.0.0.1:80".into(), "127.0.0.2:4000".into())
    );
    assert_eq!(
        (segment.scope, segment.payload, segment.direction),
        (42, &b"abc"[..], Some(Direction::ToClient))
    );
    assert!(segment.flags.fin && segment.ends_packet);
    assert_eq!(
        parse(&packet(LinkType::Probe, &bytes[..82]), &WantedPorts::new([])).unwrap_err(),
        Unused::Malformed
    );
}

proptest! {
    #[test]
    fn never_panics_and_never_reads_past_the_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for link in [LinkType::Probe, LinkType::RawIp, LinkType::Ethernet] {
            if let Ok(segment) = parse(&packet(link, &bytes), &WantedPorts::new([80])) {
                prop_assert!(segment.payload.len() <= bytes.len());
            }
        }
    }
}
