//! [`Request`] and [`Reply`]: what a command handler is given and what it gives.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::conn_id::ConnId;
use crate::framed::application::{encode, encode_error};
use crate::reply::ReplyTo;
use crate::server::Post;

/// A frame a handler answers, borrowed from the shard's read buffer.
pub struct Request<'a> {
    /// The command's number.
    pub command: u16,
    /// The body, for eserver's own clients UTF-8 JSON.
    pub body: &'a [u8],
    /// The address of the peer.
    pub peer: IpAddr,
    pub(crate) to: ReplyTo,
    pub(crate) post: &'a Post,
}

impl Request<'_> {
    /// The connection that asks; other threads may use it with [`Post::send`].
    #[must_use]
    pub fn conn_id(&self) -> ConnId {
        self.to.conn()
    }

    /// A way for other threads to reach the connections of this shard.
    #[must_use]
    pub fn post(&self) -> &Post {
        self.post
    }

    /// Answers later, from any thread: keep the responder, return the reply.
    ///
    /// ```
    /// # use eserver::framed::{App, Reply};
    /// let mut app = App::new();
    /// app.command(7, |request| {
    ///     let (responder, reply) = request.later();
    ///     std::thread::spawn(move || responder.reply(Reply::new(7, "from afar")));
    ///     reply
    /// });
    /// ```
    #[must_use]
    pub fn later(&self) -> (Responder, Reply) {
        let responder = Responder { to: self.to, post: Some(self.post.clone()) };
        (responder, Reply(Kind::Later))
    }
}

/// A frame an `async` handler answers, which it owns.
#[derive(Debug, Clone)]
pub struct OwnedRequest {
    /// The command's number.
    pub command: u16,
    /// The body, for eserver's own clients UTF-8 JSON.
    pub body: Vec<u8>,
    /// The address of the peer.
    pub peer: IpAddr,
    /// The connection that asks.
    pub conn_id: ConnId,
}

/// What a handler answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Frame(u16, Cow<'static, [u8]>),
    Later,
}

impl Reply {
    /// A frame with this command and body.
    ///
    /// A body beyond [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX) cannot be sent; the peer gets an
    /// error frame that says so.
    #[must_use]
    pub fn new(command: u16, body: impl Into<Body>) -> Self {
        Reply(Kind::Frame(command, body.into().0))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Kind::Frame(command, body) => encode(*command, body, out),
            Kind::Later => encode_error("the command gave no answer", out),
        }
    }
}

/// What can be a reply's body.
pub struct Body(Cow<'static, [u8]>);

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Body(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Body(Cow::Borrowed(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Body(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body(Cow::Owned(bytes))
    }
}

/// The right, and the duty, to answer one request. Dropping it unanswered closes the connection,
/// which could not go on: answers leave in the order of requests.
pub struct Responder {
    pub(crate) to: ReplyTo,
    /// `None` once the answer is given.
    pub(crate) post: Option<Post>,
}

impl Responder {
    /// The connection that asked.
    #[must_use]
    pub fn conn_id(&self) -> ConnId {
        self.to.conn()
    }

    /// Answers. If the connection has ended meanwhile, the answer goes nowhere.
    pub fn reply(mut self, reply: Reply) {
        if let Some(post) = self.post.take() {
            post.reply(self.to, reply.into_bytes());
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(post) = self.post.take() {
            post.abandon(self.to);
        }
    }
}
