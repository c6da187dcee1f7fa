//! [`HoldReport`]: what a run has found, as numbers; [`table`], [`csv`] and [`html`] show it.

mod chart;
mod csv;
mod html;
mod table;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::hold::observer::Sample;
use crate::hold::tally::Deliveries;

pub use chart::{ChartLine, grown, memory_chart};

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HoldReport {
    /// What the server was taken to speak.
    pub profile: String,
    /// Where subscribers connected.
    pub front: String,
    /// Connections asked for.
    pub connections: u64,
    /// Channels they were spread over.
    pub channels: u64,
    /// Threads, each with a descriptor table of its own, that held them.
    pub threads: u64,
    /// The server's process, if it was found.
    pub server_pid: Option<u32>,
    /// Each time that everybody came and left.
    pub rounds: Vec<Round>,
    /// Whether it was stopped before its end.
    pub is_interrupted: bool,
    /// The first thing that went wrong, in words.
    pub first_error: Option<String>,
}

/// From coming to leaving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Connections that were open when all had come.
    pub opened: u64,
    /// How long that took, in seconds, without the time for looking.
    pub opening_s: f64,
    /// What was seen at each step.
    pub samples: Vec<Sample>,
    /// Subscribers that the server itself counted before anything was published.
    pub subscribers: Option<u64>,
    /// What went wrong before anything was published.
    pub before: Deliveries,
    /// What was published and what became of it.
    pub phases: Vec<Phase>,
    /// What one bare `send` of as many bytes as a message had takes here while everybody is there, in
    /// nanoseconds.
    pub bare_send_ns: Option<f64>,
    /// Whether the memory came back; none if it could not be looked at.
    pub after: Option<After>,
}

/// What is published, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// To whom.
    pub kind: PhaseKind,
    /// Messages that were published.
    pub messages: u64,
    /// Those that the server did not accept.
    pub rejected: u64,
    /// How long it took until the server had answered all of them, in seconds.
    pub published_in_s: f64,
    /// From the beginning to the first arrival, in milliseconds.
    pub first_arrival_ms: Option<f64>,
    /// From the beginning to the last arrival, in milliseconds.
    pub last_arrival_ms: Option<f64>,
    /// From each message's publication to each of its arrivals.
    pub latency: Option<Milliseconds>,
    /// CPU time of the server, in seconds.
    pub server_cpu_s: Option<f64>,
    /// Bytes received for each arrival, head and framing included.
    pub wire_bytes: f64,
    /// What arrived, and what did not.
    pub deliveries: Deliveries,
}

/// Whom the messages of a phase are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseKind {
    /// One message to one channel.
    OneChannel,
    /// Messages to each of all channels.
    EachChannel,
    /// One message to all.
    Broadcast,
}

impl PhaseKind {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PhaseKind::OneChannel => "one channel",
            PhaseKind::EachChannel => "each channel",
            PhaseKind::Broadcast => "broadcast",
        }
    }
}

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Milliseconds {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Milliseconds {
    /// Of a histogram of nanoseconds; none if it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e6;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e6,
        })
    }
}

/// A broadcast measured in the time of bare sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BareSends {
    /// From its publication to its last arrival.
    pub until_the_last: f64,
    /// The server's CPU time, on all cores together.
    pub cpu_time: f64,
}

/// The server when all have left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct After {
    /// Its resident memory, in bytes.
    pub server_rss_bytes: u64,
    /// What it may be: that of the empty server, a tenth and 20 MB more.
    pub limit_bytes: u64,
    /// How long that took or was waited for, in seconds.
    pub waited_s: f64,
}

impl After {
    /// The most that a server may keep that had `empty_bytes` before anybody came.
    #[must_use]
    pub fn limit_bytes(empty_bytes: u64) -> u64 {
        empty_bytes + empty_bytes / 10 + 20_000_000
    }

    /// Whether the server is where it was.
    #[must_use]
    pub fn is_back(&self) -> bool {
        self.server_rss_bytes <= self.limit_bytes
    }
}

impl Round {
    /// What the broadcast took, as a multiple of as many bare sends one after the other.
    #[must_use]
    pub fn broadcast_in_bare_sends(&self) -> Option<BareSends> {
        let phase = self.phases.iter().find(|phase| phase.kind == PhaseKind::Broadcast)?;
        let bare_s = self.bare_send_ns? / 1e9 * phase.deliveries.delivered.max(1) as f64;
        Some(BareSends {
            until_the_last: phase.last_arrival_ms? / 1e3 / bare_s,
            cpu_time: phase.server_cpu_s? / bare_s,
        })
    }

    /// The server's bytes for each connection: what it has grown by since nobody was there.
    #[must_use]
    pub fn server_bytes_per_connection(&self) -> Option<f64> {
        self.slope(|sample| sample.server_rss_bytes)
    }

    /// The kernel's bytes for each socket, of which a connection on one machine has two.
    #[must_use]
    pub fn kernel_bytes_per_socket(&self) -> Option<f64> {
        self.slope(|sample| sample.kernel_bytes).map(|bytes| bytes / 2.0)
    }

    /// The load client's own bytes for each connection: all it has, since it makes room for all
    /// connections before the first.
    #[must_use]
    pub fn client_bytes_per_connection(&self) -> Option<f64> {
        let last = self.samples.last().filter(|sample| sample.connections > 0)?;
        Some(last.client_rss_bytes? as f64 / last.connections as f64)
    }

    fn slope(&self, bytes: impl Fn(&Sample) -> Option<u64>) -> Option<f64> {
        let (first, last) = (self.samples.first()?, self.samples.last()?);
        slope(first, last, bytes)
    }
}

/// The bytes for each connection between two samples.
fn slope(from: &Sample, to: &Sample, bytes: impl Fn(&Sample) -> Option<u64>) -> Option<f64> {
    let more = to.connections.checked_sub(from.connections).filter(|more| *more > 0)?;
    Some((bytes(to)? as f64 - bytes(from)? as f64) / more as f64)
}

impl HoldReport {
    /// Whether every connection was opened and kept, every message accepted, and each delivered to
    /// everybody it was for, once and in order; and nothing was interrupted.
    #[must_use]
    pub fn is_faultless(&self) -> bool {
        !self.is_interrupted
            && self.rounds.iter().all(|round| {
                round.opened == self.connections
                    && round.before.is_faultless()
                    && round
                        .phases
                        .iter()
                        .all(|phase| phase.rejected == 0 && phase.deliveries.is_faultless())
            })
    }

    /// Whether the server gave its memory back after each round, as far as one could look.
    #[must_use]
    pub fn is_memory_back(&self) -> bool {
        self.rounds.iter().filter_map(|round| round.after).all(|after| after.is_back())
    }

    /// All rounds' deliveries added up.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        let mut sum = Deliveries::default();
        for round in &self.rounds {
            sum.merge(&round.before);
            round.phases.iter().for_each(|phase| sum.merge(&phase.deliveries));
        }
        sum
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and strings are JSON")
    }

    /// As tables for people.
    #[must_use]
    pub fn to_table(&self) -> String {
        table::of(self)
    }

    /// The samples as comma-separated values, with a line of names.
    #[must_use]
    pub fn to_csv(&self) -> String {
        csv::of(self)
    }

    /// As a page that needs nothing else, with a chart.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of two steps with nothing lost.
    pub(super) fn report() -> HoldReport {
        let sample = |connections: u64| Sample {
            connections,
            server_rss_bytes: Some(10_000_000 + connections * 200),
            server_pss_bytes: Some(9_000_000 + connections * 200),
            server_idle_cpu: Some(0.001),
            kernel_bytes: Some(100_000_000 + connections * 8_000),
            system_used_bytes: Some(1_000_000_000 + connections * 9_000),
            client_rss_bytes: Some(5_000_000 + connections * 64),
        };
        let phase = |kind| Phase {
            kind,
            messages: 1,
            rejected: 0,
            published_in_s: 0.5,
            first_arrival_ms: Some(1.0),
            last_arrival_ms: Some(400.0),
            latency: Some(Milliseconds { p50: 1.0, p90: 2.0, p99: 3.0, p999: 4.0, max: 5.0 }),
            server_cpu_s: Some(0.3),
            wire_bytes: 200.0,
            deliveries: Deliveries { expected: 1000, delivered: 1000, ..Deliveries::default() },
        };
        HoldReport {
            profile: "eserver".to_owned(),
            front: "127.0.0.1:8100".to_owned(),
            connections: 1000,
            channels: 1000,
            threads: 1,
            server_pid: Some(7),
            rounds: vec![Round {
                opened: 1000,
                opening_s: 0.1,
                samples: vec![sample(0), sample(1000)],
                subscribers: Some(1000),
                before: Deliveries::default(),
                phases: vec![phase(PhaseKind::OneChannel), phase(PhaseKind::Broadcast)],
                bare_send_ns: Some(100_000.0),
                after: Some(After { server_rss_bytes: 9, limit_bytes: 10, waited_s: 0.1 }),
            }],
            is_interrupted: false,
            first_error: None,
        }
    }

    #[test]
    fn slopes_are_between_first_and_last() {
        let report = report();
        let round = &report.rounds[0];
        assert_eq!(round.server_bytes_per_connection(), Some(200.0));
        assert_eq!(round.kernel_bytes_per_socket(), Some(4_000.0));
        assert_eq!(round.client_bytes_per_connection(), Some(5_064.0));
        let multiple = round.broadcast_in_bare_sends().unwrap();
        assert!((multiple.until_the_last - 4.0).abs() < 1e-9, "{multiple:?}");
        assert!((multiple.cpu_time - 3.0).abs() < 1e-9, "{multiple:?}");
    }

    #[test]
    fn every_fault_is_one() {
        assert!(report().is_faultless() && report().is_memory_back());
        let faults: [fn(&mut HoldReport); 9] = [
            |report| report.is_interrupted = true,
            |report| report.rounds[0].opened = 999,
            |report| report.rounds[0].before.closed = 1,
            |report| report.rounds[0].phases[0].rejected = 1,
            |report| report.rounds[0].phases[1].deliveries.lost = 1,
            |report| report.rounds[0].phases[1].deliveries.duplicated = 1,
            |report| report.rounds[0].phases[1].deliveries.out_of_order = 1,
            |report| report.rounds[0].phases[1].deliveries.misdelivered = 1,
            |report| report.rounds[0].phases[1].deliveries.refused = 1,
        ];
        for (number, fault) in faults.iter().enumerate() {
            let mut report = report();
            fault(&mut report);
            assert!(!report.is_faultless(), "fault {number}");
        }
    }

    #[test]
    fn json_comes_back_as_it_went() {
        let report = report();
        assert_eq!(serde_json::from_str::<HoldReport>(&report.to_json()).unwrap(), report);
    }
}
