//! `Ages`: when messages were put, to the second, for the price of a few marks.

use std::collections::VecDeque;

use crate::{Millis, Seq};

/// Marks kept at most; past that every other one is forgotten, and ages get coarser.
const MARKS_MAX: usize = 1024;

/// A new mark is due this many milliseconds after the last.
const MARK_EVERY: u64 = 1000;

/// From which message on which time holds.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    marks: VecDeque<(Seq, Millis)>,
}

impl Ages {
    /// Whether a put at `now` needs a new mark.
    #[inline]
    pub(crate) fn is_mark_due(&self, now: Millis) -> bool {
        self.marks.back().is_none_or(|&(_, last)| now.since(last) >= MARK_EVERY || now < last)
    }

    /// Puts from `seq` on happen at `at`.
    pub(crate) fn mark(&mut self, seq: Seq, at: Millis) {
        while self.marks.back().is_some_and(|&(last, _)| last >= seq) {
            self.marks.pop_back();
        }
        self.marks.push_back((seq, at));
        if self.marks.len() > MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// When `seq` was put, or a little earlier.
    pub(crate) fn put_at(&self, seq: Seq) -> Option<Millis> {
        let after = self.marks.partition_point(|&(from, _)| from <= seq);
        self.marks.get(after.saturating_sub(1)).map(|&(_, at)| at)
    }

    /// Forgets what is about no message from `oldest` on.
    pub(crate) fn forget_before(&mut self, oldest: Seq) {
        while self.marks.get(1).is_some_and(|&(from, _)| from <= oldest) {
            self.marks.pop_front();
        }
    }
}
