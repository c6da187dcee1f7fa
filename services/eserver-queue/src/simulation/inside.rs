//! What only tests need to see of a queue.

use crate::disk::Disk;
use crate::state::index::Status;
use crate::{Millis, Queue, ReadError, Seq};

/// A message, seen from inside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot {
    pub(crate) status: Status,
    pub(crate) attempts: u16,
    pub(crate) due: Millis,
}

impl<D: Disk> Queue<D> {
    pub(crate) fn newest_segment(&self) -> u32 {
        self.log.newest().number
    }

    /// Every message that is there.
    pub(crate) fn snapshot(&self) -> Vec<(Seq, Snapshot)> {
        let messages = self.state.iter().map(|(seq, entry)| {
            let due = self.state.due(seq).unwrap_or_default();
            (seq, Snapshot { status: entry.status, attempts: entry.attempts, due })
        });
        messages.collect()
    }

    /// Appends a payload without taking the message; `false` when it is damaged.
    pub(crate) fn peek(&mut self, seq: Seq, payload: &mut Vec<u8>) -> Result<bool, ReadError> {
        self.read_payload(seq, |bytes| payload.extend_from_slice(bytes))
    }
}
