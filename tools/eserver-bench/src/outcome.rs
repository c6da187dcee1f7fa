//! What a run found: [`Outcome`], and what went wrong in it: [`Errors`].

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies from a microsecond to a minute are told apart to one percent; what lies outside
/// counts as the nearest of them.
const LATENCY_NANOSECONDS: std::ops::RangeInclusive<u64> = 1_000..=60_000_000_000;
const LATENCY_DIGITS: u8 = 2;

/// An empty histogram of latencies in nanoseconds. Small on purpose: it is written to in the loop
/// and shares the cache with the server under test.
pub(crate) fn latencies() -> Histogram<u64> {
    let (low, high) = LATENCY_NANOSECONDS.into_inner();
    Histogram::new_with_bounds(low, high, LATENCY_DIGITS).expect("the bounds are in order")
}

/// The measured part of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Operations answered as expected during [`Self::elapsed`].
    pub operations: u64,
    /// All operations answered as expected, also before and after the measured time: what the
    /// server has promised.
    pub answered: u64,
    /// What went wrong, from the first connection to the last answer.
    pub errors: Errors,
    /// How long was measured.
    pub elapsed: Duration,
    /// Nanoseconds from the write of a burst (from connecting, when every burst has its own
    /// connection) to its last answer, once for each request of the bursts whose last answer came
    /// during [`Self::elapsed`].
    pub latency: Histogram<u64>,
    /// CPU time of this process during [`Self::elapsed`].
    pub client_cpu: Duration,
    /// CPU time of the server during [`Self::elapsed`], when its process was named.
    pub server_cpu: Option<Duration>,
}

impl Outcome {
    /// Operations answered per second.
    #[must_use]
    pub fn operations_per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency in microseconds that the part `quantile` of all requests, 0 to 1, did not
    /// exceed.
    #[must_use]
    pub fn latency_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// Microseconds of the server's CPU time for each operation.
    #[must_use]
    pub fn server_cpu_us_per_operation(&self) -> Option<f64> {
        self.server_cpu.map(|cpu| self.us_per_operation(cpu))
    }

    /// Microseconds of this process's CPU time for each operation.
    #[must_use]
    pub fn client_cpu_us_per_operation(&self) -> f64 {
        self.us_per_operation(self.client_cpu)
    }

    fn us_per_operation(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.operations.max(1) as f64
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} operations/s in {:.1} s, p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs, \
             client {:.2} µs CPU each",
            self.operations_per_second(),
            self.elapsed.as_secs_f64(),
            self.latency_us(0.5),
            self.latency_us(0.99),
            self.latency_us(0.999),
            self.latency_us(1.0),
            self.client_cpu_us_per_operation(),
        )?;
        if let Some(cpu) = self.server_cpu_us_per_operation() {
            write!(f, ", server {cpu:.2} µs CPU each")?;
        }
        if self.errors.total() > 0 {
            write!(f, ", {}", self.errors)?;
        }
        Ok(())
    }
}

/// How often something went wrong, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Errors {
    /// Connections that could not be opened.
    pub connect: u64,
    /// Answers that were not the expected one, or to nothing that was asked.
    pub unexpected: u64,
    /// Connections that ended though an answer was due or the next request would have come.
    pub closed: u64,
    /// Bursts that were not fully answered in time.
    pub timeout: u64,
    /// The first of them, in words.
    pub first: Option<String>,
}

/// The kind of an error, for counting.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Connect,
    Unexpected,
    Closed,
    Timeout,
}

impl Errors {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.connect + self.unexpected + self.closed + self.timeout
    }

    /// Counts one; `describe` is asked for words only the first time.
    pub(crate) fn count(&mut self, kind: Kind, describe: impl FnOnce() -> String) {
        *match kind {
            Kind::Connect => &mut self.connect,
            Kind::Unexpected => &mut self.unexpected,
            Kind::Closed => &mut self.closed,
            Kind::Timeout => &mut self.timeout,
        } += 1;
        self.first.get_or_insert_with(describe);
    }

    pub(crate) fn merge(&mut self, other: Errors) {
        self.connect += other.connect;
        self.unexpected += other.unexpected;
        self.closed += other.closed;
        self.timeout += other.timeout;
        self.first = self.first.take().or(other.first);
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} errors ({} connecting, {} unexpected answers, {} closed, {} late)",
            self.total(),
            self.connect,
            self.unexpected,
            self.closed,
            self.timeout,
        )?;
        match &self.first {
            Some(first) => write!(f, "; the first: {first}"),
            None => Ok(()),
        }
    }
}
