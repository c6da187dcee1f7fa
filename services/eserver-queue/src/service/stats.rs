//! [`Gathering`]: statistics of all queues for one answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use eserver::framed::{Answered, Call};
use serde::{Deserialize, Serialize};

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
    pub(super) fn add(&self, queue: &QueueName, stats: stats::Stats) -> Option<All> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(queue.as_str().to_owned(), stats.into());
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
    overwritten: u64,
    damaged: u64,
    commits: u64,
    bytes: u64,
}

impl From<stats::Stats> for Stats {
    fn from(stats: stats::Stats) -> Self {
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
                overwritten: totals.overwritten,
                damaged: totals.damaged,
                commits: totals.commits,
                bytes: totals.bytes,
            },
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
            Ok(Some(queue)) => self.order(queue, call, Order::Stats),
            Ok(None) => self.stats_of_all(call),
            Err(error) => refuse(call, &error),
        }
    }

    fn stats_of_all(&mut self, call: Call<'_, '_>) -> Answered {
        let awaited = self.queues.keepers().count();
        let gathering = Arc::new(Gathering { awaited, told: Mutex::new(BTreeMap::new()) });
        let (to, answered) = call.later();
        for queue in 0..awaited {
            self.batch_unbounded(queue).push(to, Order::StatsOfAll(Arc::clone(&gathering)));
        }
        answered
    }
}
