//! The layout of a recording: a header, then records with checksums.
//!
//! Knows nothing of exchanges. All numbers are little-endian.

/// What a recording begins with: the first byte is no text in any common encoding.
pub(super) const MAGIC: [u8; 8] = *b"\x89ustudy\n";

/// Bytes of the header of the file, and of that of a record.
pub(super) const HEADER_BYTES: usize = 16;

/// The header of the file: magic, major and minor version, CRC-32 of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) major: u16,
    pub(super) minor: u16,
}

/// The header of a record: length, kind, CRC-32 of the contents, CRC-32 of these. The last one tells a damaged length
/// from a file that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) bytes: u32,
    pub(super) kind: u32,
    pub(super) checksum: u32,
}

/// A record that holds an exchange in the wire form.
pub(super) const KIND_EXCHANGE: u32 = 1;

/// The last record: a summary.
pub(super) const KIND_END: u32 = 2;

/// `N` bytes of `bytes` from `at`.
fn part<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut part = [0; N];
    for (to, from) in part.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    part
}

/// The first twelve bytes with their checksum behind them.
fn sealed(parts: [&[u8]; 3]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let checksum = parts.iter().fold(crc32fast::Hasher::new(), |mut hasher, part| {
        hasher.update(part);
        hasher
    });
    let checksum = checksum.finalize().to_le_bytes();
    let bytes = parts.into_iter().flatten().chain(&checksum);
    for (to, from) in header.iter_mut().zip(bytes) {
        *to = *from;
    }
    header
}

fn is_sealed(header: &[u8; HEADER_BYTES]) -> bool {
    let checksum = crc32fast::hash(&part::<12>(header, 0));
    part(header, 12) == checksum.to_le_bytes()
}

// === impl FileHeader ===

impl FileHeader {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        sealed([&MAGIC, &self.major.to_le_bytes(), &self.minor.to_le_bytes()])
    }

    /// `None` when it does not begin with [`MAGIC`], or its checksum is not right.
    pub(super) fn from_bytes(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let whole = header.starts_with(&MAGIC) && is_sealed(header);
        whole.then(|| Self {
            major: u16::from_le_bytes(part(header, 8)),
            minor: u16::from_le_bytes(part(header, 10)),
        })
    }
}

// === impl RecordHeader ===

impl RecordHeader {
    /// `None` when there are more bytes than a record can have.
    pub(super) fn of(kind: u32, contents: &[u8]) -> Option<Self> {
        let bytes = u32::try_from(contents.len()).ok()?;
        Some(Self { bytes, kind, checksum: crc32fast::hash(contents) })
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        sealed([&self.bytes.to_le_bytes(), &self.kind.to_le_bytes(), &self.checksum.to_le_bytes()])
    }

    /// `None` when its checksum is not right.
    pub(super) fn from_bytes(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        is_sealed(header).then(|| Self {
            bytes: u32::from_le_bytes(part(header, 0)),
            kind: u32::from_le_bytes(part(header, 4)),
            checksum: u32::from_le_bytes(part(header, 8)),
        })
    }
}
