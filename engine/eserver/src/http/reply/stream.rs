//! [`Chunks`]: a body that comes as it comes.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use crate::http::reply::{Reply, ReplyBody, bytes_of_nothing};
use crate::http::stream::{Gone, Stream};

/// What may be on its way before [`Chunks::send`] waits for the client, in bytes.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// The body of a reply, sent piece by piece, from any thread.
///
/// Dropping it ends the reply as it should be. If that happens in a panic, or by [`Chunks::abort`],
/// the connection is cut off, so that the client knows that something is missing.
pub struct Chunks {
    pub(super) stream: Arc<Ending>,
    /// Bytes sent since the client was last waited for.
    ahead_bytes: usize,
}

/// A stream that ends well if nothing else happens to it.
pub(super) struct Ending(Option<Stream>);

/// A reply whose body is sent by `producer`, which runs on the tokio runtime beside the shards: as
/// chunks for HTTP/1.1, until the connection ends for HTTP/1.0.
///
/// [`Gone`] ends the producer quietly, since there is nobody to tell. A plain thread may send as
/// well: move the [`Chunks`] there.
///
/// ```
/// use eserver::http::{App, stream};
///
/// let mut app = App::new();
/// app.get("/count", |_| {
///     stream("text/plain", async |mut chunks| {
///         for number in 0..1_000_000 {
///             chunks.send(format!("{number}\n")).await?;
///         }
///         Ok(())
///     })
/// });
/// ```
pub fn stream<F, Fut>(content_type: impl Into<Cow<'static, str>>, producer: F) -> Reply
where
    F: FnOnce(Chunks) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Gone>> + Send + 'static,
{
    // It is called in the task, so that a panic in it is the task's.
    let start = move |chunks, runtime: &tokio::runtime::Handle| {
        runtime.spawn(async move { producer(chunks).await });
    };
    from_producer(start).with_content_type(content_type)
}

pub(super) fn from_producer(
    start: impl FnOnce(Chunks, &tokio::runtime::Handle) + Send + 'static,
) -> Reply {
    let producer = Box::new(move |stream: Stream, runtime: &tokio::runtime::Handle| {
        start(Chunks { stream: Arc::new(Ending(Some(stream))), ahead_bytes: 0 }, runtime);
    });
    Reply { body: ReplyBody::Stream(producer), ..bytes_of_nothing() }
}

impl Chunks {
    /// Sends a piece, once the client has taken enough of what was sent before. Who sends like this
    /// needs little memory, however long the body and however slow the client.
    ///
    /// # Errors
    /// [`Gone`] when the connection has ended.
    pub async fn send(&mut self, data: impl AsRef<[u8]>) -> Result<(), Gone> {
        if self.ahead_bytes >= AHEAD_BYTES_MAX {
            self.stream().drained().await?;
            self.ahead_bytes = 0;
        }
        self.send_now(data)
    }

    /// [`Chunks::send`] for a thread that may wait.
    ///
    /// # Errors
    /// [`Gone`] when the connection has ended.
    ///
    /// # Panics
    /// Inside of `async` code.
    pub fn send_blocking(&mut self, data: impl AsRef<[u8]>) -> Result<(), Gone> {
        if self.ahead_bytes >= AHEAD_BYTES_MAX {
            self.stream().wait_drained()?;
            self.ahead_bytes = 0;
        }
        self.send_now(data)
    }

    /// Sends a piece without waiting. A client that does not read is closed once the bytes that
    /// wait for it reach [`Limits::outbox_bytes_max`](crate::Limits::outbox_bytes_max).
    ///
    /// # Errors
    /// [`Gone`] when the connection has ended.
    pub fn send_now(&mut self, data: impl AsRef<[u8]>) -> Result<(), Gone> {
        let data = data.as_ref();
        self.ahead_bytes = self.ahead_bytes.saturating_add(data.len());
        self.stream().chunk(data)
    }

    /// Waits until the client has hung up, or will at least send nothing more.
    pub async fn left(&self) {
        self.stream().left().await;
    }

    /// Cuts the connection off: the body cannot be completed.
    pub fn abort(self) {
        if let Some(Ending(stream)) = Arc::into_inner(self.stream).as_mut() {
            drop(stream.take());
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        self.stream.stream()
    }
}

impl Ending {
    pub(super) fn stream(&self) -> &Stream {
        self.0.as_ref().expect("only what is dropped has no stream")
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take()
            && !std::thread::panicking()
        {
            // Nobody is left to be told that the client has gone.
            let _ = stream.finish();
        }
    }
}
