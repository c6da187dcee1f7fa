//! What hubs and rooms tell each other. Whoever carries letters keeps those from one shard to
//! another in their order and loses none; between other pairs they may overtake each other as they
//! like.

use std::sync::Arc;

use crate::message::Message;
use crate::position::{Epoch, Position, Seq};
use crate::shards::ShardId;

/// From a [`Room`](crate::Room) to the [`Hub`](crate::Hub) that has the channel.
#[derive(Debug)]
pub struct ToHub(pub(crate) HubLetter);

/// From a [`Hub`](crate::Hub) to a [`Room`](crate::Room) that listens.
#[derive(Debug)]
pub struct ToRoom(pub(crate) RoomLetter);

#[derive(Debug)]
pub(crate) enum HubLetter {
    Join(Box<Join>),
    Leave(Leave),
}

#[derive(Debug)]
pub(crate) enum RoomLetter {
    Joined(Box<Joined>),
    Deliver { to: RoomChannel, seq: Seq, message: Arc<Message> },
    Member { to: RoomChannel, subject: Arc<str>, joined: bool },
    Closed { to: RoomChannel },
}

/// A channel in a room: its slot there, which may be another channel's by now, and the life that
/// the letter is about, which then is not that one's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomChannel {
    pub(crate) slot: u32,
    pub(crate) epoch: Epoch,
}

/// Where a subscriber wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As icomet has it: with this message, 32 bits and wrapping around; 0, or a number that is
    /// ahead, asks for the number of the next one, a negative one for all there is.
    Icomet(i32),
    /// With what comes from now on.
    Now,
    /// With all that the history has.
    All,
    /// Where it was.
    At(Position),
}

/// By what right somebody subscribes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// The token of the channel, which may be needed; empty if there is none.
    Token(Box<str>),
    /// A [`Grant`](crate::Grant) that was verified, and is for this channel.
    Granted,
}

#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) channel: Box<str>,
    /// The slot of the channel in the room.
    pub(crate) room: u32,
    /// The slot of the subscriber in the room, for the answer.
    pub(crate) ticket: u32,
    /// It stays no longer than until it is told something.
    pub(crate) once: bool,
    pub(crate) start: Start,
    pub(crate) access: Access,
    pub(crate) subject: Option<Arc<str>>,
    /// It is on the channel already, and was not told for a while.
    pub(crate) catches_up: bool,
}

#[derive(Debug)]
pub(crate) struct Leave {
    /// The slot of the channel in the hub.
    pub(crate) hub: u32,
    pub(crate) epoch: Epoch,
    pub(crate) count: u32,
    pub(crate) subject: Option<Arc<str>>,
}

#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) ticket: u32,
    /// The slot of the channel in the hub, if it has one.
    pub(crate) hub: u32,
    /// Where the subscriber is once it has been told the answer.
    pub(crate) position: Position,
    /// Whether it is on the channel now: what is delivered from here on is for it.
    pub(crate) stays: bool,
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) answer: Answer,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Refused(Refusal),
    /// Tell it where it is.
    Here,
    /// There is nothing to tell.
    Wait,
    Missed {
        first: Seq,
        messages: Vec<Arc<Message>>,
    },
    Reset(ResetReason),
}

/// Why somebody may not subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The token is not the channel's, or there is no such channel.
    Token,
    /// [`Settings::channels_max`](crate::Settings::channels_max) is reached.
    Channels,
    /// [`ChannelSettings::subscribers_max`](crate::ChannelSettings::subscribers_max) is reached.
    Subscribers,
    /// The channel was closed meanwhile.
    Closed,
}

/// Why a subscriber that comes back cannot get what it missed. It goes on with what comes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// The channel was closed, or the server restarted, and the channel has been made anew.
    EpochChanged,
    /// The channel was not there any more.
    Expired,
    /// Some of what it missed has left the history.
    HistoryTrimmed,
    /// There never was such a position.
    NeverWas,
}

impl ResetReason {
    /// The reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ResetReason::EpochChanged => "epoch changed",
            ResetReason::Expired => "expired",
            ResetReason::HistoryTrimmed => "history trimmed",
            ResetReason::NeverWas => "position unknown",
        }
    }
}

/// What a call to a hub leads to elsewhere.
#[derive(Debug, Default)]
pub struct Effects {
    /// Letters to rooms, to be carried in this order.
    pub letters: Vec<(ShardId, ToRoom)>,
    /// What became of channels; only if the hub was told to [watch](crate::Hub::watch_events).
    pub events: Vec<Event>,
}

/// Something that became of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The channel's name.
    pub channel: Box<str>,
    /// What it was.
    pub what: EventKind,
}

/// What may become of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// It is there, with or without subscribers: icomet's `1`.
    Created,
    /// It is there, as it was: icomet says so again and again. Hubs do not.
    StillThere,
    /// It is no more: icomet's `0`.
    Removed,
    /// It has subscribers.
    Occupied,
    /// It has had none for [a while](crate::Settings::absence_grace_s).
    Vacated,
    /// Somebody is on it who was not.
    MemberJoined(Arc<str>),
    /// Somebody has not been on it for [a while](crate::Settings::absence_grace_s).
    MemberLeft(Arc<str>),
}
