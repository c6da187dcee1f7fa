//! The targets that HTTP is held against: [`verdicts`].

use super::results::Results;
use super::servers::Peer;
use crate::bench::targets::{Bound, Verdict};

/// The CPU time of a request in one case: at most so many times that with another server.
struct CpuTarget {
    case: &'static str,
    title: &'static str,
    others: &'static [(Peer, f64)],
}

const CPU_TARGETS: [CpuTarget; 6] = [
    CpuTarget { case: "c64", title: "64 connections", others: &kept(0.94) },
    CpuTarget { case: "c1000", title: "1,000 connections", others: &kept(0.85) },
    CpuTarget { case: "c10000", title: "10,000 connections", others: &kept(0.85) },
    CpuTarget { case: "pipelined", title: "pipelined by 16", others: &kept(0.1) },
    CpuTarget { case: "reconnect", title: "a connection per request", others: &PER_REQUEST },
    CpuTarget { case: "ab", title: "ab -c 2000", others: &PER_REQUEST },
];

const fn kept(nginx: f64) -> [(Peer, f64); 3] {
    [(Peer::Floor, 1.06), (Peer::Nginx, nginx), (Peer::Hyper, 1.0)]
}

const PER_REQUEST: [(Peer, f64); 5] = [
    (Peer::Floor, 1.06),
    (Peer::FloorDeferred, 1.06),
    (Peer::Nginx, 0.75),
    (Peer::NginxDeferred, 1.0),
    (Peer::Hyper, 1.0),
];

/// The most memory that an idle connection may cost, in bytes.
const IDLE_BYTES_MAX: f64 = 200.0;

/// Every target with what these results say about it.
pub(super) fn verdicts(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for CpuTarget { case, title, others } in CPU_TARGETS {
        for &(other, wanted) in others {
            verdicts.push(Verdict {
                title: format!("{title}: CPU per request ÷ {}", other.name()).into(),
                bound: Bound::AtMost(wanted),
                unit: "×",
                measured: results.cpu_ratio(case, Peer::Eserver, other),
            });
        }
    }
    verdicts.push(Verdict {
        title: "memory of an idle connection".into(),
        bound: Bound::AtMost(IDLE_BYTES_MAX),
        unit: "bytes",
        measured: results.idle(Peer::Eserver).map(|sample| sample.rss_bytes_each),
    });
    verdicts
}

#[cfg(test)]
mod tests {
    use super::super::cases::CASES;
    use super::super::results::IdleSample;
    use super::super::results::tests::sample;
    use super::*;

    #[test]
    fn a_target_is_met_missed_or_not_measured() {
        let mut results = Results::default();
        for (case, peer, cpu_us) in [
            ("c64", Peer::Eserver, 5.25),
            ("c64", Peer::Floor, 5.0),
            ("c64", Peer::Nginx, 5.5),
            ("pipelined", Peer::Eserver, 0.5),
            ("pipelined", Peer::Nginx, 5.0),
        ] {
            results.add(1, case, peer, sample(cpu_us));
        }
        results.add_idle(IdleSample { peer: Peer::Eserver, rss_bytes_each: 201.0, rss_bytes: 1 });
        let of = |title: &str| {
            let verdicts = verdicts(&results);
            verdicts.into_iter().find(|verdict| verdict.title == title).unwrap().is_met()
        };
        assert_eq!(of("64 connections: CPU per request ÷ floor"), Some(true));
        assert_eq!(of("64 connections: CPU per request ÷ nginx"), Some(false));
        assert_eq!(of("64 connections: CPU per request ÷ hyper"), None);
        assert_eq!(of("pipelined by 16: CPU per request ÷ nginx"), Some(true));
        assert_eq!(of("memory of an idle connection"), Some(false));
    }

    #[test]
    fn every_case_has_targets_and_every_target_its_case() {
        for (case, target) in CASES.iter().zip(CPU_TARGETS) {
            assert_eq!(case.name, target.case);
            assert!(target.others.iter().all(|(peer, _)| case.suits(*peer)), "{}", case.name);
        }
        assert_eq!(CASES.len(), CPU_TARGETS.len());
    }
}
