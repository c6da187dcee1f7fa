//! [`Reply`]: what a handler answers.

mod sse;
mod stream;

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use eserver_wire::http::{BadField, ResponseWriter};
use serde::Serialize;

pub use sse::{Events, HEARTBEAT, NotSent, sse, sse_with_heartbeat};
pub use stream::{Chunks, stream};

use crate::http::stream::Stream;
use crate::http::ticket::{TEXT, write_type};

/// What a handler answers: a status, header fields and a body.
///
/// Made by functions such as [`text`] and [`json()`], and completed by its methods. Anything that
/// can become one may be returned by a handler: texts, and `Result`s of what can become one, so
/// that a handler may pass errors on with `?`.
///
/// ```
/// use eserver::http::{App, Reply, json, status, text};
///
/// let mut app = App::new();
/// app.get("/", |_| "Hello, World!");
/// app.get("/made", |_| text("made").with_status(201).with_header("X-By", "hand"));
/// app.post("/sum", |request| -> Result<Reply, Reply> {
///     let numbers: Vec<i64> = request.json()?;
///     if numbers.is_empty() {
///         return Err(status(422));
///     }
///     Ok(json(&numbers.iter().sum::<i64>()))
/// });
/// ```
#[must_use]
pub struct Reply {
    status: u16,
    content_type: Cow<'static, str>,
    fields: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    pub(crate) body: ReplyBody,
}

/// What follows the head.
pub(crate) enum ReplyBody {
    Bytes(Cow<'static, [u8]>),
    /// A part of something that others hold too.
    Shared(Arc<[u8]>, Range<usize>),
    /// To be read and sent piece by piece.
    Pieces(Pieces),
    /// What is sent comes as it comes.
    Stream(Producer),
    /// The reply is what comes of this, which takes its time.
    Work(Box<dyn FnOnce() -> Reply + Send>),
}

/// Starts to produce the body of a stream.
pub(crate) type Producer = Box<dyn FnOnce(Stream, &tokio::runtime::Handle) + Send>;

/// A part of a file, in bytes.
pub(crate) struct Pieces {
    pub(crate) file: Arc<File>,
    pub(crate) range: Range<u64>,
}

/// A reply of plain text.
pub fn text(text: impl Into<Cow<'static, str>>) -> Reply {
    bytes(TEXT, into_bytes(text.into()))
}

/// A reply of HTML.
pub fn html(html: impl Into<Cow<'static, str>>) -> Reply {
    bytes("text/html; charset=utf-8", into_bytes(html.into()))
}

/// A reply of a value as JSON. One that JSON cannot express is logged and becomes a 500.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(json) => bytes("application/json", json),
        Err(error) => {
            tracing::error!(%error, "a reply cannot be written as JSON");
            Reply::internal_error()
        }
    }
}

/// A reply of bytes of any type.
pub fn bytes(
    content_type: impl Into<Cow<'static, str>>,
    bytes: impl Into<Cow<'static, [u8]>>,
) -> Reply {
    let body = ReplyBody::Bytes(bytes.into());
    Reply { status: 200, content_type: content_type.into(), fields: Vec::new(), body }
}

/// A reply that says what its status says, in words if such a status has a body.
///
/// One that is not from 200 to 999 becomes 500.
pub fn status(status: u16) -> Reply {
    let words = match status {
        204 | 205 | 304 => return bytes("", b"".as_slice()).with_status(status),
        _ => eserver_wire::http::reason_phrase(status),
    };
    text(format!("{}\n", if words.is_empty() { "no words" } else { words })).with_status(status)
}

/// A reply that sends the client elsewhere, with status 302; 301, 303, 307 and 308 may be set.
pub fn redirect(location: impl Into<Cow<'static, str>>) -> Reply {
    status(302).with_header("Location", location)
}

impl Reply {
    /// The same with another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same with one more header field, or, if it is Content-Type, another type.
    ///
    /// A field that cannot be sent, because of a line end in its value for instance, makes the reply
    /// a 500 and is logged.
    pub fn with_header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (name, value) = (name.into(), value.into());
        if name.eq_ignore_ascii_case("content-type") {
            return self.with_content_type(value);
        }
        self.fields.push((name, value));
        self
    }

    /// The same with another content type; none at all if it is empty.
    pub fn with_content_type(mut self, content_type: impl Into<Cow<'static, str>>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How long the body is, as far as is known.
    #[must_use]
    pub fn body_bytes(&self) -> Option<u64> {
        match &self.body {
            ReplyBody::Bytes(bytes) => Some(bytes.len() as u64),
            ReplyBody::Shared(_, range) => Some(range.len() as u64),
            ReplyBody::Pieces(pieces) => Some(pieces.range.end - pieces.range.start),
            ReplyBody::Stream(_) | ReplyBody::Work(_) => None,
        }
    }

    pub(crate) fn not_found() -> Self {
        text("there is nothing here\n").with_status(404)
    }

    pub(crate) fn internal_error() -> Self {
        text("something went wrong here\n").with_status(500)
    }

    /// What there is no room for, and may be asked again in a second.
    pub(crate) fn busy() -> Self {
        text("too much is being worked on; ask again\n")
            .with_status(503)
            .with_header("Retry-After", "1")
    }

    pub(crate) fn shared(bytes: Arc<[u8]>, range: Range<usize>) -> Self {
        Reply { body: ReplyBody::Shared(bytes, range), ..bytes_of_nothing() }
    }

    pub(crate) fn pieces(pieces: Pieces) -> Self {
        Reply { body: ReplyBody::Pieces(pieces), ..bytes_of_nothing() }
    }

    pub(crate) fn work(work: impl FnOnce() -> Reply + Send + 'static) -> Self {
        Reply { body: ReplyBody::Work(Box::new(work)), ..bytes_of_nothing() }
    }

    /// Whether what it is has yet to be found out.
    pub(crate) fn is_work(&self) -> bool {
        matches!(self.body, ReplyBody::Work(_))
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.body, ReplyBody::Bytes(_) | ReplyBody::Shared(..))
    }

    /// Writes a reply that is whole. One that cannot be sent is not written.
    pub(crate) fn write(&self, mut response: ResponseWriter<'_>) {
        if let Err(error) = self.write_fields(&mut response) {
            tracing::error!(%error, "a reply cannot be sent");
            return;
        }
        match &self.body {
            ReplyBody::Bytes(bytes) => response.body(bytes),
            ReplyBody::Shared(bytes, range) => response.body(&bytes[range.clone()]),
            ReplyBody::Pieces(_) | ReplyBody::Stream(_) | ReplyBody::Work(_) => {}
        }
    }

    pub(crate) fn write_fields(&self, response: &mut ResponseWriter<'_>) -> Result<(), BadField> {
        write_type(response, &self.content_type)?;
        self.fields.iter().try_for_each(|(name, value)| response.field(name, value.as_bytes()))
    }
}

impl From<&'static str> for Reply {
    fn from(words: &'static str) -> Self {
        text(words)
    }
}

impl From<String> for Reply {
    fn from(words: String) -> Self {
        text(words)
    }
}

impl<T: Into<Reply>, E: Into<Reply>> From<Result<T, E>> for Reply {
    fn from(result: Result<T, E>) -> Self {
        result.map_or_else(Into::into, Into::into)
    }
}

fn bytes_of_nothing() -> Reply {
    bytes("", b"".as_slice())
}

fn into_bytes(text: Cow<'static, str>) -> Cow<'static, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}
