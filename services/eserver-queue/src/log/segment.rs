//! A segment: one file of the log, of a fixed size, and the header it starts with.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic |
//! | 8..12 | format version |
//! | 12..16 | bytes of the segment, a power of two |
//! | 16..32 | identity of the queue, random |
//! | 32..36 | number of the segment; each next one in the log has the next number |
//! | 36..40 | number of the oldest segment that mattered when this one was started |
//! | 40..48 | the sequence number that the next put had then |
//! | 48..52 | CRC-32C of bytes 0..48 |
//!
//! All little-endian. The header stands twice, at bytes 0 and 2048, and records start at byte
//! 4096. Readers refuse a version they do not know; a change of layout raises it.

/// Bytes of a segment before its first record.
pub(crate) const HEADER_BYTES: usize = 4096;

/// Where the second copy of the header stands, in bytes.
const COPY_AT: usize = HEADER_BYTES / 2;

/// Bytes of the header that mean something.
const ENCODED_BYTES: usize = 52;

const MAGIC: [u8; 8] = *b"eserverQ";

/// The format this crate reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// The segment's part in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) bytes: u32,
    pub(crate) identity: u128,
    pub(crate) number: u32,
    pub(crate) oldest: u32,
    pub(crate) next_seq: u64,
}

/// What the first [`HEADER_BYTES`] of a file are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// A header; `copies` of the two are intact and the same.
    Header { header: Header, copies: u8 },
    /// A header of a format that a later version writes.
    Newer(u32),
    /// Neither copy is one.
    None,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.identity.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.number.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.oldest.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.next_seq.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..48]);
        bytes[48..ENCODED_BYTES].copy_from_slice(&checksum.to_le_bytes());
        bytes.copy_within(..ENCODED_BYTES, COPY_AT);
        bytes
    }

    /// Reads both copies. They differ when a recycled file's new header was cut by a power cut;
    /// the newer one counts, since the older segment was not needed any more.
    pub(crate) fn decode(bytes: &[u8]) -> Decoded {
        let mut newest: Option<Self> = None;
        let mut copies = 0;
        for at in [0, COPY_AT] {
            match bytes.get(at..at + ENCODED_BYTES).map(Self::decode_copy) {
                Some(Ok(header)) if newest == Some(header) => copies += 1,
                Some(Ok(header)) if newest.is_none_or(|other| other.number < header.number) => {
                    newest = Some(header);
                    copies = 1;
                }
                Some(Err(Some(version))) => return Decoded::Newer(version),
                Some(Ok(_) | Err(None)) | None => {}
            }
        }
        newest.map_or(Decoded::None, |header| Decoded::Header { header, copies })
    }

    /// One copy, or the version if it is another than ours.
    fn decode_copy(bytes: &[u8]) -> Result<Self, Option<u32>> {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..8] != MAGIC || u32_at(48) != crc32c::crc32c(&bytes[..48]) {
            return Err(None);
        }
        if u32_at(8) != FORMAT_VERSION {
            return Err(Some(u32_at(8)));
        }
        let header = Self {
            bytes: u32_at(12),
            identity: u128::from(u64_at(16)) | u128::from(u64_at(24)) << 64,
            number: u32_at(32),
            oldest: u32_at(36),
            next_seq: u64_at(40),
        };
        let sane = header.bytes.is_power_of_two() && header.bytes as usize > HEADER_BYTES;
        if sane { Ok(header) } else { Err(None) }
    }
}

/// The seed of the records' checksums.
pub(crate) fn seed(identity: u128) -> u32 {
    crc32c::crc32c(&identity.to_le_bytes())
}

/// An open segment of the log.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) file: F,
    pub(crate) bytes: u32,
    /// The sequence number that the next put had when it was started: messages before this were
    /// put into older segments.
    pub(crate) next_seq: u64,
    /// Bytes that records reach to, written or about to be.
    pub(crate) end: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header =
        Header { bytes: 1 << 20, identity: 7 << 64 | 9, number: 3, oldest: 2, next_seq: 1 << 40 };

    #[test]
    fn survives_the_loss_of_one_copy() {
        let bytes = HEADER.encode();
        assert_eq!(Header::decode(&bytes), Decoded::Header { header: HEADER, copies: 2 });
        for at in 0..ENCODED_BYTES {
            for copy in [0, COPY_AT] {
                let mut bytes = bytes;
                bytes[copy + at] ^= 0x10;
                assert_eq!(Header::decode(&bytes), Decoded::Header { header: HEADER, copies: 1 });
            }
        }
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), Decoded::None);
        assert_eq!(Header::decode(&bytes[..40]), Decoded::None);
    }

    #[test]
    fn the_newer_of_two_different_copies_counts() {
        let newer = Header { number: 8, ..HEADER };
        let mut bytes = HEADER.encode();
        bytes[COPY_AT..].copy_from_slice(&newer.encode()[COPY_AT..]);
        assert_eq!(Header::decode(&bytes), Decoded::Header { header: newer, copies: 1 });
        let mut bytes = newer.encode();
        bytes[COPY_AT..].copy_from_slice(&HEADER.encode()[COPY_AT..]);
        assert_eq!(Header::decode(&bytes), Decoded::Header { header: newer, copies: 1 });
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..48]);
        bytes[48..52].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Decoded::Newer(2));
    }
}
