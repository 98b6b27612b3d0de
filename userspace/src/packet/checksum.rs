//! Whether a TCP segment arrived as it was sent: its checksum (RFC 9293 section 3.1, RFC 1071).
//!
//! Decides nothing about the connection: sums that only stand there because the sending host had not finished them are
//! told from wrong ones here, but whether a wrong one means damage is `stream`'s to say.

use super::ip::Datagram;
use crate::model::Checksum;

/// Packets that are longer have been joined, or not cut yet, by a host with segmentation offload: their sum is that of
/// no packet that passed. In bytes, from the TCP header on.
const SEGMENT_BYTES_MAX: usize = 1_500;

/// The number of TCP in the pseudo header, in network byte order.
const PROTOCOL: u128 = 6u16.to_be() as u128;

/// Compares the checksum of a segment, `field` as its header has it, with its bytes.
#[inline]
pub(super) fn verify(datagram: &Datagram<'_>, field: [u8; 2]) -> Checksum {
    let Datagram { version: _, source, destination, protocol: _, rest } = datagram;
    let bytes = rest.bytes();
    // Some senders leave the field empty for their network card.
    if bytes.len() != rest.wire() || bytes.len() > SEGMENT_BYTES_MAX || field == [0, 0] {
        return Checksum::Unjudged;
    }
    // The bytes before a mapped IPv4 address add up to nothing in this arithmetic, so one way does for both versions.
    let addresses = sum(source).wrapping_add(sum(destination)).wrapping_add(PROTOCOL);
    let length = u128::from((bytes.len() as u16).to_be());
    let pseudo = addresses.wrapping_add(length);
    if fold(pseudo.wrapping_add(sum(bytes))) == u16::MAX {
        return Checksum::Right;
    }
    unfinished_or_wrong(u16::from_ne_bytes(field), [pseudo, addresses])
}

/// What a host hands to its network card is the sum of the pseudo header, with the length or, for what the card is to
/// cut, without it; some complement it.
#[cold]
fn unfinished_or_wrong(field: u16, pseudo: [u128; 2]) -> Checksum {
    let is_unfinished = pseudo.into_iter().map(fold).any(|sum| field == sum || field == !sum);
    if is_unfinished { Checksum::Unjudged } else { Checksum::Wrong }
}

/// The sum of 16-bit words in ones' complement arithmetic, not folded yet. In the byte order of this machine, which
/// only swaps the bytes of the result (RFC 1071 section 2). Room is left to add many such sums.
#[inline]
fn sum(bytes: &[u8]) -> u128 {
    // Wide words and two sums at a time: a third of the instructions that narrow ones take.
    let (blocks, rest) = bytes.as_chunks::<32>();
    let wide = |word: [u8; 8]| u128::from(u64::from_ne_bytes(word));
    let (one, two) = blocks.iter().fold((0u128, 0u128), |(one, two), block| match block.as_chunks().0 {
        [a, b, c, d] => (
            one.wrapping_add(wide(*a)).wrapping_add(wide(*b)),
            two.wrapping_add(wide(*c)).wrapping_add(wide(*d)),
        ),
        // A block has four words.
        _ => (one, two),
    });
    let (words, rest) = rest.as_chunks::<8>();
    let sum = words.iter().fold(one.wrapping_add(two), |sum, word| sum.wrapping_add(wide(*word)));
    let (words, rest) = rest.as_chunks::<2>();
    let sum = words.iter().fold(sum, |sum, word| sum.wrapping_add(u128::from(u16::from_ne_bytes(*word))));
    let last = rest.first().map_or(0, |byte| u16::from_ne_bytes([*byte, 0]));
    sum.wrapping_add(u128::from(last))
}

/// Adds the carries back in until 16 bits are left: a carry of 64 bits is one of 32, and of 16.
#[inline]
fn fold(sum: u128) -> u16 {
    let (low, carried) = (sum as u64).overflowing_add((sum >> 64) as u64);
    let sum = (low & 0xffff_ffff).wrapping_add(low >> 32).wrapping_add(u64::from(carried));
    let sum = (sum & 0xffff).wrapping_add(sum >> 16 & 0xffff).wrapping_add(sum >> 32);
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    // What is left fits.
    (sum & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, Ipv6Header, PacketBuilder, TcpHeader};
    use proptest::prelude::*;

    use super::super::{PacketReader, WantedPorts};
    use super::*;
    use crate::model::{LinkType, Packet, Timestamp};
    use crate::packet::FragmentLimits;

    const FIELD: usize = 16;

    fn v4(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ipv4([10, 1, 2, 3], [192, 168, 7, 9], 64).tcp(40_000, 80, 77, 1_000);
        let mut packet = Vec::new();
        builder.ack(5).write(&mut packet, payload).expect("it fits");
        packet
    }

    fn v6(payload: &[u8]) -> Vec<u8> {
        let (source, destination) = ([0x20; 16], [0xfe; 16]);
        let mut tcp = TcpHeader::new(40_000, 80, 77, 1_000);
        let ip = Ipv6Header {
            payload_length: (20 + payload.len()) as u16,
            next_header: IpNumber::TCP,
            source,
            destination,
            ..Ipv6Header::default()
        };
        tcp.checksum = tcp.calc_checksum_ipv6(&ip, payload).expect("it fits");
        let mut packet = ip.to_bytes().to_vec();
        packet.extend(tcp.to_bytes());
        packet.extend(payload);
        packet
    }

    #[track_caller]
    fn check(bytes: &[u8], wire_bytes: usize, expected: Checksum) {
        let wire_bytes = wire_bytes as u32;
        let packet = Packet { captured_at: Timestamp::default(), link: LinkType::RawIp, wire_bytes, bytes };
        let mut reader = PacketReader::new(WantedPorts::any(), FragmentLimits::default());
        let segment = reader.read(&packet).expect("it is TCP");
        assert_eq!(segment.checksum, expected, "{bytes:02x?}");
    }

    /// As the sum is defined: 16 bits at a time, the carry added at once.
    fn twin(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0u16, |sum, pair| {
            let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        })
    }

    fn with_field(mut packet: Vec<u8>, field: u16) -> Vec<u8> {
        packet[20 + FIELD..][..2].copy_from_slice(&field.to_be_bytes());
        packet
    }

    #[test]
    fn every_right_sum_is_right() {
        for length in [0, 1, 2, 3, 4, 5, 7, 100, 1_460] {
            let payload: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            check(&v4(&payload), 40 + length, Checksum::Right);
            check(&v6(&payload), 60 + length, Checksum::Right);
        }
    }

    #[test]
    fn a_changed_bit_is_seen() {
        for at in 20..v4(b"abc").len() {
            let mut packet = v4(b"abc");
            packet[at] ^= 0x04;
            if at != 32 {
                check(&packet, packet.len(), Checksum::Wrong);
            }
        }
    }

    #[test]
    fn what_was_cut_joined_or_left_empty_is_not_judged() {
        let mut packet = with_field(v4(&[b'x'; 100]), 0x1234);
        check(&packet, packet.len(), Checksum::Wrong);
        packet.truncate(90);
        check(&packet, 140, Checksum::Unjudged);
        let joined = with_field(v4(&[b'x'; 2_896]), 0x1234);
        check(&joined, joined.len(), Checksum::Unjudged);
        let empty = with_field(v4(b"abc"), 0);
        check(&empty, empty.len(), Checksum::Unjudged);
    }

    #[test]
    fn unfinished_sums_are_not_judged() {
        let packet = v4(b"GET / HTTP/1.1\r\n");
        let length = (packet.len() - 20) as u16;
        for covered in [length, 0] {
            let mut pseudo = packet[12..20].to_vec();
            pseudo.extend([0, 6]);
            pseudo.extend(covered.to_be_bytes());
            for field in [twin(&pseudo), !twin(&pseudo)] {
                check(&with_field(packet.clone(), field), packet.len(), Checksum::Unjudged);
            }
        }
    }

    proptest! {
        #[test]
        fn adds_up_like_its_definition(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Zero has two forms in ones' complement arithmetic.
            let normal = |sum: u16| if sum == u16::MAX { 0 } else { sum };
            prop_assert_eq!(normal(fold(sum(&bytes)).to_be()), normal(twin(&bytes)));
        }
    }
}
