//! The kinds of load: [`Case`].

use super::servers::Peer;
use crate::bench::report::capitalized;

/// One kind of load.
#[derive(Debug)]
pub(super) struct Case {
    /// What it is called on the command line.
    pub(super) name: &'static str,
    /// What it is, for readers.
    pub(super) title: &'static str,
    pub(super) connections: usize,
    pub(super) load: Load,
    /// Whether the everyday servers meet it, too.
    pub(super) is_everyday: bool,
}

/// Who asks, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Connections that stay, each with so many requests on the way.
    Kept {
        /// Requests in one write.
        pipeline: u32,
    },
    /// A connection for each request, which says so.
    PerRequest,
    /// The same from `ab`, by HTTP/1.0.
    Ab,
}

/// All of them, in the order of the report.
pub(super) const CASES: [Case; 6] = [
    Case {
        name: "c64",
        title: "64 connections that stay",
        connections: 64,
        load: Load::Kept { pipeline: 1 },
        is_everyday: true,
    },
    Case {
        name: "c1000",
        title: "1,000 connections that stay",
        connections: 1_000,
        load: Load::Kept { pipeline: 1 },
        is_everyday: false,
    },
    Case {
        name: "c10000",
        title: "10,000 connections that stay",
        connections: 10_000,
        load: Load::Kept { pipeline: 1 },
        is_everyday: false,
    },
    Case {
        name: "pipelined",
        title: "64 connections, pipelined by 16",
        connections: 64,
        load: Load::Kept { pipeline: 16 },
        is_everyday: false,
    },
    Case {
        name: "reconnect",
        title: "a connection per request, 64 at a time",
        connections: 64,
        load: Load::PerRequest,
        is_everyday: true,
    },
    Case {
        name: "ab",
        title: "`ab -c 2000`, a connection per request",
        connections: 2_000,
        load: Load::Ab,
        is_everyday: false,
    },
];

impl Case {
    /// The one with connections that stay and nothing else.
    pub(super) fn kept() -> &'static Self {
        &CASES[0]
    }

    /// The title as it stands above something.
    pub(super) fn heading(&self) -> String {
        capitalized(self.title)
    }

    /// Whether each request has a connection of its own.
    pub(super) fn is_per_request(&self) -> bool {
        !matches!(self.load, Load::Kept { .. })
    }

    /// Whether the server takes part: how it accepts matters only where it does so all the time.
    pub(super) fn suits(&self, peer: Peer) -> bool {
        self.is_per_request() || !peer.is_variant()
    }
}
