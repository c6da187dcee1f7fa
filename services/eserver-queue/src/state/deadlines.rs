//! `Deadlines`: which message is due when, and which is due next.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Millis, Seq};

/// A set of messages, each with an instant.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    by_time: BTreeSet<(Millis, Seq)>,
    by_seq: BTreeMap<Seq, Millis>,
}

impl Deadlines {
    /// Sets the instant of a message, in place of any it had.
    pub(crate) fn set(&mut self, seq: Seq, at: Millis) {
        if let Some(old) = self.by_seq.insert(seq, at) {
            self.by_time.remove(&(old, seq));
        }
        self.by_time.insert((at, seq));
    }

    pub(crate) fn remove(&mut self, seq: Seq) {
        if let Some(at) = self.by_seq.remove(&seq) {
            self.by_time.remove(&(at, seq));
        }
    }

    pub(crate) fn get(&self, seq: Seq) -> Option<Millis> {
        self.by_seq.get(&seq).copied()
    }

    /// The earliest instant.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// The message with the earliest instant, if that is not after `now`.
    pub(crate) fn due(&self, now: Millis) -> Option<Seq> {
        self.by_time.first().filter(|&&(at, _)| at <= now).map(|&(_, seq)| seq)
    }

    /// The message that was put first, whenever it is due.
    pub(crate) fn oldest(&self) -> Option<Seq> {
        self.by_seq.first_key_value().map(|(&seq, _)| seq)
    }
}
