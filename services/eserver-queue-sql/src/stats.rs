//! [`Stats`]: a drain in words and numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use eserver::Report;

/// What a drain does and has done since it was started; written by its thread, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// What each lane waits for, if it does.
    waiting: Mutex<BTreeMap<u32, String>>,
    applied: AtomicU64,
    retried: AtomicU64,
    buried: AtomicU64,
    batches: AtomicU64,
    in_hand: AtomicU64,
    connects: AtomicU64,
    batch_messages_last: AtomicU64,
    commit_us_last: AtomicU64,
    commit_us_sum: AtomicU64,
}

impl Stats {
    /// What a lane waits for now, for people; `None` when it works.
    pub(crate) fn set_waiting(&self, lane: u32, what: Option<String>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => drop(waiting.insert(lane, what)),
            None => drop(waiting.remove(&lane)),
        }
    }

    fn state(&self) -> String {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let first = waiting.values().next().cloned();
        first.unwrap_or_else(|| "running".to_owned())
    }

    /// A batch of so many messages was committed, which took so long from begin to commit.
    pub(crate) fn committed(&self, messages: usize, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.applied.fetch_add(messages as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.batch_messages_last.store(messages as u64, Ordering::Relaxed);
        self.commit_us_last.store(micros, Ordering::Relaxed);
        self.commit_us_sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// So many messages were found applied already, after a crash or a lost connection.
    pub(crate) fn found_applied(&self, messages: usize) {
        self.applied.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// So many messages will be tried again.
    pub(crate) fn retried(&self, messages: usize) {
        self.retried.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// So many messages were buried.
    pub(crate) fn buried(&self, messages: usize) {
        self.buried.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// A lane has connected.
    pub(crate) fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages taken and not yet settled.
    pub(crate) fn set_in_hand(&self, messages: usize) {
        self.in_hand.store(messages as u64, Ordering::Relaxed);
    }

    pub(crate) fn report(&self) -> Report {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let batches = get(&self.batches);
        let average = get(&self.commit_us_sum).checked_div(batches).unwrap_or(0);
        Report {
            state: self.state(),
            numbers: vec![
                ("applied", get(&self.applied)),
                ("retried", get(&self.retried)),
                ("buried", get(&self.buried)),
                ("in_hand", get(&self.in_hand)),
                ("connects", get(&self.connects)),
                ("batches", batches),
                ("batch_messages_last", get(&self.batch_messages_last)),
                ("commit_us_last", get(&self.commit_us_last)),
                ("commit_us_average", average),
            ],
        }
    }
}
