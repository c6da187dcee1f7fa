//! [`Mailbox`]: how other threads speak to a shard.
//!
//! Letters are taken all at once, so a busy shard pays one lock per turn, not one per letter; a
//! sender writes to the wake-up descriptor only when the shard really sleeps.
//!
//! Replies are always taken: there is at most one per request in flight, and those are bounded per
//! connection. What nobody asked for ([`Letter::Send`]) is refused past `letters_max`.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::conn_id::ConnId;
use crate::reply::{ReplyBatch, ReplyTo};
use crate::server::Settings;

/// What a shard is told by other threads.
pub(crate) enum Letter {
    /// Many replies that became ready together.
    Replies(ReplyBatch),
    /// One reply; no bytes at all means that there will be none and the connection must end.
    Reply(ReplyTo, Option<Vec<u8>>),
    /// Bytes that answer no request.
    Send(ConnId, Vec<u8>),
    /// End this connection once what is queued for it has left.
    Close(ConnId),
    /// Use these limits and allow-lists from now on.
    Settings(Arc<Settings>),
    /// Stop accepting, finish what is in flight, then end.
    Shutdown,
    /// End now.
    Stop,
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
}

/// The sending side, cheap to clone.
#[derive(Clone)]
pub(crate) struct Mailbox(Arc<Inner>);

impl Mailbox {
    pub(crate) fn new(waker: mio::Waker, letters_max: usize) -> Self {
        let pile = Pile { letters: Vec::new(), asleep: false, closed: false };
        Mailbox(Arc::new(Inner { pile: Mutex::new(pile), waker, letters_max }))
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

    /// Swaps all waiting letters into `empty`, an empty vector whose room is used again.
    pub(crate) fn take(&self, empty: &mut Vec<Letter>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.pile().letters, empty);
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
