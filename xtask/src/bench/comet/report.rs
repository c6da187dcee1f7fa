//! What is written down of a run: [`Report`], as a page for people and as JSON for programs.

use serde_json::{Map, Value, json};

use super::cases::{CASES, Case, Figure};
use super::results::Results;
use super::servers::Peer;
use crate::bench::machine::Machine;
use crate::bench::report::{
    line, machine_json, rounds_in_words, thousands, verdict_json, write_lists, write_origin,
    write_targets,
};
use crate::bench::targets::Verdict;

/// What the page says of how it was measured, besides the numbers.
const CIRCUMSTANCES: &str = "\
- Every server has one core to itself and the load another one, over loopback. CPU is the server's \
time in user and kernel, all its threads: on loopback this includes most of what the kernel does to \
deliver to the client. An arrival is when the client has read it, so the last of many cannot come \
sooner than the client's core has read them all.
- *eserver* and *icomet* are asked in the same words, icomet's API. *nchan* is one worker of nginx; \
its streams are server-sent events, too. All keep 10 messages of a channel, and none says anything \
before an hour has passed in silence; all else is default, limits on channels and connections aside. \
A message has 60 bytes.
- Where there are subscribers, everything that was published reached everybody once and in order: \
a run in which it did not is not in the tables but under what went wrong.
- One message to all is repeated when everybody has had it, and the median counts; *each* is a \
delivery, with polls the next poll included, with a channel each the publication included. A *bare \
send* is the time of one `send` of as many bytes to thousands of loopback sockets in turn, measured \
behind each run.
- The client of crowds rests for 1 ms after it has taken what was there, so that the kernel need not \
wake it for each delivery in the time of whoever sends, as across a network it would not; arrivals are \
late by as much.
- Publications go to a channel without subscribers; latency is from the write of a burst to its \
last answer. A poller's is from the write of the publication, on another connection, to the end of \
the answer of its poll.
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
    /// The page `comet.md`.
    pub(super) fn markdown(&self) -> String {
        let mut page = String::from("# Pushing\n\n");
        write_origin(&mut page, &self.machine, &self.versions, &self.command);
        line(
            &mut page,
            format_args!(
                "- Extent: {} in which the servers take turns; every run has a fresh server; medians, of ratios those within each \
                 round. Idle CPU and publishing are measured for {} s. The load average was {:.1} \
                 before and {:.1} at the end, the runs themselves make it up to 2.",
                rounds_in_words(self.rounds),
                self.seconds,
                self.loads[0],
                self.loads[1],
            ),
        );
        page.push_str(CIRCUMSTANCES);
        write_targets(&mut page, &self.verdicts);
        for case in &CASES {
            self.write_case(&mut page, case);
        }
        let lists = [("Who is not here", self.absent), ("What went wrong", self.failures)];
        write_lists(&mut page, &lists);
        page
    }

    /// The servers that have figures of this case.
    fn rows(&self, case: &Case) -> Vec<Peer> {
        let is_there =
            |peer: &Peer| self.results.median(case.name, *peer, case.figures[0]).is_some();
        self.peers.iter().copied().filter(is_there).collect()
    }

    fn write_case(&self, page: &mut String, case: &Case) {
        let (rows, first) = (self.rows(case), case.figures[0]);
        if rows.is_empty() {
            return;
        }
        let headings = |figures: &[Figure]| {
            figures.iter().map(|figure| format!(" | {}", figure.heading())).collect::<String>()
        };
        line(
            page,
            format_args!(
                "\n## {}\n\n| server | {} | lowest–highest | ÷ icomet{} |\n|---|{}",
                case.heading(),
                first.heading(),
                headings(&case.figures[1..]),
                "--:|".repeat(case.figures.len() + 2),
            ),
        );
        for peer in rows {
            let (low, high) =
                self.results.range(case.name, peer, first).expect("what has a median has a range");
            let ratio = self.results.ratio(case.name, peer, Peer::Icomet, first);
            let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            let figures = case.figures.iter().map(|&figure| {
                let value = self.results.median(case.name, peer, figure);
                value.map_or_else(|| "–".to_owned(), |value| shown(figure, value))
            });
            let figures: Vec<String> = figures.collect();
            let others: String = figures[1..].iter().map(|text| format!(" | {text}")).collect();
            line(
                page,
                format_args!(
                    "| {} | {} | {}–{} | {ratio}{others} |",
                    peer.name(),
                    figures[0],
                    shown(first, low),
                    shown(first, high),
                ),
            );
        }
    }

    /// The file `comet.json`.
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
            "absent": self.absent,
            "failures": self.failures,
        });
        format!("{document:#}\n")
    }

    fn case_json(&self, case: &Case) -> Value {
        let servers: Vec<Value> = self
            .rows(case)
            .into_iter()
            .map(|peer| {
                let mut server = Map::new();
                server.insert("server".to_owned(), json!(peer.name()));
                for &figure in case.figures {
                    let range = self.results.range(case.name, peer, figure);
                    let of = json!({
                        "median": self.results.median(case.name, peer, figure),
                        "lowest": range.map(|(low, _)| low),
                        "highest": range.map(|(_, high)| high),
                        "to_icomet": self.results.ratio(case.name, peer, Peer::Icomet, figure),
                    });
                    server.insert(figure.name().to_owned(), of);
                }
                Value::Object(server)
            })
            .collect();
        json!({ "name": case.name, "title": case.title, "servers": servers })
    }
}

fn shown(figure: Figure, value: f64) -> String {
    match figure.decimals() {
        0 => thousands(value),
        decimals => format!("{value:.decimals$}"),
    }
}
