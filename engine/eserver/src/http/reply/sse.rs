//! [`Events`]: a body of server-sent events.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use eserver_wire::sse::{BadEvent, Event, encode, encode_comment, encode_retry};
use thiserror::Error;

use crate::conn_id::ConnId;
use crate::http::reply::Reply;
use crate::http::reply::stream::{Chunks, from_producer};
use crate::http::stream::{Gone, Stream};

/// How often a client is sent a comment, so that neither it nor a proxy takes the connection for
/// dead.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// The latest that clients are told to come back when the server ends them all at once, in
/// milliseconds; no two of them need come at the same time.
const RETURN_MS_MAX: u64 = 6000;

/// The soonest, which leaves a server time to start again.
const RETURN_MS_MIN: u64 = 1000;

/// Server-sent events on their way to one client.
pub struct Events(Chunks);

/// Why an event was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotSent {
    /// The connection has ended.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// It would have become something else on the way.
    #[error(transparent)]
    BadEvent(#[from] BadEvent),
}

/// A reply of server-sent events, which `producer` sends until it is done or the client hangs up.
/// What the client saw last before it came back is in the request's header `Last-Event-ID`.
///
/// When the server ends, clients are told to come back after one to six seconds, each after another
/// time, so that the next server is not asked by all of them at once.
///
/// ```
/// use std::time::Duration;
/// use eserver::http::{App, Event, sse};
///
/// let mut app = App::new();
/// app.get("/ticks", |_| {
///     sse(async |mut events| {
///         loop {
///             tokio::time::sleep(Duration::from_secs(1)).await;
///             events.send(&Event { data: Some("tick"), ..Event::default() }).await?;
///         }
///     })
/// });
/// ```
pub fn sse<F, Fut>(producer: F) -> Reply
where
    F: FnOnce(Events) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), NotSent>> + Send + 'static,
{
    sse_with_heartbeat(HEARTBEAT, producer)
}

/// [`sse`] with a comment every so often.
pub fn sse_with_heartbeat<F, Fut>(heartbeat: Duration, producer: F) -> Reply
where
    F: FnOnce(Events) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), NotSent>> + Send + 'static,
{
    let start = move |chunks: Chunks, runtime: &tokio::runtime::Handle| {
        let stream = Arc::clone(&chunks.stream);
        runtime.spawn(async move {
            // It is called here, so that a panic in it is this task's.
            tokio::select! {
                result = producer(Events(chunks)) => {
                    if let Err(error @ NotSent::BadEvent(_)) = result {
                        tracing::error!(%error, "an event cannot be sent");
                    }
                }
                () = beat(stream.stream(), heartbeat) => {}
                () = stream.stream().left() => {
                    let mut retry = Vec::new();
                    encode_retry(return_ms(stream.stream().conn_id()), &mut retry);
                    // One who has hung up for good is told nothing.
                    let _ = stream.stream().chunk(&retry);
                }
            }
        });
    };
    from_producer(start)
        .with_content_type("text/event-stream")
        .with_header("Cache-Control", "no-cache")
        // nginx would keep events to itself until they fill a buffer.
        .with_header("X-Accel-Buffering", "no")
}

impl Events {
    /// Sends an event, once the client has taken enough of those before.
    ///
    /// # Errors
    /// [`NotSent`] when the client has gone or the event's id or type has a line end.
    pub async fn send(&mut self, event: &Event<'_>) -> Result<(), NotSent> {
        let mut bytes = Vec::new();
        encode(event, &mut bytes)?;
        Ok(self.0.send(bytes).await?)
    }

    /// Sends an event without waiting; see [`Chunks::send_now`].
    ///
    /// # Errors
    /// As for [`Events::send`].
    pub fn send_now(&mut self, event: &Event<'_>) -> Result<(), NotSent> {
        let mut bytes = Vec::new();
        encode(event, &mut bytes)?;
        Ok(self.0.send_now(bytes)?)
    }

    /// Tells the client how long to wait before it comes back, should the connection end.
    ///
    /// # Errors
    /// [`NotSent::Gone`].
    pub fn retry(&mut self, after: Duration) -> Result<(), NotSent> {
        let mut bytes = Vec::new();
        encode_retry(u64::try_from(after.as_millis()).unwrap_or(u64::MAX), &mut bytes);
        Ok(self.0.send_now(bytes)?)
    }
}

/// When a client is to come back, in milliseconds: as good as random.
fn return_ms(conn_id: ConnId) -> u64 {
    RETURN_MS_MIN + RandomState::new().hash_one(conn_id) % (RETURN_MS_MAX - RETURN_MS_MIN)
}

/// Sends comments until the client has gone.
async fn beat(stream: &Stream, heartbeat: Duration) {
    let mut comment = Vec::new();
    encode_comment("", &mut comment);
    // A timer cannot be set to no time at all.
    let mut beats = tokio::time::interval(heartbeat.max(Duration::from_millis(1)));
    beats.tick().await;
    loop {
        beats.tick().await;
        // One that has not taken the last comment needs no other.
        if stream.drained().await.and_then(|()| stream.chunk(&comment)).is_err() {
            return;
        }
    }
}
