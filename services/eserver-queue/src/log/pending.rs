//! `Pending`: records that are in the log already and not on disk yet.
//!
//! Everything between two commits lies in one buffer, laid out as it will be on disk, so that a
//! commit is one write per segment it touches. The newest record stays open: its checksum is
//! computed when the next one comes, and until then a run of removals or reservations can grow.

use crate::log::place::Place;
use crate::log::record::{self, HEADER_BYTES, Header, Kind};

/// A buffer that grew past this is given back after the commit, in bytes.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Zeros behind the newest record, so that a reader of a recycled file sees an end there, in bytes.
const TERMINATOR_BYTES: usize = HEADER_BYTES;

/// Bytes that a run's count takes in the body.
pub(crate) const COUNT_BYTES: usize = 8;

/// Records between two commits.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    buffer: Vec<u8>,
    chunks: Vec<Chunk>,
    open: Option<Open>,
    seed: u32,
}

/// A stretch of the buffer that goes to one segment.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    to: Place,
    /// Where it starts in the buffer.
    start: usize,
}

/// The newest record, not sealed yet.
#[derive(Debug, Clone, Copy)]
struct Open {
    start: usize,
    header: Header,
    count: u64,
}

impl Pending {
    pub(crate) fn new(seed: u32) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// What follows goes to `to`, starting with `front`.
    pub(crate) fn start_chunk(&mut self, to: Place, front: &[u8]) {
        self.seal();
        self.chunks.push(Chunk { to, start: self.buffer.len() });
        self.buffer.extend_from_slice(front);
    }

    /// Appends a record whose body `write` appends; returns the bytes it takes in the log.
    #[inline]
    pub(crate) fn push(&mut self, mut header: Header, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.seal();
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
        write(&mut self.buffer);
        let body_bytes = self.buffer.len() - start - HEADER_BYTES;
        debug_assert!(body_bytes <= record::BODY_BYTES_MAX, "callers check the bound");
        header.body_bytes = body_bytes as u32;
        self.buffer[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
        self.buffer.resize(start + header.record_bytes(), 0);
        self.open = Some(Open { start, header, count: 1 });
        header.record_bytes()
    }

    /// Makes the newest record cover `number` too, if it is a run of `kind` that ends just before.
    /// Returns the bytes by which it grew, at most [`COUNT_BYTES`].
    #[inline]
    pub(crate) fn extend_run(&mut self, kind: Kind, number: u64) -> Option<usize> {
        let open = self.open.as_mut()?;
        if open.header.kind != kind || open.header.number + open.count != number {
            return None;
        }
        open.count += 1;
        let start = open.start;
        let body = start + HEADER_BYTES..start + HEADER_BYTES + COUNT_BYTES;
        let grown = COUNT_BYTES - open.header.body_bytes as usize;
        if grown > 0 {
            open.header.body_bytes = COUNT_BYTES as u32;
            self.buffer.resize(body.end, 0);
            self.buffer[start..body.start].copy_from_slice(&open.header.encode());
        }
        self.buffer[body].copy_from_slice(&open.count.to_le_bytes());
        Some(grown)
    }

    /// Computes the checksum of the newest record.
    #[inline]
    pub(crate) fn seal(&mut self) {
        if let Some(Open { start, header, .. }) = self.open.take() {
            let end = start + HEADER_BYTES + header.body_bytes as usize;
            record::seal(&mut self.buffer[start..end], self.seed);
        }
    }

    /// Ends the last chunk with zeros, as far as its segment has `room` for them.
    pub(crate) fn terminate(&mut self, room: usize) {
        self.seal();
        let zeros = TERMINATOR_BYTES.min(room);
        self.buffer.resize(self.buffer.len() + zeros, 0);
    }

    /// The chunks, oldest first, and where each goes.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = (Place, &[u8])> {
        let ends = self.chunks.iter().skip(1).map(|chunk| chunk.start);
        let ends = ends.chain([self.buffer.len()]);
        self.chunks.iter().zip(ends).map(|(chunk, end)| (chunk.to, &self.buffer[chunk.start..end]))
    }

    /// Where in `segment` the pending part begins, if it has one.
    pub(crate) fn starts_in(&self, segment: u32) -> Option<u32> {
        self.chunks.iter().find(|chunk| chunk.to.segment == segment).map(|chunk| chunk.to.offset)
    }

    /// The record at `place`, if it is pending.
    pub(crate) fn read(&self, place: Place) -> Option<(Header, &[u8])> {
        let chunk = self.chunks.iter().rev().find(|chunk| chunk.to.segment == place.segment)?;
        let start = chunk.start + place.offset.checked_sub(chunk.to.offset)? as usize;
        let header = record::claim(self.buffer.get(start..)?)?;
        let body = start + HEADER_BYTES;
        Some((header, self.buffer.get(body..body + header.body_bytes as usize)?))
    }

    /// Forgets everything: it is written, or never will be.
    pub(crate) fn clear(&mut self) {
        self.open = None;
        self.chunks.clear();
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
    }
}
