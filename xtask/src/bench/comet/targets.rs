//! The targets that pushing is held against: [`verdicts`].

use super::cases::Figure;
use super::results::Results;
use super::servers::Peer;
use crate::bench::targets::{Bound, Verdict};

/// A figure of eserver by itself.
const ALONE: [(&str, Figure, Bound, &str, &str); 7] = [
    (
        "waiting",
        Figure::RssBytesEach,
        Bound::AtMost(256.0),
        "bytes",
        "15,000 waiting polls: RSS of each with its channel",
    ),
    ("waiting", Figure::IdleCpuPercent, Bound::AtMost(0.1), "%", "15,000 waiting polls: idle CPU"),
    (
        "streams",
        Figure::CpuUs,
        Bound::AtMost(7.5),
        "µs",
        "10,000 streams on one channel: CPU per delivery",
    ),
    (
        "pipelined",
        Figure::PerSecond,
        Bound::AtLeast(200_000.0),
        "/s",
        "publishing, pipelined by 16: rate",
    ),
    ("repoll-2", Figure::P99Ms, Bound::AtMost(2.0), "ms", "2 ms after a re-poll: p99"),
    ("repoll-10", Figure::P99Ms, Bound::AtMost(2.0), "ms", "10 ms after a re-poll: p99"),
    ("repoll-30", Figure::P99Ms, Bound::AtMost(2.0), "ms", "30 ms after a re-poll: p99"),
];

/// A figure of eserver divided by icomet's. Twice as many for each second of CPU time is half the
/// CPU time of each.
const BESIDE_ICOMET: [(&str, Figure, Bound, &str); 3] = [
    (
        "streams",
        Figure::LastMs,
        Bound::AtMost(0.6),
        "10,000 streams on one channel: last arrival ÷ icomet",
    ),
    ("publish", Figure::CpuUs, Bound::AtMost(0.5), "publishing: CPU per publish ÷ icomet"),
    (
        "pipelined",
        Figure::CpuUs,
        Bound::AtMost(0.5),
        "publishing, pipelined by 16: CPU per publish ÷ icomet",
    ),
];

/// Every target with what these results say about it.
pub(super) fn verdicts(results: &Results) -> Vec<Verdict> {
    let alone = ALONE.into_iter().map(|(case, figure, bound, unit, title)| Verdict {
        title: title.into(),
        bound,
        unit,
        measured: results.median(case, Peer::Eserver, figure),
    });
    let beside = BESIDE_ICOMET.into_iter().map(|(case, figure, bound, title)| Verdict {
        title: title.into(),
        bound,
        unit: "×",
        measured: results.ratio(case, Peer::Eserver, Peer::Icomet, figure),
    });
    alone.chain(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::results::Sample;
    use super::*;

    #[test]
    fn a_target_is_met_missed_or_not_measured() {
        let mut results = Results::default();
        let sample =
            |cpu, last| Sample::default().with(Figure::CpuUs, cpu).with(Figure::LastMs, last);
        results.add(1, "streams", Peer::Eserver, sample(7.6, 60.0));
        results.add(1, "streams", Peer::Icomet, sample(14.0, 100.0));
        results.add(1, "publish", Peer::Eserver, sample(5.0, 0.0));
        let of = |title: &str| {
            let verdicts = verdicts(&results);
            verdicts.into_iter().find(|verdict| verdict.title == title).unwrap().is_met()
        };
        assert_eq!(of("10,000 streams on one channel: CPU per delivery"), Some(false));
        assert_eq!(of("10,000 streams on one channel: last arrival ÷ icomet"), Some(true));
        assert_eq!(of("publishing: CPU per publish ÷ icomet"), None);
    }

    #[test]
    fn every_target_is_of_a_case_that_measures_it() {
        let alone = ALONE.into_iter().map(|(case, figure, ..)| (case, figure));
        let beside = BESIDE_ICOMET.into_iter().map(|(case, figure, ..)| (case, figure));
        for (name, figure) in alone.chain(beside) {
            let case = CASES.iter().find(|case| case.name == name).unwrap();
            assert!(case.figures.contains(&figure), "{name} {figure:?}");
        }
    }
}
