//! What was measured: [`Sample`]s, gathered in [`Results`], looked at by their medians.

use std::fmt;

use super::cases::Figure;
use super::servers::Peer;
use crate::bench::results::median;

/// One run of one case against one server: what was measured of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample(Vec<(Figure, f64)>);

impl Sample {
    pub(super) fn with(mut self, figure: Figure, value: f64) -> Self {
        self.0.push((figure, value));
        self
    }

    fn get(&self, figure: Figure) -> Option<f64> {
        let found = self.0.iter().find(|(other, _)| *other == figure);
        found.map(|(_, value)| *value).filter(|value| value.is_finite())
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (figure, value)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{} {value:.*}", figure.heading(), figure.decimals())?;
        }
        Ok(())
    }
}

/// All samples of a run.
#[derive(Debug, Default)]
pub(super) struct Results {
    samples: Vec<Entry>,
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

    /// The median over all rounds of a figure of one case with one server.
    pub(super) fn median(&self, case: &str, peer: Peer, figure: Figure) -> Option<f64> {
        median(self.values(case, peer, figure).map(|(_, value)| value))
    }

    /// The least and the most.
    pub(super) fn range(&self, case: &str, peer: Peer, figure: Figure) -> Option<(f64, f64)> {
        self.values(case, peer, figure)
            .map(|(_, value)| (value, value))
            .reduce(|(low, high), (value, _)| (low.min(value), high.max(value)))
    }

    /// A figure with one server divided by that with another: the median of the ratios of each
    /// round, which were measured close to each other.
    pub(super) fn ratio(&self, case: &str, peer: Peer, other: Peer, figure: Figure) -> Option<f64> {
        median(self.values(case, peer, figure).filter_map(|(round, value)| {
            let (_, other) =
                self.values(case, other, figure).find(|(of_round, _)| *of_round == round)?;
            Some(value / other).filter(|ratio| ratio.is_finite())
        }))
    }

    fn values(&self, case: &str, peer: Peer, figure: Figure) -> impl Iterator<Item = (usize, f64)> {
        let entries = self.samples.iter();
        let entries = entries.filter(move |entry| entry.case == case && entry.peer == peer);
        entries.filter_map(move |entry| Some((entry.round, entry.sample.get(figure)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_compares_within_each_round() {
        let mut results = Results::default();
        let sample = |cpu| Sample::default().with(Figure::CpuUs, cpu);
        // The machine was half as fast in the second round, and the third lacks one of the two.
        for (round, own, other) in [(1, 5.0, 10.0), (2, 10.0, 20.0), (4, 9.0, 10.0)] {
            results.add(round, "c", Peer::Eserver, sample(own));
            results.add(round, "c", Peer::Icomet, sample(other));
        }
        results.add(3, "c", Peer::Eserver, sample(1.0));
        let of = |other, figure| results.ratio("c", Peer::Eserver, other, figure);
        assert_eq!(of(Peer::Icomet, Figure::CpuUs), Some(0.5));
        assert_eq!(of(Peer::Icomet, Figure::LastMs), None);
        assert_eq!(of(Peer::Nchan, Figure::CpuUs), None);
        assert_eq!(results.median("c", Peer::Icomet, Figure::CpuUs), Some(10.0));
        assert_eq!(results.range("c", Peer::Eserver, Figure::CpuUs), Some((1.0, 10.0)));
    }

    #[test]
    fn what_is_no_number_was_not_measured() {
        let mut results = Results::default();
        let sample = Sample::default().with(Figure::CpuUs, f64::NAN).with(Figure::LastMs, 0.0);
        results.add(1, "c", Peer::Eserver, sample.clone());
        results.add(1, "c", Peer::Icomet, sample);
        assert_eq!(results.median("c", Peer::Eserver, Figure::CpuUs), None);
        assert_eq!(results.ratio("c", Peer::Eserver, Peer::Icomet, Figure::LastMs), None);
    }
}
