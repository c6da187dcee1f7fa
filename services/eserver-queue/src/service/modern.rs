//! Commands 8011 to 8014: taking messages under a lease, and saying what became of them.
//! Command 8015: putting many at once.
//!
//! Bodies are read strictly: a misspelt member is an error that names the right ones, not silence.

use std::borrow::Cow;

use eserver::framed::{Answered, Call};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::Error;
use super::legacy::parse;
use super::order::Order;
use super::{QueueService, refuse};
use crate::queues::DEFAULT_QUEUE;
use crate::seq::Seq;

/// How long a lease lasts when the request does not say, in milliseconds.
const LEASE_MS_DEFAULT: u64 = 30_000;

/// The longest lease, in milliseconds: one day. Longer ones are shortened to it.
const LEASE_MS_MAX: u64 = 24 * 3600 * 1000;

/// Messages one reserve may take; more are asked for in vain.
const RESERVE_MAX: usize = 1000;

/// Items one put may carry, so that the answer, a number for each, always fits a frame.
const ITEMS_MAX: usize = 3000;

/// Ids one request may carry, so that the answer, which may have to name each, always fits a frame.
const IDS_MAX: usize = 3000;

/// A queue's name as the request gives it, and what to do there.
pub(super) type Addressed<'a> = Result<(Option<Cow<'a, str>>, Order), Error>;

impl QueueService {
    /// The index of the queue that a request names; the default queue if it names none.
    pub(super) fn find(&self, name: Option<&str>) -> Result<usize, Error> {
        let Some(name) = name else {
            return Ok(DEFAULT_QUEUE);
        };
        self.queues.index_of(name).ok_or_else(|| {
            let names: Vec<_> =
                self.queues.keepers().map(|keeper| keeper.name().as_str()).collect();
            let names = names.join(", ");
            Error::NoSuchQueue(format!("there is no queue {name:?}, only {names}"))
        })
    }

    pub(super) fn put(&mut self, body: &[u8], call: Call<'_, '_>) -> Answered {
        match self.put_order(body) {
            Ok((queue, order)) => self.order(queue, call, order),
            Err(error) => refuse(call, &error),
        }
    }

    fn put_order(&mut self, body: &[u8]) -> Result<(usize, Order), Error> {
        let request: Put = parse(body, r#"{"queue": "a name", "items": [any JSON, …]}"#)?;
        let queue = self.find(request.queue.as_deref())?;
        if request.items.len() > ITEMS_MAX {
            let count = request.items.len();
            return Err(Error::new(format!(
                "`items` holds {count}, at most {ITEMS_MAX} may be put at once"
            )));
        }
        if let Some(consumer) = self.queues.consumer(queue) {
            for (at, item) in request.items.iter().enumerate() {
                let admitted = consumer.admit(item.get().as_bytes());
                admitted.map_err(|why| Error::new(format!("`items[{at}]`: {why}")))?;
            }
        }
        let batch = self.batch(queue, body.len())?;
        let items = batch.store_items(request.items.iter().map(|item| item.get().as_bytes()));
        Ok((queue, Order::PutItems { items, delay_ms: request.delay_ms }))
    }
}

pub(super) fn reserve(body: &[u8]) -> Addressed<'_> {
    let request: Reserve = parse(body, r#"{"queue": "a name", "lease_ms": 30000, "max": 1}"#)?;
    let lease_ms = request.lease_ms.unwrap_or(LEASE_MS_DEFAULT).clamp(1, LEASE_MS_MAX);
    let max = request.max.unwrap_or(1).min(RESERVE_MAX);
    Ok((request.queue, Order::Reserve { lease_ms, max }))
}

pub(super) fn ack(body: &[u8]) -> Addressed<'_> {
    let request: Ack = parse(body, r#"{"queue": "a name", "ids": [1, …]}"#)?;
    Ok((request.queue, Order::Ack { ids: seqs(&request.ids)? }))
}

pub(super) fn release(body: &[u8]) -> Addressed<'_> {
    let request: Release = parse(body, r#"{"queue": "a name", "ids": [1, …], "delay_ms": 0}"#)?;
    Ok((request.queue, Order::Release { ids: seqs(&request.ids)?, delay_ms: request.delay_ms }))
}

pub(super) fn bury(body: &[u8]) -> Addressed<'_> {
    let request: Bury = parse(body, r#"{"queue": "a name", "ids": [1, …], "reason": "why"}"#)?;
    Ok((
        request.queue,
        Order::Bury { ids: seqs(&request.ids)?, reason: request.reason.into_owned() },
    ))
}

pub(super) fn seqs(ids: &[u64]) -> Result<Vec<Seq>, Error> {
    if ids.len() > IDS_MAX {
        let count = ids.len();
        return Err(Error::new(format!("`ids` holds {count}, at most {IDS_MAX} fit an answer")));
    }
    Ok(ids.iter().copied().map(Seq::new).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put<'a> {
    #[serde(borrow, default)]
    queue: Option<Cow<'a, str>>,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reserve<'a> {
    #[serde(borrow, default)]
    queue: Option<Cow<'a, str>>,
    lease_ms: Option<u64>,
    max: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ack<'a> {
    #[serde(borrow, default)]
    queue: Option<Cow<'a, str>>,
    ids: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release<'a> {
    #[serde(borrow, default)]
    queue: Option<Cow<'a, str>>,
    ids: Vec<u64>,
    #[serde(default)]
    delay_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bury<'a> {
    #[serde(borrow, default)]
    queue: Option<Cow<'a, str>>,
    ids: Vec<u64>,
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
}
