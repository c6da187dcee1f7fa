//! [`Ticket`] and [`StreamTo`]: where an answer belongs, and how it is to be written.

use eserver_wire::http::{
    BadField, Date, Exchange, FieldLine, Following, LAST_CHUNK, ResponseWriter, Version,
    encode_chunk,
};

use crate::conn_id::ConnId;
use crate::http::clock;
use crate::io::Io;
use crate::mailbox::Parting;
use crate::reply::ReplyTo;
use crate::server::Post;
use crate::service::Conns;

/// An answer to be given: by its holder, who keeps a few bytes and nothing else.
///
/// One that is forgotten leaves its connection waiting for ever; a
/// [`Responder`](crate::http::Responder) cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Whose turn it is.
    pub to: ReplyTo,
    /// What the answer has to observe.
    pub exchange: Exchange,
}

impl Ticket {
    /// The connection that asked.
    #[must_use]
    pub fn conn_id(self) -> ConnId {
        self.to.conn()
    }

    /// Answers on the connection's shard, with what `write` makes of the response.
    pub fn reply(self, conns: &mut Conns<'_>, status: u16, write: impl FnOnce(ResponseWriter<'_>)) {
        let exchange = self.exchange_on(conns.io);
        conns.reply(self.to, |out| respond(status, exchange, &clock::date(), out, write));
    }

    /// Begins to answer piece by piece, on the connection's shard. `write` adds header fields.
    #[must_use]
    pub fn stream(
        self,
        conns: &mut Conns<'_>,
        status: u16,
        write: impl FnOnce(&mut ResponseWriter<'_>),
    ) -> StreamTo {
        self.stream_with(status, &clock::date(), conns.io, write)
    }

    pub(crate) fn stream_with(
        self,
        status: u16,
        date: &Date,
        io: &mut Io,
        write: impl FnOnce(&mut ResponseWriter<'_>),
    ) -> StreamTo {
        let mut head = Vec::new();
        let exchange = self.exchange_on(io);
        let stream = self.encode_stream(status, exchange, date, &mut head, write);
        io.part(self.to, &head, stream.following == Following::Nothing);
        if stream.following == Following::PlainThenClose {
            io.close_after_replies(self.conn_id());
        }
        stream
    }

    /// [`Ticket::stream_with`] from any thread.
    pub(crate) fn stream_by(
        self,
        status: u16,
        post: &Post,
        write: impl FnOnce(&mut ResponseWriter<'_>),
    ) -> StreamTo {
        let mut head = Vec::new();
        let exchange = self.exchange_by(post);
        let stream = self.encode_stream(status, exchange, &clock::date(), &mut head, write);
        self.send_by(post, head, stream.following == Following::Nothing);
        if stream.following == Following::PlainThenClose {
            post.close(self.conn_id());
        }
        stream
    }

    fn encode_stream(
        self,
        status: u16,
        exchange: Exchange,
        date: &Date,
        head: &mut Vec<u8>,
        write: impl FnOnce(&mut ResponseWriter<'_>),
    ) -> StreamTo {
        let mut response = begin(checked(status), exchange, date, head);
        write(&mut response);
        StreamTo { to: self.to, following: response.stream() }
    }

    /// What the answer has to observe now: when the server is ending, the last one says so.
    fn exchange_on(self, io: &mut Io) -> Exchange {
        let keep_alive = self.exchange.keep_alive && !io.is_last(self.to, false);
        Exchange { keep_alive, ..self.exchange }
    }

    /// [`Ticket::exchange_on`] for an answer that [`Ticket::send_by`] sends: only the shard knows
    /// whether it is the last one, but for HTTP/1.0, whose requests go alone.
    pub(crate) fn exchange_by(self, post: &Post) -> Exchange {
        let is_last = post.is_draining() && self.exchange.version == Version::Http10;
        Exchange { keep_alive: self.exchange.keep_alive && !is_last, ..self.exchange }
    }

    /// Sends an answer, or the head of one, from any thread.
    pub(crate) fn send_by(self, post: &Post, bytes: Vec<u8>, is_whole: bool) {
        self.part_by(post, bytes, is_whole, false);
    }

    /// Sends a whole answer after which the connection is to end, from any thread.
    pub(crate) fn end_by(self, post: &Post, bytes: Vec<u8>) {
        self.part_by(post, bytes, true, true);
    }

    fn part_by(self, post: &Post, bytes: Vec<u8>, is_whole: bool, ends: bool) {
        let exchange = self.exchange_by(post);
        let may_be_last = (ends || post.is_draining()) && exchange.keep_alive;
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let words: &[u8] = if may_be_last { b"Connection: close\r\n" } else { b"" };
        match head_end {
            Some(head_end) if may_be_last || ends => {
                let words_at = head_end + 2;
                post.part_with(Parting { to: self.to, bytes, is_whole, words, words_at, ends });
            }
            _ if is_whole => post.reply(self.to, bytes),
            _ => post.part(self.to, bytes),
        }
    }
}

/// An answer that goes on piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamTo {
    /// Whose turn it is.
    pub to: ReplyTo,
    /// What follows: nothing if the answer is complete without a body, as one to HEAD is.
    pub following: Following,
}

impl StreamTo {
    /// Appends a piece of the body as it is to be sent: the same bytes for every stream that
    /// [follows](StreamTo::following) in the same way.
    pub fn encode(following: Following, data: &[u8], out: &mut Vec<u8>) {
        match following {
            Following::Nothing => {}
            Following::Chunks => encode_chunk(data, out),
            Following::Plain | Following::PlainThenClose => out.extend_from_slice(data),
        }
    }

    /// What ends the body.
    #[must_use]
    pub fn end(following: Following) -> &'static [u8] {
        if following == Following::Chunks { LAST_CHUNK } else { b"" }
    }

    /// Sends a piece of the body, on the connection's shard.
    pub fn chunk(self, conns: &mut Conns<'_>, data: &[u8]) {
        if self.following != Following::Nothing && !data.is_empty() {
            let mut bytes = Vec::with_capacity(data.len() + 16);
            Self::encode(self.following, data, &mut bytes);
            conns.part(self.to, &bytes);
        }
    }

    /// Ends the answer, on the connection's shard.
    pub fn finish(self, conns: &mut Conns<'_>) {
        if self.following != Following::Nothing {
            conns.finish(self.to, Self::end(self.following));
        }
    }
}

const SERVER: FieldLine = FieldLine::constant("Server: eserver\r\n");

/// The type of sentences, as a line.
const TEXT_LINE: FieldLine = FieldLine::constant("Content-Type: text/plain; charset=utf-8\r\n");

/// Writes the content type.
///
/// # Errors
/// [`BadField`] when it cannot stand in a head.
#[inline]
pub(crate) fn write_type(
    response: &mut ResponseWriter<'_>,
    content_type: &str,
) -> Result<(), BadField> {
    match content_type {
        "" => {}
        TEXT => response.line(&TEXT_LINE),
        _ => response.field("Content-Type", content_type.as_bytes())?,
    }
    Ok(())
}

/// Begins a response with what all of them have.
#[inline]
pub(crate) fn begin<'o>(
    status: u16,
    exchange: Exchange,
    date: &Date,
    out: &'o mut Vec<u8>,
) -> ResponseWriter<'o> {
    let mut response = ResponseWriter::new(out, status, exchange, date);
    response.server(&SERVER);
    response
}

/// Appends a whole response.
#[inline]
pub(crate) fn respond(
    status: u16,
    exchange: Exchange,
    date: &Date,
    out: &mut Vec<u8>,
    write: impl FnOnce(ResponseWriter<'_>),
) {
    let before = out.len();
    let status = checked(status);
    write(begin(status, exchange, date, out));
    if out.len() == before {
        let response = begin(500, exchange, date, out);
        write_plain(response, TEXT, b"the answer could not be written\n");
    }
}

/// Ends a response with a body.
#[inline]
pub(crate) fn write_plain(mut response: ResponseWriter<'_>, content_type: &str, body: &[u8]) {
    // One that cannot stand in a head is left out by dropping the response: the answer is 500.
    if write_type(&mut response, content_type).is_ok() {
        response.body(body);
    }
}

/// The type of sentences.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// A status that an answer may have.
fn checked(status: u16) -> u16 {
    if (200..1000).contains(&status) { status } else { 500 }
}
