//! The kinds of load: [`Case`].

use eserver_bench::Protocol;
use eserver_bench::protocol::{
    BeanstalkdPut, FramedBatchPut, FramedPop, FramedPut, RedisPop, RedisPush,
};

use super::servers::{Family, Peer};

/// What is put, 60 bytes of it. Exactly one `%d`: the Python original refuses a statement without.
const STATEMENT: &str = "insert into visits(number, page) values (%d, '/index/world')";

/// The size of each message of a batch, in bytes.
const BATCH_ITEM_BYTES: usize = 128;

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    /// What it is called on the command line.
    pub(super) name: &'static str,
    /// What it is, for readers.
    pub(super) title: &'static str,
    pub(super) connections: usize,
    pub(super) pipeline: u32,
    pub(super) connection_per_request: bool,
    pub(super) work: Work,
    /// The server whose rate is 1 in the table of this case.
    pub(super) reference: Peer,
}

/// What each request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Puts one message.
    Put,
    /// Puts as many messages as an eserver frame holds.
    BatchPut,
    /// Takes one message from a queue that was filled before.
    Pop,
}

const PLAIN: Case = Case {
    name: "c64",
    title: "64 connections",
    connections: 64,
    pipeline: 1,
    connection_per_request: false,
    work: Work::Put,
    reference: Peer::RedisAlways,
};

/// All of them, in the order of the report.
pub(super) const CASES: [Case; 8] = [
    Case {
        name: "c1",
        title: "1 connection",
        connections: 1,
        reference: Peer::BeanstalkdSync,
        ..PLAIN
    },
    PLAIN,
    Case { name: "c1000", title: "1,000 connections", connections: 1_000, ..PLAIN },
    Case { name: "c10000", title: "10,000 connections", connections: 10_000, ..PLAIN },
    Case { name: "pipelined", title: "64 connections, pipelined by 16", pipeline: 16, ..PLAIN },
    Case {
        name: "reconnect",
        title: "a connection for each request, 16 at a time",
        connections: 16,
        connection_per_request: true,
        reference: Peer::RedisOff,
        ..PLAIN
    },
    Case {
        name: "batch",
        title: "batches of 64 KB in 128-byte messages, 16 connections",
        connections: 16,
        work: Work::BatchPut,
        ..PLAIN
    },
    Case { name: "pop", title: "64 connections, taking what is there", work: Work::Pop, ..PLAIN },
];

impl Case {
    /// Whether a server can take this load at all.
    pub(super) fn suits(&self, peer: Peer) -> bool {
        match peer.family() {
            Family::Eserver | Family::Redis => true,
            // It takes a job in two requests, so there is nothing to compare with.
            Family::Beanstalkd => self.work == Work::Put,
            // It drops pipelined requests and its backlog does not hold 10,000.
            Family::Original => {
                self.work == Work::Put && self.pipeline == 1 && self.connections <= 1_000
            }
        }
    }

    /// The request of this case in the words of a server.
    pub(super) fn protocol(&self, peer: Peer) -> Box<dyn Protocol> {
        match (peer.family(), self.work) {
            (Family::Eserver | Family::Original, Work::Put) => {
                Box::new(FramedPut::new(STATEMENT).expect("a statement fits into a frame"))
            }
            (Family::Eserver | Family::Original, Work::Pop) => Box::new(FramedPop),
            (Family::Redis, Work::Put) => Box::new(RedisPush::new(STATEMENT, 1)),
            (Family::Redis, Work::Pop) => Box::new(RedisPop),
            (Family::Beanstalkd, _) => Box::new(BeanstalkdPut::new(STATEMENT)),
            (_, Work::BatchPut) => batches(peer, BATCH_ITEM_BYTES),
        }
    }

    /// What fills the queue before it is taken from, in the words of a server.
    pub(super) fn filling(peer: Peer) -> Box<dyn Protocol> {
        batches(peer, STATEMENT.len())
    }
}

/// Puts of as many messages of `item_bytes` as fit into an eserver frame.
fn batches(peer: Peer, item_bytes: usize) -> Box<dyn Protocol> {
    let framed = FramedBatchPut::full(item_bytes);
    match peer.family() {
        Family::Redis => Box::new(RedisPush::new(&"x".repeat(item_bytes), framed.items())),
        _ => Box::new(framed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_as_long_as_the_report_says() {
        assert_eq!(STATEMENT.len(), 60);
    }

    #[test]
    fn names_are_unique_and_references_take_part() {
        for (index, case) in CASES.iter().enumerate() {
            assert!(CASES[..index].iter().all(|other| other.name != case.name));
            assert!(case.suits(case.reference), "{}", case.name);
        }
    }
}
