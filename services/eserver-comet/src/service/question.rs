//! [`Question`]: what may be asked of a channel's hub, wherever it is. [`Outcome`]: what comes back.

use std::sync::Arc;

use crate::channel_name::ChannelName;
use crate::hub::{
    ChannelInfo, ChannelsFull, HistoryPage, Hub, Publication, PublishError, Published, Signed,
    UnknownChannel,
};
use crate::letter::Effects;
use crate::message::Data;
use crate::millis::Millis;
use crate::position::{Position, Seq};

/// The name of a channel, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedName(Box<str>);

impl From<ChannelName<'_>> for OwnedName {
    fn from(name: ChannelName<'_>) -> Self {
        OwnedName(name.as_str().into())
    }
}

impl OwnedName {
    pub(crate) fn get(&self) -> ChannelName<'_> {
        ChannelName::new(&self.0).expect("it was a name when it was kept")
    }
}

/// What may be asked.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    Publish {
        channel: OwnedName,
        data: Data,
        event: Option<Box<str>>,
        key: Option<Box<str>>,
    },
    Sign {
        channel: OwnedName,
        expires_s: i64,
    },
    Close(OwnedName),
    Clear(OwnedName),
    Info(OwnedName),
    Members(OwnedName),
    History {
        channel: OwnedName,
        since: Option<Position>,
        messages_max: usize,
    },
    /// How many channels and subscriptions there are.
    Count,
    /// What is known of channels with this beginning, so many at most, after a look at so many
    /// places from one on.
    List {
        prefix: Box<str>,
        place: u32,
        places_max: u32,
    },
    /// To all channels of the hub.
    Broadcast(Data),
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Outcome {
    Published(Result<Published, PublishError>),
    Signed(Result<Signed, ChannelsFull>),
    /// Closed or cleared; the message that would have come next.
    Next(Result<Seq, UnknownChannel>),
    Info(Option<ChannelInfo>),
    Members(Result<Vec<(Arc<str>, u32)>, UnknownChannel>),
    History(Result<HistoryPage, UnknownChannel>),
    Count {
        channels: usize,
        subscriptions: u64,
    },
    /// What was found, and where to go on.
    Listed(Vec<ChannelInfo>, Option<u32>),
    /// All channels of the hub have got a broadcast.
    Reached,
}

impl Question {
    /// Asks the hub. Broadcasts, which take several steps, are the caller's.
    pub(crate) fn put(self, hub: &mut Hub, now: Millis, effects: &mut Effects) -> Outcome {
        match self {
            Question::Publish { channel, data, event, key } => {
                let (event, idempotency_key) = (event.as_deref(), key.as_deref());
                let publication = Publication { data, event, idempotency_key };
                Outcome::Published(hub.publish(now, channel.get(), publication, effects))
            }
            Question::Sign { channel, expires_s } => {
                Outcome::Signed(hub.sign(now, channel.get(), expires_s, effects))
            }
            Question::Close(channel) => Outcome::Next(hub.close(channel.get(), effects)),
            Question::Clear(channel) => Outcome::Next(hub.clear(channel.get())),
            Question::Info(channel) => Outcome::Info(hub.info(channel.get())),
            Question::Members(channel) => Outcome::Members(hub.members(channel.get())),
            Question::History { channel, since, messages_max } => {
                Outcome::History(hub.history(now, channel.get(), since, messages_max))
            }
            Question::Count => {
                Outcome::Count { channels: hub.channels(), subscriptions: hub.subscribers() }
            }
            Question::List { prefix, place, places_max } => {
                let mut found = Vec::new();
                let next = hub.list(&prefix, place, places_max, &mut found);
                Outcome::Listed(found, next)
            }
            Question::Broadcast(_) => Outcome::Reached,
        }
    }
}
