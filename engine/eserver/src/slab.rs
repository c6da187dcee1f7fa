//! [`Slab`]: where a shard keeps its connection records.
//!
//! Records live in chunks that never move: growing by one connection never copies the others, and a
//! chunk whose last record left is given back to the allocator. New records fill the lowest chunk
//! with room, so that after a crowd has gone the high chunks empty out.

/// Records per chunk. With a 72-byte record a chunk is 36 KiB.
const CHUNK_SLOTS: usize = 512;
const WORDS: usize = CHUNK_SLOTS / 64;

struct Chunk<T> {
    /// One bit per slot, set while it is taken.
    taken: [u64; WORDS],
    live: u32,
    slots: Box<[Option<(u32, T)>]>,
}

impl<T> Chunk<T> {
    fn new() -> Self {
        let slots = std::iter::repeat_with(|| None).take(CHUNK_SLOTS).collect();
        Chunk { taken: [0; WORDS], live: 0, slots }
    }

    fn lowest_free(&self) -> Option<usize> {
        let word = self.taken.iter().position(|word| *word != u64::MAX)?;
        Some(word * 64 + self.taken[word].trailing_ones() as usize)
    }
}

/// Generational storage with stable places: `(slot, generation)` finds a record or nothing.
pub(crate) struct Slab<T> {
    chunks: Vec<Option<Chunk<T>>>,
    /// One bit per chunk, set while it has a free slot or does not exist.
    open: Vec<u64>,
    /// Counts insertions; never 0 in a record.
    generation: u32,
    live: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { chunks: Vec::new(), open: Vec::new(), generation: 0, live: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Stores what `make` builds for its `(slot, generation)`.
    pub(crate) fn insert(&mut self, make: impl FnOnce(u32, u32) -> T) -> (u32, u32) {
        let at = self.open_chunk();
        let chunk = self.chunks[at].get_or_insert_with(Chunk::new);
        let index = chunk.lowest_free().expect("an open chunk has a free slot");
        // Neither 0 nor the generation that marks what is not a connection.
        self.generation = self.generation % (u32::MAX - 1) + 1;
        let slot = u32::try_from(at * CHUNK_SLOTS + index).expect("descriptors run out first");
        chunk.slots[index] = Some((self.generation, make(slot, self.generation)));
        chunk.taken[index / 64] |= 1 << (index % 64);
        chunk.live += 1;
        self.live += 1;
        if chunk.live as usize == CHUNK_SLOTS {
            self.open[at / 64] &= !(1 << (at % 64));
        }
        (slot, self.generation)
    }

    /// The record at `slot` if it is still of that `generation`.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32, generation: u32) -> Option<&mut T> {
        match self.entry_mut(slot) {
            Some((held, record)) if *held == generation => Some(record),
            _ => None,
        }
    }

    /// The record at `slot`, whatever its generation.
    #[inline]
    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.entry_mut(slot).map(|(_, record)| record)
    }

    /// The generation of the record at `slot`.
    pub(crate) fn generation(&mut self, slot: u32) -> Option<u32> {
        self.entry_mut(slot).map(|(generation, _)| *generation)
    }

    #[inline]
    fn entry_mut(&mut self, slot: u32) -> Option<&mut (u32, T)> {
        let (at, index) = (slot as usize / CHUNK_SLOTS, slot as usize % CHUNK_SLOTS);
        self.chunks.get_mut(at)?.as_mut()?.slots[index].as_mut()
    }

    /// Takes the record out; its chunk goes too when it was the last one there.
    pub(crate) fn remove(&mut self, slot: u32, generation: u32) -> Option<T> {
        let (at, index) = (slot as usize / CHUNK_SLOTS, slot as usize % CHUNK_SLOTS);
        let chunk = self.chunks.get_mut(at)?.as_mut()?;
        if chunk.slots[index].as_ref().is_none_or(|(held, _)| *held != generation) {
            return None;
        }
        let (_, record) = chunk.slots[index].take()?;
        chunk.taken[index / 64] &= !(1 << (index % 64));
        chunk.live -= 1;
        self.live -= 1;
        self.open[at / 64] |= 1 << (at % 64);
        // The lowest chunk stays: a lone client that comes and goes allocates nothing.
        if chunk.live == 0 && at > 0 {
            self.chunks[at] = None;
        }
        Some(record)
    }

    /// Gives back what an empty slab keeps.
    pub(crate) fn trim(&mut self) {
        if self.live == 0 {
            (self.chunks, self.open) = (Vec::new(), Vec::new());
        }
    }

    /// The `(slot, generation)` of every record: for shutdown and tests, never per turn.
    pub(crate) fn keys(&self) -> Vec<(u32, u32)> {
        let mut keys = Vec::with_capacity(self.live);
        for (at, chunk) in self.chunks.iter().enumerate() {
            for (index, entry) in chunk.iter().flat_map(|chunk| chunk.slots.iter().enumerate()) {
                if let Some((generation, _)) = entry {
                    keys.push(((at * CHUNK_SLOTS + index) as u32, *generation));
                }
            }
        }
        keys
    }

    fn open_chunk(&mut self) -> usize {
        if let Some(word) = self.open.iter().position(|word| *word != 0) {
            return word * 64 + self.open[word].trailing_zeros() as usize;
        }
        // A whole word of chunks that do not exist yet: 64 empty places, 32,768 connections.
        let at = self.chunks.len();
        self.chunks.resize_with(at + 64, || None);
        self.open.push(u64::MAX);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::new();
        let (slot, first) = slab.insert(|_, _| 'a');
        assert_eq!(slab.remove(slot, first), Some('a'));
        let (again, second) = slab.insert(|_, _| 'b');
        assert_eq!(again, slot, "the slot is used again");
        assert_eq!(slab.get_mut(slot, first), None);
        assert_eq!(slab.remove(slot, first), None);
        assert_eq!(slab.get_mut(slot, second), Some(&mut 'b'));
    }

    #[test]
    fn chunks_come_and_go_and_records_stay() {
        let mut slab = Slab::new();
        let mut model = HashMap::new();
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..40_000_u32 {
            // Grow to some thousands, then shrink to none.
            if random.u32(0..40_000) > round {
                let key = slab.insert(|_, _| round);
                assert_eq!(model.insert(key, round), None);
            } else if let Some(key) = model.keys().next().copied() {
                assert_eq!(slab.remove(key.0, key.1), model.remove(&key));
            }
            assert_eq!(slab.len(), model.len());
        }
        for (key, value) in &model {
            assert_eq!(slab.get_mut(key.0, key.1), Some(&mut value.clone()));
        }
        let mut keys = slab.keys();
        keys.sort_unstable();
        let mut expected: Vec<_> = model.keys().copied().collect();
        expected.sort_unstable();
        assert_eq!(keys, expected);
        for key in expected {
            slab.remove(key.0, key.1);
        }
        let held = slab.chunks.iter().flatten().count();
        assert!(held <= 1, "{held} chunks are held by an empty slab");
        slab.trim();
        assert!(slab.chunks.is_empty());
        let (slot, _) = slab.insert(|_, _| 1);
        assert_eq!(slot, 0);
    }

    #[test]
    fn the_lowest_free_slot_is_taken_first() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..CHUNK_SLOTS + 10).map(|n| slab.insert(|_, _| n)).collect();
        slab.remove(keys[700 - 200].0, keys[500].1);
        slab.remove(keys[3].0, keys[3].1);
        assert_eq!(slab.insert(|_, _| 0).0, 3);
        assert_eq!(slab.insert(|_, _| 0).0, 500);
        assert_eq!(slab.insert(|_, _| 0).0 as usize, CHUNK_SLOTS + 10);
    }
}
