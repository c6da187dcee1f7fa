//! [`Names`]: the names of channels, each once, in places of its length rounded up to eight bytes.

use std::num::NonZeroU32;

use crate::channel_name::NAME_BYTES_MAX;
use crate::slots::{CHUNK_SLOTS, Slots, drop_chunk, split};

/// Where a name is kept. Never 0, so that a record with one costs nothing when it may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameRef(NonZeroU32);

const GRANULE_BYTES: usize = 8;
/// A place begins with the length of its name.
const LENGTH_BYTES: usize = 1;
const CLASSES: usize = (LENGTH_BYTES + NAME_BYTES_MAX).div_ceil(GRANULE_BYTES);
/// Bits of a reference that number a place of its class; the others tell the class.
const SLOT_BITS: u32 = 27;

const _: () = assert!(CLASSES <= 1 << (u32::BITS - SLOT_BITS) && NAME_BYTES_MAX <= 255);

/// Places of one size.
#[derive(Default)]
struct Class {
    slots: Slots,
    chunks: Vec<Option<Box<[u8]>>>,
}

pub(crate) struct Names {
    classes: Box<[Class]>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Names { classes: std::iter::repeat_with(Class::default).take(CLASSES).collect() }
    }

    pub(crate) fn insert(&mut self, name: &str) -> NameRef {
        let length = u8::try_from(name.len()).expect("a channel's name has a bound");
        let class = (LENGTH_BYTES + name.len()).div_ceil(GRANULE_BYTES) - 1;
        let size = (class + 1) * GRANULE_BYTES;
        let Class { slots, chunks } = &mut self.classes[class];
        let slot = slots.take();
        assert!(slot < 1 << SLOT_BITS, "memory runs out before places for names do");
        let (at, index) = split(slot);
        if at >= chunks.len() {
            chunks.resize_with(at + 1, || None);
        }
        let chunk = chunks[at].get_or_insert_with(|| vec![0; CHUNK_SLOTS * size].into());
        let place = &mut chunk[index * size..][..size];
        place[0] = length;
        place[LENGTH_BYTES..][..name.len()].copy_from_slice(name.as_bytes());
        NameRef(NonZeroU32::MIN.saturating_add((class as u32) << SLOT_BITS | slot))
    }

    /// Gives back what is kept for names of sizes that none has.
    pub(crate) fn trim(&mut self) {
        for class in self.classes.iter_mut().filter(|class| class.slots.len() == 0) {
            *class = Class::default();
        }
    }

    pub(crate) fn bytes(&self, name: NameRef) -> &[u8] {
        let (class, slot) = (name.class(), name.slot());
        let size = (class + 1) * GRANULE_BYTES;
        let (at, index) = split(slot);
        let chunk = self.classes[class].chunks[at].as_ref().expect("a reference is to a name");
        let place = &chunk[index * size..][..size];
        &place[LENGTH_BYTES..][..usize::from(place[0])]
    }

    pub(crate) fn get(&self, name: NameRef) -> &str {
        str::from_utf8(self.bytes(name)).expect("what was put in was text")
    }

    pub(crate) fn remove(&mut self, name: NameRef) {
        let Class { slots, chunks } = &mut self.classes[name.class()];
        let (at, _) = split(name.slot());
        if slots.give(name.slot()) {
            drop_chunk(chunks, at, slots.len() == 0);
        }
    }
}

impl NameRef {
    fn class(self) -> usize {
        ((self.0.get() - 1) >> SLOT_BITS) as usize
    }

    fn slot(self) -> u32 {
        (self.0.get() - 1) & ((1 << SLOT_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_length_come_back() {
        let mut names = Names::new();
        let all: Vec<String> = (0..=NAME_BYTES_MAX)
            .map(|length| "é".repeat(length / 2) + &"x".repeat(length % 2))
            .collect();
        let references: Vec<_> = all.iter().map(|name| names.insert(name)).collect();
        for (name, reference) in all.iter().zip(&references) {
            assert_eq!(names.get(*reference), name);
        }
        names.remove(references[7]);
        names.remove(references[5]);
        names.trim();
        assert_eq!(names.insert("it is"), references[5], "it is the only one of its size again");
        assert_eq!(names.insert("again"), references[7], "seven letters and five share a size");
    }
}
