//! The head of a response, as a client reads it.

use std::mem::MaybeUninit;

use httparse::{ParserConfig, Status};
use thiserror::Error;

use super::fields::Fields;
use super::framing::{Body, Framing};
use super::head::{HEADERS_MAX, HeadLimits};
use super::{BadRequest, Version};

/// What came is no response that can be understood; the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadResponse {
    /// What the parser of lines found.
    #[error("the response's head is not as it must be")]
    Head(#[source] httparse::Error),
    /// The head is longer than was allowed, or has more fields.
    #[error("the response's head is too long")]
    TooLong,
    /// The fields leave in doubt where the response ends, or the body has no end.
    #[error("the response's framing is not as it must be")]
    Framing(#[from] BadRequest),
}

/// The head of a response, borrowed from the buffer it arrived in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponseHead<'a> {
    /// 100–999. After one below 200, except 101, another head follows that is the real one.
    pub status: u16,
    /// The words after the status; often empty.
    pub reason: &'a str,
    /// The server's version.
    pub version: Version,
    /// What follows the head.
    pub body: Body,
    /// Whether the connection may be used again.
    pub keep_alive: bool,
    /// Whether, with status 101, another protocol follows.
    pub upgrade: bool,
    /// All header fields.
    pub fields: Fields<'a>,
    /// How many bytes of the input this head took.
    pub encoded_bytes: usize,
}

impl<'a> ResponseHead<'a> {
    /// The head in front of `input`, which answers a request of `method`, or `None` while it is not
    /// all there. Of the limits, the target's has no meaning here.
    ///
    /// # Errors
    /// [`BadResponse`] when this cannot become a head, or does not say where the response ends.
    pub fn parse(
        input: &'a [u8],
        method: &str,
        limits: &HeadLimits,
    ) -> Result<Option<Self>, BadResponse> {
        let mut slots = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let slots = &mut slots[..limits.headers_max.min(HEADERS_MAX)];
        let mut response = httparse::Response::new(&mut []);
        let parsed =
            ParserConfig::default().parse_response_with_uninit_headers(&mut response, input, slots);
        let head_bytes = match parsed {
            Ok(Status::Complete(bytes)) => bytes,
            Ok(Status::Partial) if input.len() <= limits.head_bytes_max => return Ok(None),
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(BadResponse::TooLong);
            }
            Err(error) => return Err(BadResponse::Head(error)),
        };
        if head_bytes > limits.head_bytes_max {
            return Err(BadResponse::TooLong);
        }
        let text = &input[..head_bytes];
        // The parser skips empty lines in front, whatever they end with.
        let fields = Fields::of_head(text, response.headers).filter(|_| text.starts_with(b"HTTP/"));
        let fields = fields.ok_or(BadResponse::Head(httparse::Error::NewLine))?;
        let version = if response.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let mut framing = Framing::default();
        for header in response.headers.iter() {
            framing.see(header.name, header.value)?;
        }
        let status = response.code.filter(|code| *code >= 100);
        let status = status.ok_or(BadResponse::Head(httparse::Error::Status))?;
        let announced = framing.body(version)?;
        let body = match status {
            100..=199 | 204 | 304 => Body::None,
            _ if method == "HEAD" => Body::None,
            _ => announced.unwrap_or(Body::UntilClose),
        };
        Ok(Some(Self {
            status,
            reason: response.reason.unwrap_or_default(),
            version,
            body,
            keep_alive: framing.keeps_alive(version) && body != Body::UntilClose,
            upgrade: framing.upgrades(version),
            fields,
            encoded_bytes: head_bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(input: &'a str, method: &str) -> Result<Option<ResponseHead<'a>>, BadResponse> {
        ResponseHead::parse(input.as_bytes(), method, &HeadLimits::default())
    }

    #[test]
    fn responses_say_where_they_end() {
        for (input, method, status, body, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "GET", 200, Body::Length(2), true),
            ("HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n", "HEAD", 200, Body::None, true),
            ("HTTP/1.1 200\r\n\r\n", "GET", 200, Body::UntilClose, false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", "GET", 200, Body::Length(2), false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\n",
                "GET",
                200,
                Body::Length(2),
                true,
            ),
            (
                "HTTP/1.1 404 a\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "GET",
                404,
                Body::Chunked,
                true,
            ),
            (
                "HTTP/1.1 404 a\r\nTransfer-Encoding: chunked\r\nconnection: a, CLOSE\r\n\r\n",
                "GET",
                404,
                Body::Chunked,
                false,
            ),
            ("HTTP/1.1 304 a\r\nContent-Length: 9\r\n\r\n", "GET", 304, Body::None, true),
            ("HTTP/1.1 204 a\r\n\r\n", "POST", 204, Body::None, true),
            ("HTTP/1.1 100 Continue\r\n\r\n", "POST", 100, Body::None, true),
        ] {
            for cut in 0..input.len() {
                assert_eq!(parse(&input[..cut], method), Ok(None), "cut at {cut}: {input}");
            }
            let head = parse(input, method).unwrap().unwrap();
            let expected = (status, body, keep_alive, input.len());
            let got = (head.status, head.body, head.keep_alive, head.encoded_bytes);
            assert_eq!(got, expected, "{input}");
            let with_more = format!("{input}more");
            assert_eq!(parse(&with_more, method).unwrap().unwrap().encoded_bytes, input.len());
        }
    }

    #[test]
    fn heads_have_their_parts() {
        let head =
            parse("HTTP/1.1 101 So be it\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n", "GET");
        let head = head.unwrap().unwrap();
        assert_eq!((head.reason, head.upgrade, head.version), ("So be it", true, Version::Http11));
        assert_eq!(head.fields.get_str("upgrade"), Some("a"));
        assert_eq!(head.fields.iter().count(), 2);
    }

    #[test]
    fn no_responses() {
        for input in [
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\n\r\n",
            "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(parse(input, "GET").is_err(), "{input:?}");
        }
        let limits = HeadLimits { head_bytes_max: 30, headers_max: 2, ..HeadLimits::default() };
        let check =
            |input: &str| ResponseHead::parse(input.as_bytes(), "GET", &limits).unwrap_err();
        assert_eq!(check("HTTP/1.1 200 OK\r\na:b\r\nc:d\r\ne:f\r\n"), BadResponse::TooLong);
        assert_eq!(
            check(&format!("HTTP/1.1 200 OK\r\na:{}", "b".repeat(20))),
            BadResponse::TooLong
        );
        let whole = format!("HTTP/1.1 200 OK\r\na:{}\r\n\r\n", "b".repeat(20));
        assert_eq!(check(&whole), BadResponse::TooLong);
    }
}
