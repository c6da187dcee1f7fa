//! Requests, as a client writes them.

use super::fields::is_token;
use super::host::is_host;
use super::response::{BadField, is_framing, write_field};

/// A request to send. Answers to it come as [`ResponseHead`](super::ResponseHead).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Such as `GET`.
    pub method: &'a str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    /// The server, with its port unless it is the usual one.
    pub host: &'a str,
    /// More header fields, Connection perhaps among them.
    pub fields: &'a [(&'a str, &'a str)],
    /// What follows the head.
    pub body: RequestBody<'a>,
}

/// The body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestBody<'a> {
    /// There is none, and no field speaks of one.
    None,
    /// These bytes, written with the head.
    Whole(&'a [u8]),
    /// This many bytes, which the caller sends.
    Length(u64),
    /// [Chunks](super::encode_chunk) and [`LAST_CHUNK`](super::LAST_CHUNK), which the caller sends.
    Chunked,
}

impl Request<'_> {
    /// Appends the request to `out`.
    ///
    /// # Errors
    /// [`BadField`] when a part of it cannot stand in a request; `out` is then as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), BadField> {
        let start = out.len();
        self.write(out).inspect_err(|_| out.truncate(start))
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), BadField> {
        let is_target =
            !self.target.is_empty() && self.target.bytes().all(|b| b.is_ascii_graphic());
        if !is_token(self.method.as_bytes()) || !is_target || !is_host(self.host.as_bytes()) {
            return Err(BadField::Target);
        }
        for part in [self.method, " ", self.target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        write_field("Host", self.host.as_bytes(), out)?;
        for (name, value) in self.fields {
            let is_connection = name.eq_ignore_ascii_case("connection");
            if name.eq_ignore_ascii_case("host") || is_framing(name) && !is_connection {
                return Err(BadField::Framing);
            }
            write_field(name, value.as_bytes(), out)?;
        }
        let length = match self.body {
            RequestBody::None => None,
            RequestBody::Whole(body) => Some(body.len() as u64),
            RequestBody::Length(bytes) => Some(bytes),
            RequestBody::Chunked => {
                write_field("Transfer-Encoding", b"chunked", out)?;
                None
            }
        };
        if let Some(length) = length {
            write_field("Content-Length", itoa::Buffer::new().format(length).as_bytes(), out)?;
        }
        out.extend_from_slice(b"\r\n");
        if let RequestBody::Whole(body) = self.body {
            out.extend_from_slice(body);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Body, Head, HeadLimits};
    use super::*;

    const PLAIN: Request<'_> =
        Request { method: "GET", target: "/", host: "a:80", fields: &[], body: RequestBody::None };

    #[test]
    fn what_a_client_writes_a_server_reads() {
        let fields = [("Accept", "*/*"), ("Connection", "close")];
        for (body, framing, expected) in [
            (RequestBody::None, Body::None, ""),
            (RequestBody::Whole(b""), Body::Length(0), ""),
            (RequestBody::Whole(b"hi"), Body::Length(2), "hi"),
            (RequestBody::Length(7), Body::Length(7), ""),
            (RequestBody::Chunked, Body::Chunked, ""),
        ] {
            let request =
                Request { method: "POST", target: "/a?b", fields: &fields, body, ..PLAIN };
            let mut out = b"x".to_vec();
            request.encode(&mut out).unwrap();
            let head = Head::parse(&out[1..], 0, &HeadLimits::default()).unwrap().unwrap();
            assert_eq!((head.method, head.path, head.query), ("POST", "/a", Some("b")));
            assert_eq!((head.host(), head.body, head.keep_alive), (Some("a:80"), framing, false));
            assert_eq!(head.fields.get("accept"), Some(b"*/*".as_slice()));
            assert_eq!(&out[1 + head.encoded_bytes..], expected.as_bytes());
        }
        let mut out = Vec::new();
        PLAIN.encode(&mut out).unwrap();
        assert_eq!(out, b"GET / HTTP/1.1\r\nHost: a:80\r\n\r\n");
    }

    #[test]
    fn what_would_be_another_request_is_not_written() {
        for (request, error) in [
            (Request { method: "GET /\r\n", ..PLAIN }, BadField::Target),
            (Request { target: "", ..PLAIN }, BadField::Target),
            (Request { target: "/ HTTP/1.1\r\n", ..PLAIN }, BadField::Target),
            (Request { host: "a\r\nb", ..PLAIN }, BadField::Target),
            (Request { fields: &[("a", "b\r\nc: d")], ..PLAIN }, BadField::Value),
            (Request { fields: &[("a ", "b")], ..PLAIN }, BadField::Name),
            (Request { fields: &[("HOST", "b")], ..PLAIN }, BadField::Framing),
            (Request { fields: &[("Content-Length", "1")], ..PLAIN }, BadField::Framing),
        ] {
            let mut out = b"x".to_vec();
            assert_eq!(request.encode(&mut out), Err(error), "{request:?}");
            assert_eq!(out, b"x");
        }
    }
}
