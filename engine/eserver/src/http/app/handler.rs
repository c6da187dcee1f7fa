//! [`Handler`]: what answers the requests of a route, as one shard has it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::http::app::gate::{Busy, Gate};
use crate::http::app::pool::Pool;
use crate::http::app::replier::{Beside, Ended, Replier};
use crate::http::app::request::{OwnedRequest, Request};
use crate::http::middleware::Envelope;
use crate::http::reply::Reply;
use crate::http::stream::Stream;
use crate::http::ticket::Ticket;
use crate::server::Post;
use crate::service::Conn;

/// A route's handler on one shard.
pub(crate) trait Handler {
    /// The reply, or `None` if [`Later::replier`] was taken and will give it.
    fn call(&mut self, request: &Request<'_>, later: &mut Later<'_, '_>) -> Option<Reply>;
}

/// The way to answer later.
pub(crate) struct Later<'a, 'b> {
    pub(crate) conn: &'a mut Conn<'b>,
    pub(crate) ticket: Ticket,
    pub(crate) post: &'a Post,
    pub(crate) beside: &'a Arc<Beside>,
    /// `None` once it was taken.
    pub(crate) envelope: Option<Envelope>,
}

impl Later<'_, '_> {
    /// May be called once.
    fn replier(&mut self) -> Replier {
        let envelope = self.envelope.take().expect("a request is answered once");
        self.replier_with(envelope)
    }

    pub(crate) fn replier_with(&mut self, envelope: Envelope) -> Replier {
        let conn = self.conn.io.get(self.conn.key);
        let is_next = conn.is_some_and(|conn| conn.in_flight() == 1);
        Replier::new(self.ticket, self.post, envelope, self.beside, is_next)
    }

    /// Tells when the connection has ended, or the request is answered.
    pub(crate) fn ended(&mut self) -> Ended {
        let (watch, peer) = Stream::channel();
        self.conn.watch(self.ticket.to, watch);
        Ended(peer)
    }
}

/// Answers in place.
pub(crate) struct InPlace<F>(pub(crate) Arc<F>);

impl<F, R> Handler for InPlace<F>
where
    F: Fn(&Request<'_>) -> R,
    R: Into<Reply>,
{
    fn call(&mut self, request: &Request<'_>, _: &mut Later<'_, '_>) -> Option<Reply> {
        Some((self.0)(request).into())
    }
}

/// Is given the duty to answer.
pub(crate) struct ByReplier<F>(pub(crate) Arc<F>);

impl<F: Fn(&Request<'_>, Replier)> Handler for ByReplier<F> {
    fn call(&mut self, request: &Request<'_>, later: &mut Later<'_, '_>) -> Option<Reply> {
        (self.0)(request, later.replier());
        None
    }
}

/// Answers by a future, which is polled once in place and moves to the runtime if it waits.
struct MayWait<M, Fut> {
    make: M,
    /// Room for a future, used again and again by those that finish at the first poll.
    spare: Option<Pin<Box<Option<Fut>>>>,
}

/// A handler that calls an `async` function, as often at once as the gate lets it.
pub(crate) fn may_wait<F, Fut>(handler: Arc<F>, gate: Option<Arc<Gate>>) -> Box<dyn Handler>
where
    F: Fn(OwnedRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Reply>> + Send + 'static,
{
    fn boxed<M, Fut>(make: M) -> Box<dyn Handler>
    where
        M: Fn(OwnedRequest) -> Fut + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        Box::new(MayWait { make, spare: None })
    }
    let Some(gate) = gate else {
        return boxed(move |request| {
            let reply = handler(request);
            async move { reply.await.into() }
        });
    };
    boxed(move |request| {
        let (handler, gate) = (Arc::clone(&handler), Arc::clone(&gate));
        async move {
            match gate.enter().await {
                Ok(_place) => handler(request).await.into(),
                Err(Busy) => Reply::busy(),
            }
        }
    })
}

impl<M, Fut> Handler for MayWait<M, Fut>
where
    M: Fn(OwnedRequest) -> Fut,
    Fut: Future<Output = Reply> + Send + 'static,
{
    fn call(&mut self, request: &Request<'_>, later: &mut Later<'_, '_>) -> Option<Reply> {
        let future = (self.make)(request.to_owned());
        let mut room = self.spare.take().unwrap_or_else(|| Box::pin(None));
        room.set(Some(future));
        // Nobody is woken by this waker: the runtime polls once more when it takes the future over.
        match poll_room(&mut room, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reply) => {
                room.set(None);
                self.spare = Some(room);
                Some(reply)
            }
            Poll::Pending => {
                let route = format!("{} {}", request.method(), request.path());
                let replier = later.replier().until(later.ended());
                later.beside.runtime().spawn(finish(room, route, replier));
                None
            }
        }
    }
}

async fn finish<Fut: Future<Output = Reply>>(
    mut room: Pin<Box<Option<Fut>>>,
    route: String,
    mut replier: Replier,
) {
    let reply = std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| poll_room(&mut room, context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    });
    // Nobody works for who has gone: the future is dropped, and with it its place in any line.
    let Some(reply) = replier.unless_gone(reply).await else { return replier.forget() };
    replier.reply(reply.unwrap_or_else(|| panicked(&route)));
}

fn poll_room<Fut: Future<Output = Reply>>(
    room: &mut Pin<Box<Option<Fut>>>,
    context: &mut Context<'_>,
) -> Poll<Reply> {
    let future = room.as_mut().as_pin_mut().expect("the room holds a future until it is ready");
    future.poll(context)
}

/// A handler for [`may_wait`] that runs blocking code on `pool`.
pub(crate) fn on_pool<F, R>(
    pool: &Pool,
    handler: F,
) -> impl Fn(OwnedRequest) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync + 'static
where
    F: Fn(OwnedRequest) -> R + Send + Sync + 'static,
    R: Into<Reply>,
{
    let (pool, handler) = (pool.clone(), Arc::new(handler));
    move |request| {
        let handler = Arc::clone(&handler);
        let route = format!("{} {}", request.method(), request.path());
        let result = pool.run(move || handler(request).into());
        Box::pin(async move {
            match result {
                Ok(reply) => reply.await.unwrap_or_else(|_| panicked(&route)),
                Err(_full) => Reply::busy(),
            }
        })
    }
}

/// The reply to a request whose handler panicked: that request's failure and nobody else's.
pub(crate) fn panicked(route: &str) -> Reply {
    tracing::error!(route, "the handler panicked");
    Reply::internal_error()
}
