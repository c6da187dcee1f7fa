//! `Stats`: a queue in numbers.

/// What a queue holds now, and what it has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Messages that can be taken now.
    pub ready: u64,
    /// Messages that can be taken later.
    pub delayed: u64,
    /// Messages that a consumer holds.
    pub leased: u64,
    /// Messages set aside.
    pub buried: u64,
    /// Bytes of all their payloads.
    pub payload_bytes: u64,
    /// Bytes that the queue takes on disk.
    pub disk_bytes: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Milliseconds since the oldest message was put, to the second; `None` when there is none.
    pub oldest_age_ms: Option<u64>,
    /// The number that the next put takes: one more than messages were ever put.
    pub next_seq: u64,
    /// What happened since the queue was opened.
    pub totals: Totals,
}

/// Counters since the queue was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Messages put.
    pub put: u64,
    /// Puts refused because the queue was full.
    pub refused_full: u64,
    /// Puts refused because the disk was full.
    pub refused_no_space: u64,
    /// Messages popped.
    pub popped: u64,
    /// Messages handed to consumers, each time counted.
    pub reserved: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages released.
    pub released: u64,
    /// Messages buried.
    pub buried: u64,
    /// Messages kicked.
    pub kicked: u64,
    /// Messages deleted.
    pub deleted: u64,
    /// Messages overwritten by newer ones.
    pub overwritten: u64,
    /// Messages written again to free the segment they stood in.
    pub moved: u64,
    /// Messages found damaged: when the queue was opened, or when their turn came.
    pub damaged: u64,
    /// Commits that wrote something.
    pub commits: u64,
    /// Bytes written.
    pub bytes: u64,
}
