//! `Index`: one small entry per message, and no payload.
//!
//! Messages come and mostly go in order, so the entries from the oldest message to the newest stand
//! in a ring, found by subtraction. A few old messages, buried or leased for long, would make that
//! ring as long as all that was put since: they move to an ordered map, the stragglers.

use std::collections::{BTreeMap, VecDeque};

use crate::Seq;
use crate::log::place::Place;
use crate::log::record::{self, ALIGNMENT};

/// What a message is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// It is gone, or never was.
    Removed,
    /// It can be taken.
    Ready,
    /// It can be taken later.
    Delayed,
    /// A consumer has it for a while.
    Leased,
    /// It is set aside.
    Buried,
    /// Its record was lost to damage, and no record of its removal has been seen yet. Only while
    /// the log is being read.
    Missing,
}

/// How many kinds of [`Status`] there are.
pub(crate) const STATUSES: usize = 6;

/// A message: 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    segment: u32,
    /// In units of [`ALIGNMENT`], since the lowest bits of the offset are zeros.
    units: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) attempts: u16,
    pub(crate) status: Status,
}

const _: () = assert!(size_of::<Entry>() == 16, "a million messages are 16 MB");

impl Entry {
    pub(crate) fn new(place: Place, payload_bytes: u32, status: Status) -> Self {
        let units = place.offset / ALIGNMENT as u32;
        Self { segment: place.segment, units, payload_bytes, attempts: 0, status }
    }

    pub(crate) fn place(&self) -> Place {
        Place { segment: self.segment, offset: self.units * ALIGNMENT as u32 }
    }

    /// Bytes of log that the payload alone accounts for.
    pub(crate) fn record_bytes(&self) -> u64 {
        record::record_bytes(self.payload_bytes as usize) as u64
    }
}

/// The ring is never searched for stragglers while it is shorter than this, in entries.
const RING_MIN: usize = 1024;

/// Stragglers leave a ring of which less than one entry in so many is in use.
const RING_SLACK: usize = 4;

/// The entries of all messages.
#[derive(Debug)]
pub(crate) struct Index {
    ring: VecDeque<Entry>,
    /// The number of the ring's first entry. The entry after its last is the next put's.
    first: u64,
    /// Entries of the ring that are not removed.
    ring_used: usize,
    /// Messages older than the ring.
    stragglers: BTreeMap<Seq, Entry>,
}

impl Index {
    pub(crate) fn new(next: Seq) -> Self {
        let first = next.get();
        Self { ring: VecDeque::new(), first, ring_used: 0, stragglers: BTreeMap::new() }
    }

    /// The number that the next put takes.
    pub(crate) fn next(&self) -> Seq {
        Seq::new(self.first + self.ring.len() as u64)
    }

    /// Every message before this is a straggler.
    pub(crate) fn ring_first(&self) -> Seq {
        Seq::new(self.first)
    }

    /// Starts an empty index at `next`.
    pub(crate) fn start_at(&mut self, next: Seq) {
        debug_assert!(self.ring.is_empty(), "numbers are not given twice");
        self.first = next.get();
    }

    /// Appends the entry of [`Index::next`].
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        self.ring_used += usize::from(entry.status != Status::Removed);
        self.ring.push_back(entry);
    }

    /// The entry of a message that is there.
    #[inline]
    pub(crate) fn get(&self, seq: Seq) -> Option<&Entry> {
        let entry = match seq.get().checked_sub(self.first) {
            Some(at) => self.ring.get(usize::try_from(at).ok()?),
            None => self.stragglers.get(&seq),
        };
        entry.filter(|entry| entry.status != Status::Removed)
    }

    /// The entry of a message that is there, to change all but whether it is there.
    #[inline]
    pub(crate) fn get_mut(&mut self, seq: Seq) -> Option<&mut Entry> {
        let entry = match seq.get().checked_sub(self.first) {
            Some(at) => self.ring.get_mut(usize::try_from(at).ok()?),
            None => self.stragglers.get_mut(&seq),
        };
        entry.filter(|entry| entry.status != Status::Removed)
    }

    /// Takes a message out.
    #[inline]
    pub(crate) fn remove(&mut self, seq: Seq) -> Option<Entry> {
        let Some(at) = seq.get().checked_sub(self.first) else {
            return self.stragglers.remove(&seq);
        };
        let entry = self.ring.get_mut(usize::try_from(at).ok()?)?;
        if entry.status == Status::Removed {
            return None;
        }
        let removed = *entry;
        entry.status = Status::Removed;
        self.ring_used -= 1;
        Some(removed)
    }

    /// Puts a message into a place that has none: one that is older than the log's first put.
    pub(crate) fn insert(&mut self, seq: Seq, entry: Entry) {
        match seq.get().checked_sub(self.first) {
            Some(at) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                if let Some(slot) = self.ring.get_mut(at) {
                    self.ring_used += usize::from(slot.status == Status::Removed);
                    *slot = entry;
                }
            }
            None => {
                self.stragglers.insert(seq, entry);
            }
        }
    }

    /// Drops removed entries from the front of the ring; hands out each message that became a
    /// straggler on the way. To be called until it returns `None`.
    pub(crate) fn trim(&mut self) -> Option<(Seq, Entry)> {
        while let Some(&front) = self.ring.front() {
            let straggles =
                self.ring.len() > RING_MIN && self.ring.len() / RING_SLACK > self.ring_used;
            if front.status != Status::Removed && !straggles {
                break;
            }
            let seq = Seq::new(self.first);
            self.ring.pop_front();
            self.first += 1;
            if front.status != Status::Removed {
                self.ring_used -= 1;
                self.stragglers.insert(seq, front);
                return Some((seq, front));
            }
        }
        if self.ring.capacity() > 64 * RING_MIN && self.ring.len() < self.ring.capacity() / 8 {
            self.ring.shrink_to(self.ring.capacity() / 4);
        }
        None
    }

    /// The oldest message that is there.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        self.iter_from(Seq::new(0)).next().map(|(seq, _)| seq)
    }

    /// The messages that are there, from `from` on, in order.
    pub(crate) fn iter_from(&self, from: Seq) -> impl Iterator<Item = (Seq, &Entry)> {
        let skipped = from.get().saturating_sub(self.first);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(self.ring.len());
        let ring = self
            .ring
            .range(skipped..)
            .enumerate()
            .map(move |(at, entry)| (Seq::new(self.first + (skipped + at) as u64), entry));
        let stragglers = self.stragglers.range(from..).map(|(&seq, entry)| (seq, entry));
        stragglers.chain(ring).filter(|(_, entry)| entry.status != Status::Removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(status: Status) -> Entry {
        Entry::new(Place::default(), 1, status)
    }

    #[test]
    fn old_messages_do_not_hold_the_ring() {
        let mut index = Index::new(Seq::FIRST);
        let mut stragglers = Vec::new();
        for number in 1..=100_000 {
            index.push(entry(Status::Ready));
            if number % 1000 != 0 {
                index.remove(Seq::new(number)).unwrap();
            }
            stragglers.extend(std::iter::from_fn(|| index.trim()).map(|(seq, _)| seq.get()));
        }
        assert!(index.ring.len() <= RING_MIN + RING_SLACK * 1000, "{}", index.ring.len());
        assert!(stragglers.is_sorted() && stragglers.len() > 90, "{stragglers:?}");
        let kept: Vec<_> = index.iter_from(Seq::new(0)).map(|(seq, _)| seq.get()).collect();
        assert_eq!(kept, (1..=100).map(|number| number * 1000).collect::<Vec<_>>());
        for number in kept {
            assert!(index.get(Seq::new(number)).is_some());
            assert!(index.remove(Seq::new(number)).is_some());
            assert!(index.remove(Seq::new(number)).is_none());
        }
        while index.trim().is_some() {}
        assert_eq!((index.ring.len(), index.oldest()), (0, None));
        assert_eq!(index.next(), Seq::new(100_001));
    }
}
