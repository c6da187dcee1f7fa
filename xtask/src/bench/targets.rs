//! The targets the queue is held against, each a ratio within one run: [`verdicts`].

use std::borrow::Cow;

use super::results::Results;
use super::servers::Peer;

/// One target and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) title: Cow<'static, str>,
    pub(super) bound: Bound,
    pub(super) unit: &'static str,
    /// `None` when a run that it needs was left out.
    pub(super) measured: Option<f64>,
}

/// Where the good side lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Verdict {
    /// Whether the target is met, when it was measured.
    pub(super) fn is_met(&self) -> Option<bool> {
        self.measured.map(|measured| match self.bound {
            Bound::AtLeast(wanted) => measured >= wanted,
            Bound::AtMost(wanted) => measured <= wanted,
        })
    }
}

/// Every target with what these results say about it.
pub(super) fn verdicts(results: &Results) -> Vec<Verdict> {
    use Bound::{AtLeast, AtMost};
    use Peer::{BeanstalkdSync, EserverAlways, EserverNever, RedisAlways, RedisOff};

    let rate = |of, to| results.ratio(of, to, |sample| sample.operations_per_second);
    let cpu = |of, to| results.ratio(of, to, |sample| sample.server_cpu_us);
    let verdict = |title, bound, unit, measured| Verdict {
        title: Cow::Borrowed(title),
        bound,
        unit,
        measured,
    };
    vec![
        verdict(
            "64 connections, always: rate ÷ Redis always",
            AtLeast(1.3),
            "×",
            rate(("c64", EserverAlways), ("c64", RedisAlways)),
        ),
        verdict(
            "the goal: 64 connections, always: rate ÷ Redis without AOF",
            AtLeast(1.0),
            "×",
            rate(("c64", EserverAlways), ("c64", RedisOff)),
        ),
        verdict(
            "pipelined by 16, always: rate ÷ Redis always",
            AtLeast(1.0),
            "×",
            rate(("pipelined", EserverAlways), ("pipelined", RedisAlways)),
        ),
        verdict(
            "1,000 connections, always: rate ÷ own rate with 64",
            AtLeast(0.8),
            "×",
            rate(("c1000", EserverAlways), ("c64", EserverAlways)),
        ),
        verdict(
            "10,000 connections, always: rate ÷ own rate with 64",
            AtLeast(0.8),
            "×",
            rate(("c10000", EserverAlways), ("c64", EserverAlways)),
        ),
        verdict(
            "1 connection, always: rate ÷ beanstalkd -f0",
            AtLeast(0.9),
            "×",
            rate(("c1", EserverAlways), ("c1", BeanstalkdSync)),
        ),
        verdict(
            "64 connections, never: CPU per put ÷ Redis without AOF",
            AtMost(1.0),
            "×",
            cpu(("c64", EserverNever), ("c64", RedisOff)),
        ),
        verdict(
            "a connection per request, never: CPU per put ÷ Redis without AOF",
            AtMost(0.7),
            "×",
            cpu(("reconnect", EserverNever), ("reconnect", RedisOff)),
        ),
        verdict(
            "batches, always: messages durable per second",
            AtLeast(1_000_000.0),
            "/s",
            results.median("batch", EserverAlways).map(|sample| sample.operations_per_second),
        ),
        verdict(
            "memory of an idle connection",
            AtMost(200.0),
            "bytes",
            results.idle(EserverAlways).map(|sample| sample.rss_bytes_each),
        ),
    ]
}
