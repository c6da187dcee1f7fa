//! [`Stream`]: an answer that goes on piece by piece, from any thread.

use eserver_wire::http::Following;
use thiserror::Error;
use tokio::sync::watch;

use crate::conn_id::ConnId;
use crate::http::ticket::StreamTo;
use crate::server::Post;

/// The peer of a stream will get nothing more: its connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the connection has ended")]
pub struct Gone;

/// The body of an answer, to be sent piece by piece from any thread.
///
/// A peer that reads more slowly than it is sent to is closed at its bound
/// ([`Limits::outbox_bytes_max`](crate::Limits::outbox_bytes_max)); who has much to send waits for
/// [`Stream::drained`] between pieces. A stream that is dropped before it is
/// [finished](Stream::finish) cuts its connection off, so that the peer knows that something is
/// missing.
pub struct Stream {
    stream: StreamTo,
    /// `None` once the answer is complete.
    post: Option<Post>,
    peer: watch::Receiver<bool>,
}

impl Stream {
    /// What the shard tells through, and what that is seen by: true once the peer is done or
    /// the server is ending, closed when the connection has ended.
    pub(crate) fn channel() -> (watch::Sender<bool>, watch::Receiver<bool>) {
        watch::channel(false)
    }

    pub(crate) fn new(stream: StreamTo, post: Post, peer: watch::Receiver<bool>) -> Self {
        let is_complete = stream.following == Following::Nothing;
        Stream { stream, post: (!is_complete).then_some(post), peer }
    }

    /// The connection that asked.
    #[must_use]
    pub fn conn_id(&self) -> ConnId {
        self.stream.to.conn()
    }

    /// Sends a piece of the body.
    ///
    /// # Errors
    /// [`Gone`] when the connection has ended, or there is to be no body: the request was a HEAD.
    pub fn chunk(&self, data: &[u8]) -> Result<(), Gone> {
        let post = self.post()?;
        if !data.is_empty() {
            let mut bytes = Vec::with_capacity(data.len() + 16);
            StreamTo::encode(self.stream.following, data, &mut bytes);
            post.part(self.stream.to, bytes);
        }
        Ok(())
    }

    /// Waits until the kernel has taken everything that was sent so far.
    ///
    /// # Errors
    /// [`Gone`] as for [`Stream::chunk`].
    pub async fn drained(&self) -> Result<(), Gone> {
        self.post()?.drained(self.stream.to).await.map_err(|_| Gone)
    }

    /// [`Stream::drained`] for a thread that may wait.
    ///
    /// # Errors
    /// [`Gone`] as for [`Stream::chunk`].
    ///
    /// # Panics
    /// Inside of `async` code.
    pub fn wait_drained(&self) -> Result<(), Gone> {
        self.post()?.drained(self.stream.to).blocking_recv().map_err(|_| Gone)
    }

    /// Waits until the peer will send nothing more, its connection has ended, or the server is
    /// ending: whoever would stream for ever [finishes](Stream::finish) then.
    pub async fn left(&self) {
        let mut peer = self.peer.clone();
        // An error means that the connection has ended.
        let _ = peer.wait_for(|is_done| *is_done).await;
    }

    /// Whether the peer will send nothing more, its connection has ended, or the server is ending.
    #[must_use]
    pub fn has_left(&self) -> bool {
        *self.peer.borrow() || self.peer.has_changed().is_err()
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// [`Gone`] as for [`Stream::chunk`].
    pub fn finish(mut self) -> Result<(), Gone> {
        self.post()?;
        let post = self.post.take().ok_or(Gone)?;
        post.finish(self.stream.to, StreamTo::end(self.stream.following).to_vec());
        Ok(())
    }

    fn post(&self) -> Result<&Post, Gone> {
        let is_gone = self.peer.has_changed().is_err();
        self.post.as_ref().filter(|_| !is_gone).ok_or(Gone)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(post) = self.post.take() {
            post.abandon(self.stream.to);
        }
    }
}
