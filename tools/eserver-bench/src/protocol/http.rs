//! HTTP/1.1: [`HttpGet`] asks for one thing again and again, [`HttpPublish`] publishes one message.

use eserver_wire::http::{BadField, Body, BodyDecoder, HeadLimits, Request, ResponseHead};
use eserver_wire::http::{LAST_CHUNK, RequestBody};

use super::{Protocol, Reply};

/// A GET whose answer must have status 200 and one known body.
#[derive(Debug, Clone)]
pub struct HttpGet {
    request: Vec<u8>,
    body: Vec<u8>,
}

impl HttpGet {
    /// Asks `host` for `target` and expects `body`, over a connection that stays open.
    ///
    /// # Errors
    /// [`BadField`] when the target or the host cannot stand in a request.
    pub fn new(host: &str, target: &str, body: &[u8]) -> Result<Self, BadField> {
        Self::with_fields(host, target, body, &[])
    }

    /// The same with `Connection: close`: for a connection per request.
    ///
    /// # Errors
    /// As [`HttpGet::new`].
    pub fn closing(host: &str, target: &str, body: &[u8]) -> Result<Self, BadField> {
        Self::with_fields(host, target, body, &[("Connection", "close")])
    }

    fn with_fields(
        host: &str,
        target: &str,
        body: &[u8],
        fields: &[(&str, &str)],
    ) -> Result<Self, BadField> {
        let mut request = Vec::new();
        Request { method: "GET", target, host, fields, body: RequestBody::None }
            .encode(&mut request)?;
        Ok(Self { request, body: body.to_vec() })
    }

    /// The length of one request, in bytes.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        self.request.len()
    }

    fn is_expected(&self, status: u16, body: &[u8]) -> bool {
        status == 200 && body == self.body
    }
}

impl Protocol for HttpGet {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn reply(&self, input: &[u8]) -> Reply {
        reply(input, "GET", |status, body| self.is_expected(status, body))
    }
}

/// A publication to a channel, which the server accepts with any status from 200 to 202.
#[derive(Debug, Clone)]
pub struct HttpPublish {
    request: Vec<u8>,
    method: &'static str,
}

impl HttpPublish {
    /// A GET that has all in its `target`, as icomet's `/push`.
    ///
    /// # Errors
    /// [`BadField`] when the target or the host cannot stand in a request.
    pub fn get(host: &str, target: &str) -> Result<Self, BadField> {
        Self::new("GET", host, target, RequestBody::None)
    }

    /// A POST whose body is the message.
    ///
    /// # Errors
    /// As [`HttpPublish::get`].
    pub fn post(host: &str, target: &str, message: &[u8]) -> Result<Self, BadField> {
        Self::new("POST", host, target, RequestBody::Whole(message))
    }

    fn new(
        method: &'static str,
        host: &str,
        target: &str,
        body: RequestBody<'_>,
    ) -> Result<Self, BadField> {
        let mut request = Vec::new();
        Request { method, target, host, fields: &[], body }.encode(&mut request)?;
        Ok(Self { request, method })
    }
}

impl Protocol for HttpPublish {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
    }

    fn reply(&self, input: &[u8]) -> Reply {
        reply(input, self.method, |status, _| matches!(status, 200..=202))
    }
}

/// The answer in front of `input` to a request by `method`, once it is all there: whether status and
/// body are as expected.
fn reply(input: &[u8], method: &str, is_expected: impl FnOnce(u16, &[u8]) -> bool) -> Reply {
    let head = match ResponseHead::parse(input, method, &HeadLimits::default()) {
        Ok(None) => return Reply::Incomplete,
        Ok(Some(head)) => head,
        Err(_) => return Reply::Unexpected { bytes: input.len() },
    };
    let rest = &input[head.encoded_bytes..];
    match head.body {
        Body::None => Reply::whole(head.encoded_bytes, is_expected(head.status, &[])),
        Body::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            rest.get(..length).map_or(Reply::Incomplete, |body| {
                Reply::whole(head.encoded_bytes + length, is_expected(head.status, body))
            })
        }
        Body::Chunked => chunks(&head, rest, input.len(), is_expected),
        // Where it ends cannot be told from its bytes, so it takes all that is there.
        Body::UntilClose => Reply::Unexpected { bytes: input.len() },
    }
}

fn chunks(
    head: &ResponseHead<'_>,
    rest: &[u8],
    input_bytes: usize,
    is_expected: impl FnOnce(u16, &[u8]) -> bool,
) -> Reply {
    // Nobody looks at the chunks of an answer that is not all there yet.
    if !rest.windows(LAST_CHUNK.len()).any(|window| window == LAST_CHUNK) {
        return Reply::Incomplete;
    }
    let mut decoder = BodyDecoder::new(Body::Chunked);
    let mut used = 0;
    let mut body = Vec::new();
    while !decoder.is_done() && used < rest.len() {
        match decoder.decode(&rest[used..]) {
            Err(_) => return Reply::Unexpected { bytes: input_bytes },
            Ok(progress) => {
                let data = used + progress.data.start..used + progress.data.end;
                body.extend_from_slice(&rest[data]);
                used += progress.used;
            }
        }
    }
    if !decoder.is_done() {
        return Reply::Incomplete;
    }
    Reply::whole(head.encoded_bytes + used, is_expected(head.status, &body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::tests::check;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello";

    fn get() -> HttpGet {
        HttpGet::new("127.0.0.1:80", "/", b"hello").unwrap()
    }

    #[test]
    fn a_get_is_answered_by_the_known_body() {
        check(
            &get(),
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
            &[
                (OK, true),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhullo", false),
                (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell", false),
                (b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nhello", false),
                (b"HTTP/1.1 204 No Content\r\n\r\n", false),
                (OK, true),
                (b"HTTP/1.0 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", true),
                (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false),
            ],
        );
    }

    #[test]
    fn chunks_are_put_together() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let right = format!("{head}2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n");
        let wrong = format!("{head}2\r\nhe\r\n0\r\n\r\n");
        check(
            &get(),
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
            &[(right.as_bytes(), true), (wrong.as_bytes(), false), (right.as_bytes(), true)],
        );
    }

    #[test]
    fn a_publication_is_accepted_with_any_of_three() {
        let replies: [(&[u8], bool); 5] = [
            (OK, true),
            (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok", true),
            (
                b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nk\r\n0\r\n\r\n",
                true,
            ),
            (b"HTTP/1.1 204 No Content\r\n\r\n", false),
            (b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n", false),
        ];
        let get = HttpPublish::get("a", "/push?cname=c&content=x").unwrap();
        check(&get, b"GET /push?cname=c&content=x HTTP/1.1\r\nHost: a\r\n\r\n", &replies);
        let post = HttpPublish::post("a", "/pub/c", b"x").unwrap();
        let request = b"POST /pub/c HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        check(&post, request, &replies);
        assert!(HttpPublish::get("a", "/a b").is_err());
    }

    #[test]
    fn a_connection_per_request_is_asked_for() {
        let closing = HttpGet::closing("a", "/b?c", b"hello").unwrap();
        let request = b"GET /b?c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(closing.request_bytes(), request.len());
        check(&closing, request, &[(OK, true)]);
        assert!(HttpGet::new("a b", "/", b"").is_err());
        assert!(HttpGet::closing("a", "/ b", b"").is_err());
    }

    #[test]
    fn what_has_no_end_or_is_no_answer_is_an_error() {
        for input in [
            "HTTP/1.1 200 OK\r\n\r\nhello",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhello\r\n0\r\n\r\n",
        ] {
            let unexpected = Reply::Unexpected { bytes: input.len() };
            assert_eq!(get().reply(input.as_bytes()), unexpected, "{input}");
        }
    }
}
