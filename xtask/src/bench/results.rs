//! What was measured: [`Sample`]s, gathered in [`Results`], looked at by their medians.

use eserver_bench::Outcome;

use super::cases::Case;
use super::servers::Peer;

/// One run of one case against one server.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) operations_per_second: f64,
    pub(super) server_cpu_us: f64,
    pub(super) client_cpu_us: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) errors: u64,
    /// The first error in words.
    pub(super) first_error: Option<String>,
}

impl Sample {
    pub(super) fn new(outcome: &Outcome) -> Self {
        Self {
            operations_per_second: outcome.operations_per_second(),
            server_cpu_us: outcome.server_cpu_us_per_operation().unwrap_or(f64::NAN),
            client_cpu_us: outcome.client_cpu_us_per_operation(),
            p50_us: outcome.latency_us(0.5),
            p99_us: outcome.latency_us(0.99),
            p999_us: outcome.latency_us(0.999),
            max_us: outcome.latency_us(1.0),
            errors: outcome.errors.total(),
            first_error: outcome.errors.first.clone(),
        }
    }
}

/// What idle connections cost a server.
#[derive(Debug, Clone)]
pub(super) struct IdleSample {
    pub(super) peer: Peer,
    pub(super) connections: usize,
    /// Growth of the resident memory by each connection, in bytes.
    pub(super) rss_bytes_each: f64,
    /// Resident memory with all of them, in bytes.
    pub(super) rss_bytes: u64,
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(super) struct Results {
    samples: Vec<Entry>,
    idle: Vec<IdleSample>,
}

#[derive(Debug)]
struct Entry {
    round: usize,
    case: &'static str,
    peer: Peer,
    sample: Sample,
}

impl Results {
    /// Keeps a sample; at most one for each round, case and server.
    pub(super) fn add(&mut self, round: usize, case: Case, peer: Peer, sample: Sample) {
        self.samples.push(Entry { round, case: case.name, peer, sample });
    }

    pub(super) fn add_idle(&mut self, sample: IdleSample) {
        self.idle.push(sample);
    }

    /// The medians over all rounds of one case with one server, each figure for itself; errors are
    /// added up.
    pub(super) fn median(&self, case: &str, peer: Peer) -> Option<Sample> {
        let samples: Vec<&Sample> = self.of(case, peer).map(|entry| &entry.sample).collect();
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(|sample| figure(sample)));
        Some(Sample {
            operations_per_second: of(|sample| sample.operations_per_second)?,
            server_cpu_us: of(|sample| sample.server_cpu_us)?,
            client_cpu_us: of(|sample| sample.client_cpu_us)?,
            p50_us: of(|sample| sample.p50_us)?,
            p99_us: of(|sample| sample.p99_us)?,
            p999_us: of(|sample| sample.p999_us)?,
            max_us: of(|sample| sample.max_us)?,
            errors: samples.iter().map(|sample| sample.errors).sum(),
            first_error: samples.iter().find_map(|sample| sample.first_error.clone()),
        })
    }

    /// A figure of one case and server divided by the same figure of another: the median of the
    /// ratios of each round, which what else this machine does disturbs less than a ratio of
    /// medians, because the two were measured close to each other.
    pub(super) fn ratio(
        &self,
        (case, peer): (&str, Peer),
        (other_case, other_peer): (&str, Peer),
        figure: fn(&Sample) -> f64,
    ) -> Option<f64> {
        median(self.of(case, peer).filter_map(|entry| {
            let other = self.of(other_case, other_peer).find(|other| other.round == entry.round)?;
            Some(figure(&entry.sample) / figure(&other.sample))
        }))
    }

    fn of(&self, case: &str, peer: Peer) -> impl Iterator<Item = &Entry> {
        self.samples.iter().filter(move |entry| entry.case == case && entry.peer == peer)
    }

    /// The lowest and the highest rate of one case with one server.
    pub(super) fn rates(&self, case: &str, peer: Peer) -> Option<(f64, f64)> {
        self.of(case, peer)
            .map(|entry| entry.sample.operations_per_second)
            .map(|rate| (rate, rate))
            .reduce(|(low, high), (rate, _)| (low.min(rate), high.max(rate)))
    }

    /// The idle figures of one server: the median by memory of each connection.
    pub(super) fn idle(&self, peer: Peer) -> Option<IdleSample> {
        let mut samples: Vec<_> = self.idle.iter().filter(|sample| sample.peer == peer).collect();
        samples.sort_by(|a, b| a.rss_bytes_each.total_cmp(&b.rss_bytes_each));
        samples.get(samples.len() / 2).copied().cloned()
    }
}

/// The middle value; of an even number of values, the mean of the two in the middle.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let high = *values.get(values.len() / 2)?;
    let low = values[(values.len() - 1) / 2];
    Some(f64::midpoint(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases::CASES;

    fn sample(rate: f64) -> Sample {
        Sample {
            operations_per_second: rate,
            server_cpu_us: 1.0,
            client_cpu_us: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            p999_us: 1.0,
            max_us: 1.0,
            errors: 1,
            first_error: None,
        }
    }

    #[test]
    fn a_ratio_compares_within_each_round() {
        let case = CASES[0];
        let mut results = Results::default();
        // The machine was half as fast in the second round and the third lacks one of the two.
        for (round, own, other) in [(1, 90.0, 100.0), (2, 45.0, 50.0), (4, 30.0, 100.0)] {
            results.add(round, case, Peer::EserverAlways, sample(own));
            results.add(round, case, Peer::RedisAlways, sample(other));
        }
        results.add(3, case, Peer::EserverAlways, sample(1.0));
        let own = (case.name, Peer::EserverAlways);
        let other = (case.name, Peer::RedisAlways);
        let rate = |sample: &Sample| sample.operations_per_second;
        assert_eq!(results.ratio(own, other, rate), Some(0.9));
        assert_eq!(results.ratio(own, (case.name, Peer::RedisOff), rate), None);
        assert_eq!(results.rates(case.name, Peer::RedisAlways), Some((50.0, 100.0)));
        let median = results.median(case.name, Peer::RedisAlways).unwrap();
        assert_eq!((median.operations_per_second, median.errors), (100.0, 3));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0].into_iter()), Some(3.0));
        assert_eq!(median([9.0, 1.0, 5.0].into_iter()), Some(5.0));
        assert_eq!(median([9.0, 1.0, 5.0, 7.0].into_iter()), Some(6.0));
    }
}
