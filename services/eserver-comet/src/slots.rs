//! [`Slots`]: which places of a chunked store are taken. [`Slab`]: such a store of records.
//!
//! Chunks never move: growing by one record copies no others, and a chunk whose last record left is
//! given back. Newcomers get the lowest free place, so that the high chunks empty out after a crowd
//! has gone.

/// Places per chunk.
pub(crate) const CHUNK_SLOTS: usize = 512;
const WORDS: usize = CHUNK_SLOTS / 64;

/// A list that is filled and emptied again and again keeps room for so many; what a crowd made it
/// grow by is given back.
pub(crate) const KEPT_MAX: usize = 1024;

/// "No slot", in links.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Default)]
struct Chunk {
    /// One bit per place, set while it is taken.
    taken: [u64; WORDS],
    live: u16,
}

/// Deals out numbers, lowest first.
#[derive(Default)]
pub(crate) struct Slots {
    chunks: Vec<Chunk>,
    /// One bit per chunk, set while it has a free place.
    open: Vec<u64>,
    live: usize,
}

impl Slots {
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn take(&mut self) -> u32 {
        let word = self.open.iter().position(|word| *word != 0).unwrap_or_else(|| {
            self.chunks.resize(self.chunks.len() + 64, Chunk::default());
            self.open.push(u64::MAX);
            self.open.len() - 1
        });
        let at = word * 64 + self.open[word].trailing_zeros() as usize;
        let chunk = &mut self.chunks[at];
        let word = chunk.taken.iter().position(|word| *word != u64::MAX);
        let word = word.expect("an open chunk has a free place");
        let index = word * 64 + chunk.taken[word].trailing_ones() as usize;
        chunk.taken[word] |= 1 << (index % 64);
        chunk.live += 1;
        if usize::from(chunk.live) == CHUNK_SLOTS {
            self.open[at / 64] &= !(1 << (at % 64));
        }
        self.live += 1;
        (at * CHUNK_SLOTS + index) as u32
    }

    /// Gives `slot` back; true when its chunk has none left and may go.
    pub(crate) fn give(&mut self, slot: u32) -> bool {
        let (at, index) = split(slot);
        let chunk = &mut self.chunks[at];
        debug_assert!(chunk.taken[index / 64] & (1 << (index % 64)) != 0, "slot {slot} is free");
        chunk.taken[index / 64] &= !(1 << (index % 64));
        chunk.live -= 1;
        self.open[at / 64] |= 1 << (at % 64);
        self.live -= 1;
        let is_empty = chunk.live == 0;
        if self.live == 0 && self.open.len() > 1 {
            *self = Slots::default();
        }
        is_empty
    }
}

/// Forgets the chunk at `at`, which is empty. The lowest one stays: a lone record that comes and
/// goes allocates nothing. When all others are gone, so is the list of them: a small block high up
/// can keep an allocator from giving back what is below it.
pub(crate) fn drop_chunk<T>(chunks: &mut Vec<Option<T>>, at: usize, is_last: bool) {
    if at > 0 {
        chunks[at] = None;
    }
    if is_last && chunks.len() > 64 {
        *chunks = vec![chunks[0].take()];
    }
}

/// The chunk of a slot, and its place there.
pub(crate) fn split(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK_SLOTS, slot as usize % CHUNK_SLOTS)
}

/// Records by slot. A slot is used again once its record is removed.
pub(crate) struct Slab<T> {
    slots: Slots,
    chunks: Vec<Option<Box<[Option<T>]>>>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { slots: Slots::default(), chunks: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The end of the slots that are taken.
    pub(crate) fn end(&self) -> u32 {
        (self.chunks.len() * CHUNK_SLOTS) as u32
    }

    pub(crate) fn insert(&mut self, record: T) -> u32 {
        let slot = self.slots.take();
        let (at, index) = split(slot);
        if at >= self.chunks.len() {
            self.chunks.resize_with(at + 1, || None);
        }
        let chunk = self.chunks[at]
            .get_or_insert_with(|| std::iter::repeat_with(|| None).take(CHUNK_SLOTS).collect());
        chunk[index] = Some(record);
        slot
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        let (at, index) = split(slot);
        self.chunks.get(at)?.as_ref()?[index].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let (at, index) = split(slot);
        self.chunks.get_mut(at)?.as_mut()?[index].as_mut()
    }

    /// The record at `slot`, which its holder knows to be there.
    #[inline]
    pub(crate) fn at(&self, slot: u32) -> &T {
        self.get(slot).expect("the holder of a slot gives it back before its record goes")
    }

    /// [`Slab::at`] to change it.
    #[inline]
    pub(crate) fn at_mut(&mut self, slot: u32) -> &mut T {
        self.get_mut(slot).expect("the holder of a slot gives it back before its record goes")
    }

    /// Gives back what an empty slab keeps.
    pub(crate) fn trim(&mut self) {
        if self.len() == 0 {
            *self = Slab::new();
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let (at, index) = split(slot);
        let record = self.chunks.get_mut(at)?.as_mut()?[index].take()?;
        if self.slots.give(slot) {
            drop_chunk(&mut self.chunks, at, self.slots.len() == 0);
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn records_stay_where_they_are_and_chunks_go_when_empty() {
        let (mut slab, mut model) = (Slab::new(), BTreeMap::new());
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..8_000_u32 {
            if random.u32(0..8_000) > round {
                let lowest = (0..).find(|slot| !model.contains_key(slot));
                let slot = slab.insert(round);
                assert_eq!(Some(slot), lowest);
                model.insert(slot, round);
            } else if let Some(&slot) = model.keys().nth(random.usize(0..model.len().max(1))) {
                assert_eq!(slab.remove(slot), model.remove(&slot));
                assert_eq!(slab.get(slot), None);
            }
            if round % 1000 == 0 {
                for (slot, record) in &model {
                    assert_eq!(slab.at(*slot), record);
                }
            }
            assert_eq!(slab.len(), model.len());
        }
        for slot in model.into_keys() {
            slab.remove(slot);
        }
        assert!(slab.chunks.iter().flatten().count() <= 1);
        slab.trim();
        assert!(slab.chunks.is_empty());
        assert_eq!(slab.insert(1), 0);
    }
}
