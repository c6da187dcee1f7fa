//! The head of a request.

use std::mem::MaybeUninit;

use httparse::{Error, Status};
use memchr::memchr;

use super::fields::Fields;
use super::framing::{Body, Framing};
use super::host;
use super::response::Exchange;
use super::target::Target;
use super::{BadRequest, Version};

/// The longest method, in bytes.
pub const METHOD_BYTES_MAX: usize = 32;

/// The most header fields that a head can have, whatever [`HeadLimits`] say.
pub const HEADERS_MAX: usize = 100;

/// What an answer with status 405 says of the methods that may be asked for here at all.
pub(super) const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What a head may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head with its blank line, in bytes; beyond it stands status 431. Default 16 KiB.
    pub head_bytes_max: usize,
    /// Header fields; beyond it stands status 431. Default and maximum [`HEADERS_MAX`].
    pub headers_max: usize,
    /// The target, in bytes; beyond it stands status 414. Default 8 KiB.
    pub target_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes_max: 16 << 10, headers_max: HEADERS_MAX, target_bytes_max: 8 << 10 }
    }
}

/// The head of a request, borrowed from the buffer it arrived in. All of it is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head<'a> {
    /// As it was sent; methods are case-sensitive. Never `CONNECT` or `TRACE`, which are refused.
    pub method: &'a str,
    /// Not decoded; begins with `/`, or is the `*` of `OPTIONS *`.
    pub path: &'a str,
    /// Not decoded; what follows the first `?`.
    pub query: Option<&'a str>,
    /// [`Head::host`] as bytes: few applications need it as a text.
    pub host_bytes: Option<&'a [u8]>,
    /// The client's version.
    pub version: Version,
    /// What follows the head.
    pub body: Body,
    /// Whether the client would use the connection again.
    pub keep_alive: bool,
    /// Whether the client waits for [`CONTINUE`](super::CONTINUE) before it sends the body.
    pub expects_continue: bool,
    /// Whether the client would rather speak what its Upgrade field says.
    pub upgrade: bool,
    /// All header fields.
    pub fields: Fields<'a>,
    /// How many bytes of the input this head took.
    pub encoded_bytes: usize,
}

impl<'a> Head<'a> {
    /// The head in front of `input`, or `None` while it is not all there.
    ///
    /// `seen_bytes` of the input were there when this was last asked, 0 at first: if nothing
    /// decisive has come since, they are not read again, so a head may well come byte by byte.
    ///
    /// ```
    /// use eserver_wire::http::{Body, Head, HeadLimits};
    ///
    /// let bytes = b"POST /put?queue=a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    /// let head = Head::parse(bytes, 0, &HeadLimits::default())?.expect("it is all there");
    /// assert_eq!((head.method, head.path, head.query), ("POST", "/put", Some("queue=a")));
    /// assert_eq!(head.body, Body::Length(2));
    /// assert_eq!(&bytes[head.encoded_bytes..], b"hi");
    /// # Ok::<(), eserver_wire::http::BadRequest>(())
    /// ```
    ///
    /// # Errors
    /// [`BadRequest`] when this cannot become a head, or when two readers might not agree on what
    /// it says.
    pub fn parse(
        input: &'a [u8],
        seen_bytes: usize,
        limits: &HeadLimits,
    ) -> Result<Option<Self>, BadRequest> {
        let blank_bytes = match input {
            [b'\r', b'\n', ..] => 2, // some old clients send one after a body
            [b'\r'] => return Ok(None),
            _ => 0,
        };
        let text = &input[blank_bytes..];
        if matches!(text, [b'\r' | b'\n', ..]) {
            return Err(BadRequest::BLANK_LINES);
        }
        if seen_bytes > blank_bytes && is_as_before(text, seen_bytes - blank_bytes, limits) {
            return Ok(None);
        }
        let mut slots = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let slots = &mut slots[..limits.headers_max.min(HEADERS_MAX)];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(text, slots) {
            Ok(Status::Complete(head_bytes)) => {
                Self::check(&text[..head_bytes], blank_bytes, &request, limits).map(Some)
            }
            Ok(Status::Partial) => check_unfinished(text, &request, limits).map(|()| None),
            // Which version it is stands at the end of the line.
            Err(Error::Version) if memchr(b'\n', text).is_none() => {
                check_unfinished(text, &request, limits).map(|()| None)
            }
            Err(error) => {
                // What is too long is more likely to be at fault than what came of it.
                let bytes = |part: Option<&str>| part.map_or(0, str::len);
                check_sizes(bytes(request.method), bytes(request.path), 0, limits)?;
                Err(refusal(error, text))
            }
        }
    }

    /// Checks what `httparse` lets through or leaves to others.
    fn check(
        text: &'a [u8],
        blank_bytes: usize,
        request: &httparse::Request<'_, 'a>,
        limits: &HeadLimits,
    ) -> Result<Self, BadRequest> {
        let parsed = (request.method, request.path, request.version);
        let (Some(method), Some(target), Some(minor)) = parsed else {
            return Err(BadRequest::new("the request line is not complete"));
        };
        check_sizes(method.len(), target.len(), text.len(), limits)?;
        let fields = Fields::of_head(text, request.headers)
            .ok_or(BadRequest::new("a line ends without a carriage return"))?;
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        let mut framing = Framing::default();
        let mut host = None;
        let mut expects_continue = false;
        for header in request.headers.iter() {
            match header.name.len() {
                4 if header.name.eq_ignore_ascii_case("host") => {
                    if host.replace(host_of(header.value)?).is_some() {
                        return Err(BadRequest::new("there is more than one Host"));
                    }
                }
                6 if version == Version::Http11 && header.name.eq_ignore_ascii_case("expect") => {
                    if !header.value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(UNKNOWN_EXPECTATION);
                    }
                    expects_continue = true;
                }
                _ => framing.see(header.name, header.value)?,
            }
        }
        if host.is_none() && version == Version::Http11 {
            return Err(BadRequest::new("there is no Host"));
        }
        let body = framing.body(version)?.unwrap_or(Body::None);
        match method {
            "CONNECT" => return Err(BadRequest::with_status(501, "this is not a proxy")),
            "TRACE" => return Err(BadRequest::with_status(405, "requests are not traced here")),
            _ => {}
        }
        let target = Target::parse(method, target)?;
        if let Some((scheme, authority)) = target.authority {
            let authority = authority.as_bytes();
            let other = host.replace(authority);
            if other.is_some_and(|other| !host::is_same(authority, other, scheme)) {
                return Err(BadRequest::new("the target and Host do not name the same host"));
            }
        }
        Ok(Self {
            method,
            path: target.path,
            query: target.query,
            host_bytes: host,
            version,
            body,
            keep_alive: framing.keeps_alive(version),
            expects_continue: expects_continue && !matches!(body, Body::None | Body::Length(0)),
            upgrade: framing.upgrades(version),
            fields,
            encoded_bytes: blank_bytes + text.len(),
        })
    }

    /// Whom the client asks, with the port if it said one; only HTTP/1.0 may leave it open.
    #[must_use]
    pub fn host(&self) -> Option<&'a str> {
        self.host_bytes.map(|host| str::from_utf8(host).expect("a host is ASCII"))
    }

    /// What an answer to this request has to observe.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        Exchange {
            version: self.version,
            is_head: self.method == "HEAD",
            keep_alive: self.keep_alive,
        }
    }
}

/// Whether the bytes after those `seen` cannot have completed a head that was incomplete, nor made
/// it too long. Only the end of a line can be decisive.
fn is_as_before(text: &[u8], seen: usize, limits: &HeadLimits) -> bool {
    let Some((seen, new)) = text.split_at_checked(seen) else {
        return false;
    };
    memchr(b'\n', new).is_none()
        && text.len() <= limits.head_bytes_max
        && (text.len() <= limits.target_bytes_max || memchr(b'\n', seen).is_some())
}

/// Refuses what will be too long, however it goes on.
fn check_unfinished(
    text: &[u8],
    request: &httparse::Request<'_, '_>,
    limits: &HeadLimits,
) -> Result<(), BadRequest> {
    let method_bytes = request.method.map_or(text.len(), str::len);
    let after_method = text.len().saturating_sub(method_bytes + 1);
    let target_bytes = request.path.map_or(after_method, str::len);
    check_sizes(method_bytes, target_bytes, text.len(), limits)
}

fn check_sizes(
    method_bytes: usize,
    target_bytes: usize,
    head_bytes: usize,
    limits: &HeadLimits,
) -> Result<(), BadRequest> {
    if method_bytes > METHOD_BYTES_MAX {
        return Err(BadRequest::new("the method is too long"));
    }
    if target_bytes > limits.target_bytes_max {
        return Err(BadRequest::with_status(414, "the target is too long"));
    }
    if head_bytes > limits.head_bytes_max {
        return Err(BadRequest::with_status(431, "the head is too long"));
    }
    Ok(())
}

const UNKNOWN_EXPECTATION: BadRequest =
    BadRequest::with_status(417, "the only expectation known here is `100-continue`");

fn host_of(value: &[u8]) -> Result<&[u8], BadRequest> {
    if !host::is_host(value) {
        return Err(BadRequest::new("Host is not the name or address of a host"));
    }
    Ok(value)
}

/// What the parser's complaint about `text` means to the client.
fn refusal(error: Error, text: &[u8]) -> BadRequest {
    match error {
        Error::Version if is_other_version(text) => {
            BadRequest::with_status(505, "the versions spoken here are HTTP/1.0 and HTTP/1.1")
        }
        Error::Version => BadRequest::new("the request line does not end in a version of HTTP"),
        Error::Token | Error::Status => {
            BadRequest::new("the request line has characters that may not be there")
        }
        Error::NewLine => BadRequest::new("a line does not end as it must"),
        Error::HeaderName => {
            BadRequest::new("a header line does not begin with a name and a colon")
        }
        Error::HeaderValue => BadRequest::new("a header field has control characters"),
        Error::TooManyHeaders => BadRequest::with_status(431, "there are too many header fields"),
    }
}

/// Whether the request line ends in the name of a version, if one that is not spoken here.
fn is_other_version(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let version = words.nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    words.next().is_none()
        && matches!(version, Some([major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8]) -> Result<Option<Head<'_>>, BadRequest> {
        Head::parse(input, 0, &HeadLimits::default())
    }

    /// One input, four ways: whole, with more after it, byte by byte, and cut at every index.
    fn check(input: &str, expected: impl Fn(&Head<'_>)) {
        let input = input.as_bytes();
        expected(&parse(input).unwrap().unwrap());
        let with_more = [input, b"GET /smuggled HTTP/1.1\r\n\r\n"].concat();
        let head = parse(&with_more).unwrap().unwrap();
        assert_eq!(head.encoded_bytes, input.len());
        expected(&head);
        for cut in 0..input.len() {
            let unfinished = &input[..cut];
            assert_eq!(parse(unfinished), Ok(None), "cut at {cut}");
            for seen in 0..=cut {
                let later = Head::parse(unfinished, seen, &HeadLimits::default());
                assert_eq!(later, Ok(None), "cut at {cut}, {seen} seen");
            }
            expected(&Head::parse(input, cut, &HeadLimits::default()).unwrap().unwrap());
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 9112, section 2.1, with its CRLFs.
        let input = "GET /hello.txt HTTP/1.1\r\n\
                     User-Agent: curl/7.64.1\r\n\
                     Host: www.example.com\r\n\
                     Accept-Language: en, mi\r\n\r\n";
        check(input, |head| {
            assert_eq!((head.method, head.path, head.query), ("GET", "/hello.txt", None));
            assert_eq!((head.host(), head.version), (Some("www.example.com"), Version::Http11));
            assert_eq!((head.body, head.keep_alive), (Body::None, true));
            assert!(!head.expects_continue && !head.upgrade);
            assert_eq!(head.fields.iter().count(), 3);
            assert_eq!(head.fields.get_str("accept-language"), Some("en, mi"));
            assert_eq!(head.encoded_bytes, input.len());
        });
    }

    #[test]
    fn heads_say_what_follows() {
        let with = |fields: &str, expected: (Body, bool, bool)| {
            check(&format!("POST /a?b HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), |head| {
                let got = (head.body, head.expects_continue, head.upgrade);
                assert_eq!(got, expected, "{fields}");
            });
        };
        with("Content-Length: 12\r\n", (Body::Length(12), false, false));
        with("Content-Length: 18446744073709551615\r\n", (Body::Length(u64::MAX), false, false));
        with("transfer-encoding: CHUNKED\r\n", (Body::Chunked, false, false));
        with("Expect: 100-Continue\r\nContent-Length: 1\r\n", (Body::Length(1), true, false));
        with("Transfer-Encoding: chunked\r\nexpect:100-continue\r\n", (Body::Chunked, true, false));
        with("Expect: 100-continue\r\nContent-Length: 0\r\n", (Body::Length(0), false, false));
        with("Expect: 100-continue\r\n", (Body::None, false, false));
        with("Connection: keep-alive, Upgrade\r\nUpgrade: a\r\n", (Body::None, false, true));
        with("Upgrade: a\r\n", (Body::None, false, false));
    }

    #[test]
    fn answers_observe_version_method_and_wish() {
        let with = |line: &str, fields: &str, version, is_head, keep_alive| {
            check(&format!("{line}\r\nHost: a\r\n{fields}\r\n"), |head| {
                assert_eq!(head.exchange(), Exchange { version, is_head, keep_alive });
            });
        };
        with("GET / HTTP/1.1", "", Version::Http11, false, true);
        with("HEAD / HTTP/1.1", "Connection: close\r\n", Version::Http11, true, false);
        with("GET / HTTP/1.0", "", Version::Http10, false, false);
        with("GET / HTTP/1.0", "Connection: keep-alive\r\n", Version::Http10, false, true);
        with("GET / HTTP/1.0", "Connection: close, keep-alive\r\n", Version::Http10, false, false);
        let upgrade = "GET / HTTP/1.0\r\nConnection: upgrade\r\n\r\n";
        check(upgrade, |head| assert!(!head.upgrade && head.host().is_none()));
    }

    #[test]
    fn limits_are_exact() {
        let limits = HeadLimits { head_bytes_max: 50, headers_max: 2, target_bytes_max: 8 };
        let status = |input: &str, seen_bytes| {
            Head::parse(input.as_bytes(), seen_bytes, &limits)
                .map(|head| head.is_some())
                .map_err(|refusal| refusal.status)
        };
        let head = |bytes: usize| {
            let front = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
            format!("{front}{}\r\n\r\n", "b".repeat(bytes - front.len() - 4))
        };
        assert_eq!(status(&head(50), 0), Ok(true));
        assert_eq!(status(&(head(50) + "more"), 0), Ok(true));
        assert_eq!(status(&head(51), 0), Err(431));
        assert_eq!(status(&head(55)[..50], 0), Ok(false));
        assert_eq!(status(&head(55)[..50], 49), Ok(false));
        assert_eq!(status(&head(55)[..51], 50), Err(431));
        assert_eq!(status("GET /2345678 HTTP/1.1\r\nHost: a\r\n\r\n", 0), Ok(true));
        assert_eq!(status("GET /23456789 HTTP/1.1\r\nHost: a\r\n\r\n", 0), Err(414));
        assert_eq!(status("GET /23456789", 12), Err(414));
        assert_eq!(status("GET /23456789 HTTP/1.1\r\nHo", 0), Err(414));
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nA:\r\n\r\n", 0), Ok(true));
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB:\r\n\r\n", 0), Err(431));
        assert_eq!(status(&"a".repeat(METHOD_BYTES_MAX), 0), Ok(false));
        assert_eq!(status(&"a".repeat(METHOD_BYTES_MAX + 1), 0), Err(400));

        let default = HeadLimits { headers_max: 10_000, ..HeadLimits::default() };
        let many = |count: usize| {
            let fields = "A:\r\n".repeat(count - 1);
            let input = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            Head::parse(input.as_bytes(), 0, &default).map(|_| ()).map_err(|refusal| refusal.status)
        };
        assert_eq!((many(HEADERS_MAX), many(HEADERS_MAX + 1)), (Ok(()), Err(431)));
    }

    #[test]
    fn what_was_seen_is_not_read_again() {
        // The line end that completes the head is among what is said to be known already.
        let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx";
        assert!(parse(input).unwrap().is_some());
        assert_eq!(Head::parse(input, input.len() - 1, &HeadLimits::default()), Ok(None));
    }
}
