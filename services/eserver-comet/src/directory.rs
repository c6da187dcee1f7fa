//! [`Directory`]: records of channels, found by name or by slot.

use hashbrown::HashTable;

use crate::names::{NameRef, Names};
use crate::shards::Shards;
use crate::slots::Slab;

/// Parts of the index. Each grows and shrinks by itself, so that no growth copies much at once.
const TABLES: usize = 256;

/// A record that has a name.
pub(crate) trait Named {
    fn name(&self) -> NameRef;
}

pub(crate) struct Directory<T> {
    shards: Shards,
    pub(crate) names: Names,
    tables: Box<[HashTable<u32>]>,
    pub(crate) records: Slab<T>,
}

impl<T: Named> Directory<T> {
    pub(crate) fn new(shards: Shards) -> Self {
        let tables = std::iter::repeat_with(HashTable::new).take(TABLES).collect();
        Directory { shards, names: Names::new(), tables, records: Slab::new() }
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let hash = self.shards.hash(name.as_bytes());
        let is_it = |slot: &u32| self.bytes(*slot) == name.as_bytes();
        self.tables[table_of(hash)].find(hash, is_it).copied()
    }

    /// The name of the record at `slot`.
    pub(crate) fn name(&self, slot: u32) -> &str {
        self.names.get(self.records.at(slot).name())
    }

    /// Stores what `make` builds. There must be none of that name.
    pub(crate) fn insert(&mut self, name: &str, make: impl FnOnce(NameRef) -> T) -> u32 {
        let hash = self.shards.hash(name.as_bytes());
        let slot = self.records.insert(make(self.names.insert(name)));
        let Directory { shards, names, tables, records } = self;
        let rehash = |slot: &u32| shards.hash(names.bytes(records.at(*slot).name()));
        tables[table_of(hash)].insert_unique(hash, slot, rehash);
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let Directory { shards, names, tables, records } = self;
        let name = records.get(slot)?.name();
        let hash = shards.hash(names.bytes(name));
        let table = &mut tables[table_of(hash)];
        if let Ok(entry) = table.find_entry(hash, |held| *held == slot) {
            entry.remove();
        }
        if table.len() * 4 < table.capacity() {
            let room = table.len() * 2;
            table.shrink_to(room, |slot| shards.hash(names.bytes(records.at(*slot).name())));
        }
        names.remove(name);
        records.remove(slot)
    }

    /// Gives back what is kept to be used again, and is not in use. The index does that by itself.
    pub(crate) fn trim(&mut self) {
        self.names.trim();
        self.records.trim();
    }

    fn bytes(&self, slot: u32) -> &[u8] {
        self.names.bytes(self.records.at(slot).name())
    }
}

/// By bits that a table makes no use of.
fn table_of(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    impl Named for NameRef {
        fn name(&self) -> NameRef {
            *self
        }
    }

    #[test]
    fn names_are_found_while_they_are_there() {
        let mut directory = Directory::<NameRef>::new(Shards::new(1, 7));
        let mut model = HashMap::new();
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..60_000 {
            let name = format!("channel {}", random.u32(0..if round < 30_000 { 9000 } else { 50 }));
            match model.get(&name) {
                None => {
                    assert_eq!(directory.find(&name), None);
                    let slot = directory.insert(&name, |name| name);
                    model.insert(name, slot);
                }
                Some(&slot) => {
                    assert_eq!(directory.find(&name), Some(slot));
                    assert_eq!(directory.name(slot), name);
                    directory.remove(slot);
                    model.remove(&name);
                }
            }
        }
        for (name, slot) in model {
            assert_eq!(directory.find(&name), Some(slot));
            directory.remove(slot);
        }
        assert_eq!(directory.tables.iter().map(HashTable::capacity).sum::<usize>(), 0);
    }
}
