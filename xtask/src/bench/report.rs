//! What is written down of a run: [`Report`], as a page for people and as JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::cases::{CASES, Case};
use super::machine::Machine;
use super::results::{Results, Sample};
use super::servers::Peer;
use super::targets::{Bound, Verdict};

/// Everything a report says.
#[derive(Debug)]
pub(super) struct Report<'run> {
    pub(super) machine: Machine,
    pub(super) versions: Vec<String>,
    /// The command line to repeat it.
    pub(super) command: String,
    pub(super) seconds: f64,
    pub(super) rounds: usize,
    pub(super) peers: &'run [Peer],
    pub(super) results: &'run Results,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) failures: &'run [String],
}

impl Report<'_> {
    /// The page `queue.md`.
    pub(super) fn markdown(&self) -> String {
        let mut page = String::from("# The queue under load\n\n");
        self.write_circumstances(&mut page);
        write_targets(&mut page, &self.verdicts);
        for case in &CASES {
            self.write_case(&mut page, case);
        }
        self.write_idle(&mut page);
        write_lists(&mut page, &[("What went wrong", self.failures)]);
        page
    }

    fn write_circumstances(&self, page: &mut String) {
        write_origin(page, &self.machine, &self.versions, &self.command);
        line(
            page,
            format_args!(
                "- Load: one client thread on the same machine over loopback, {} s per run after a \
                 warm-up, {} in which every server has its turn on a fresh instance; medians, of \
                 ratios those within each round. Values of 60 bytes. CPU is the server's, all its \
                 threads, kernel included. Latency is from the write of a request (of a burst when \
                 pipelined, from connecting with a connection per request) to its answer.",
                self.seconds,
                match self.rounds {
                    1 => "1 round".to_owned(),
                    rounds => format!("{rounds} rounds"),
                }
            ),
        );
        page.push_str(
            "- Client and server share the cores. Where the client is busy to nearly 100 %, it was \
             the limit and the server could have done more. Compare the rows of one table, not the \
             tables of two machines.\n",
        );
    }

    fn write_case(&self, page: &mut String, case: &Case) {
        let rows: Vec<(Peer, Sample)> = self
            .peers
            .iter()
            .filter_map(|&peer| Some((peer, self.results.median(case.name, peer)?)))
            .collect();
        if rows.is_empty() {
            return;
        }
        line(page, format_args!("\n## {}\n", capitalized(case.title)));
        line(
            page,
            format_args!(
                "| server | operations/s | lowest–highest | ÷ {} | CPU µs each | client busy | \
                 p50 µs | p99 µs | p99.9 µs | max µs |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
                case.reference.name()
            ),
        );
        for (peer, sample) in rows {
            let (low, high) =
                self.results.rates(case.name, peer).expect("what has a median has rates");
            let ratio = self
                .results
                .ratio((case.name, peer), (case.name, case.reference), |sample| {
                    sample.operations_per_second
                })
                .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            let errors = match sample.errors {
                0 => String::new(),
                errors => format!(" ({errors} errors)"),
            };
            line(
                page,
                format_args!(
                    "| {}{errors} | {} | {}–{} | {ratio} | {:.2} | {:.0} % | {:.0} | {:.0} | {:.0} | \
                     {:.0} |",
                    peer.name(),
                    thousands(sample.operations_per_second),
                    thousands(low),
                    thousands(high),
                    sample.server_cpu_us,
                    sample.client_cpu_us * sample.operations_per_second / 10_000.0,
                    sample.p50_us,
                    sample.p99_us,
                    sample.p999_us,
                    sample.max_us,
                ),
            );
            if let Some(error) = &sample.first_error {
                line(page, format_args!("| ↳ first error: {error} | | | | | | | | | |"));
            }
        }
    }

    fn write_idle(&self, page: &mut String) {
        let rows: Vec<_> = self.peers.iter().filter_map(|&peer| self.results.idle(peer)).collect();
        if rows.is_empty() {
            return;
        }
        page.push_str(
            "\n## Memory of idle connections\n\nEach has made one request and stays silent. The \
             kernel's socket memory is not in RSS.\n\n| server | connections | RSS bytes each | RSS \
             MiB in all |\n|---|--:|--:|--:|\n",
        );
        for sample in rows {
            line(
                page,
                format_args!(
                    "| {} | {} | {:.0} | {:.1} |",
                    sample.peer.name(),
                    thousands(sample.connections as f64),
                    sample.rss_bytes_each,
                    sample.rss_bytes as f64 / f64::from(1 << 20)
                ),
            );
        }
    }

    /// The file `queue.json`.
    pub(super) fn json(&self) -> String {
        let machine = &self.machine;
        let document = json!({
            "date": machine.date,
            "command": self.command,
            "machine": machine_json(machine),
            "versions": self.versions,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "targets": self.verdicts.iter().map(verdict_json).collect::<Vec<_>>(),
            "cases": CASES.iter().map(|case| self.case_json(case)).collect::<Vec<_>>(),
            "idle": self.peers.iter().filter_map(|&peer| {
                let sample = self.results.idle(peer)?;
                Some(json!({
                    "server": peer.name(),
                    "connections": sample.connections,
                    "rss_bytes_each": sample.rss_bytes_each,
                    "rss_bytes": sample.rss_bytes,
                }))
            }).collect::<Vec<_>>(),
            "failures": self.failures,
        });
        format!("{document:#}\n")
    }

    fn case_json(&self, case: &Case) -> Value {
        let servers: Vec<Value> = self
            .peers
            .iter()
            .filter_map(|&peer| {
                let sample = self.results.median(case.name, peer)?;
                Some(json!({
                    "server": peer.name(),
                    "operations_per_second": sample.operations_per_second,
                    "server_cpu_us": sample.server_cpu_us,
                    "client_cpu_us": sample.client_cpu_us,
                    "p50_us": sample.p50_us,
                    "p99_us": sample.p99_us,
                    "p999_us": sample.p999_us,
                    "max_us": sample.max_us,
                    "errors": sample.errors,
                }))
            })
            .collect();
        json!({ "name": case.name, "title": case.title, "servers": servers })
    }
}

/// Where and how it was measured.
pub(super) fn write_origin(
    page: &mut String,
    machine: &Machine,
    versions: &[String],
    command: &str,
) {
    line(page, format_args!("Made by `{command}` on {}.\n", machine.date));
    line(
        page,
        format_args!(
            "- Machine: {} cores ({}), {} MiB of memory, {}, {}; one `pwrite` + `fdatasync` takes \
             {:.0} µs.",
            machine.cores,
            machine.processor,
            machine.memory_mebibytes,
            machine.kernel,
            machine.file_system,
            machine.commit_us
        ),
    );
    for version in versions {
        line(page, format_args!("- {version}"));
    }
}

/// The targets and what came of them.
pub(super) fn write_targets(page: &mut String, verdicts: &[Verdict]) {
    page.push_str("\n## Targets\n\n| target | wanted | measured | |\n|---|---|---|---|\n");
    for verdict in verdicts {
        let wanted = match verdict.bound {
            Bound::AtLeast(bound) => format!("≥ {}", figure(bound, verdict.unit)),
            Bound::AtMost(bound) => format!("≤ {}", figure(bound, verdict.unit)),
        };
        let measured = verdict
            .measured
            .map_or_else(|| "–".to_owned(), |measured| figure(measured, verdict.unit));
        let word = match verdict.is_met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        line(page, format_args!("| {} | {wanted} | {measured} | {word} |", verdict.title));
    }
}

/// How many rounds there were, in which the servers or the ways to do something took turns.
pub(super) fn rounds_in_words(rounds: usize) -> String {
    match rounds {
        1 => "1 round".to_owned(),
        rounds => format!("{rounds} rounds"),
    }
}

/// Sections that are there only if there is something to say.
pub(super) fn write_lists(page: &mut String, sections: &[(&str, &[String])]) {
    for (title, items) in sections.iter().filter(|(_, items)| !items.is_empty()) {
        line(page, format_args!("\n## {title}\n"));
        items.iter().for_each(|item| line(page, format_args!("- {item}")));
    }
}

pub(super) fn machine_json(machine: &Machine) -> Value {
    json!({
        "cores": machine.cores,
        "processor": machine.processor,
        "memory_mebibytes": machine.memory_mebibytes,
        "kernel": machine.kernel,
        "file_system": machine.file_system,
        "commit_us": machine.commit_us,
    })
}

pub(super) fn verdict_json(verdict: &Verdict) -> Value {
    let (side, bound) = match verdict.bound {
        Bound::AtLeast(bound) => ("at_least", bound),
        Bound::AtMost(bound) => ("at_most", bound),
    };
    json!({
        "title": verdict.title,
        side: bound,
        "unit": verdict.unit,
        "measured": verdict.measured,
        "is_met": verdict.is_met(),
    })
}

pub(super) fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string takes all that is written");
}

fn figure(value: f64, unit: &str) -> String {
    match unit {
        "×" => format!("{value:.2} ×"),
        "%" | "µs" | "ms" if value.abs() < 100.0 => format!("{value:.2} {unit}"),
        _ => format!("{} {unit}", thousands(value)),
    }
}

/// A number without decimals, its thousands parted by commas.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 {
        text.insert(0, '-');
    }
    text
}

/// The text with its first letter as a capital.
pub(super) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_parted() {
        for (value, text) in [
            (0.0, "0"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-12_345.0, "-12,345"),
            (-0.2, "0"),
        ] {
            assert_eq!(thousands(value), text);
        }
    }
}
