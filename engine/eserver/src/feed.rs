//! The seam between services: [`Intake`], [`Feed`], [`Consumer`] and [`Announce`].
//!
//! Services do not know one another. A queue takes messages of other services by its [`Intake`], and
//! offers its messages as a [`Feed`]; whoever works them off takes them from there, and is to the
//! queue a [`Consumer`]; what it wants known afterwards goes to whatever can [`Announce`]. The binary
//! introduces them to each other.

use std::ops::Range;

use thiserror::Error;

/// The way into a durable line of messages.
pub trait Intake: Send + Sync {
    /// Puts messages in their order, and calls `answer`, from any thread, once all of them are as
    /// durable as the queue's policy says, or some of them were not taken. Returns at once, or after
    /// a short write to a fast disk.
    fn put(&self, payloads: Vec<Vec<u8>>, answer: Box<dyn FnOnce(Result<(), NotTaken>) + Send>);
}

/// Messages that were not taken in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{count} were not taken: {reason}")]
pub struct NotTaken {
    /// How many.
    pub count: usize,
    /// Why the first of them was not.
    pub reason: String,
}

/// A durable line of messages, for one who works them off.
///
/// Messages that were taken are nobody else's until they are settled or the process ends; after a
/// restart they are offered again. So a consumer that must do nothing twice remembers, together
/// with what it did, the [`Feed::epoch`] and the ids.
pub trait Feed: Send + Sync {
    /// The queue's name.
    fn name(&self) -> &str;

    /// A number that is the same for as long as an id means the same message: it changes only when
    /// the queue is made anew, or may have lost messages in a power cut that it did not sync
    /// against. At most 2^63 - 1, since databases have no more.
    fn epoch(&self) -> u64;

    /// The id that the next message had when the queue was opened: all that were ever put before have
    /// lower ones.
    fn next_id(&self) -> u64;

    /// Settles what was taken before, takes what is ready, and calls `answer`, from any thread, once
    /// both are as durable as the queue's policy says.
    ///
    /// If nothing was ready and `turn.messages_max` is not 0, the waker given to
    /// [`Feed::wake_by`] is called once when something is.
    fn turn(&self, turn: Turn, answer: Box<dyn FnOnce(Result<Taken, FeedFailed>) + Send>);

    /// Who is to be called when messages have become ready after a turn that found none; from any
    /// thread, and quick. A later one takes its place. To be said before the first turn.
    fn wake_by(&self, waker: Box<dyn Fn() + Send + Sync>);
}

/// What a consumer tells and asks of its feed at once, to share one commit.
#[derive(Debug, Default)]
pub struct Turn {
    /// Ids of messages whose work is done: they are gone for good.
    pub done: Vec<u64>,
    /// Ids of messages that cannot be worked off, each with the reason: they are set aside.
    pub refused: Vec<(u64, String)>,
    /// Ids of messages that are ready again, in their old place.
    pub returned: Vec<u64>,
    /// How many messages to take at most; 0 takes none.
    pub messages_max: usize,
    /// How many bytes of payload to take at most; the first message is taken whatever its length.
    pub bytes_max: usize,
    /// First and last ids of runs of which the consumer wants to know what is gone.
    pub asked: Vec<(u64, u64)>,
}

/// The feed's log has failed: nothing is taken or settled any more, and the process is about to
/// end. What was settled in the turn that gets this may be offered again after a restart.
#[derive(Debug, Clone, Error)]
#[error("{0}")]
pub struct FeedFailed(pub String);

/// Messages, oldest first, in one block of memory.
#[derive(Debug, Default)]
pub struct Taken {
    /// The ids in [`Turn::asked`] of messages that are gone for good, whatever became of them.
    pub gone: Vec<u64>,
    bytes: Vec<u8>,
    messages: Vec<(u64, u16, Range<usize>)>,
}

/// A message as a consumer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its number in the queue.
    pub id: u64,
    /// How often it was taken, this time included; stays at 65,535.
    pub attempts: u16,
    /// What was put: JSON text.
    pub payload: &'a [u8],
}

impl Taken {
    /// Adds a message behind the others.
    pub fn push(&mut self, message: Message<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message.payload);
        self.messages.push((message.id, message.attempts, start..self.bytes.len()));
    }

    /// Bytes of all payloads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Message<'_>> {
        self.messages.iter().map(|(id, attempts, range)| Message {
            id: *id,
            attempts: *attempts,
            payload: &self.bytes[range.clone()],
        })
    }
}

/// What works off a queue's messages, as the queue sees it.
pub trait Consumer: Send + Sync {
    /// Whether it can make something of a message. The sentence of a refusal is the answer to the
    /// put; nothing is stored then.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the payload, without a full stop.
    fn admit(&self, payload: &[u8]) -> Result<(), String>;

    /// How it fares, for the queue's statistics.
    fn report(&self) -> Report;
}

/// A consumer in words and numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What it is doing, for a person: `"running"`, or what it waits for.
    pub state: String,
    /// Counters and gauges by name, in the order to show them; the unit is in the name.
    pub numbers: Vec<(&'static str, u64)>,
}

/// Takes events to whoever listens.
pub trait Announce: Send + Sync {
    /// Tells those who listen to `channel`. Returns at once; with nobody listening the event may be
    /// gone. `event` is JSON text.
    fn announce(&self, channel: &str, event: &[u8]);
}
