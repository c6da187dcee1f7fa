//! HTTP/1.0 and HTTP/1.1 services.
//!
//! [`App`] is for people: handlers by method and path, plain, `async` or blocking, with extraction,
//! replies, static files and what all requests share. It is an [`Application`] like any other.
//!
//! [`Application`] is what stands on the shard: it sees heads with their bodies and answers in
//! place, later from any thread, piece by piece, or by changing the protocol. [`Http`] makes a
//! service of it.
//!
//! A request comes in as bytes in the shard's buffer. *Service* takes its head off the front with
//! [`Head::parse`]; a small body behind it is borrowed from the same buffer. A longer one is waited
//! for: of a known length in the connection's spill, in chunks as an *unfinished* body, decoded as
//! it comes. What the application does not want to read it says before it is read
//! ([`BodyPlan::Unread`]), and the rest of it is skipped if it is short; otherwise the connection
//! ends with the answer, and what the peer still sends is dropped without being kept.
//!
//! The answer leaves through the [`Call`], which writes it straight into the shard's outgoing run,
//! or through what the call was exchanged for: a [`Responder`], a [`Stream`] or a [`Ticket`].
//! Answers leave in the order of the requests.

mod app;
mod application;
mod call;
mod clock;
mod extract;
mod files;
mod middleware;
mod reply;
mod responder;
mod router;
mod service;
mod stream;
mod ticket;
mod unfinished;

pub use app::{App, AppOnShard, OwnedRequest, Pool, Replier, Request, Route, RunError, Waiting};
pub use application::{Answered, Application, BodyPlan};
pub use call::Call;
pub use eserver_wire::http::{
    BadField, BadRequest, Body, Date, Exchange, Fields, Following, Head, HeadLimits,
    ResponseWriter, Version,
};
pub use eserver_wire::sse::{BadEvent, Event};
pub use extract::{BadInput, Failure};
pub use files::Files;
pub use middleware::Cors;
pub use reply::{
    Chunks, Events, HEARTBEAT, NotSent, Reply, bytes, html, json, redirect, sse,
    sse_with_heartbeat, status, stream, text,
};
pub use responder::Responder;
pub use router::BadRoute;
pub use service::{Http, SKIP_BYTES_MAX};
pub use stream::{Gone, Stream};
pub use ticket::{StreamTo, Ticket};
