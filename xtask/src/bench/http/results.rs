//! What was measured: [`Sample`]s, gathered in [`Results`], looked at by their medians.

use std::fmt;

use eserver_bench::Outcome;

use super::servers::Peer;
use crate::bench::results::median;

/// One run of one case against one server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) requests_per_second: f64,
    /// Microseconds of the server's CPU time, user and kernel, for each request.
    pub(super) server_cpu_us: f64,
    /// The part of the time that the load's core was busy, 0 to 1, where it is known.
    pub(super) client_busy: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// The most memory that the server had resident.
    pub(super) rss_bytes: f64,
}

impl Sample {
    /// All but the memory.
    pub(super) fn of(outcome: &Outcome) -> Self {
        Self {
            requests_per_second: outcome.operations_per_second(),
            server_cpu_us: outcome.server_cpu_us_per_operation().unwrap_or(f64::NAN),
            client_busy: outcome.client_cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
            p50_us: outcome.latency_us(0.5),
            p99_us: outcome.latency_us(0.99),
            rss_bytes: f64::NAN,
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>9.0} requests/s, server {:>6.2} µs CPU each, p50 {:.0} µs, p99 {:.0} µs, {:.1} MiB",
            self.requests_per_second,
            self.server_cpu_us,
            self.p50_us,
            self.p99_us,
            self.rss_bytes / f64::from(1 << 20),
        )?;
        if !self.client_busy.is_nan() {
            write!(f, ", client {:.0} % busy", self.client_busy * 100.0)?;
        }
        Ok(())
    }
}

/// What idle connections cost a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdleSample {
    pub(super) peer: Peer,
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
    pub(super) fn add(&mut self, round: usize, case: &'static str, peer: Peer, sample: Sample) {
        self.samples.push(Entry { round, case, peer, sample });
    }

    pub(super) fn add_idle(&mut self, sample: IdleSample) {
        self.idle.push(sample);
    }

    /// The medians over all rounds of one case with one server, each figure for itself.
    pub(super) fn median(&self, case: &str, peer: Peer) -> Option<Sample> {
        let of = |figure: fn(&Sample) -> f64| {
            median(self.of(case, peer).map(|entry| figure(&entry.sample)))
        };
        Some(Sample {
            requests_per_second: of(|sample| sample.requests_per_second)?,
            server_cpu_us: of(|sample| sample.server_cpu_us)?,
            client_busy: of(|sample| sample.client_busy)?,
            p50_us: of(|sample| sample.p50_us)?,
            p99_us: of(|sample| sample.p99_us)?,
            rss_bytes: of(|sample| sample.rss_bytes)?,
        })
    }

    /// The CPU time of a request with one server divided by that with another: the median of the
    /// ratios of each round, which were measured close to each other.
    pub(super) fn cpu_ratio(&self, case: &str, peer: Peer, other: Peer) -> Option<f64> {
        median(self.of(case, peer).filter_map(|entry| {
            let other = self.of(case, other).find(|other| other.round == entry.round)?;
            Some(entry.sample.server_cpu_us / other.sample.server_cpu_us)
        }))
    }

    fn of(&self, case: &str, peer: Peer) -> impl Iterator<Item = &Entry> {
        self.samples.iter().filter(move |entry| entry.case == case && entry.peer == peer)
    }

    /// The least and the most CPU time of a request.
    pub(super) fn cpu_range(&self, case: &str, peer: Peer) -> Option<(f64, f64)> {
        self.of(case, peer)
            .map(|entry| (entry.sample.server_cpu_us, entry.sample.server_cpu_us))
            .reduce(|(low, high), (cpu, _)| (low.min(cpu), high.max(cpu)))
    }

    /// The idle figures of one server: the median by memory of each connection.
    pub(super) fn idle(&self, peer: Peer) -> Option<IdleSample> {
        let mut samples: Vec<_> = self.idle.iter().filter(|sample| sample.peer == peer).collect();
        samples.sort_by(|a, b| a.rss_bytes_each.total_cmp(&b.rss_bytes_each));
        samples.get(samples.len() / 2).copied().copied()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn sample(server_cpu_us: f64) -> Sample {
        Sample {
            requests_per_second: 1e6 / server_cpu_us,
            server_cpu_us,
            client_busy: 0.5,
            p50_us: 1.0,
            p99_us: 2.0,
            rss_bytes: 1e6,
        }
    }

    #[test]
    fn a_ratio_compares_within_each_round() {
        let mut results = Results::default();
        // The machine was half as fast in the second round, and the third lacks one of the two.
        for (round, own, other) in [(1, 9.0, 10.0), (2, 18.0, 20.0), (4, 30.0, 10.0)] {
            results.add(round, "c64", Peer::Eserver, sample(own));
            results.add(round, "c64", Peer::Floor, sample(other));
            results.add(round, "ab", Peer::Floor, sample(1.0));
        }
        results.add(3, "c64", Peer::Eserver, sample(1.0));
        assert_eq!(results.cpu_ratio("c64", Peer::Eserver, Peer::Floor), Some(0.9));
        assert_eq!(results.cpu_ratio("c64", Peer::Eserver, Peer::Nginx), None);
        assert_eq!(results.cpu_ratio("ab", Peer::Eserver, Peer::Floor), None);
        assert_eq!(results.cpu_range("c64", Peer::Floor), Some((10.0, 20.0)));
        assert_eq!(results.median("c64", Peer::Floor).unwrap().server_cpu_us, 10.0);
        assert!(results.median("c64", Peer::Hyper).is_none());
    }

    #[test]
    fn the_idle_figure_is_the_one_in_the_middle() {
        let mut results = Results::default();
        for (peer, rss_bytes_each) in
            [(Peer::Eserver, 9.0), (Peer::Eserver, 1.0), (Peer::Eserver, 5.0), (Peer::Nginx, 7.0)]
        {
            results.add_idle(IdleSample { peer, rss_bytes_each, rss_bytes: 1 });
        }
        assert_eq!(results.idle(Peer::Eserver).unwrap().rss_bytes_each, 5.0);
        assert!(results.idle(Peer::Floor).is_none());
    }
}
