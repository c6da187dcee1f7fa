//! [`QueueService`]: the queues as a framed application, the old protocol and its extensions.
//!
//! A frame's body is read here, on the shard, into an [`Order`](order::Order); the orders of a turn
//! travel to each queue's keeper as one batch, are carried out there, and come back as encoded
//! answers after the commit. Nothing waits on the shard.

mod answer;
mod buried;
mod legacy;
mod modern;
mod order;
mod stats;
mod watch;

use std::sync::Arc;

use eserver::framed::{Answered, Application, Call, Frame, Framed};
use eserver::{Post, ShardContext};

use crate::queues::Queues;
use answer::{Error, command};
use order::{Order, OrderBatch};

/// The queues on one shard.
pub struct QueueService {
    queues: Arc<Queues>,
    post: Post,
    /// This turn's orders, one batch per queue, at the queue's index.
    batches: Vec<Option<Box<OrderBatch>>>,
}

impl QueueService {
    /// What [`Server::listen`](eserver::Server::listen) makes the service with, on each shard.
    pub fn maker(
        queues: Arc<Queues>,
    ) -> impl Fn(&ShardContext) -> Framed<QueueService> + Send + Sync + 'static {
        move |context| {
            let batches = queues.keepers().map(|_| None).collect();
            Framed(QueueService { queues: Arc::clone(&queues), post: context.post(), batches })
        }
    }

    /// This turn's batch for a queue, if the queue has room for `bytes` more.
    fn batch(&mut self, queue: usize, bytes: usize) -> Result<&mut OrderBatch, Error> {
        let waiting = self.batches[queue].as_ref().map_or(0, |batch| batch.bytes());
        if self.queues.keeper(queue).has_room(waiting + bytes) {
            Ok(self.batch_unbounded(queue))
        } else {
            Err(Error::busy())
        }
    }

    /// This turn's batch for a queue, whether or not the queue has room.
    fn batch_unbounded(&mut self, queue: usize) -> &mut OrderBatch {
        self.batches[queue].get_or_insert_with(|| {
            Box::new(OrderBatch::new(self.post.clone(), self.queues.keeper(queue).name().clone()))
        })
    }

    /// Refuses a payload that the queue's consumer can make nothing of.
    fn admit(&self, queue: usize, payload: &[u8]) -> Result<(), Error> {
        match self.queues.consumer(queue) {
            None => Ok(()),
            Some(consumer) => consumer.admit(payload).map_err(Error::new),
        }
    }

    fn hand_over(&mut self, queue: usize) {
        if let Some(batch) = self.batches[queue].take_if(|batch| !batch.is_empty()) {
            self.queues.keeper(queue).hand_over(batch);
        }
    }

    /// Answers a call later, by an order to one queue.
    fn order(&mut self, queue: usize, call: Call<'_, '_>, order: Order) -> Answered {
        match self.batch(queue, order.bytes()) {
            Ok(batch) => {
                let (to, answered) = call.later();
                batch.push(to, order);
                answered
            }
            Err(error) => refuse(call, &error),
        }
    }
}

/// Requests in flight on a connection beyond which none is read that answers with messages, or
/// that carries many ids: their answers, and they themselves, are large.
const LARGE_IN_FLIGHT_MAX: u32 = 16;

impl Application for QueueService {
    fn in_flight_max(&self, command: u16) -> u32 {
        match command {
            command::DEQUEUE
            | command::RESERVE
            | command::ACK
            | command::RELEASE
            | command::BURY
            | command::BURIED
            | command::KICK
            | command::DROP => LARGE_IN_FLIGHT_MAX,
            // One connection waits for one thing at a time.
            command::WATCH => 1,
            _ => u32::MAX,
        }
    }

    fn call(&mut self, frame: Frame<'_>, call: Call<'_, '_>) -> Answered {
        let result = match frame.command {
            command::ENQUEUE => return self.enqueue(frame.body, call),
            command::DEQUEUE => return self.dequeue(frame.body, call),
            command::LENGTH => return self.length(frame.body, call),
            command::RESERVE => modern::reserve(frame.body),
            command::ACK => modern::ack(frame.body),
            command::RELEASE => modern::release(frame.body),
            command::BURY => modern::bury(frame.body),
            command::PUT => return self.put(frame.body, call),
            command::STATS => return self.stats(frame.body, call),
            command::BURIED => buried::look(frame.body),
            command::KICK => buried::kick(frame.body),
            command::DROP => buried::discard(frame.body),
            command::WATCH => return self.watch(frame.body, call),
            _ => return call.reply(0, br#"{"error":"cmd not defined"}"#),
        };
        let found = result.and_then(|(name, order)| Ok((self.find(name.as_deref())?, order)));
        match found {
            Ok((queue, order)) => self.order(queue, call, order),
            Err(error) => refuse(call, &error),
        }
    }

    fn turn_ended(&mut self) {
        for queue in 0..self.batches.len() {
            self.hand_over(queue);
        }
    }
}

/// Answers with the frame that says what was wrong.
fn refuse(call: Call<'_, '_>, error: &Error) -> Answered {
    call.reply_with(|out| error.encode(out))
}
