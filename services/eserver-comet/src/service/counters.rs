//! [`StationCounters`]: what happened on one shard, counted by that shard alone.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened on one shard, and how it stands.
#[derive(Debug, Default)]
pub(crate) struct StationCounters {
    /// Channels that the shard owns.
    pub(crate) channels: Count,
    /// Subscriptions to the channels that the shard owns.
    pub(crate) subscriptions: Count,
    /// Messages published, a broadcast once for each channel.
    pub(crate) published: Count,
    /// Things that subscribers were told.
    pub(crate) told: Count,
    /// Messages not sent to subscribers who read too slowly.
    pub(crate) skipped: Count,
    /// Subscribers closed for reading too slowly.
    pub(crate) slow: Count,
}

impl StationCounters {
    /// All of them, by name.
    pub(crate) fn all(&self) -> [(&'static str, u64); 6] {
        [
            ("channels", self.channels.get()),
            ("subscriptions", self.subscriptions.get()),
            ("published", self.published.get()),
            ("told", self.told.get()),
            ("skipped", self.skipped.get()),
            ("slow_closed", self.slow.get()),
        ]
    }
}
