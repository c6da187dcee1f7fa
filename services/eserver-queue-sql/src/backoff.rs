//! [`Backoff`]: how long to wait before trying again.

use std::time::Duration;

/// Waits that double from a first to a longest, each with up to half of chance in it, so that what
/// failed together does not return together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// For a database that cannot be reached: at two seconds a try, the cost is nothing, and the
    /// drain is back soon after the database is.
    pub(crate) fn unreachable() -> Self {
        Backoff::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// For work that may well succeed when tried again.
    pub(crate) fn retry() -> Self {
        Backoff::new(Duration::from_millis(20), Duration::from_secs(2))
    }

    fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest, failures: 0 }
    }

    /// Failures since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed once more: how long to wait now.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest() {
        let mut backoff = Backoff::unreachable();
        let waits: Vec<_> = (0..40).map(|_| backoff.next().as_millis()).collect();
        assert!((25..=50).contains(&waits[0]), "{waits:?}");
        assert!((100..=200).contains(&waits[2]), "{waits:?}");
        assert!(waits[10..].iter().all(|wait| (1000..=2000).contains(wait)), "{waits:?}");
        assert_eq!(backoff.failures(), 40);
    }
}
