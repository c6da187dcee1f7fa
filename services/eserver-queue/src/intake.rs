//! [`QueueIntake`]: a queue as other services put into it.

use std::sync::Arc;

use eserver::{Intake, NotTaken};

use crate::disk::RealDisk;
use crate::keeper::{Batch, Keeper, Shared};
use crate::log::LogFailed;
use crate::millis::Millis;
use crate::queue::Queue;

/// Bytes that a message adds to the log beside its payload, at most.
const RECORD_BYTES: usize = 32;

/// A queue as an [`Intake`]. It outlives the queue: from then on nothing is taken.
pub(crate) struct QueueIntake {
    keeper: Arc<Shared>,
}

impl QueueIntake {
    pub(crate) fn new(keeper: &Keeper) -> Self {
        QueueIntake { keeper: Arc::clone(keeper.shared()) }
    }
}

impl Intake for QueueIntake {
    fn put(&self, payloads: Vec<Vec<u8>>, answer: Give) {
        let count = payloads.len();
        let bytes = payloads.iter().map(Vec::len).sum();
        if !self.keeper.has_room(bytes) {
            return answer(Err(NotTaken { count, reason: "the queue is busy".to_owned() }));
        }
        let answer = Answer { give: Some(answer), count };
        self.keeper.hand_over(Box::new(PutBatch { payloads, bytes, refused: None, answer }));
    }
}

type Give = Box<dyn FnOnce(Result<(), NotTaken>) + Send>;

/// Who waits for the put; whatever becomes of it, it is answered.
struct Answer {
    give: Option<Give>,
    count: usize,
}

impl Answer {
    fn give(&mut self, result: Result<(), NotTaken>) {
        if let Some(give) = self.give.take() {
            give(result);
        }
    }

    fn refuse(&mut self, reason: String) {
        self.give(Err(NotTaken { count: self.count, reason }));
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.refuse("the queue is closed".to_owned());
    }
}

/// A put on its way.
struct PutBatch {
    payloads: Vec<Vec<u8>>,
    bytes: usize,
    refused: Option<NotTaken>,
    answer: Answer,
}

impl Batch for PutBatch {
    fn apply(&mut self, queue: &mut Queue<RealDisk>, now: Millis) {
        for payload in &self.payloads {
            if let Err(error) = queue.put(payload, None, 0, now) {
                let refused =
                    self.refused.get_or_insert(NotTaken { count: 0, reason: error.to_string() });
                refused.count += 1;
            }
        }
    }

    fn committed(mut self: Box<Self>) -> Option<Box<dyn Batch>> {
        let result = self.refused.take().map_or(Ok(()), Err);
        self.answer.give(result);
        None
    }

    fn failed(mut self: Box<Self>, error: &LogFailed) {
        self.answer.refuse(error.to_string());
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn log_bytes(&self) -> usize {
        self.bytes + self.payloads.len() * RECORD_BYTES
    }

    fn requests(&self) -> usize {
        1
    }
}
