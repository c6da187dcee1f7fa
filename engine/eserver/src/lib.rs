//! A framework for servers that hold very many connections and answer quickly.
//!
//! What comes in and where it goes, in the order of the files:
//!
//! A [`Server`] is put together from listening addresses and services. It starts *shards*: each is
//! a thread with one event loop that owns its listeners, its connections and its timers, and shares
//! nothing with the others but a count of connections. A *listener* accepts a newcomer whom the
//! [`AllowList`] and the [`Limits`] let in; its *connection* is a record of fewer than 128 bytes in
//! a *slab*, and an idle one is nothing else. Bytes are read into the shard's one buffer and shown
//! to the [`Service`], which takes whole requests off their front. Answers are appended to the
//! shard's outgoing run and leave with one `write`; only what the kernel does not take goes to an
//! *outbox*. Answers that come later, from any thread, arrive by [`Post`] in the shard's *mailbox*
//! and leave in the order of the requests.
//!
//! What services offer one another without knowing one another are the traits in *feed*.
//!
//! [`framed`] is the protocol of framed commands on top of that, with plain and `async` handlers,
//! and [`http`] is HTTP/1.1.

mod server;
mod signals;

mod allow;
mod census;
mod descriptors;
mod handover;
mod limits;
mod listener;
mod tables;
mod trim;

mod shard;

mod conn_id;
mod connection;
mod slab;
mod wheel;

mod service;

mod io;
mod mailbox;
mod outbox;
mod reply;

mod counters;

mod feed;

pub mod framed;
pub mod http;

pub use allow::{AllowList, NotAPrefix};
pub use census::Refusal;
pub use conn_id::ConnId;
pub use connection::NO_SLOT;
pub use counters::Counters;
pub use descriptors::DescriptorLimit;
pub use feed::{
    Announce, Consumer, Feed, FeedFailed, Intake, Message, NotTaken, Report, Taken, Turn,
};
pub use limits::Limits;
pub use listener::Newcomers;
pub use reply::{ReplyBatch, ReplyTo};
pub use server::{Ended, Post, Running, Server, ShardContext, StartError};
pub use service::{Conn, Conns, Received, Service};
pub use signals::{Asked, Signals, asked_to_end};
pub use tables::PrivateTables;
