//! The kinds of load: [`Case`], each with the [`Figure`]s that it is measured by.

use crate::bench::report::capitalized;

/// One kind of load.
#[derive(Debug)]
pub(super) struct Case {
    /// What it is called on the command line.
    pub(super) name: &'static str,
    /// What it is, for readers.
    pub(super) title: &'static str,
    pub(super) load: Load,
    /// The columns of its table, the most telling first.
    pub(super) figures: &'static [Figure],
}

/// Who does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Subscribers that wait, and what they are sent.
    Hold {
        way: Way,
        connections: usize,
        /// 0 for one each.
        channels: usize,
        publish: Publish,
    },
    /// Connections that publish to one channel that nobody listens to.
    Publish {
        /// Requests in one write.
        pipeline: u32,
    },
    /// One poller, published to so many milliseconds after its poll.
    Repoll { delay_ms: u64 },
}

/// How one subscribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Polls,
    Streams,
}

/// What subscribers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    Nothing,
    /// A message to the one channel, some times in turn, each when all have had the one before.
    OneByOne,
    /// A message to every channel.
    ToEach,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    RssBytesEach,
    IdleCpuPercent,
    OpenedPerSecond,
    CpuUs,
    BareSends,
    BareSendUs,
    FirstMs,
    LastMs,
    PerSecond,
    ClientBusy,
    P50Ms,
    P99Ms,
    MaxMs,
}

impl Figure {
    /// The heading of its column.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::RssBytesEach => "RSS bytes each",
            Self::IdleCpuPercent => "idle CPU %",
            Self::OpenedPerSecond => "opened/s",
            Self::CpuUs => "CPU µs each",
            Self::BareSends => "in bare sends",
            Self::BareSendUs => "a bare send, µs",
            Self::FirstMs => "first ms",
            Self::LastMs => "last ms",
            Self::PerSecond => "publishes/s",
            Self::ClientBusy => "client busy %",
            Self::P50Ms => "p50 ms",
            Self::P99Ms => "p99 ms",
            Self::MaxMs => "max ms",
        }
    }

    /// Its name in `comet.json`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RssBytesEach => "rss_bytes_each",
            Self::IdleCpuPercent => "idle_cpu_percent",
            Self::OpenedPerSecond => "opened_per_second",
            Self::CpuUs => "server_cpu_us",
            Self::BareSends => "in_bare_sends",
            Self::BareSendUs => "bare_send_us",
            Self::FirstMs => "first_ms",
            Self::LastMs => "last_ms",
            Self::PerSecond => "publishes_per_second",
            Self::ClientBusy => "client_busy_percent",
            Self::P50Ms => "p50_ms",
            Self::P99Ms => "p99_ms",
            Self::MaxMs => "max_ms",
        }
    }

    /// Digits behind the point that mean something.
    pub(super) fn decimals(self) -> usize {
        match self {
            Self::RssBytesEach | Self::OpenedPerSecond | Self::PerSecond | Self::ClientBusy => 0,
            Self::FirstMs | Self::LastMs => 1,
            _ => 2,
        }
    }
}

const WAITING: &[Figure] = &[Figure::RssBytesEach, Figure::IdleCpuPercent, Figure::OpenedPerSecond];

const DELIVERING: &[Figure] =
    &[Figure::CpuUs, Figure::BareSends, Figure::BareSendUs, Figure::FirstMs, Figure::LastMs];

const PUBLISHING: &[Figure] =
    &[Figure::CpuUs, Figure::PerSecond, Figure::ClientBusy, Figure::P50Ms, Figure::P99Ms];

const LATENCY: &[Figure] = &[Figure::P99Ms, Figure::P50Ms, Figure::MaxMs];

/// All of them, in the order of the report.
pub(super) const CASES: [Case; 9] = [
    Case {
        name: "waiting",
        title: "15,000 waiting polls, each on a channel of its own",
        load: Load::Hold {
            way: Way::Polls,
            connections: 15_000,
            channels: 0,
            publish: Publish::Nothing,
        },
        figures: WAITING,
    },
    Case {
        name: "streams",
        title: "one message to 10,000 streams on one channel",
        load: Load::Hold {
            way: Way::Streams,
            connections: 10_000,
            channels: 1,
            publish: Publish::OneByOne,
        },
        figures: DELIVERING,
    },
    Case {
        name: "polls",
        title: "one message to 10,000 polls on one channel, which then poll again",
        load: Load::Hold {
            way: Way::Polls,
            connections: 10_000,
            channels: 1,
            publish: Publish::OneByOne,
        },
        figures: DELIVERING,
    },
    Case {
        name: "channels",
        title: "a message to each of 10,000 channels, a stream on each",
        load: Load::Hold {
            way: Way::Streams,
            connections: 10_000,
            channels: 0,
            publish: Publish::ToEach,
        },
        figures: DELIVERING,
    },
    Case {
        name: "publish",
        title: "publishing on 16 connections that stay",
        load: Load::Publish { pipeline: 1 },
        figures: PUBLISHING,
    },
    Case {
        name: "pipelined",
        title: "publishing on 16 connections, pipelined by 16",
        load: Load::Publish { pipeline: 16 },
        figures: PUBLISHING,
    },
    Case {
        name: "repoll-2",
        title: "a message 2 ms after a poller has polled again",
        load: Load::Repoll { delay_ms: 2 },
        figures: LATENCY,
    },
    Case {
        name: "repoll-10",
        title: "a message 10 ms after a poller has polled again",
        load: Load::Repoll { delay_ms: 10 },
        figures: LATENCY,
    },
    Case {
        name: "repoll-30",
        title: "a message 30 ms after a poller has polled again",
        load: Load::Repoll { delay_ms: 30 },
        figures: LATENCY,
    },
];

impl Case {
    /// The title as it stands above something.
    pub(super) fn heading(&self) -> String {
        capitalized(self.title)
    }
}
