//! Packets built by `etherparse` are read back as it wrote them, whatever they are wrapped in.
//!
//! Uses that crate as the twin; the parser under test shares nothing with it.

use etherparse::PacketBuilder;
use proptest::prelude::*;
use understudy_abi as abi;

use super::*;
use crate::model::{Direction, Seq, Timestamp};

const PAYLOAD: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

pub(super) fn packet(link: LinkType, bytes: &[u8]) -> Packet<'_> {
    Packet { captured_at: Timestamp(7), link, wire_bytes: bytes.len() as u32, bytes }
}

fn built(step: etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    step.ack(99).write(&mut bytes, PAYLOAD).unwrap();
    bytes
}

/// A request from port 4000 to port 80.
pub(super) fn ipv4() -> Vec<u8> {
    built(PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(4000, 80, 5, 1000))
}

pub(super) fn ipv6() -> Vec<u8> {
    built(PacketBuilder::ipv6([1; 16], [2; 16], 64).tcp(4000, 80, 5, 1000))
}

fn ethernet() -> Vec<u8> {
    built(
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(4000, 80, 5, 1000),
    )
}

/// `ipv4()` with other bytes before it.
fn before_ipv4(header: &[u8]) -> Vec<u8> {
    [header, &ipv4()].concat()
}

/// An IPv4 packet of this protocol.
fn in_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = u16::try_from(payload.len()).unwrap();
    let header =
        etherparse::Ipv4Header::new(length, 64, etherparse::IpNumber(protocol), [9; 4], [8; 4]).unwrap();
    header.write(&mut bytes).unwrap();
    bytes.extend_from_slice(payload);
    bytes
}

fn in_udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([9; 4], [8; 4], 64).udp(50_000, port).write(&mut bytes, payload).unwrap();
    bytes
}

/// Reads the packet with every way of asking for it, and expects the request that all these tests send.
#[track_caller]
fn check(link: LinkType, bytes: &[u8]) {
    let packet = packet(link, bytes);
    let segment = parse(&packet, &WantedPorts::new([80])).unwrap();
    assert_eq!(segment.payload, PAYLOAD);
    assert_eq!(segment.wire_payload_bytes as usize, PAYLOAD.len());
    assert_eq!((segment.source.port, segment.destination.port), (4000, 80));
    assert_eq!((segment.seq, segment.ack), (Seq(5), Some(Seq(99))));
    assert_eq!(segment.direction, Some(Direction::ToServer));
    assert_eq!(parse(&packet, &WantedPorts::new([81])).unwrap_err(), Unused::OtherPort);
    assert_eq!(parse(&packet, &WantedPorts::any()).unwrap().direction, None);
    let mut reader = PacketReader::new(WantedPorts::new([4000]), FragmentLimits::default());
    assert_eq!(reader.read(&packet).unwrap().direction, Some(Direction::ToClient));
}

#[track_caller]
fn check_unused(link: LinkType, bytes: &[u8], expected: Unused, named: Option<Unsupported>) {
    let packet = packet(link, bytes);
    let mut reader = PacketReader::new(WantedPorts::any(), FragmentLimits::default());
    assert_eq!(reader.read(&packet).unwrap_err(), expected);
    assert_eq!(parse(&packet, &WantedPorts::any()).unwrap_err(), expected);
    let counted: Vec<_> = Unsupported::ALL
        .into_iter()
        .zip(reader.tally().unsupported)
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(counted, named.map(|what| (what, 1)).into_iter().collect::<Vec<_>>());
}

#[test]
fn reads_every_link_layer() {
    check(LinkType::RawIp, &ipv4());
    check(LinkType::RawIp, &ipv6());
    check(LinkType::Ethernet, &ethernet());
    check(LinkType::Ethernet, &[&ethernet()[..], &[0; 9]].concat());
    for family in [2u32.to_le_bytes(), 2u32.to_be_bytes()] {
        check(LinkType::Loopback, &before_ipv4(&family));
    }
    check(LinkType::Loopback, &[&30u32.to_le_bytes()[..], &ipv6()].concat());
    check(LinkType::LinuxCooked, &before_ipv4(&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0]));
    let mut cooked2 = vec![8, 0];
    cooked2.extend_from_slice(&[0; 18]);
    check(LinkType::LinuxCooked2, &before_ipv4(&cooked2));
    check(LinkType::Ppp, &before_ipv4(&[0x00, 0x21]));
    check(LinkType::Ppp, &before_ipv4(&[0x21]));
    check(LinkType::Ppp, &before_ipv4(&[0xff, 0x03, 0x00, 0x21]));
    check(LinkType::Ppp, &before_ipv4(&[0x0f, 0x00, 0x08, 0x00]));
    check(LinkType::Ppp, &[&[0xff, 0x03, 0x57][..], &ipv6()].concat());
    for directed in
        [&[1, 3, 0x00, 0x21][..], &[0, 3, 0x21], &[1, 0xff, 3, 0x00, 0x21], &[0, 0x00, 0x21], &[1, 0x21]]
    {
        check(LinkType::PppDirected, &before_ipv4(directed));
    }
    let length = (ipv4().len() + 2) as u16;
    let [high, low] = length.to_be_bytes();
    check(LinkType::Pppoe, &before_ipv4(&[0x11, 0, 0, 9, high, low, 0x00, 0x21]));
}

#[test]
fn tags_name_the_virtual_network() {
    let network = |link, bytes: &[u8]| parse(&packet(link, bytes), &WantedPorts::any()).unwrap().network;
    let tagged = |tags: &[u8]| network(LinkType::Ethernet, &before_ipv4(&[&[7; 12], tags].concat()));
    let plain = [ethernet(), ipv4()].map(|bytes| {
        network(LinkType::Ethernet, &[&ethernet()[..14], &bytes[bytes.len() - ipv4().len()..]].concat())
    });
    assert_eq!(plain, [0, 0]);
    assert_eq!(tagged(&[0x81, 0, 0xe0, 0, 8, 0]), 0, "a priority is no network");
    let five = tagged(&[0x81, 0, 0, 5, 8, 0]);
    assert_eq!(five, tagged(&[0x81, 0, 0xe0, 5, 8, 0]), "whatever the priority");
    let vxlan =
        |id| network(LinkType::RawIp, &in_udp(4789, &[&[8, 0, 0, 0, 0, 0, id, 9][..], &ethernet()].concat()));
    let geneve = [0, 0, 0x65, 0x58, 0, 0, 4, 0];
    let nvgre = [0x20, 0, 0x65, 0x58, 0, 0, 3, 77];
    let all = [
        five,
        tagged(&[0x81, 0, 0, 6, 8, 0]),
        tagged(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]),
        tagged(&[0x88, 0xa8, 0, 6, 0x81, 0, 0, 5, 8, 0]),
        vxlan(5),
        vxlan(6),
        network(LinkType::RawIp, &in_udp(6081, &[&geneve[..], &ethernet()].concat())),
        network(LinkType::RawIp, &in_ipv4(47, &[&nvgre[..], &ethernet()].concat())),
    ];
    let different: std::collections::HashSet<u32> = all.into_iter().filter(|network| *network != 0).collect();
    assert_eq!(different.len(), all.len(), "{all:?}");
}

#[test]
fn a_syn_says_how_windows_are_shifted() {
    use etherparse::TcpOptionElement::{
        MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, WindowScale,
    };
    let shift = |syn: bool, options: &[etherparse::TcpOptionElement]| {
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(4000, 80, 5, 1000);
        let builder = builder.options(options).unwrap();
        let mut bytes = Vec::new();
        if syn { builder.syn() } else { builder }.write(&mut bytes, &[]).unwrap();
        let segment = parse(&packet(LinkType::RawIp, &bytes), &WantedPorts::any()).unwrap();
        assert_eq!(segment.window, 1000);
        segment.window_scale
    };
    let all = [MaximumSegmentSize(1460), SelectiveAcknowledgementPermitted, Noop, WindowScale(7)];
    assert_eq!(shift(true, &all), Some(7));
    assert_eq!(shift(false, &all), None);
    assert_eq!(shift(true, &all[..3]), None);
    assert_eq!(shift(true, &[WindowScale(200)]), Some(14));
    assert_eq!(shift(true, &[]), None);
}

#[test]
fn reads_over_tags() {
    let mac = [7; 12];
    let tagged = |tags: &[u8]| before_ipv4(&[&mac[..], tags].concat());
    check(LinkType::Ethernet, &tagged(&[0x81, 0, 0, 5, 8, 0]));
    check(LinkType::Ethernet, &tagged(&[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]));
    check(LinkType::Ethernet, &tagged(&[0x88, 0x47, 0, 1, 0x00, 64, 0, 2, 0x01, 64]));
    let [high, low] = (ipv4().len() as u16 + 8).to_be_bytes();
    check(LinkType::Ethernet, &tagged(&[high, low, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]));
    check(
        LinkType::LinuxCooked,
        &before_ipv4(&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x81, 0, 0, 5, 8, 0]),
    );
}

#[test]
fn reads_a_packet_that_netfilter_logged() {
    let attributes = |number: fn(u16) -> [u8; 2]| {
        let mut bytes = vec![2, 0, 0, 0];
        for (kind, value) in [(10u16, &b"pre\0x"[..]), (9, &ipv4()[..])] {
            bytes.extend_from_slice(&number(value.len() as u16 + 4));
            bytes.extend_from_slice(&number(kind));
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    };
    check(LinkType::Netfilter, &attributes(u16::to_le_bytes));
    check(LinkType::Netfilter, &attributes(u16::to_be_bytes));
}

#[test]
fn opens_plain_tunnels() {
    check(LinkType::RawIp, &in_ipv4(4, &ipv4()));
    check(LinkType::RawIp, &in_ipv4(41, &ipv6()));
    check(LinkType::RawIp, &in_ipv4(137, &before_ipv4(&[0, 1, 0x01, 64])));
    check(LinkType::RawIp, &in_ipv4(47, &before_ipv4(&[0, 0, 8, 0])));
    check(LinkType::RawIp, &in_ipv4(47, &before_ipv4(&[0xb0, 0, 8, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])));
    // Version 1 with a key, a sequence and an acknowledgement number.
    let pptp = [0x30, 0x81, 0x88, 0x0b, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0x21];
    check(LinkType::RawIp, &in_ipv4(47, &before_ipv4(&pptp)));
    check(LinkType::RawIp, &in_ipv4(47, &[&[0, 0, 0x65, 0x58][..], &ethernet()].concat()));
    check(LinkType::RawIp, &in_ipv4(47, &[&[0, 0, 0x88, 0xbe][..], &ethernet()].concat()));
    let erspan2 = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    check(LinkType::RawIp, &in_ipv4(47, &[&erspan2[..], &ethernet()].concat()));
    check(LinkType::RawIp, &in_udp(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &ethernet()].concat()));
    let geneve = [1, 0, 0x65, 0x58, 0, 0, 1, 0, 9, 9, 9, 9];
    check(LinkType::RawIp, &in_udp(6081, &[&geneve[..], &ethernet()].concat()));
    check(LinkType::RawIp, &in_udp(2152, &before_ipv4(&[0x30, 255, 0, 0, 0, 0, 0, 1])));
    let extended = [0x34, 255, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 7, 7, 0];
    check(LinkType::RawIp, &in_udp(2152, &before_ipv4(&extended)));
}

#[test]
fn walks_extension_headers() {
    for (first, header) in [
        (60, &[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]),
        (0, &[43, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]),
        (51, &[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (135, &[6, 0, 0, 0, 0, 0, 0, 0]),
        (139, &[140, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]),
        // An atomic fragment.
        (44, &[6, 0, 0, 0, 1, 2, 3, 4]),
    ] {
        let plain = ipv6();
        let mut bytes = plain[..40].to_vec();
        bytes[6] = first;
        bytes[4..6].copy_from_slice(&((plain.len() - 40 + header.len()) as u16).to_be_bytes());
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&plain[40..]);
        check(LinkType::RawIp, &bytes);
    }
    let authenticated = in_ipv4(51, &[&[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &ipv4()[20..]].concat());
    check(LinkType::RawIp, &authenticated);
}

#[test]
fn reads_over_ipv4_options() {
    let plain = ipv4();
    let mut bytes = plain[..20].to_vec();
    bytes[0] = 0x46;
    bytes[2..4].copy_from_slice(&((plain.len() + 4) as u16).to_be_bytes());
    bytes.extend_from_slice(&[1, 1, 1, 0]);
    bytes.extend_from_slice(&plain[20..]);
    check(LinkType::RawIp, &bytes);
}

#[test]
fn a_cut_packet_says_how_much_of_it_is_missing() {
    let bytes = ethernet();
    let cut =
        Packet { wire_bytes: bytes.len() as u32, ..packet(LinkType::Ethernet, &bytes[..bytes.len() - 4]) };
    let segment = parse(&cut, &WantedPorts::any()).unwrap();
    assert_eq!(
        (segment.payload.len(), segment.wire_payload_bytes as usize),
        (PAYLOAD.len() - 4, PAYLOAD.len())
    );
    // Offloading leaves no length in the header; then the length on the wire tells.
    let mut offloaded = ipv4();
    offloaded[2..4].fill(0);
    let wire_bytes = offloaded.len() as u32 + 70_000;
    let segment = Packet { wire_bytes, ..packet(LinkType::RawIp, &offloaded) };
    let segment = parse(&segment, &WantedPorts::any()).unwrap();
    assert_eq!(segment.wire_payload_bytes as usize, PAYLOAD.len() + 70_000);
}

#[test]
fn what_is_not_read_has_a_name() {
    use Unsupported as U;
    let unsupported = |link, bytes: &[u8], what| check_unused(link, bytes, Unused::Unsupported, Some(what));
    unsupported(LinkType::Wireless, &ipv4(), U::Wireless);
    unsupported(LinkType::Other(147), &ipv4(), U::LinkType);
    unsupported(LinkType::Ppp, &[0x00, 0xfd, 1, 2, 3], U::PppProtocol);
    unsupported(LinkType::RawIp, &in_ipv4(50, &[1; 20]), U::Esp);
    unsupported(LinkType::RawIp, &in_ipv4(108, &[1; 20]), U::IpProtocol);
    unsupported(LinkType::RawIp, &in_ipv4(115, &[1; 20]), U::L2tp);
    unsupported(LinkType::RawIp, &in_ipv4(47, &before_ipv4(&[0x40, 0, 8, 0, 0, 0, 0, 0])), U::Gre);
    unsupported(LinkType::RawIp, &in_udp(1701, &[0; 20]), U::L2tp);
    unsupported(LinkType::RawIp, &in_udp(3544, &[0; 20]), U::Teredo);
    unsupported(LinkType::RawIp, &in_udp(4790, &[0; 20]), U::VxlanGpe);
    let ethernet = |ethertype: u16| [&[7; 12][..], &ethertype.to_be_bytes(), &[0; 20]].concat();
    unsupported(LinkType::Ethernet, &ethernet(0x88e5), U::Macsec);
    unsupported(LinkType::Ethernet, &ethernet(0x88e7), U::EtherType);
    unsupported(
        LinkType::Ethernet,
        &before_ipv4(&[&[7; 12][..], &[0x81, 0, 0, 5].repeat(20), &[8, 0]].concat()),
        U::TooDeep,
    );
    check_unused(LinkType::Ethernet, &ethernet(0x0806), Unused::NotIp, None);
    check_unused(LinkType::Loopback, &7u32.to_le_bytes(), Unused::NotIp, None);
    check_unused(LinkType::RawIp, &in_udp(53, &[0; 20]), Unused::NotTcp, None);
    check_unused(LinkType::RawIp, &in_udp(4789, &[0; 20]), Unused::NotTcp, None);
    check_unused(LinkType::RawIp, &ipv4()[..30], Unused::Malformed, None);
    let mut reader = PacketReader::new(WantedPorts::any(), FragmentLimits::default());
    assert!(reader.read(&packet(LinkType::Other(147), &ipv4())).is_err());
    assert_eq!(reader.tally().unknown_link_type, Some(147));
}

#[test]
fn a_fragmented_packet_is_read_with_its_last_fragment() {
    let plain = ipv4();
    let mut first = plain[..20 + 24].to_vec();
    first[2..4].copy_from_slice(&44u16.to_be_bytes());
    first[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
    let mut second = plain[..20].to_vec();
    second.extend_from_slice(&plain[44..]);
    let length = second.len() as u16;
    second[2..4].copy_from_slice(&length.to_be_bytes());
    second[6..8].copy_from_slice(&3u16.to_be_bytes());
    for (before, last) in [(&first, &second), (&second, &first)] {
        let mut reader = PacketReader::new(WantedPorts::new([80]), FragmentLimits::default());
        assert_eq!(reader.read(&packet(LinkType::RawIp, before)).unwrap_err(), Unused::Fragment);
        assert_eq!(reader.read(&packet(LinkType::RawIp, last)).unwrap().payload, PAYLOAD);
        assert_eq!((reader.tally().fragments.whole, reader.tally().fragments.fragments), (1, 2));
    }
    // In a tunnel as well.
    let mut reader = PacketReader::new(WantedPorts::new([80]), FragmentLimits::default());
    assert!(reader.read(&packet(LinkType::RawIp, &in_ipv4(4, &first))).is_err());
    assert_eq!(reader.read(&packet(LinkType::RawIp, &in_ipv4(4, &second))).unwrap().payload, PAYLOAD);
}

#[test]
fn reads_a_record_of_the_probe() {
    const FIN_ACK: u8 = 0x11;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&1u64.to_ne_bytes());
    bytes.extend_from_slice(&42u64.to_ne_bytes());
    bytes.extend_from_slice(&ip::mapped([127, 0, 0, 1]));
    bytes.extend_from_slice(&ip::mapped([127, 0, 0, 2]));
    bytes.extend_from_slice(&5u32.to_ne_bytes());
    bytes.extend_from_slice(&99u32.to_ne_bytes());
    bytes.extend_from_slice(&3u32.to_ne_bytes());
    bytes.extend_from_slice(&3u32.to_ne_bytes());
    bytes.extend_from_slice(&80u16.to_ne_bytes());
    bytes.extend_from_slice(&4000u16.to_ne_bytes());
    bytes.extend_from_slice(&[0, 0, FIN_ACK, abi::EGRESS, abi::RECORD_LAST]);
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

/// Whole packets of every kind, with a few bytes changed: these come further than random bytes.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        Just(ethernet()),
        Just(ipv4()),
        Just(ipv6()),
        Just(in_ipv4(4, &ipv6())),
        Just(in_ipv4(47, &before_ipv4(&[0xb0, 0, 8, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]))),
        Just(in_udp(4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &ethernet()].concat())),
        Just(in_udp(2152, &before_ipv4(&[0x34, 255, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 7, 7, 0]))),
    ];
    (
        whole,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut bytes, changes, length)| {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(length.index(bytes.len()) + 1);
            bytes
        })
}

proptest! {
    #[test]
    fn never_panics_and_never_reads_past_the_end(
        frames in prop::collection::vec(prop_oneof![prop::collection::vec(any::<u8>(), 0..200), damaged()], 1..8),
    ) {
        let mut reader = PacketReader::new(WantedPorts::any(), FragmentLimits::default());
        let held: usize = frames.iter().map(Vec::len).sum();
        for link in LinkType::ALL {
            for bytes in &frames {
                if let Ok(segment) = parse(&packet(link, bytes), &WantedPorts::new([80])) {
                    prop_assert!(segment.payload.len() <= bytes.len());
                    prop_assert!(segment.wire_payload_bytes as usize >= segment.payload.len());
                }
                if let Ok(segment) = reader.read(&packet(link, bytes)) {
                    prop_assert!(segment.payload.len() <= held);
                }
            }
        }
    }
}
