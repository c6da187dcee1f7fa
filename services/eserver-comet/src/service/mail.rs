//! [`Bundle`]: what the stations of a server's shards send each other.

use std::sync::Arc;

use crate::letter::{Event, ToHub, ToRoom};
use crate::service::asked::AskedAs;
use crate::service::question::{Outcome, Question};
use crate::settings::Policies;
use crate::shards::ShardId;

/// Everything that one station has for another, in order: it goes as one message of the engine.
pub(crate) struct Bundle {
    pub(crate) from: ShardId,
    pub(crate) mail: Vec<Mail>,
}

/// A piece of mail.
pub(crate) enum Mail {
    /// From a room to the hub there.
    ToHub(ToHub),
    /// From a hub to the room there.
    ToRoom(ToRoom),
    /// Asks the hub there; the name comes back with the outcome, and without one nobody waits.
    Ask(Option<AskedAs>, Box<Question>),
    /// The outcome of what was asked under that name.
    Told(AskedAs, Outcome),
    /// Something became of channels there; for those who watch here.
    Events(Arc<[Event]>),
    /// Somebody there wants to know what becomes of channels, or nobody any more.
    Watch(bool),
    /// The server ends, and nothing more is asked from there: all that was, stands before this.
    LastAsked,
    /// The hub there delivers nothing more.
    LastDelivered,
    /// From now on these settings hold.
    Reload(Arc<Policies>),
}
