//! What was measured: [`Sample`]s and [`Outage`]s, gathered in [`Results`], looked at by their
//! medians.

use super::database::Engine;
use super::outage::Outage;
use super::ways::Way;
use crate::bench::results::median;

/// One run of one way into one database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) rows_per_second: f64,
    /// Milliseconds of CPU for each 1,000 rows.
    pub(super) eserver_cpu_ms: Option<f64>,
    /// Milliseconds of CPU for each 1,000 rows, where the database is a process of its own.
    pub(super) database_cpu_ms: Option<f64>,
    pub(super) puts_per_second: Option<f64>,
    pub(super) put_p99_us: Option<f64>,
    /// From the last acknowledged put until all were rows.
    pub(super) behind_seconds: Option<f64>,
}

impl Sample {
    pub(super) fn new(rows_per_second: f64) -> Self {
        Self {
            rows_per_second,
            eserver_cpu_ms: None,
            database_cpu_ms: None,
            puts_per_second: None,
            put_p99_us: None,
            behind_seconds: None,
        }
    }

    /// With the CPU of eserver and of the database.
    pub(super) fn cpu(self, (eserver, database): (Option<f64>, Option<f64>)) -> Self {
        Self { eserver_cpu_ms: eserver, database_cpu_ms: database, ..self }
    }
}

/// All that was measured in a run.
#[derive(Debug, Default)]
pub(super) struct Results {
    samples: Vec<(usize, Engine, Way, Sample)>,
    outages: Vec<(Engine, Outage)>,
}

impl Results {
    /// Keeps a sample; at most one for each round, engine and way.
    pub(super) fn add(&mut self, round: usize, engine: Engine, way: Way, sample: Sample) {
        self.samples.push((round, engine, way, sample));
    }

    pub(super) fn add_outage(&mut self, engine: Engine, outage: Outage) {
        self.outages.push((engine, outage));
    }

    pub(super) fn outage(&self, engine: Engine) -> Option<&Outage> {
        self.outages.iter().find(|(other, _)| *other == engine).map(|(_, outage)| outage)
    }

    /// The medians over all rounds, each figure for itself.
    pub(super) fn median(&self, engine: Engine, way: Way) -> Option<Sample> {
        let of = |figure: fn(&Sample) -> Option<f64>| {
            median(self.of(engine, way).filter_map(|(_, sample)| figure(sample)))
        };
        Some(Sample {
            rows_per_second: of(|sample| Some(sample.rows_per_second))?,
            eserver_cpu_ms: of(|sample| sample.eserver_cpu_ms),
            database_cpu_ms: of(|sample| sample.database_cpu_ms),
            puts_per_second: of(|sample| sample.puts_per_second),
            put_p99_us: of(|sample| sample.put_p99_us),
            behind_seconds: of(|sample| sample.behind_seconds),
        })
    }

    /// The lowest and the highest rate.
    pub(super) fn rates(&self, engine: Engine, way: Way) -> Option<(f64, f64)> {
        self.of(engine, way)
            .map(|(_, sample)| (sample.rows_per_second, sample.rows_per_second))
            .reduce(|(low, high), (rate, _)| (low.min(rate), high.max(rate)))
    }

    /// The rate of one way divided by that of another into the same database: the median of the
    /// ratios of each round, whose runs are close to each other in time.
    pub(super) fn ratio(&self, engine: Engine, way: Way, other: Way) -> Option<f64> {
        median(self.of(engine, way).filter_map(|(round, sample)| {
            let (_, other) = self.of(engine, other).find(|(other, _)| *other == round)?;
            Some(sample.rows_per_second / other.rows_per_second)
        }))
    }

    fn of(&self, engine: Engine, way: Way) -> impl Iterator<Item = (usize, &Sample)> {
        self.samples
            .iter()
            .filter(move |sample| sample.1 == engine && sample.2 == way)
            .map(|(round, _, _, sample)| (*round, sample))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_compares_within_each_round_and_engine() {
        let mut results = Results::default();
        // The machine was half as fast in the second round, and the third lacks one of the two.
        for (round, own, other) in [(1, 90.0, 100.0), (2, 45.0, 50.0), (4, 30.0, 100.0)] {
            results.add(round, Engine::Postgres, Way::Backlog, Sample::new(own));
            results.add(round, Engine::Postgres, Way::Engine, Sample::new(other));
            results.add(round, Engine::Mariadb, Way::Engine, Sample::new(1.0));
        }
        results.add(3, Engine::Postgres, Way::Backlog, Sample::new(1.0));
        assert_eq!(results.ratio(Engine::Postgres, Way::Backlog, Way::Engine), Some(0.9));
        assert_eq!(results.ratio(Engine::Postgres, Way::Backlog, Way::Put), None);
        assert_eq!(results.ratio(Engine::Mariadb, Way::Backlog, Way::Engine), None);
        assert_eq!(results.rates(Engine::Postgres, Way::Backlog), Some((1.0, 90.0)));
    }

    #[test]
    fn what_was_not_measured_has_no_median() {
        let mut results = Results::default();
        assert!(results.median(Engine::Sqlite, Way::Put).is_none());
        for rate in [1.0, 5.0, 2.0] {
            let sample = Sample::new(rate).cpu((Some(rate * 10.0), None));
            results.add(rate as usize, Engine::Sqlite, Way::Put, sample);
        }
        let median = results.median(Engine::Sqlite, Way::Put).unwrap();
        assert_eq!((median.rows_per_second, median.eserver_cpu_ms), (2.0, Some(20.0)));
        assert_eq!(median.database_cpu_ms, None);
    }
}
