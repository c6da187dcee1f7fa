//! [`ConnId`]: the name of a connection, good from any thread and for ever.

use std::fmt;
use std::num::NonZeroU32;

use crate::io::Key;

/// Names one connection: the shard that holds it, its slot there, and the slot's generation.
///
/// Slots are used again, generations are not (until 2³² connections later on the same shard), so an
/// id kept after its connection ended finds nothing instead of a stranger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) slot: u32,
    /// Never 0, so that an `Option` of an id is no longer than the id.
    pub(crate) generation: NonZeroU32,
    pub(crate) shard: u16,
}

impl ConnId {
    /// The index of the shard that holds the connection.
    #[must_use]
    pub fn shard(self) -> usize {
        usize::from(self.shard)
    }

    /// Its place on its shard.
    #[inline]
    pub(crate) fn key(self) -> Key {
        (self.slot, self.generation.get())
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard, self.slot, self.generation)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
