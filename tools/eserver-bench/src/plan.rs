//! What a run is to do: [`Plan`].

use std::net::SocketAddr;
use std::time::Duration;

/// How much load, from where, for how long. Start from [`Plan::new`] and set what differs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: SocketAddr,
    /// Connections kept busy at the same time, over all threads; at least 1.
    pub connections: usize,
    /// Requests that go out in one write; the next burst follows when all are answered. At least 1.
    pub pipeline: u32,
    /// Whether every burst gets a connection of its own, opened before it and closed after it.
    pub connection_per_burst: bool,
    /// Threads that share the connections; at least 1. One leaves the other cores to the server.
    pub threads: usize,
    /// When to stop.
    pub extent: Extent,
    /// Longest time for all connections together to open and to have had their first answer.
    pub open_timeout: Duration,
    /// Longest time for one burst to be answered, connecting included. What comes later counts as
    /// an error.
    pub reply_timeout: Duration,
    /// The run is given up at this many errors, each of which costs a new connection.
    pub errors_max: u64,
    /// The server's process, whose CPU time is to be read at both ends of the measured time.
    pub server_process: Option<u32>,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// After a time: first a while that is not counted, then one that is.
    Time {
        /// Load without counting, for caches, socket buffers and allocators to settle.
        warm_up: Duration,
        /// Load that is counted.
        measured: Duration,
    },
    /// After a number of requests, all of them counted, over all connections. The burst that opens
    /// each kept connection comes on top; [`crate::Outcome::answered`] includes it.
    Requests {
        /// How many; rounded up to whole bursts.
        count: u64,
        /// Longest time for all of them.
        deadline: Duration,
    },
}

impl Plan {
    /// One connection, one request at a time, three seconds after half a second of warm-up.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            connections: 1,
            pipeline: 1,
            connection_per_burst: false,
            threads: 1,
            extent: Extent::Time {
                warm_up: Duration::from_millis(500),
                measured: Duration::from_secs(3),
            },
            open_timeout: Duration::from_secs(30),
            reply_timeout: Duration::from_secs(10),
            errors_max: 100,
            server_process: None,
        }
    }
}
