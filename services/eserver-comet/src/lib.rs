//! Channels that push: what is published to one reaches everybody who listens to it, in order, and
//! whoever comes back gets what it missed, once, or is told that it cannot.
//!
//! A [`Hub`] has the channels of a shard: their messages, who listens to them, and when they end. A
//! [`Room`] has the subscribers of a shard's connections. They tell each other in letters
//! ([`ToHub`], [`ToRoom`]); a channel's hub is that of the shard which its name says
//! ([`Shards::owner`]), its subscribers sit in any room.
//!
//! ```text
//!            publish                        letters                         tell
//!  clients ──────────▶ Hub of the channel ──────────▶ Room of the shard A ──────▶ subscribers
//!                         ▲         └───────────────▶ Room of the shard B ──────▶ subscribers
//!                         └─── join, leave ──────────────┘
//! ```
//!
//! A message's way through the files: a [`ChannelName`] says where to; [`Data`] is made valid JSON
//! at the edge, and becomes a [`Message`], which is shared from then on. The hub gives it a [`Seq`]
//! in the channel's [`Epoch`], keeps it in the history, and sends it to each shard that listens. The
//! room hands each subscriber an [`Outgoing`], and [`render`] knows the bytes.
//!
//! Nothing here reads a clock, opens a socket or starts a thread; chance is used once, for
//! [`Secrets`]. No tick walks over channels or subscribers: deadlines are on timer wheels. The tests
//! run several shards on a turned clock, from a seed.

mod channel_name;
mod millis;
mod position;

mod base64url;
mod cursor;
mod secrets;
mod token;

mod origins;
mod settings;
mod slow;

mod history;
mod message;

mod slots;

mod names;
mod shards;

mod directory;
mod wheel;

mod letter;

mod hub;

mod outgoing;
mod transport;

mod room;

pub mod render;

mod service;

mod webhook;

#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod simulation;

pub use crate::channel_name::{ChannelName, NAME_BYTES_MAX, NameTooLong};
pub use crate::cursor::Cursor;
pub use crate::hub::{
    Broadcast, ChannelCount, ChannelInfo, ChannelsFull, HistoryPage, Hub, Publication,
    PublishError, Published, Signed, UnknownChannel,
};
pub use crate::letter::{
    Access, Effects, Event, EventKind, Refusal, ResetReason, Start, ToHub, ToRoom,
};
pub use crate::message::{BadJson, Data, Kind, Message};
pub use crate::millis::Millis;
pub use crate::origins::{BadOrigin, Origin, Origins};
pub use crate::outgoing::{CursorText, Outgoing, SubscriberId, What};
pub use crate::position::{BadCursor, Epoch, Position, Seq};
pub use crate::room::{Letters, Room, SubscribeError, Subscription, Tell};
pub use crate::secrets::{NoRandomness, Secrets};
pub use crate::service::{Admin, Comet, Front};
pub use crate::settings::{
    Auth, ChannelSettings, Override, POLL_TIMEOUT_S_MAX, Policies, Settings,
};
pub use crate::shards::{ShardId, Shards};
pub use crate::slow::{Sent, SlowPolicy};
pub use crate::token::{ChannelToken, Grant, TOKEN_BYTES_MAX, TokenError};
pub use crate::transport::Transport;
pub use crate::webhook::{BadUrl, Calling, Webhook, WebhookSettings, WebhookUrl};
