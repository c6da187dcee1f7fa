//! `ReadAhead`: payloads come back from disk in large pieces, since they leave in order.

use std::io;

use crate::disk::DiskFile;
use crate::log::place::Place;
use crate::log::record::{self, Header};
use crate::log::segment::Segment;

/// Bytes read at once, unless a record is longer.
const CHUNK_BYTES: usize = 128 << 10;

/// A stretch of one segment. Segment numbers are used once, so it never goes stale; it may only
/// end too early.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    from: Place,
    bytes: Vec<u8>,
}

impl ReadAhead {
    /// The record at `place`, which is on disk; `None` when what stands there is damaged. Records
    /// reach up to `end` in the segment.
    pub(crate) fn read<F: DiskFile>(
        &mut self,
        segment: &Segment<F>,
        place: Place,
        end: u32,
        seed: u32,
    ) -> io::Result<Option<(Header, &[u8])>> {
        if self.at(place, seed).is_none() {
            self.fill(segment, place, end, CHUNK_BYTES)?;
            let claimed = record::claim(&self.bytes).map_or(0, |header| header.record_bytes());
            if claimed > self.bytes.len() {
                self.fill(segment, place, end, claimed)?;
            }
        }
        Ok(self.at(place, seed))
    }

    #[inline]
    fn at(&self, place: Place, seed: u32) -> Option<(Header, &[u8])> {
        if self.from.segment != place.segment {
            return None;
        }
        let at = place.offset.checked_sub(self.from.offset)? as usize;
        let found = record::decode(self.bytes.get(at..)?, seed);
        found.filter(|(header, _)| header.segment == place.segment)
    }

    fn fill<F: DiskFile>(
        &mut self,
        segment: &Segment<F>,
        place: Place,
        end: u32,
        bytes: usize,
    ) -> io::Result<()> {
        let most = end.saturating_sub(place.offset) as usize;
        self.bytes.resize(bytes.min(most), 0);
        self.from = Place::default();
        let read = segment.file.read_up_to(&mut self.bytes, u64::from(place.offset))?;
        self.bytes.truncate(read);
        self.from = place;
        Ok(())
    }
}
