//! [`Tally`]: what arrived and what did not, and [`Counters`], what is seen of it meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::outcome::latencies;

/// Running numbers of one thread, for whoever watches.
#[derive(Debug, Default)]
#[repr(align(128))] // a cache line of its own, for a thread writes each of them
pub(crate) struct Counters {
    /// Connections begun.
    pub(crate) begun: AtomicU64,
    /// Connections that wait for messages, or have ended since.
    pub(crate) held: AtomicU64,
    /// Connections that ended though they should not.
    pub(crate) gone: AtomicU64,
    /// Publications that arrived for the first time.
    pub(crate) arrived: AtomicU64,
    /// Bytes received.
    pub(crate) received_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// The sum of all threads' [`Counters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) begun: u64,
    pub(crate) held: u64,
    pub(crate) gone: u64,
    pub(crate) arrived: u64,
    pub(crate) received_bytes: u64,
}

impl Counts {
    pub(crate) fn of<'a>(counters: impl IntoIterator<Item = &'a Counters>) -> Self {
        let mut sum = Counts::default();
        for counters in counters {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            sum.begun += read(&counters.begun);
            sum.held += read(&counters.held);
            sum.gone += read(&counters.gone);
            sum.arrived += read(&counters.arrived);
            sum.received_bytes += read(&counters.received_bytes);
        }
        sum
    }
}

/// What became of the messages that were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Deliveries {
    /// Messages due, over all connections.
    pub expected: u64,
    /// Those that arrived, each counted once.
    pub delivered: u64,
    /// Those that did not.
    pub lost: u64,
    /// Arrivals of what had arrived before.
    pub duplicated: u64,
    /// Arrivals after something that was published later.
    pub out_of_order: u64,
    /// Arrivals at a connection that they were not for, and messages of nobody's.
    pub misdelivered: u64,
    /// Subscriptions that the server refused or ended.
    pub refused: u64,
    /// Connections that the server closed, or that failed in another way.
    pub closed: u64,
    /// Polls that were answered because nothing had happened; they poll again.
    pub noops: u64,
}

impl Deliveries {
    /// Whether all that was due arrived, once, in order, and nobody was sent away.
    #[must_use]
    pub fn is_faultless(&self) -> bool {
        let Deliveries { lost, duplicated, out_of_order, misdelivered, refused, closed, .. } = self;
        [lost, duplicated, out_of_order, misdelivered, refused, closed]
            .iter()
            .all(|&&count| count == 0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.misdelivered += other.misdelivered;
        self.refused += other.refused;
        self.closed += other.closed;
        self.noops += other.noops;
    }
}

/// What a thread has counted since it was last asked.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) deliveries: Deliveries,
    /// Nanoseconds from publication to arrival.
    pub(crate) latency: Histogram<u64>,
    /// The first and the last arrival, since the run began.
    pub(crate) arrivals: Option<(Duration, Duration)>,
    /// The first thing that went wrong, in words.
    pub(crate) first_error: Option<String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            deliveries: Deliveries::default(),
            latency: latencies(),
            arrivals: None,
            first_error: None,
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.deliveries.merge(&other.deliveries);
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
        self.arrivals = match (self.arrivals, other.arrivals) {
            (Some((first, last)), Some((other_first, other_last))) => {
                Some((first.min(other_first), last.max(other_last)))
            }
            (ours, theirs) => ours.or(theirs),
        };
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// Notes an arrival at `now`, of what was published at `published`, both since the run began.
    pub(crate) fn arrive(&mut self, published: Duration, now: Duration) {
        let waited = u64::try_from(now.saturating_sub(published).as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(waited);
        let first = self.arrivals.map_or(now, |(first, _)| first);
        self.arrivals = Some((first, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut sum = Tally::new();
        for (first, last, lost) in [(5, 7, 0), (3, 4, 2)] {
            let mut tally = Tally::new();
            tally.arrive(Duration::ZERO, Duration::from_millis(first));
            tally.arrive(Duration::ZERO, Duration::from_millis(last));
            tally.deliveries.lost = lost;
            sum.merge(tally);
        }
        assert_eq!(sum.arrivals, Some((Duration::from_millis(3), Duration::from_millis(7))));
        assert_eq!((sum.latency.len(), sum.deliveries.lost), (4, 2));
        assert!(!sum.deliveries.is_faultless());
        assert!(
            Deliveries { noops: 3, expected: 1, delivered: 1, ..Default::default() }.is_faultless()
        );
    }
}
