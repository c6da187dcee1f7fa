//! HTTP/1.0 and HTTP/1.1, both roles (RFC 9110, RFC 9112).
//!
//! A server reads a [`Head`], takes the [`Body`] it announces with a [`BodyDecoder`], and answers
//! by a [`ResponseWriter`] that obeys the request's [`Exchange`]. A client writes a [`Request`] and
//! reads a [`ResponseHead`] and, with the same decoder, its body.
//!
//! Where two readers could disagree on where a message ends, there is no lenient reading here: the
//! input is refused with a [`BadRequest`], and the connection ends after it, because nobody can
//! tell what the bytes that follow mean.

mod head;

mod fields;
mod framing;
mod host;
mod target;

mod body;

mod date;
mod response;
mod status;

mod request;
mod response_head;

use thiserror::Error;

pub use body::{
    BodyDecoder, CHUNK_EXTENSION_BYTES_MAX, CHUNK_EXTENSIONS_BYTES_MAX, LAST_CHUNK, Progress,
    TRAILER_BYTES_MAX, encode_chunk,
};
pub use date::Date;
pub use fields::Fields;
pub use framing::Body;
pub use head::{HEADERS_MAX, Head, HeadLimits, METHOD_BYTES_MAX};
pub use request::{Request, RequestBody};
pub use response::{BadField, CONTINUE, Exchange, FieldLine, Following, ResponseWriter};
pub use response_head::{BadResponse, ResponseHead};
pub use status::reason_phrase;
pub use target::{decode_path, path_segments, query_pairs};

/// The versions spoken here. Any other is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// One request per connection unless both sides ask for more; no chunks.
    Http10,
    /// The connection stays open unless one side says otherwise.
    Http11,
}

/// What came is no request that can be answered safely: answer it, then close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct BadRequest {
    /// The status to answer: 400, or 405, 414, 417, 431, 501 or 505 where one of these says more.
    pub status: u16,
    /// What is wrong, as a sentence for people.
    pub reason: &'static str,
}

impl BadRequest {
    /// More than one blank line stands before a request.
    pub const BLANK_LINES: Self = Self::new("there are blank lines before the request");

    /// The usual refusal, with status 400.
    pub(crate) const fn new(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }

    /// A refusal whose status says more than 400.
    pub(crate) const fn with_status(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// Appends the whole answer, which says that the connection ends; without its body if the
    /// request was a HEAD.
    pub fn encode(&self, is_head: bool, date: &Date, out: &mut Vec<u8>) {
        let exchange = Exchange { is_head, ..Exchange::LAST };
        let mut response = ResponseWriter::new(out, self.status, exchange, date);
        let fields = [("Content-Type", "text/plain; charset=utf-8"), ("Allow", head::ALLOWED)];
        let fields = &fields[..if self.status == 405 { 2 } else { 1 }];
        for (name, value) in fields {
            response.field(name, value.as_bytes()).expect("these fields are valid");
        }
        response.body_parts(&[self.reason.as_bytes(), b"\n"]);
    }
}
