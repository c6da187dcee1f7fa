//! The targets drains are held against: [`verdicts`].

use super::database::Engine;
use super::outage::Outage;
use super::results::Results;
use super::ways::Way;
use crate::bench::targets::{Bound, Verdict};

/// Every target for each of these engines, with what the results say about it.
pub(super) fn verdicts(engines: &[Engine], results: &Results) -> Vec<Verdict> {
    engines.iter().flat_map(|&engine| verdicts_of(engine, results)).collect()
}

fn verdicts_of(engine: Engine, results: &Results) -> Vec<Verdict> {
    let verdict = |title: &str, wanted, unit, measured| Verdict {
        title: format!("{}: {title}", engine.name()).into(),
        bound: Bound::AtLeast(wanted),
        unit,
        measured,
    };
    let ratio = |way, other| results.ratio(engine, way, other);
    let mut verdicts = vec![if engine.is_server() {
        let measured = ratio(Way::Backlog, Way::Engine);
        verdict("a full queue ÷ the engine by itself", 0.5, "×", measured)
    } else {
        let measured = results.median(engine, Way::Backlog).map(|sample| sample.rows_per_second);
        verdict("a full queue", 200_000.0, "rows/s", measured)
    }];
    for (title, wanted, way, other) in [
        ("a full queue ÷ (a) a connection per row", 100.0, Way::Backlog, Way::PhpRequest),
        ("the goal: single puts ÷ (a) a connection per row", 100.0, Way::Put, Way::PhpRequest),
        ("a full queue ÷ (b) Redis, one by one", 10.0, Way::Backlog, Way::RedisSingly),
        ("a full queue ÷ (b) Redis, by 100", 3.0, Way::Backlog, Way::RedisBatch),
    ] {
        verdicts.push(verdict(title, wanted, "×", ratio(way, other)));
    }
    if engine.is_server() {
        let measured = results.outage(engine).map(Outage::ratio);
        verdicts.push(verdict("catching up after an outage ÷ arrivals", 3.0, "×", measured));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::super::results::Sample;
    use super::*;

    #[test]
    fn a_target_is_met_missed_or_not_measured() {
        let mut results = Results::default();
        for (way, rate) in [
            (Way::Engine, 100.0),
            (Way::Backlog, 50.0),
            (Way::Put, 100.0),
            (Way::PhpRequest, 1.0),
            (Way::RedisBatch, 10.0),
        ] {
            results.add(1, Engine::Postgres, way, Sample::new(rate));
            results.add(1, Engine::Sqlite, way, Sample::new(rate));
        }
        let met = |engine| -> Vec<_> {
            verdicts(&[engine], &results).iter().map(Verdict::is_met).collect()
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(met(Engine::Postgres), [yes, no, yes, None, yes, None]);
        assert_eq!(met(Engine::Sqlite), [no, no, yes, None, yes]);
        assert_eq!(met(Engine::Mariadb), [None; 6]);
    }
}
