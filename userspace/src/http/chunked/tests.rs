//! The chunked coding, whole and in pieces, against a twin that reads it with string functions.
//!
//! Each coding is also read byte by byte.

use proptest::prelude::*;

use super::*;

/// Reads a coding in pieces; gives the body, the bytes behind it and the trailer fields, or `None`.
fn read(coding: &[u8], piece: usize) -> Option<(Vec<u8>, usize, usize)> {
    let mut chunked = Chunked::new();
    let mut body = Vec::new();
    let mut left = coding.len();
    for mut input in coding.chunks(piece.max(1)) {
        left -= input.len();
        while let Some(step) = chunked.step(&mut input, 200, 200) {
            match step {
                ChunkedStep::Data(data) => body.extend_from_slice(data),
                ChunkedStep::End(trailers) => return Some((body, left + input.len(), trailers.len())),
                ChunkedStep::Invalid => return None,
            }
        }
    }
    None
}

#[track_caller]
fn check(coding: &str, expected: Option<(&str, usize, usize)>) {
    for piece in [1, 2, 3, 1000] {
        let read = read(coding.as_bytes(), piece);
        let read =
            read.as_ref().map(|(body, left, trailers)| (str::from_utf8(body).unwrap(), *left, *trailers));
        assert_eq!(read, expected, "{coding:?} in pieces of {piece}");
    }
}

#[test]
fn reads_bodies() {
    check("0\r\n\r\n", Some(("", 0, 0)));
    check("3\r\nabc\r\n0\r\n\r\nrest", Some(("abc", 4, 0)));
    check("A\r\n0123456789\r\n00\r\n\r\n", Some(("0123456789", 0, 0)));
    check("3;name=value;x=\"q\"\r\nabc\r\n0;last\r\n\r\n", Some(("abc", 0, 0)));
    check("3  \r\nabc\r\n0\r\nX: y\r\nZ: w\r\n\r\n", Some(("abc", 0, 2)));
}

#[test]
fn refuses_sizes_that_readers_understand_in_different_ways() {
    for size in ["+1", "-1", "0x1", " +1", "1_0", "", "g", "10000000000000000", "1\r2"] {
        check(&format!("{size}\r\nabc\r\n0\r\n\r\n"), None);
    }
}

#[test]
fn refuses_data_that_is_longer_than_its_size() {
    check("3\r\nabcd\r\n0\r\n\r\n", None);
}

#[test]
fn bounds_extensions_and_trailers() {
    check(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(300)), None);
    check(&format!("0\r\nX: {}\r\n\r\n", "x".repeat(300)), None);
}

#[test]
fn marks_bare_line_feeds_and_space_before_a_size() {
    for coding in
        ["\t3\r\nabc\r\n 0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n", "3\r\nabc\r\n0\n\r\n"]
    {
        let mut chunked = Chunked::new();
        let mut input = coding.as_bytes();
        while let Some(step) = chunked.step(&mut input, 200, 200) {
            assert_ne!(step, ChunkedStep::Invalid, "{coding:?}");
        }
        assert!(chunked.is_ambiguous(), "{coding:?}");
    }
}

proptest! {
    #[test]
    fn reads_what_a_twin_writes(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..10), piece in 1usize..50) {
        let mut coding = Vec::new();
        for chunk in &chunks {
            coding.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            coding.extend_from_slice(chunk);
            coding.extend_from_slice(b"\r\n");
        }
        coding.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(read(&coding, piece), Some((chunks.concat(), 0, 0)));
    }
}
