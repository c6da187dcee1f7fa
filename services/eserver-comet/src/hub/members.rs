//! [`Members`]: who is on a channel.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::millis::Tick;

/// Subjects with the number of their subscriptions. Who has none any more stays for a while: a poll
/// that was answered comes again.
#[derive(Debug, Default)]
pub(crate) struct Members {
    counts: HashMap<Arc<str>, Presence>,
    /// Who has or had none, by when they were to be gone as they began to stand here.
    leaving: VecDeque<(Tick, Arc<str>)>,
}

#[derive(Debug)]
struct Presence {
    count: u32,
    /// When it is to be gone, while there is no subscription of it.
    gone_at: Tick,
    /// It stands in line, once, however often it comes and goes.
    is_in_line: bool,
}

impl Members {
    /// One more subscription; true if the subject is new here.
    pub(crate) fn join(&mut self, subject: &Arc<str>) -> bool {
        if let Some(presence) = self.counts.get_mut(subject) {
            presence.count += 1;
            return false;
        }
        self.counts
            .insert(Arc::clone(subject), Presence { count: 1, gone_at: 0, is_in_line: false });
        true
    }

    /// One less; if it was the last, the subject is to be gone at that tick.
    pub(crate) fn leave(&mut self, subject: &Arc<str>, gone_at: Tick) {
        let Some(presence) = self.counts.get_mut(subject) else {
            debug_assert!(false, "who leaves was there");
            return;
        };
        presence.count = presence.count.saturating_sub(1);
        if presence.count == 0 {
            presence.gone_at = gone_at;
            if !std::mem::replace(&mut presence.is_in_line, true) {
                self.leaving.push_back((gone_at, Arc::clone(subject)));
            }
        }
    }

    /// Somebody whose time has come and who has not come back, now gone. Who came and went again
    /// stands in line again, and so may be gone up to twice as late.
    pub(crate) fn gone(&mut self, now: Tick) -> Option<Arc<str>> {
        while self.leaving.front().is_some_and(|(gone_at, _)| *gone_at <= now) {
            let (_, subject) = self.leaving.pop_front()?;
            let Some(presence) = self.counts.get_mut(&subject) else {
                continue;
            };
            presence.is_in_line = presence.count == 0 && presence.gone_at > now;
            if presence.is_in_line {
                self.leaving.push_back((presence.gone_at, subject));
            } else if presence.count == 0 {
                self.counts.remove(&subject);
                return Some(subject);
            }
        }
        None
    }

    pub(crate) fn next_gone(&self) -> Option<Tick> {
        self.leaving.front().map(|(gone_at, _)| *gone_at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.leaving.is_empty()
    }

    /// How many subjects there are.
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.counts.iter().map(|(subject, presence)| (subject, presence.count))
    }
}
