//! [`Outgoing`]: what a room wants a subscriber to be told.

use std::sync::Arc;

use crate::letter::{Refusal, ResetReason};
use crate::message::Message;
use crate::position::{Position, Seq};
use crate::slots::NONE;
use crate::transport::Transport;

/// Names a subscriber of a room, from [`Room::subscribe`](crate::Room::subscribe) until it is told
/// something that [ends](Outgoing::ends) it, or [unsubscribed](crate::Room::unsubscribe). After
/// that the name may be another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub(crate) u32);

/// Set in the names of those that are on several channels, or have more to remember.
const GROUP: u32 = 1 << 31;

impl SubscriberId {
    /// The plain number, to be kept in the slot of a connection; never
    /// [`u32::MAX`](u32::MAX).
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The name of this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        SubscriberId(number)
    }

    pub(crate) fn of_group(slot: u32) -> Self {
        debug_assert!(slot < GROUP - 1 && NONE == u32::MAX);
        SubscriberId(slot | GROUP)
    }

    /// The slot of the group, if it is one.
    pub(crate) fn group(self) -> Option<u32> {
        (self.0 & GROUP != 0).then_some(self.0 & !GROUP)
    }
}

/// Something a subscriber is to be told now. [`render`](crate::render) knows the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a, H> {
    /// The subscriber.
    pub id: SubscriberId,
    /// What its owner knows it by.
    pub handle: H,
    /// How it is to be told.
    pub transport: Transport,
    /// The channel this is about; empty if about none.
    pub channel: &'a str,
    /// Where the subscriber is when it has been told.
    pub cursor: CursorText<'a>,
    /// What it is told.
    pub what: What<'a>,
    /// That was all: the answer ends, and the subscriber is gone.
    pub ends: bool,
}

/// A cursor that is written when it is needed.
#[derive(Debug, Clone, Copy)]
pub enum CursorText<'a> {
    /// There is none.
    None,
    /// Of a subscriber on one channel.
    At(Position),
    /// Of one on several.
    Several(&'a str),
}

/// What there is to tell.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// A message that was published now.
    Message {
        /// Its number.
        seq: Seq,
        /// The message.
        message: &'a Message,
    },
    /// Messages of before, oldest first, up to the cursor.
    Missed {
        /// The number of the first.
        first: Seq,
        /// The messages, with consecutive numbers.
        messages: &'a [Arc<Message>],
    },
    /// Where it is: it hears from now on what comes after that.
    Here(Seq),
    /// So many messages were left out since it was told the last one, because it read too slowly.
    Skipped(u64),
    /// It cannot get what it missed, and goes on from here.
    Reset(ResetReason, Seq),
    /// It may not be on the channel.
    Refused(Refusal),
    /// The channel was closed; this would have been the next message.
    Closed(Seq),
    /// Somebody came to the channel, or left it.
    Member {
        /// Who.
        subject: &'a str,
        /// Came.
        joined: bool,
    },
    /// A sign of life, with the count that icomet's clients expect.
    Noop(i32),
    /// The token's time is over.
    TokenExpired,
    /// It reads too slowly, and gets the rest when it comes back.
    TooSlow,
    /// The answer of a poll on several channels: objects with commas between them.
    Answer(&'a str),
    /// The server ends: come again after so many milliseconds.
    Goodbye {
        /// When to come again.
        retry_ms: u64,
        /// The count that icomet's clients expect.
        noop: i32,
    },
}
