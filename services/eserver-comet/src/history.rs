//! [`History`]: the newest messages of a channel.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::Message;
use crate::millis::Millis;
use crate::position::Seq;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistoryBounds {
    pub(crate) messages_max: usize,
    pub(crate) bytes_max: usize,
    /// How long a message is kept, in milliseconds; `None` for as long as the channel lives.
    pub(crate) age_max_ms: Option<u64>,
}

/// Consecutive messages up to the newest. Their numbers follow from the next one's.
#[derive(Debug, Default)]
pub(crate) struct History {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
}

impl History {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The number of the oldest message, where `next` is the number after the newest.
    pub(crate) fn first(&self, next: Seq) -> Seq {
        next.back(self.messages.len() as u64)
    }

    pub(crate) fn push(&mut self, message: Arc<Message>, bounds: HistoryBounds) {
        self.bytes += message.bytes();
        self.messages.push_back(message);
        while self.messages.len() > bounds.messages_max || self.bytes > bounds.bytes_max {
            self.pop();
        }
    }

    /// Drops what is older than it may be.
    pub(crate) fn age(&mut self, now: Millis, bounds: HistoryBounds) {
        while self.oldest_ends(bounds).is_some_and(|end| end <= now) {
            self.pop();
        }
    }

    /// When the oldest message will have to go.
    pub(crate) fn oldest_ends(&self, bounds: HistoryBounds) -> Option<Millis> {
        Some(self.messages.front()?.at.plus(bounds.age_max_ms?))
    }

    pub(crate) fn clear(&mut self) {
        *self = History::default();
    }

    /// Messages from number `from` on, oldest first, where `next` is the number after the newest.
    pub(crate) fn since(&self, from: Seq, next: Seq) -> impl Iterator<Item = &Arc<Message>> {
        let skipped = from.get().saturating_sub(self.first(next).get());
        self.messages.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    fn pop(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.bytes -= message.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Data, Kind};

    #[test]
    fn each_bound_holds() {
        let message = |at| {
            let data = Data::text("12345678");
            Arc::new(Message { kind: Kind::Data, event: None, data, at: Millis::new(at) })
        };
        let bytes = message(0).bytes();
        for (messages_max, bytes_max, age_max_ms, kept) in [
            (3, usize::MAX, None, 3),
            (0, usize::MAX, None, 0),
            (100, bytes * 4 + 1, None, 4),
            (100, bytes - 1, None, 0),
            (100, usize::MAX, Some(5), 5),
            (100, usize::MAX, None, 20),
        ] {
            let bounds = HistoryBounds { messages_max, bytes_max, age_max_ms };
            let mut history = History::default();
            for at in 1..=20 {
                history.push(message(at), bounds);
            }
            history.age(Millis::new(20), bounds);
            let next = Seq::new(21);
            assert_eq!(history.first(next), Seq::new(21 - kept));
            assert_eq!(history.since(Seq::FIRST, next).count() as u64, kept);
            assert_eq!(history.since(Seq::new(19), next).count() as u64, kept.min(2));
            assert_eq!(history.bytes, kept as usize * bytes);
        }
    }
}
