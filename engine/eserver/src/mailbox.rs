//! [`Mailbox`]: how other threads speak to a shard.
//!
//! Letters are taken all at once, so a busy shard pays one lock per turn, not one per letter; a
//! sender writes to the wake-up descriptor only when the shard really sleeps.
//!
//! Replies are always taken: requests in flight are bounded per connection. A reply that comes
//! piece by piece may be many letters; who sends it waits for [`Letter::Drained`] in between. What
//! nobody asked for ([`Letter::Send`]) is refused past `letters_max`.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{oneshot, watch};

use crate::conn_id::ConnId;
use crate::reply::{ReplyBatch, ReplyTo};
use crate::server::Settings;
use crate::trim::{KEPT_MAX, SmallBlocks};

/// What a shard is told by other threads.
pub(crate) enum Letter {
    /// Many replies that became ready together.
    Replies(ReplyBatch),
    /// One reply; no bytes at all means that there will be none and the connection must end.
    Reply(ReplyTo, Option<Vec<u8>>),
    /// A piece of a reply, perhaps empty; whether it is the last one.
    Part(ReplyTo, Vec<u8>, bool),
    /// A reply, or the front of one, that says that it is the last one if it is.
    Parting(Box<Parting>),
    /// Tell this one, once it is this reply's turn and all that was written so far has left.
    Drained(ReplyTo, oneshot::Sender<()>),
    /// Tell this one when the peer of this reply is done, and drop it when the reply is complete
    /// or cannot be.
    Watch(ReplyTo, watch::Sender<bool>),
    /// Bytes that answer no request.
    Send(ConnId, Vec<u8>),
    /// Something for the service of that number.
    Tell(u8, Box<dyn Any + Send>),
    /// End this connection once what is queued for it has left.
    Close(ConnId),
    /// Use these limits and allow-lists from now on.
    Settings(Arc<Settings>),
    /// A crowd has left: give back what is kept to be used again, and what the allocator keeps for
    /// this thread to here.
    Trim(Sender<SmallBlocks>),
    /// Stop accepting, finish what is in flight, and say when that is done.
    Shutdown,
    /// End now.
    Stop,
}

/// A reply that only the shard can know to be the last one of its connection.
pub(crate) struct Parting {
    pub(crate) to: ReplyTo,
    pub(crate) bytes: Vec<u8>,
    /// Whether nothing of it follows.
    pub(crate) is_whole: bool,
    /// What it says if it is the last one.
    pub(crate) words: &'static [u8],
    /// Where in `bytes` it says so.
    pub(crate) words_at: usize,
    /// Its connection is to end even if the server does not.
    pub(crate) ends: bool,
}

struct Pile {
    letters: Vec<Letter>,
    /// The shard waits in `epoll_wait` and must be woken.
    asleep: bool,
    /// The shard has ended: letters to it are dropped.
    closed: bool,
}

struct Inner {
    pile: Mutex<Pile>,
    waker: mio::Waker,
    letters_max: usize,
    /// The server is ending: what is answered now is the last answer.
    draining: AtomicBool,
    /// The shard may take newcomers.
    accepts: AtomicBool,
}

/// The sending side, cheap to clone.
#[derive(Clone)]
pub(crate) struct Mailbox(Arc<Inner>);

impl Mailbox {
    pub(crate) fn new(waker: mio::Waker, letters_max: usize) -> Self {
        let pile = Pile { letters: Vec::new(), asleep: false, closed: false };
        let draining = AtomicBool::new(false);
        let accepts = AtomicBool::new(true);
        let pile = Mutex::new(pile);
        Mailbox(Arc::new(Inner { pile, waker, letters_max, draining, accepts }))
    }

    /// Tells the shard to finish what is in flight and then end.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.post(Letter::Shutdown);
    }

    /// Whether the shard may still take newcomers.
    pub(crate) fn accepts(&self) -> bool {
        self.0.accepts.load(Ordering::Acquire)
    }

    /// The shard takes no newcomers any more.
    pub(crate) fn accepts_no_more(&self) {
        self.0.accepts.store(false, Ordering::Release);
    }

    /// Whether that has been told.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Delivers a letter whose number is bounded by what the shard itself let in.
    pub(crate) fn post(&self, letter: Letter) {
        let _ = self.put(letter, usize::MAX);
    }

    /// Delivers a letter nobody asked for, unless the shard is `letters_max` behind.
    pub(crate) fn offer(&self, letter: Letter) -> bool {
        self.put(letter, self.0.letters_max)
    }

    fn put(&self, letter: Letter, letters_max: usize) -> bool {
        let mut pile = self.pile();
        if pile.closed || pile.letters.len() >= letters_max {
            return false;
        }
        pile.letters.push(letter);
        if std::mem::take(&mut pile.asleep) {
            drop(pile);
            if let Err(error) = self.0.waker.wake() {
                tracing::error!(%error, "a shard could not be woken");
            }
        }
        true
    }

    /// Swaps all waiting letters into `empty`, an empty vector whose room is used again unless it is
    /// that of a crowd.
    pub(crate) fn take(&self, empty: &mut Vec<Letter>) {
        empty.shrink_to(KEPT_MAX);
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.pile().letters, empty);
    }

    /// Gives back the room that nothing lies in.
    pub(crate) fn trim(&self) {
        self.pile().letters.shrink_to_fit();
    }

    /// Tells senders to wake the shard from now on; false when letters wait already.
    pub(crate) fn fall_asleep(&self) -> bool {
        let mut pile = self.pile();
        pile.asleep = pile.letters.is_empty();
        pile.asleep
    }

    /// The shard is awake again, woken by a letter or by something else.
    pub(crate) fn wake_up(&self) {
        self.pile().asleep = false;
    }

    /// No letter is taken any more; those that wait are dropped.
    pub(crate) fn close(&self) {
        let mut pile = self.pile();
        pile.closed = true;
        let letters = std::mem::take(&mut pile.letters);
        drop(pile);
        drop(letters);
    }

    fn pile(&self) -> MutexGuard<'_, Pile> {
        // Nothing between lock and unlock can panic but an allocation failure, which aborts.
        self.0.pile.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
