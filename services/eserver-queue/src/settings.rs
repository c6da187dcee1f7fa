//! `QueueSettings`: the bounds of a queue and what happens at each.

/// When what was written is made to survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before a commit returns: an acknowledged message survives power loss.
    Always,
    /// Once per interval: a power cut costs at most what was acknowledged since the last one. The
    /// death of the process alone costs nothing.
    Interval {
        /// Milliseconds from the first unsynced write to its sync.
        milliseconds: u64,
    },
    /// Only when the queue is closed; the kernel decides otherwise.
    Never,
}

/// What a put does to a queue that holds [`QueueSettings::length_max`] messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The put is refused.
    Reject,
    /// The oldest message that no consumer holds and that is not buried makes room.
    OverwriteOldest,
}

/// The bounds of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// Messages a queue holds at most, buried ones included. Default 1,000,000.
    pub length_max: u64,
    /// What a put does at that bound. Default [`WhenFull::Reject`].
    pub full: WhenFull,
    /// How durable a commit is. Default [`SyncPolicy::Always`].
    pub sync: SyncPolicy,
    /// Bytes of one payload, rendered, at most; never more than a quarter of `segment_bytes_min`
    /// whatever is asked for. Default 252 KiB.
    pub payload_bytes_max: usize,
    /// Bytes of the first segment; a power of two from 16 KiB. Default 1 MiB.
    pub segment_bytes_min: u32,
    /// Bytes a segment grows to as the log grows; a power of two up to 1 GiB. Default 64 MiB.
    pub segment_bytes_max: u32,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            length_max: 1_000_000,
            full: WhenFull::Reject,
            sync: SyncPolicy::Always,
            payload_bytes_max: 252 << 10,
            segment_bytes_min: 1 << 20,
            segment_bytes_max: 64 << 20,
        }
    }
}

/// The smallest segment that has room for more than its own bookkeeping, in bytes.
const SEGMENT_BYTES_LEAST: u32 = 16 << 10;

/// The largest segment that an index entry can point into, in bytes.
const SEGMENT_BYTES_MOST: u32 = 1 << 30;

impl QueueSettings {
    /// The same settings with every bound inside what the format can hold.
    pub(crate) fn normalized(&self) -> Self {
        let clamp = |bytes: u32, least: u32| {
            bytes.clamp(least, SEGMENT_BYTES_MOST).checked_next_power_of_two()
        };
        let smallest = clamp(self.segment_bytes_min, SEGMENT_BYTES_LEAST);
        let segment_bytes_min = smallest.unwrap_or(SEGMENT_BYTES_MOST);
        let largest = clamp(self.segment_bytes_max, segment_bytes_min);
        let payload_bytes_most = (segment_bytes_min / 4 - 1024) as usize;
        Self {
            payload_bytes_max: self.payload_bytes_max.min(payload_bytes_most),
            segment_bytes_min,
            segment_bytes_max: largest.unwrap_or(SEGMENT_BYTES_MOST),
            ..self.clone()
        }
    }
}
