//! [`Gathering`]: statistics of all queues for one answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use eserver::Report;
use eserver::framed::{Answered, Call};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use std::borrow::Cow;
use std::sync::Arc;

use super::legacy::parse;
use super::order::Order;
use super::{QueueService, refuse};
use crate::name::QueueName;
use crate::queue::stats;

/// What the keepers have told so far; the last one to speak answers.
pub(super) struct Gathering {
    awaited: usize,
    told: Mutex<BTreeMap<String, Stats>>,
}

/// The answer about all queues.
#[derive(Serialize)]
pub(super) struct All {
    queues: BTreeMap<String, Stats>,
}

impl Gathering {
    /// Adds one queue's statistics; the whole, if that was the last.
    pub(super) fn add(&self, queue: &QueueName, stats: Stats) -> Option<All> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(queue.as_str().to_owned(), stats);
        (told.len() == self.awaited).then(|| All { queues: std::mem::take(&mut told) })
    }
}

/// One queue in numbers, as clients read it; see [`stats::Stats`] for what they mean.
#[derive(Serialize)]
pub(super) struct Stats {
    length: u64,
    ready: u64,
    delayed: u64,
    leased: u64,
    buried: u64,
    payload_bytes: u64,
    disk_bytes: u64,
    segments: u64,
    oldest_age_ms: Option<u64>,
    next_id: u64,
    since_start: Totals,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<Drain>,
}

/// How the queue's consumer fares: its state, then its numbers in their order.
struct Drain(Report);

impl Serialize for Drain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Report { state, numbers } = &self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("state", state)?;
        for (name, number) in numbers {
            map.serialize_entry(name, number)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Totals {
    put: u64,
    refused_full: u64,
    refused_no_space: u64,
    popped: u64,
    reserved: u64,
    acknowledged: u64,
    released: u64,
    buried: u64,
    kicked: u64,
    dropped: u64,
    overwritten: u64,
    damaged: u64,
    commits: u64,
    bytes: u64,
}

impl Stats {
    pub(super) fn new(stats: stats::Stats, report: Option<&Report>) -> Self {
        let totals = stats.totals;
        Stats {
            length: stats.ready + stats.delayed + stats.leased,
            ready: stats.ready,
            delayed: stats.delayed,
            leased: stats.leased,
            buried: stats.buried,
            payload_bytes: stats.payload_bytes,
            disk_bytes: stats.disk_bytes,
            segments: stats.segments,
            oldest_age_ms: stats.oldest_age_ms,
            next_id: stats.next_seq,
            since_start: Totals {
                put: totals.put,
                refused_full: totals.refused_full,
                refused_no_space: totals.refused_no_space,
                popped: totals.popped,
                reserved: totals.reserved,
                acknowledged: totals.acknowledged,
                released: totals.released,
                buried: totals.buried,
                kicked: totals.kicked,
                dropped: totals.deleted,
                overwritten: totals.overwritten,
                damaged: totals.damaged,
                commits: totals.commits,
                bytes: totals.bytes,
            },
            drain: report.cloned().map(Drain),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow, default)]
    queue: Option<Cow<'a, str>>,
}

impl QueueService {
    pub(super) fn stats(&mut self, body: &[u8], call: Call<'_, '_>) -> Answered {
        let body = if body.is_empty() { b"{}" } else { body };
        let found = parse::<Request<'_>>(body, r#"{"queue": "a name"} or {}"#)
            .and_then(|request| request.queue.map(|name| self.find(Some(&*name))).transpose());
        match found {
            Ok(Some(queue)) => {
                let report = self.report(queue);
                self.order(queue, call, Order::Stats(report))
            }
            Ok(None) => self.stats_of_all(call),
            Err(error) => refuse(call, &error),
        }
    }

    fn stats_of_all(&mut self, call: Call<'_, '_>) -> Answered {
        let awaited = self.queues.keepers().count();
        let gathering = Arc::new(Gathering { awaited, told: Mutex::new(BTreeMap::new()) });
        let (to, answered) = call.later();
        for queue in 0..awaited {
            let order = Order::StatsOfAll(Arc::clone(&gathering), self.report(queue));
            self.batch_unbounded(queue).push(to, order);
        }
        answered
    }

    fn report(&self, queue: usize) -> Option<Box<Report>> {
        self.queues.consumer(queue).map(|consumer| Box::new(consumer.report()))
    }
}
