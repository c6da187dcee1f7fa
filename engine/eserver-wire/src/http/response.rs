//! Responses, as a server writes them.

use super::fields::{is_token, is_token_byte, is_value, is_value_byte};
use super::{Date, Version, reason_phrase};

use std::borrow::Cow;
use std::ops::Range;

use thiserror::Error;

/// Tells a client that waits with its body to send it: the answer to
/// [`expects_continue`](super::Head::expects_continue), before the real one.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What of a request decides how its answer is framed: a few bytes to keep until it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The client's version.
    pub version: Version,
    /// Whether the answer has no body, though its head speaks of one.
    pub is_head: bool,
    /// Whether the connection stays open after the answer. A server that wants it closed says so
    /// here.
    pub keep_alive: bool,
}

impl Exchange {
    /// For an answer to what is no request: nothing is known but that it is the last one.
    pub const LAST: Self = Self { version: Version::Http11, is_head: false, keep_alive: false };
}

/// What was to be written would not be the message that was meant: the caller's mistake, perhaps by
/// passing on what a stranger wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadField {
    /// A field's name is no token.
    #[error("a header field's name has characters that may not be there")]
    Name,
    /// A field's value has control characters.
    #[error("a header field's value has control characters")]
    Value,
    /// A field that says where the message ends or what becomes of the connection, or the Date, is
    /// written by the encoder.
    #[error("this header field is the encoder's to write")]
    Framing,
    /// A method, target or host that cannot stand in a request.
    #[error("the request has a method, target or host that cannot be sent")]
    Target,
}

/// What has to follow the head of a streamed response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Following {
    /// Nothing, not even the end of a body.
    Nothing,
    /// The bytes as they are, as many as were announced.
    Plain,
    /// [Chunks](super::encode_chunk), and [`LAST_CHUNK`](super::LAST_CHUNK).
    Chunks,
    /// The bytes as they are; then the connection ends, because this client knows no other sign.
    PlainThenClose,
}

/// Appends a response to a buffer.
///
/// The status line, the Date, and all that concerns framing and connection are written here, so a
/// response is always one that the client can find the end of. A writer that is dropped before its
/// response is complete takes back what it wrote.
///
/// ```
/// use std::time::SystemTime;
/// use eserver_wire::http::{Date, Exchange, ResponseWriter, Version};
///
/// let exchange = Exchange { version: Version::Http11, is_head: false, keep_alive: true };
/// let mut out = Vec::new();
/// let date = Date::at(SystemTime::UNIX_EPOCH);
/// let mut response = ResponseWriter::new(&mut out, 200, exchange, &date);
/// response.field("Content-Type", b"text/plain")?;
/// response.body(b"hello");
/// assert_eq!(
///     str::from_utf8(&out).unwrap(),
///     "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
///      Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
/// );
/// # Ok::<(), eserver_wire::http::BadField>(())
/// ```
#[derive(Debug)]
#[must_use = "a response is written by `body` or one of its kin"]
pub struct ResponseWriter<'o> {
    out: &'o mut Vec<u8>,
    /// Where the response begins in `out`.
    start: usize,
    /// Whether the head has its end.
    is_ended: bool,
    /// Where in `out` a Server field stands that gives way to another one.
    server: Option<Range<usize>>,
    status: u16,
    exchange: Exchange,
}

/// A header field whose line was checked once, to be written often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldLine(Cow<'static, str>);

impl FieldLine {
    /// A line such as `"Server: eserver\r\n"`: a name, a colon and a space, a value, a line end.
    ///
    /// # Panics
    /// When it is none, which in a constant is an error of the compiler.
    #[must_use]
    pub const fn constant(line: &'static str) -> Self {
        let bytes = line.as_bytes();
        let end = bytes.len() - 2;
        assert!(bytes[end] == b'\r' && bytes[end + 1] == b'\n', "a line ends as it must");
        let mut at = 0;
        while bytes[at] != b':' {
            assert!(is_token_byte(bytes[at]), "a name is a token");
            at += 1;
        }
        assert!(at > 0 && bytes[at + 1] == b' ', "a name, a colon and a space");
        while at < end {
            assert!(is_value_byte(bytes[at]), "a value has no control characters");
            at += 1;
        }
        Self(Cow::Borrowed(line))
    }
}

/// Room for a usual head, so that it is asked for once, in bytes.
const HEAD_BYTES_USUAL: usize = 256;

impl<'o> ResponseWriter<'o> {
    /// Begins a response.
    ///
    /// # Panics
    /// When `status` is not in 100–999.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>, status: u16, exchange: Exchange, date: &Date) -> Self {
        assert!((100..1000).contains(&status), "{status} is no status");
        let start = out.len();
        out.reserve(HEAD_BYTES_USUAL);
        if status == 200 {
            out.extend_from_slice(date.ok_front());
        } else {
            write_front(status, date, out);
        }
        Self { out, start, is_ended: false, server: None, status, exchange }
    }

    /// Adds a line with the Server field, which a later such field replaces.
    #[inline]
    pub fn server(&mut self, line: &FieldLine) {
        let before = self.out.len();
        self.line(line);
        self.server = Some(before..self.out.len());
    }

    /// Adds a header field.
    ///
    /// # Errors
    /// [`BadField`] for a name or value that cannot stand in a head, and for Content-Length,
    /// Transfer-Encoding, Connection and Date. The response is as it was then.
    #[inline]
    pub fn field(&mut self, name: &str, value: &[u8]) -> Result<(), BadField> {
        if is_date(name) || is_framing(name) {
            return Err(BadField::Framing);
        }
        write_field(name, value, self.out)?;
        if name.len() == 6
            && name.eq_ignore_ascii_case("server")
            && let Some(other) = self.server.take()
        {
            self.out.drain(other);
        }
        Ok(())
    }

    /// Adds the field Upgrade with what a client may change to, and the option of the connection that
    /// goes with it (RFC 9110, 7.8): a response with status 426 must have it.
    pub fn offer_upgrade(&mut self, protocol: &'static str) {
        for (name, value) in [("Connection", "upgrade"), ("Upgrade", protocol)] {
            // A protocol's name is a constant that can be sent.
            let written = write_field(name, value.as_bytes(), self.out);
            debug_assert!(written.is_ok(), "{protocol}");
        }
    }

    /// Adds a header field that was checked already. Those that [`field`](Self::field) refuses are
    /// not to be added in this way either.
    #[inline]
    pub fn line(&mut self, line: &FieldLine) {
        self.out.extend_from_slice(line.0.as_bytes());
    }

    /// Ends the head and adds the body, unless it is one that is not sent.
    #[inline]
    pub fn body(mut self, body: &[u8]) {
        if self.end_with_length(body.len() as u64) == Following::Plain {
            self.out.extend_from_slice(body);
        }
    }

    /// Ends the head and adds a body that stands in several places.
    pub fn body_parts(self, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let mut writer = self;
        if writer.end_with_length(bytes as u64) == Following::Plain {
            writer.out.reserve(bytes);
            for part in parts {
                writer.out.extend_from_slice(part);
            }
        }
    }

    /// Ends the head of a response with a body of `bytes` bytes, which the caller sends.
    pub fn length(mut self, bytes: u64) -> Following {
        self.end_with_length(bytes)
    }

    /// Ends the head of a response whose body comes piece by piece, its length unknown.
    pub fn stream(mut self) -> Following {
        let following = match self.exchange {
            _ if !has_body(self.status) => Following::Nothing,
            Exchange { version: Version::Http10, is_head, .. } => {
                // Where no body follows, no end of it has to be shown.
                self.exchange.keep_alive &= is_head;
                Following::PlainThenClose
            }
            Exchange { version: Version::Http11, .. } => {
                self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                Following::Chunks
            }
        };
        self.end();
        if self.exchange.is_head { Following::Nothing } else { following }
    }

    /// Ends a head with status 101: what follows is in another protocol.
    ///
    /// # Errors
    /// [`BadField`] when `protocol` cannot stand in a head; nothing is written then.
    ///
    /// # Panics
    /// When the status is another.
    pub fn upgrade(mut self, protocol: &str) -> Result<(), BadField> {
        assert_eq!(self.status, 101, "only status 101 changes the protocol");
        write_field("Connection", b"upgrade", self.out)?;
        write_field("Upgrade", protocol.as_bytes(), self.out)?;
        self.exchange = Exchange { version: Version::Http11, is_head: false, keep_alive: true };
        self.end();
        Ok(())
    }

    #[inline]
    fn end_with_length(&mut self, bytes: u64) -> Following {
        if has_body(self.status) {
            self.out.extend_from_slice(b"Content-Length: ");
            self.out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
        self.end();
        let is_sent = has_body(self.status) && !self.exchange.is_head;
        if is_sent { Following::Plain } else { Following::Nothing }
    }

    #[inline]
    fn end(&mut self) {
        let last_line: &[u8] = match (self.exchange.keep_alive, self.exchange.version) {
            (true, Version::Http11) => b"\r\n",
            (true, Version::Http10) => b"Connection: keep-alive\r\n\r\n",
            (false, _) => b"Connection: close\r\n\r\n",
        };
        self.out.extend_from_slice(last_line);
        self.is_ended = true;
    }
}

impl Drop for ResponseWriter<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.out.truncate(self.start);
        }
    }
}

/// Whether a response with this status has a body, however short.
fn has_body(status: u16) -> bool {
    !matches!(status, 100..=199 | 204 | 304)
}

fn is_date(name: &str) -> bool {
    name.eq_ignore_ascii_case("date")
}

/// Whether a field of this name says where the message ends, or what becomes of the connection.
pub(super) fn is_framing(name: &str) -> bool {
    match name.len() {
        10 => name.eq_ignore_ascii_case("connection"),
        14 => name.eq_ignore_ascii_case("content-length"),
        17 => name.eq_ignore_ascii_case("transfer-encoding"),
        _ => false,
    }
}

/// Appends a line of a head, or nothing if it would be something else.
#[inline]
pub(super) fn write_field(name: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), BadField> {
    if !is_token(name.as_bytes()) {
        return Err(BadField::Name);
    }
    if !is_value(value) {
        return Err(BadField::Value);
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn write_front(status: u16, date: &Date, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::Head;
    use super::*;
    use crate::http::HeadLimits;
    use std::time::SystemTime;

    fn date() -> Date {
        Date::at(SystemTime::UNIX_EPOCH)
    }

    /// What an answer to `request` has to observe.
    fn exchange(request: &str) -> Exchange {
        Head::parse(request.as_bytes(), 0, &HeadLimits::default()).unwrap().unwrap().exchange()
    }

    const GET_11: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const GET_11_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    const GET_10: &str = "GET / HTTP/1.0\r\n\r\n";
    const GET_10_KEEP: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    const HEAD_11: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    const HEAD_10: &str = "HEAD / HTTP/1.0\r\n\r\n";
    const HEAD_10_KEEP: &str = "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";

    /// What is written after the status line and the Date.
    fn written(status: u16, request: &str, write: impl FnOnce(ResponseWriter<'_>)) -> String {
        let mut out = b"before".to_vec();
        write(ResponseWriter::new(&mut out, status, exchange(request), &date()));
        let reason = reason_phrase(status);
        let front =
            format!("beforeHTTP/1.1 {status} {reason}\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        String::from_utf8(out).unwrap().strip_prefix(&front).unwrap().to_owned()
    }

    #[test]
    fn bodies_of_a_known_length() {
        for (status, request, expected) in [
            (200, GET_11, "Content-Length: 2\r\n\r\nhi"),
            (404, GET_11, "Content-Length: 2\r\n\r\nhi"),
            (299, GET_11, "Content-Length: 2\r\n\r\nhi"),
            (200, GET_11_CLOSE, "Content-Length: 2\r\nConnection: close\r\n\r\nhi"),
            (200, GET_10, "Content-Length: 2\r\nConnection: close\r\n\r\nhi"),
            (200, GET_10_KEEP, "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"),
            (200, HEAD_11, "Content-Length: 2\r\n\r\n"),
            (200, HEAD_10, "Content-Length: 2\r\nConnection: close\r\n\r\n"),
            (204, GET_11, "\r\n"),
            (304, GET_11_CLOSE, "Connection: close\r\n\r\n"),
            (103, GET_11, "\r\n"),
        ] {
            let body = written(status, request, |response| response.body(b"hi"));
            assert_eq!(body, expected, "{status} {request}");
            let parts = written(status, request, |r| r.body_parts(&[b"h", b"", b"i"]));
            assert_eq!(parts, expected, "{status} {request}");

            let (head, sent) = expected.split_once("\r\n\r\n").unwrap_or(("", ""));
            let following = if sent.is_empty() { Following::Nothing } else { Following::Plain };
            let head_alone = written(status, request, |response| {
                assert_eq!(response.length(2), following, "{status} {request}");
            });
            assert!(head_alone.starts_with(head) && head_alone.ends_with("\r\n"));
        }
    }

    #[test]
    fn bodies_of_an_unknown_length() {
        for (status, request, following, expected) in [
            (200, GET_11, Following::Chunks, "Transfer-Encoding: chunked\r\n\r\n"),
            (
                200,
                GET_11_CLOSE,
                Following::Chunks,
                "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            ),
            (200, GET_10, Following::PlainThenClose, "Connection: close\r\n\r\n"),
            (200, GET_10_KEEP, Following::PlainThenClose, "Connection: close\r\n\r\n"),
            (200, HEAD_11, Following::Nothing, "Transfer-Encoding: chunked\r\n\r\n"),
            (200, HEAD_10_KEEP, Following::Nothing, "Connection: keep-alive\r\n\r\n"),
            (204, GET_11, Following::Nothing, "\r\n"),
            (304, GET_10_KEEP, Following::Nothing, "Connection: keep-alive\r\n\r\n"),
        ] {
            let head = written(status, request, |response| {
                assert_eq!(response.stream(), following, "{status} {request}");
            });
            assert_eq!(head, expected, "{status} {request}");
        }
    }

    #[test]
    fn fields_stand_in_order() {
        let response = written(200, GET_11, |mut response| {
            response.field("X-A", b"1").unwrap();
            response.field("x-b", "\tä".as_bytes()).unwrap();
            response.field("X-Empty", b"").unwrap();
            response.body(b"");
        });
        assert_eq!(response, "X-A: 1\r\nx-b: \tä\r\nX-Empty: \r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn there_is_one_server() {
        let response = written(200, GET_11, |mut response| {
            response.server(&FieldLine::constant("Server: eserver\r\n"));
            response.field("X-Else", b"1").unwrap();
            assert_eq!(response.field("server", b"\0"), Err(BadField::Value));
            response.field("server", b"mine").unwrap();
            response.body(b"");
        });
        assert_eq!(response, "X-Else: 1\r\nserver: mine\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn what_would_be_another_message_is_not_written() {
        let bad: [(&str, &[u8], BadField); 13] = [
            ("", b"a", BadField::Name),
            ("a b", b"a", BadField::Name),
            ("a:", b"a", BadField::Name),
            ("a\r\nb", b"a", BadField::Name),
            ("ä", b"a", BadField::Name),
            ("a", b"b\r\nSet-Cookie: c", BadField::Value),
            ("a", b"b\n", BadField::Value),
            ("a", b"\0", BadField::Value),
            ("a", b"\x7f", BadField::Value),
            ("content-LENGTH", b"3", BadField::Framing),
            ("Transfer-Encoding", b"chunked", BadField::Framing),
            ("Connection", b"close", BadField::Framing),
            ("date", b"today", BadField::Framing),
        ];
        for (name, value, error) in bad {
            let response = written(200, GET_11, |mut response| {
                assert_eq!(response.field(name, value), Err(error), "{name}");
                response.body(b"");
            });
            assert_eq!(response, "Content-Length: 0\r\n\r\n", "{name}");
        }
    }

    #[test]
    fn a_response_that_is_given_up_was_never_there() {
        let mut out = b"before".to_vec();
        let mut response = ResponseWriter::new(&mut out, 200, exchange(GET_11), &date());
        response.field("a", b"b").unwrap();
        drop(response);
        assert_eq!(out, b"before");
        let response = ResponseWriter::new(&mut out, 101, exchange(GET_11), &date());
        assert_eq!(response.upgrade("a\r\nb"), Err(BadField::Value));
        assert_eq!(out, b"before");
    }

    #[test]
    fn another_protocol_follows_after_101() {
        let head = written(101, GET_11, |response| response.upgrade("websocket").unwrap());
        assert_eq!(head, "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    }

    #[test]
    fn refusals_say_that_the_connection_ends() {
        use crate::http::BadRequest;
        let mut out = Vec::new();
        BadRequest::with_status(405, "not here").encode(false, &date(), &mut out);
        assert_eq!(
            str::from_utf8(&out).unwrap(),
            "HTTP/1.1 405 Method Not Allowed\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n\
             Content-Length: 9\r\nConnection: close\r\n\r\nnot here\n"
        );
        out.clear();
        BadRequest::new("not so").encode(false, &date(), &mut out);
        assert!(out.ends_with(b"Content-Length: 7\r\nConnection: close\r\n\r\nnot so\n"));
        assert!(!out.windows(6).any(|window| window == b"Allow:"));
    }
}
