//! [`Counters`]: what happened so far; each shard counts for itself.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What happened since the start, summed over all shards.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        /// One shard's counts: written by that shard alone, read by anybody.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct ShardCounters { $(pub(crate) $name: Count,)* }

        impl ShardCounters {
            pub(crate) fn add_to(&self, sum: &mut Counters) {
                $(sum.$name += self.$name.get();)*
            }
        }
    };
}

counters! {
    /// Connections let in.
    accepted,
    /// Connections ended, for whatever reason.
    closed,
    /// Newcomers closed because their address is not on the allow-list.
    not_allowed,
    /// Newcomers told that a limit on connections is reached.
    refused,
    /// Times that `accept` failed for want of descriptors or memory.
    accept_failures,
    /// Requests read.
    requests,
    /// Answers given, and messages sent unasked.
    replies,
    /// Answers that came after their connection had ended.
    stale_replies,
    /// Bytes read from peers.
    bytes_in,
    /// Bytes the kernel took for peers.
    bytes_out,
    /// Connections ended before epoll was ever told about them.
    unregistered,
    /// Connections whose peer was still sending when they ended, which was taken in and dropped.
    lingered,
    /// Connections closed because a request did not arrive whole in time.
    request_timeouts,
    /// Connections closed because nothing was asked for too long.
    idle_timeouts,
    /// Connections closed because the peer did not read what was sent.
    slow_readers,
    /// Turns of the event loop.
    turns,
}

/// A number with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds without a locked instruction: only the owning shard writes.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
