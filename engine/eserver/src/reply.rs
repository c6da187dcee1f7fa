//! [`ReplyTo`] and [`ReplyBatch`]: answers that come later, from any thread.

use crate::conn_id::ConnId;

/// Where an answer belongs: the connection, and which of its requests this answers.
///
/// A connection's answers leave in the order of its requests, whatever the order in which they
/// become ready; the ordinal is what sorts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    pub(crate) conn: ConnId,
    pub(crate) ordinal: u32,
}

impl ReplyTo {
    /// The connection that asked.
    #[must_use]
    pub fn conn(self) -> ConnId {
        self.conn
    }
}

/// Encoded answers for connections of one shard, in one block of memory.
///
/// A service that finishes many requests at once, such as a group commit, sends them as one letter:
/// one lock, one wake-up and no allocation per answer.
#[derive(Debug, Default)]
pub struct ReplyBatch {
    pub(crate) bytes: Vec<u8>,
    /// Each answer and where in `bytes` it ends.
    pub(crate) ends: Vec<(ReplyTo, usize)>,
}

impl ReplyBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        ReplyBatch::default()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many answers it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds one answer; `encode` appends its bytes and must not touch those before them.
    #[inline]
    pub fn push(&mut self, to: ReplyTo, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.bytes);
        self.ends.push((to, self.bytes.len()));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ReplyTo, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(to, end)| {
            let bytes = &self.bytes[start..*end];
            start = *end;
            (*to, bytes)
        })
    }
}
