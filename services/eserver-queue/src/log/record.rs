//! The record, unit of the log: a 24-byte header, a body, and zeros up to the next multiple of 8.
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | CRC-32C of bytes 4.. up to the end of the body, continued from the queue's seed |
//! | 4..8 | kind and `starts_epoch` in the low byte, the body's length in the upper three |
//! | 8..12 | the number of the segment it was written to |
//! | 12..16 | the epoch: how many times this segment was synced before it was written, plus 1 |
//! | 16..24 | the sequence number, or the one number that the kind is about |
//!
//! All little-endian. The seed is random and never leaves the data directory, so a payload that
//! imitates a record does not become one when its own record is torn. The segment number tells a
//! record from one that stood in the same file before it was recycled. The epoch tells damage from
//! a torn tail: a record of a later epoch was written after what stands before it had been synced.
//! To change the format, add a kind; to change the header, raise the version in `segment.rs`.

/// Bytes of a record before its body.
pub(crate) const HEADER_BYTES: usize = 24;

/// Records start at multiples of this, in bytes.
pub(crate) const ALIGNMENT: usize = 8;

/// The longest body that the length field can say, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = (1 << 24) - 1;

/// The flag of the first record after a sync, beside the kind.
const STARTS_EPOCH: u8 = 0x80;

/// What a record says. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A message: the body is its payload.
    Put = 1,
    /// A message for later: the due time, then its payload.
    PutDelayed = 2,
    /// Messages that are gone: this one, or as many from it on as the body says.
    Remove = 3,
    /// Messages that a consumer took for a while: as many as for `Remove`.
    Reserve = 4,
    /// A message given back; the body is its due time if it has one.
    Release = 5,
    /// A message set aside; the body is the reason.
    Bury = 6,
    /// A buried or delayed message put back in its place.
    Kick = 7,
    /// A message written again, with all that is known about it; see `Moved`.
    Move = 8,
    /// The number of the oldest segment that still matters.
    Oldest = 9,
    /// The time of the puts that follow, in milliseconds.
    Clock = 10,
    /// The server opened the queue here.
    Restart = 11,
    /// The server closed the queue here.
    CleanEnd = 12,
    /// The log goes on in the next segment.
    SegmentEnd = 13,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Put,
        Self::PutDelayed,
        Self::Remove,
        Self::Reserve,
        Self::Release,
        Self::Bury,
        Self::Kick,
        Self::Move,
        Self::Oldest,
        Self::Clock,
        Self::Restart,
        Self::CleanEnd,
        Self::SegmentEnd,
    ];

    fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// What stands in front of a body, its checksum apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) starts_epoch: bool,
    /// At most [`BODY_BYTES_MAX`].
    pub(crate) body_bytes: u32,
    pub(crate) segment: u32,
    pub(crate) epoch: u32,
    pub(crate) number: u64,
}

impl Header {
    /// The header with a checksum of zero, for [`seal`] to fill in.
    #[inline]
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let flag = if self.starts_epoch { STARTS_EPOCH } else { 0 };
        let mut bytes = [0; HEADER_BYTES];
        bytes[4..8].copy_from_slice(
            &(self.body_bytes << 8 | u32::from(self.kind as u8 | flag)).to_le_bytes(),
        );
        bytes[8..12].copy_from_slice(&self.segment.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads a header without checking anything but its kind.
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let tag = u32_at(bytes, 4);
        let [low, ..] = tag.to_le_bytes();
        Some(Self {
            kind: Kind::of(low & !STARTS_EPOCH)?,
            starts_epoch: low & STARTS_EPOCH != 0,
            body_bytes: tag >> 8,
            segment: u32_at(bytes, 8),
            epoch: u32_at(bytes, 12),
            number: u64_at(bytes, 16),
        })
    }

    /// Bytes from this record's start to the next one's.
    pub(crate) fn record_bytes(&self) -> usize {
        record_bytes(self.body_bytes as usize)
    }
}

/// Bytes that a record with such a body takes in the log.
#[inline]
pub(crate) const fn record_bytes(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// Writes the checksum of the record that `record` is, padding excluded.
#[inline]
pub(crate) fn seal(record: &mut [u8], seed: u32) {
    let checksum = crc32c::crc32c_append(seed, &record[4..]);
    record[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// The record that stands at the front of `bytes`, if one does and it is intact.
pub(crate) fn decode(bytes: &[u8], seed: u32) -> Option<(Header, &[u8])> {
    let header = Header::decode(bytes.first_chunk()?)?;
    let end = HEADER_BYTES + header.body_bytes as usize;
    let checked = bytes.get(4..end)?;
    let checksum = u32_at(bytes.first_chunk()?, 0);
    (crc32c::crc32c_append(seed, checked) == checksum).then(|| (header, &bytes[HEADER_BYTES..end]))
}

/// What `bytes` claim to be, checksum or not: how far a torn record would have reached.
pub(crate) fn claim(bytes: &[u8]) -> Option<Header> {
    Header::decode(bytes.first_chunk()?)
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(header: &Header, body: &[u8], seed: u32) -> Vec<u8> {
        let mut record = header.encode().to_vec();
        record.extend_from_slice(body);
        seal(&mut record, seed);
        record.resize(record_bytes(body.len()), 0);
        record
    }

    #[test]
    fn golden_bytes() {
        let header = Header {
            kind: Kind::Put,
            starts_epoch: true,
            body_bytes: 3,
            segment: 0x0102_0304,
            epoch: 5,
            number: 0x1122_3344_5566_7788,
        };
        let record = encode(&header, b"abc", 0);
        assert_eq!(
            record[4..],
            *b"\x81\x03\0\0\x04\x03\x02\x01\x05\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11abc\0\0\0\0\0"
        );
        assert_eq!(record[..4], crc32c::crc32c(&record[4..27]).to_le_bytes());
        assert_eq!(decode(&record, 0), Some((header, &b"abc"[..])));
        assert_eq!(decode(&record, 1), None, "another queue's record");
    }

    proptest! {
        #[test]
        fn a_changed_or_cut_record_is_none(
            body in prop::collection::vec(any::<u8>(), 0..64), seed: u32, number: u64,
            kind in 1..=13_u8, starts_epoch: bool, flip in 0_usize..88, bit in 0..8,
        ) {
            let header = Header {
                kind: Kind::of(kind).unwrap(),
                starts_epoch,
                body_bytes: body.len() as u32,
                segment: number as u32,
                epoch: !number as u32,
                number,
            };
            let mut record = encode(&header, &body, seed);
            prop_assert_eq!(record.len(), header.record_bytes());
            prop_assert_eq!(decode(&record, seed), Some((header, &body[..])));
            let bytes = HEADER_BYTES + body.len();
            for end in 0..bytes {
                prop_assert_eq!(decode(&record[..end], seed), None);
            }
            record[flip % bytes] ^= 1_u8 << bit;
            prop_assert_eq!(decode(&record, seed), None);
        }
    }
}
