//! [`Shards`]: which shard owns a channel.

use std::hash::{DefaultHasher, Hasher};

use crate::channel_name::ChannelName;

/// The number of a shard, from 0.
pub type ShardId = u16;

/// All shards of a process. Each has a copy of the same value.
#[derive(Debug, Clone, Copy)]
pub struct Shards {
    count: u16,
    key: u64,
}

impl Shards {
    /// So many shards, at least one. The key is secret and chance, or a peer could choose names that
    /// all have the same place.
    #[must_use]
    pub fn new(count: u16, key: u64) -> Self {
        Shards { count: count.max(1), key }
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> u16 {
        self.count
    }

    /// The shard whose [`Hub`](crate::Hub) has the channel.
    #[must_use]
    pub fn owner(self, channel: ChannelName<'_>) -> ShardId {
        if self.count == 1 {
            return 0;
        }
        // Stirred once more: the names of one shard shall differ in all bits of their hash.
        let stirred = self.hash(channel.as_str().as_bytes()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (((stirred >> 32) * u64::from(self.count)) >> 32) as ShardId
    }

    pub(crate) fn hash(self, name: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.key);
        hasher.write(name);
        hasher.finish()
    }
}
