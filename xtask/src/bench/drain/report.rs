//! What is written down of a run: [`Report`], as a page for people and as JSON for programs.

use serde_json::{Value, json};

use super::database::Engine;
use super::results::Results;
use super::ways::Way;
use crate::bench::machine::Machine;
use crate::bench::report::{
    line, machine_json, rounds_in_words, thousands, verdict_json, write_lists, write_origin,
    write_targets,
};
use crate::bench::targets::Verdict;

/// What the page says of how it was measured, besides the numbers.
const CIRCUMSTANCES: &str = "\
- Rows are `t(id, num, name)`, the id given by the engine; each measurement begins with an empty \
table and ends with counting what is in it. Every database commits to disk; SQLite in WAL mode with \
`synchronous = full`. Clients, eserver and databases share the cores.
- *Engine by itself*: statements of 1,000 rows as literal text, each its own transaction, one \
connection, from inside of this program; making the texts does not count.
- *A full queue*: messages `{\"stmt\":\"add\",\"params\":[7,\"name 7\"]}` that were put while there was no \
drain; eserver then starts with one, all settings default, `sync = always`. From when it listens \
until the last row is committed.
- *64 clients put singly*: until all that was acknowledged are rows, from the first put on.
- *(a)*: each row is what a PHP-FPM request has to do: connect by PDO over TCP with a password, \
insert, disconnect. There is no HTTP and no start of a request in it, in favor of PHP.
- *(b)*: one PHP process takes from a list that was filled before, in a Redis that writes nothing to \
disk, and inserts by a prepared statement over a connection that stays. A crash loses what it has \
in hand, in favor of its speed.
- Ratios are medians of those within each round. CPU is user and kernel, all processes and threads; \
PHP's, Redis's and the load clients' are not shown.
";

/// Everything a report says.
#[derive(Debug)]
pub(super) struct Report<'run> {
    pub(super) machine: Machine,
    pub(super) versions: Vec<String>,
    /// The load average of the last minute before the run began.
    pub(super) load_before: f64,
    /// What a commit took then, in microseconds; [`Machine`] says what it took afterwards.
    pub(super) commit_us_before: f64,
    /// The command line to repeat it.
    pub(super) command: String,
    pub(super) rows: u64,
    pub(super) seconds: f64,
    pub(super) rounds: usize,
    pub(super) engines: &'run [Engine],
    pub(super) results: &'run Results,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) failures: &'run [String],
}

impl Report<'_> {
    /// The page `drain.md`.
    pub(super) fn markdown(&self) -> String {
        let mut page = String::from("# From puts to rows\n\n");
        write_origin(&mut page, &self.machine, &self.versions, &self.command);
        line(
            &mut page,
            format_args!(
                "- Extent: {} rows where a number is given, else {} s, {} in which the ways take turns; medians.",
                thousands(self.rows as f64),
                self.seconds,
                rounds_in_words(self.rounds),
            ),
        );
        line(
            &mut page,
            format_args!(
                "- Before the run the machine's load average was {:.1}, and one commit took {:.0} µs. \
                 Where that differs much from what it took in the end, or lowest and highest lie far \
                 apart, something else was at work and the figures are no good.",
                self.load_before, self.commit_us_before
            ),
        );
        page.push_str(CIRCUMSTANCES);
        write_targets(&mut page, &self.verdicts);
        for &engine in self.engines {
            self.write_engine(&mut page, engine);
        }
        self.write_outages(&mut page);
        write_lists(&mut page, &[("What went wrong", self.failures)]);
        page
    }

    fn write_engine(&self, page: &mut String, engine: Engine) {
        line(page, format_args!("\n## {}\n", engine.name()));
        page.push_str(
            "| way of a row | rows/s | lowest–highest | ÷ engine by itself | ÷ (a) | eserver CPU \
             ms per 1,000 | database CPU ms per 1,000 |\n|---|--:|--:|--:|--:|--:|--:|\n",
        );
        for way in Way::ALL {
            let Some(sample) = self.results.median(engine, way) else { continue };
            let (low, high) = self.results.rates(engine, way).expect("what has a median has rates");
            line(
                page,
                format_args!(
                    "| {} | {} | {}–{} | {} | {} | {} | {} |",
                    way.name(),
                    thousands(sample.rows_per_second),
                    thousands(low),
                    thousands(high),
                    decimals(self.results.ratio(engine, way, Way::Engine), 4),
                    decimals(self.results.ratio(engine, way, Way::PhpRequest), 1),
                    decimals(sample.eserver_cpu_ms, 2),
                    decimals(sample.database_cpu_ms, 2),
                ),
            );
        }
        let put = self.results.median(engine, Way::Put);
        if let Some((puts, p99_us, behind)) =
            put.and_then(|put| Some((put.puts_per_second?, put.put_p99_us?, put.behind_seconds?)))
        {
            line(
                page,
                format_args!(
                    "\nThe 64 clients had {} puts acknowledged per second, 99 of 100 within {:.1} ms; \
                     the last row was there {behind:.2} s after the last acknowledgement.",
                    thousands(puts),
                    p99_us / 1e3
                ),
            );
        }
    }

    fn write_outages(&self, page: &mut String) {
        let outages: Vec<_> = self
            .engines
            .iter()
            .filter_map(|&engine| Some((engine, self.results.outage(engine)?)))
            .collect();
        if outages.is_empty() {
            return;
        }
        page.push_str(
            "\n## Catching up after an outage\n\nThe database is killed (`kill -9`) and started \
             again while messages arrive at a steady rate. *Noticed after* is from when it accepts \
             connections until the first batch is committed, by the pace of the drain's attempts; \
             *caught up after* is from then until no more is left than what arrives in a tenth of a \
             second. Once per run.\n\n| database | arrivals/s | outage s | gathered messages | \
             noticed after s | caught up after s | rows/s meanwhile | ÷ arrivals |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for (engine, outage) in outages {
            line(
                page,
                format_args!(
                    "| {} | {} | {:.1} | {} | {:.2} | {:.2} | {} | {:.1} |",
                    engine.name(),
                    thousands(outage.arrivals_per_second),
                    outage.outage_seconds,
                    thousands(outage.backlog as f64),
                    outage.reconnect_seconds,
                    outage.catch_up_seconds,
                    thousands(outage.rows_per_second),
                    outage.ratio()
                ),
            );
        }
    }

    /// The file `drain.json`.
    pub(super) fn json(&self) -> String {
        let document = json!({
            "date": self.machine.date,
            "command": self.command,
            "machine": machine_json(&self.machine),
            "versions": self.versions,
            "load_before": self.load_before,
            "commit_us_before": self.commit_us_before,
            "rows": self.rows,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "targets": self.verdicts.iter().map(verdict_json).collect::<Vec<_>>(),
            "databases": self.engines.iter().map(|&engine| self.engine_json(engine))
                .collect::<Vec<_>>(),
            "failures": self.failures,
        });
        format!("{document:#}\n")
    }

    fn engine_json(&self, engine: Engine) -> Value {
        let ways: Vec<_> = Way::ALL
            .into_iter()
            .filter_map(|way| {
                let sample = self.results.median(engine, way)?;
                Some(json!({
                    "way": way.key(),
                    "title": way.name(),
                    "rows_per_second": sample.rows_per_second,
                    "to_engine_by_itself": self.results.ratio(engine, way, Way::Engine),
                    "to_php_request": self.results.ratio(engine, way, Way::PhpRequest),
                    "eserver_cpu_ms_per_1000_rows": sample.eserver_cpu_ms,
                    "database_cpu_ms_per_1000_rows": sample.database_cpu_ms,
                    "puts_per_second": sample.puts_per_second,
                    "put_p99_us": sample.put_p99_us,
                    "behind_seconds": sample.behind_seconds,
                }))
            })
            .collect();
        let outage = self.results.outage(engine).map(|outage| {
            json!({
                "arrivals_per_second": outage.arrivals_per_second,
                "outage_seconds": outage.outage_seconds,
                "backlog": outage.backlog,
                "reconnect_seconds": outage.reconnect_seconds,
                "catch_up_seconds": outage.catch_up_seconds,
                "rows_per_second": outage.rows_per_second,
            })
        });
        json!({ "database": engine.name(), "ways": ways, "outage": outage })
    }
}

fn decimals(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::super::outage::Outage;
    use super::super::results::Sample;
    use super::super::targets::verdicts;
    use super::*;

    #[test]
    fn what_was_measured_is_shown_and_nothing_else() {
        let mut results = Results::default();
        let sample = Sample::new(123_456.0).cpu((Some(1.25), None));
        results.add(1, Engine::Postgres, Way::Backlog, sample);
        results.add(1, Engine::Postgres, Way::Engine, Sample::new(246_912.0));
        let outage = Outage {
            arrivals_per_second: 5_000.0,
            outage_seconds: 10.0,
            backlog: 50_000,
            reconnect_seconds: 0.5,
            catch_up_seconds: 4.0,
            rows_per_second: 12_500.0,
        };
        results.add_outage(Engine::Postgres, outage);
        let engines = [Engine::Postgres, Engine::Mariadb];
        let report = Report {
            machine: Machine {
                date: "2000-01-01".to_owned(),
                cores: 2,
                processor: "a processor".to_owned(),
                memory_mebibytes: 1,
                kernel: "a kernel".to_owned(),
                file_system: "ext4".to_owned(),
                commit_us: 100.0,
            },
            versions: Vec::new(),
            load_before: 0.5,
            commit_us_before: 100.0,
            command: "a command".to_owned(),
            rows: 1_000,
            seconds: 1.0,
            rounds: 1,
            engines: &engines,
            results: &results,
            verdicts: verdicts(&engines, &results),
            failures: &["it rained".to_owned()],
        };
        let page = report.markdown();
        for text in [
            "| eserver, a full queue | 123,456 | 123,456–123,456 | 0.5000 | – | 1.25 | – |",
            "| PostgreSQL | 5,000 | 10.0 | 50,000 | 0.50 | 4.00 | 12,500 | 2.5 |",
            "| PostgreSQL: catching up after an outage ÷ arrivals | ≥ 3.00 × | 2.50 × | **missed** |",
            "| MariaDB: a full queue ÷ the engine by itself | ≥ 0.50 × | – | not measured |",
            "- it rained",
        ] {
            assert!(page.contains(text), "{text} is missing in:\n{page}");
        }
        assert!(!page.contains("64 clients put singly |"), "it was not measured");
        let document: Value = serde_json::from_str(&report.json()).unwrap();
        let [postgres, mariadb] = [0, 1].map(|at: usize| &document["databases"][at]);
        assert_eq!(postgres["ways"][1]["rows_per_second"], 123_456.0);
        assert_eq!(postgres["outage"]["backlog"], 50_000);
        assert_eq!((&mariadb["ways"], &mariadb["outage"]), (&json!([]), &Value::Null));
    }
}
