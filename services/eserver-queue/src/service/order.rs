//! [`Order`]: a request on its way to a queue, and [`OrderBatch`], a turn's worth of them.

use std::ops::Range;
use std::sync::Arc;

use eserver::{Post, ReplyBatch, ReplyTo, Report};
use eserver_wire::framed::BODY_BYTES_MAX;
use serde::Serialize;

use super::answer::{Error, chain, command, encode, encode_json, encode_with};
use super::buried::{self, Which};
use super::stats::{Gathering, Stats};
use crate::disk::RealDisk;
use crate::keeper::Batch;
use crate::log::LogFailed;
use crate::millis::Millis;
use crate::name::QueueName;
use crate::placeholder::Placeholder;
use crate::queue::Queue;
use crate::queue::outcome::{ChangeError, Outcome, PutError, Reserved};
use crate::seq::Seq;

/// What a queue is asked to do. Payloads are ranges of the batch's bytes.
pub(super) enum Order {
    Put {
        payload: Range<usize>,
        placeholder: Option<Placeholder>,
        answer: Stored,
    },
    /// Items are a range of the batch's list of payloads.
    PutItems {
        items: Range<usize>,
        delay_ms: u64,
    },
    Pop {
        named: bool,
    },
    Length,
    Reserve {
        lease_ms: u64,
        max: usize,
    },
    Ack {
        ids: Vec<Seq>,
    },
    Release {
        ids: Vec<Seq>,
        delay_ms: u64,
    },
    Bury {
        ids: Vec<Seq>,
        reason: String,
    },
    Look {
        from: Seq,
        max: usize,
    },
    Kick(Which),
    Discard(Which),
    /// With what the consumer reports, if there is one.
    Stats(Option<Box<Report>>),
    /// One queue's share of an answer about all of them.
    StatsOfAll(Arc<Gathering>, Option<Box<Report>>),
}

/// How an enqueue reports success.
pub(super) enum Stored {
    /// `{"msg":"success"}`, the default queue.
    Success,
    /// `{"msg":"success` and this text `"}`, a named queue.
    SuccessI(Box<str>),
}

/// The orders of one shard's turn for one queue.
pub(super) struct OrderBatch {
    post: Post,
    queue: QueueName,
    orders: Vec<(ReplyTo, Order)>,
    /// Bytes of memory that the orders take besides the payloads.
    order_bytes: usize,
    /// Bytes that the orders will add to the log, at most.
    log_bytes: usize,
    payloads: Vec<u8>,
    items: Vec<Range<usize>>,
    replies: ReplyBatch,
}

impl OrderBatch {
    pub(super) fn new(post: Post, queue: QueueName) -> Self {
        OrderBatch {
            post,
            queue,
            orders: Vec::new(),
            order_bytes: 0,
            log_bytes: 0,
            payloads: Vec::new(),
            items: Vec::new(),
            replies: ReplyBatch::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }

    /// Bytes of memory that the batch takes, answers aside.
    pub(super) fn bytes(&self) -> usize {
        self.payloads.len() + self.order_bytes
    }

    pub(super) fn store(&mut self, payload: &[u8]) -> Range<usize> {
        let start = self.payloads.len();
        self.payloads.extend_from_slice(payload);
        start..self.payloads.len()
    }

    pub(super) fn store_items<'a>(
        &mut self,
        items: impl Iterator<Item = &'a [u8]>,
    ) -> Range<usize> {
        let start = self.items.len();
        for item in items {
            let stored = self.store(item);
            self.items.push(stored);
        }
        start..self.items.len()
    }

    pub(super) fn push(&mut self, to: ReplyTo, order: Order) {
        self.order_bytes += order.bytes();
        self.log_bytes += self.log_bytes_of(&order);
        self.orders.push((to, order));
    }
}

impl Batch for OrderBatch {
    fn apply(&mut self, queue: &mut Queue<RealDisk>, now: Millis) {
        let mut replies = std::mem::take(&mut self.replies);
        for (to, order) in &self.orders {
            if let Order::StatsOfAll(gathering, report) = order {
                let stats = Stats::new(queue.stats(), report.as_deref());
                if let Some(all) = gathering.add(&self.queue, stats) {
                    replies.push(*to, |out| encode_json(command::STATS, &all, out));
                }
            } else {
                replies.push(*to, |out| self.carry_out(order, queue, now, out));
            }
        }
        self.replies = replies;
    }

    fn committed(self: Box<Self>) -> Option<Box<dyn Batch>> {
        self.post.replies(self.replies);
        None
    }

    fn failed(self: Box<Self>, error: &LogFailed) {
        let mut replies = ReplyBatch::new();
        let error = Error::new(chain(error));
        for (to, _) in &self.orders {
            replies.push(*to, |out| error.encode(out));
        }
        self.post.replies(replies);
    }

    fn bytes(&self) -> usize {
        OrderBatch::bytes(self)
    }

    fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    fn requests(&self) -> usize {
        self.orders.len()
    }
}

impl Order {
    /// Bytes of memory that the order takes besides payloads, about.
    pub(super) fn bytes(&self) -> usize {
        let (ids, reason) = match self {
            Order::Ack { ids } | Order::Release { ids, .. } => (ids.len(), 0),
            Order::Kick(Which::Ids(ids)) | Order::Discard(Which::Ids(ids)) => (ids.len(), 0),
            Order::Bury { ids, reason } => (ids.len(), reason.len()),
            _ => (0, 0),
        };
        size_of::<Order>() + ids * size_of::<Seq>() + reason
    }
}

impl OrderBatch {
    /// Bytes that an order will add to the log, at most.
    fn log_bytes_of(&self, order: &Order) -> usize {
        /// A record besides its payload, the mark of the time included.
        const RECORD: usize = 64;
        /// It adds nothing but reads all over the log, which may take time: work for the thread.
        const NOT_QUICK: usize = 1 << 20;
        match order {
            Order::Put { payload, placeholder, .. } => {
                let payload = &self.payloads[payload.clone()];
                let rendered = placeholder.map_or(payload.len() as u64, |placeholder| {
                    placeholder.rendered_bytes(payload, Seq::new(u64::MAX))
                });
                usize::try_from(rendered).unwrap_or(usize::MAX).saturating_add(RECORD)
            }
            Order::PutItems { items, .. } => {
                self.items[items.clone()].iter().map(|item| item.len() + RECORD).sum()
            }
            Order::Pop { .. } => RECORD,
            Order::Reserve { max, .. } => max * RECORD,
            Order::Ack { ids } | Order::Release { ids, .. } => ids.len() * RECORD,
            Order::Bury { ids, reason } => ids.len() * (RECORD + reason.len()),
            Order::Look { .. } => NOT_QUICK,
            Order::Kick(which) | Order::Discard(which) => which.len() * RECORD,
            Order::Length | Order::Stats(_) | Order::StatsOfAll(..) => 0,
        }
    }

    /// Does what `order` says and appends the frame that answers it.
    fn carry_out(
        &self,
        order: &Order,
        queue: &mut Queue<RealDisk>,
        now: Millis,
        out: &mut Vec<u8>,
    ) {
        match order {
            Order::Put { payload, placeholder, answer } => {
                match queue.put(&self.payloads[payload.clone()], *placeholder, 0, now) {
                    Ok(_) => encode_stored(answer, out),
                    Err(error) => Error::from(&error).encode(out),
                }
            }
            Order::PutItems { items, delay_ms } => {
                self.put_items(&self.items[items.clone()], *delay_ms, queue, now, out);
            }
            Order::Pop { named } => pop(*named, queue, now, out),
            Order::Length => encode_json(command::LENGTH, &queue.length(), out),
            Order::Reserve { lease_ms, max } => reserve(*lease_ms, *max, queue, now, out),
            Order::Ack { ids } => {
                let result = each(ids, |seq| queue.ack(seq, now));
                answer_each(
                    command::ACK,
                    result,
                    |done, missing| Acked { acked: done, missing },
                    out,
                );
            }
            Order::Release { ids, delay_ms } => {
                let result = each(ids, |seq| queue.release(seq, *delay_ms, now));
                let released = |done, missing| Released { released: done, missing };
                answer_each(command::RELEASE, result, released, out);
            }
            Order::Bury { ids, reason } => {
                let result = each(ids, |seq| queue.bury(seq, reason, now));
                answer_each(
                    command::BURY,
                    result,
                    |done, missing| Buried { buried: done, missing },
                    out,
                );
            }
            Order::Look { from, max } => buried::show(*from, *max, queue, out),
            Order::Kick(which) => {
                let result = buried::see_to(which, queue, |queue, seq| queue.kick(seq, now));
                buried::answer(command::KICK, "kicked", result, out);
            }
            Order::Discard(which) => {
                let discard = |queue: &mut Queue<_>, seq| queue.delete_buried(seq, now);
                let result = buried::see_to(which, queue, discard);
                buried::answer(command::DROP, "dropped", result, out);
            }
            Order::Stats(report) => {
                let stats = Stats::new(queue.stats(), report.as_deref());
                encode_json(command::STATS, &stats, out);
            }
            Order::StatsOfAll(..) => unreachable!("answered by the last queue to tell"),
        }
    }

    /// Stores the items in order. Either all are stored or, should room end in their midst, the
    /// answer holds the ids of those that were and says why the rest were not.
    fn put_items(
        &self,
        items: &[Range<usize>],
        delay_ms: u64,
        queue: &mut Queue<RealDisk>,
        now: Millis,
        out: &mut Vec<u8>,
    ) {
        let mut failure: Option<PutError> = None;
        encode_with(command::PUT, out, |out| {
            out.extend_from_slice(b"{\"ids\":[");
            let mut digits = itoa::Buffer::new();
            for (at, item) in items.iter().enumerate() {
                match queue.put(&self.payloads[item.clone()], None, delay_ms, now) {
                    Ok(seq) => {
                        if at > 0 {
                            out.push(b',');
                        }
                        out.extend_from_slice(digits.format(seq.get()).as_bytes());
                    }
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            out.push(b']');
            if let Some(error) = &failure {
                out.extend_from_slice(b",\"error\":");
                let sentence = chain(error);
                serde_json::to_writer(&mut *out, &sentence).expect("a sentence is plain data");
            }
            out.push(b'}');
        });
    }
}

fn encode_stored(answer: &Stored, out: &mut Vec<u8>) {
    match answer {
        Stored::Success => encode(command::ENQUEUE, br#"{"msg":"success"}"#, out),
        Stored::SuccessI(i) => {
            #[derive(Serialize)]
            struct Success {
                msg: String,
            }
            encode_json(command::ENQUEUE, &Success { msg: format!("success{i}") }, out);
        }
    }
}

/// Answers with the oldest message's stored JSON, which is gone from the queue then.
fn pop(named: bool, queue: &mut Queue<RealDisk>, now: Millis, out: &mut Vec<u8>) {
    let start = out.len();
    let mut result = Ok(None);
    encode_with(command::DEQUEUE, out, |out| result = queue.pop(now, out));
    match result {
        Ok(Some(_)) => {}
        Ok(None) => {
            out.truncate(start);
            if named { Error::Empty } else { Error::Msg }.encode(out);
        }
        Err(error) => {
            out.truncate(start);
            Error::from(&error).encode(out);
        }
    }
}

/// Leases messages as long as they fit the answer.
fn reserve(lease_ms: u64, max: usize, queue: &mut Queue<RealDisk>, now: Millis, out: &mut Vec<u8>) {
    let frame_start = out.len();
    /// What surrounds a payload in the answer, at its longest, in bytes.
    const AROUND_BYTES: usize = 96;
    let mut taken = 0;
    let mut failure = None;
    encode_with(command::RESERVE, out, |out| {
        let start = out.len();
        out.extend_from_slice(b"{\"messages\":[");
        while taken < max {
            let room = BODY_BYTES_MAX - (out.len() - start);
            let fits = |bytes: usize| bytes + AROUND_BYTES <= room;
            match queue.next_payload_bytes(now) {
                Some(bytes) if fits(bytes) || taken == 0 => {}
                _ => break,
            }
            let lease = |message: Reserved<'_>| append_reserved(message, taken > 0, fits, out);
            match queue.reserve(now, lease_ms, 1, lease) {
                Ok(0) => break,
                Ok(_) => taken += 1,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        out.extend_from_slice(b"]}");
    });
    if let (0, Some(error)) = (taken, failure) {
        out.truncate(frame_start);
        Error::from(&error).encode(out);
    }
}

fn append_reserved(
    message: Reserved<'_>,
    follows: bool,
    fits: impl Fn(usize) -> bool,
    out: &mut Vec<u8>,
) {
    let mut digits = itoa::Buffer::new();
    if follows {
        out.push(b',');
    }
    out.extend_from_slice(b"{\"id\":");
    out.extend_from_slice(digits.format(message.seq.get()).as_bytes());
    out.extend_from_slice(b",\"attempts\":");
    out.extend_from_slice(digits.format(message.attempts).as_bytes());
    if fits(message.payload.len()) {
        out.extend_from_slice(b",\"payload\":");
        out.extend_from_slice(message.payload);
    } else {
        out.extend_from_slice(b",\"bytes\":");
        out.extend_from_slice(digits.format(message.payload.len()).as_bytes());
    }
    out.push(b'}');
}

/// Acts on each id, and tells how many that changed, and which it did not apply to.
pub(super) fn each(
    ids: &[Seq],
    mut act: impl FnMut(Seq) -> Result<Outcome, ChangeError>,
) -> Result<(usize, Vec<u64>), ChangeError> {
    let mut missing = Vec::new();
    for seq in ids {
        if act(*seq)? != Outcome::Done {
            missing.push(seq.get());
        }
    }
    Ok((ids.len() - missing.len(), missing))
}

fn answer_each<T: Serialize>(
    command: u16,
    result: Result<(usize, Vec<u64>), ChangeError>,
    body: impl FnOnce(usize, Vec<u64>) -> T,
    out: &mut Vec<u8>,
) {
    match result {
        Ok((done, missing)) => encode_json(command, &body(done, missing), out),
        Err(error) => Error::from(&error).encode(out),
    }
}

#[derive(Serialize)]
struct Acked {
    acked: usize,
    missing: Vec<u64>,
}

#[derive(Serialize)]
struct Released {
    released: usize,
    missing: Vec<u64>,
}

#[derive(Serialize)]
struct Buried {
    buried: usize,
    missing: Vec<u64>,
}
