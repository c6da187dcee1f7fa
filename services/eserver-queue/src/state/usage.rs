//! `Usage`: how many messages each segment still holds, to know which ones can go.

use std::collections::VecDeque;

use crate::state::index::Entry;

/// The messages whose newest record stands in one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) messages: u32,
    /// Bytes of their records, near enough.
    pub(crate) bytes: u64,
}

/// What each segment of the log is used for, by number.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    first: u32,
    segments: VecDeque<Used>,
    total: Used,
}

impl Usage {
    #[inline]
    pub(crate) fn gain(&mut self, entry: &Entry) {
        let segment = entry.place().segment;
        if self.segments.is_empty() {
            self.first = segment;
        }
        while segment < self.first {
            self.segments.push_front(Used::default());
            self.first -= 1;
        }
        let at = (segment - self.first) as usize;
        if at >= self.segments.len() {
            self.segments.resize(at + 1, Used::default());
        }
        for used in [&mut self.segments[at], &mut self.total] {
            used.messages += 1;
            used.bytes += entry.record_bytes();
        }
    }

    #[inline]
    pub(crate) fn lose(&mut self, entry: &Entry) {
        let at = entry.place().segment.checked_sub(self.first);
        let Some(segment) = at.and_then(|at| self.segments.get_mut(at as usize)) else {
            return;
        };
        for used in [segment, &mut self.total] {
            used.messages -= 1;
            used.bytes -= entry.record_bytes();
        }
    }

    /// What a segment is used for.
    pub(crate) fn of(&self, segment: u32) -> Used {
        let at = segment.checked_sub(self.first);
        at.and_then(|at| self.segments.get(at as usize)).copied().unwrap_or_default()
    }

    /// What all segments together are used for.
    pub(crate) fn total(&self) -> Used {
        self.total
    }

    /// Forgets segments before `oldest`, which are not used for anything.
    pub(crate) fn forget_before(&mut self, oldest: u32) {
        while self.first < oldest && !self.segments.is_empty() {
            debug_assert_eq!(self.segments[0], Used::default(), "a used segment is not forgotten");
            self.segments.pop_front();
            self.first += 1;
        }
    }
}
