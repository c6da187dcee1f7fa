//! What is written down of a run: [`Report`], as a page for people and as JSON for programs.

use serde_json::{Value, json};

use super::cases::{CASES, Case};
use super::results::{Results, Sample};
use super::servers::Peer;
use crate::bench::machine::Machine;
use crate::bench::report::{
    line, machine_json, rounds_in_words, thousands, verdict_json, write_lists, write_origin,
    write_targets,
};
use crate::bench::targets::Verdict;

/// The file name of the picture beside the page.
pub(super) const CHART: &str = "http.svg";

/// What the page says of how it was measured, besides the numbers.
const CIRCUMSTANCES: &str = "\
- Every server has one core to itself and the load another one, over loopback. CPU is the server's \
time in user and kernel, all its threads, divided by the answers: on loopback this includes most of \
what the kernel does to deliver an answer to the client. Where the client is busy to nearly 100 %, \
it was the limit: compare the CPU, not the rates.
- *eserver* is the binary with one `[[http.respond]]`, all settings default. *nginx* is one worker \
with `return 200` and no access log, *hyper* a service that does nothing else on a tokio runtime of \
one thread. The *floor* is a loop over epoll that reads no request: it answers so many bytes with \
so many bytes, or any bytes at all where each connection has one request. *deferred* is \
TCP_DEFER_ACCEPT, in nginx's words `listen … deferred`, and eserver's default; *at once* is \
eserver without it (`http.newcomers = \"at-once\"`).
- Latency is from the write of a request (of a burst when pipelined, from connecting with a \
connection per request) to its answer; with `ab` as it says, in milliseconds. Memory is the most \
that was resident.
";

/// Everything a report says.
#[derive(Debug)]
pub(super) struct Report<'run> {
    pub(super) machine: Machine,
    pub(super) versions: Vec<String>,
    /// The command line to repeat it.
    pub(super) command: String,
    pub(super) seconds: f64,
    pub(super) rounds: usize,
    /// The machine's load average before and at the end.
    pub(super) loads: [f64; 2],
    pub(super) peers: &'run [Peer],
    pub(super) results: &'run Results,
    pub(super) verdicts: Vec<Verdict>,
    /// Who could not take part, and why.
    pub(super) absent: &'run [String],
    pub(super) failures: &'run [String],
}

impl Report<'_> {
    /// The page `http.md`.
    pub(super) fn markdown(&self) -> String {
        let mut page = String::from("# Small answers by HTTP\n\n");
        write_origin(&mut page, &self.machine, &self.versions, &self.command);
        line(
            &mut page,
            format_args!(
                "- Extent: {} s per run after a warm-up, {} in which the servers take turns; every run has a fresh server; medians, \
                 of ratios those within each round. The load average was {:.1} before and {:.1} at \
                 the end, the runs themselves make it 2.",
                self.seconds,
                rounds_in_words(self.rounds),
                self.loads[0],
                self.loads[1],
            ),
        );
        page.push_str(CIRCUMSTANCES);
        write_targets(&mut page, &self.verdicts);
        self.write_everyday(&mut page);
        for case in &CASES {
            self.write_case(&mut page, case);
        }
        self.write_idle(&mut page);
        let lists = [("Who is not here", self.absent), ("What went wrong", self.failures)];
        write_lists(&mut page, &lists);
        page
    }

    /// The rows of one case.
    fn rows(&self, case: &Case) -> impl Iterator<Item = (Peer, Sample)> {
        self.peers.iter().filter_map(|&peer| Some((peer, self.results.median(case.name, peer)?)))
    }

    fn write_everyday(&self, page: &mut String) {
        if !self.peers.iter().any(|peer| Peer::EVERYDAY.contains(peer)) {
            return;
        }
        line(
            page,
            format_args!(
                "\n## Beside the servers of every day\n\n![Answers per second, as a chart]({CHART})\n"
            ),
        );
        page.push_str(
            "| server | requests/s, 64 connections that stay | CPU µs each | requests/s, a \
             connection each | CPU µs each |\n|---|--:|--:|--:|--:|\n",
        );
        for &peer in self.peers.iter().filter(|peer| !peer.is_variant()) {
            let figures = CASES.iter().filter(|case| case.is_everyday).map(|case| {
                self.results.median(case.name, peer).map_or_else(
                    || "– | –".to_owned(),
                    |sample| {
                        let rate = thousands(sample.requests_per_second);
                        format!("{rate} | {:.1}", sample.server_cpu_us)
                    },
                )
            });
            let figures: Vec<String> = figures.collect();
            line(page, format_args!("| {} | {} |", peer.name(), figures.join(" | ")));
        }
    }

    fn write_case(&self, page: &mut String, case: &Case) {
        if self.rows(case).next().is_none() {
            return;
        }
        line(page, format_args!("\n## {}\n", case.heading()));
        page.push_str(
            "| server | CPU µs each | lowest–highest | ÷ floor | ÷ nginx | requests/s | client busy \
             | p50 µs | p99 µs | MiB |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for (peer, sample) in self.rows(case) {
            let (low, high) =
                self.results.cpu_range(case.name, peer).expect("what has a median has a range");
            let ratio = |other| {
                let ratio = self.results.cpu_ratio(case.name, peer, other);
                ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
            };
            let busy = match sample.client_busy {
                busy if busy.is_nan() => "–".to_owned(),
                busy => format!("{:.0} %", busy * 100.0),
            };
            line(
                page,
                format_args!(
                    "| {} | {:.2} | {low:.2}–{high:.2} | {} | {} | {} | {busy} | {} | {} | {:.1} |",
                    peer.name(),
                    sample.server_cpu_us,
                    ratio(Peer::Floor),
                    ratio(Peer::Nginx),
                    thousands(sample.requests_per_second),
                    thousands(sample.p50_us),
                    thousands(sample.p99_us),
                    sample.rss_bytes / f64::from(1 << 20),
                ),
            );
        }
    }

    fn write_idle(&self, page: &mut String) {
        let rows: Vec<_> = self.peers.iter().filter_map(|&peer| self.results.idle(peer)).collect();
        if rows.is_empty() {
            return;
        }
        line(
            page,
            format_args!(
                "\n## Memory of idle connections\n\n{} of them, each of which has made one request \
                 and stays silent. The kernel's socket memory is not in RSS.\n\n\
                 | server | RSS bytes each | RSS MiB in all |\n|---|--:|--:|",
                thousands(super::IDLE_CONNECTIONS as f64)
            ),
        );
        for sample in rows {
            line(
                page,
                format_args!(
                    "| {} | {} | {:.1} |",
                    sample.peer.name(),
                    thousands(sample.rss_bytes_each),
                    sample.rss_bytes as f64 / f64::from(1 << 20)
                ),
            );
        }
    }

    /// The file `http.json`.
    pub(super) fn json(&self) -> String {
        let document = json!({
            "date": self.machine.date,
            "command": self.command,
            "machine": machine_json(&self.machine),
            "versions": self.versions,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "load_average": self.loads,
            "targets": self.verdicts.iter().map(verdict_json).collect::<Vec<_>>(),
            "cases": CASES.iter().map(|case| self.case_json(case)).collect::<Vec<_>>(),
            "idle": self.peers.iter().filter_map(|&peer| {
                let sample = self.results.idle(peer)?;
                Some(json!({
                    "server": peer.name(),
                    "connections": super::IDLE_CONNECTIONS,
                    "rss_bytes_each": sample.rss_bytes_each,
                    "rss_bytes": sample.rss_bytes,
                }))
            }).collect::<Vec<_>>(),
            "absent": self.absent,
            "failures": self.failures,
        });
        format!("{document:#}\n")
    }

    fn case_json(&self, case: &Case) -> Value {
        let servers: Vec<Value> = self
            .rows(case)
            .map(|(peer, sample)| {
                json!({
                    "server": peer.name(),
                    "requests_per_second": sample.requests_per_second,
                    "server_cpu_us": sample.server_cpu_us,
                    "to_floor": self.results.cpu_ratio(case.name, peer, Peer::Floor),
                    "to_nginx": self.results.cpu_ratio(case.name, peer, Peer::Nginx),
                    // What is not a number becomes null.
                    "client_busy": sample.client_busy,
                    "p50_us": sample.p50_us,
                    "p99_us": sample.p99_us,
                    "peak_rss_bytes": sample.rss_bytes,
                })
            })
            .collect();
        json!({ "name": case.name, "title": case.title, "servers": servers })
    }
}
