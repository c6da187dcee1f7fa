//! Hostile and odd HTTP, and what a server has to make of it.
//!
//! [`cases`] is for every test that has something to try: the codec alone, or a server behind a
//! socket, which may be behind a proxy. Besides what a case says, this holds for all of them: what
//! follows after a refusal or a close is never seen as a request ([`SMUGGLED`] is there to try it),
//! and what follows while the connection is open is seen as one ([`AFTER`]).

use End::{Closes, Open, Refused, Waits};

/// Something a client sends, and what it gets.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Unlike any other's.
    pub(crate) name: String,
    /// All that the client sends.
    pub(crate) input: Vec<u8>,
    /// The requests in it that are whole and valid, in order, as [`seen`] renders them. A server
    /// answers each of them. One whose body turns out to be wrong is not among them.
    pub(crate) requests: Vec<String>,
    /// What comes after them.
    pub(crate) end: End,
}

/// How a case ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All input is taken, and the connection waits for the next request.
    Open,
    /// The connection ends after the last answer, as the client wished or must expect.
    Closes,
    /// The last request is not whole; nothing is answered to it, be it that the client gives up or
    /// that the time for it is over.
    Waits,
    /// This status is answered to what comes after the valid requests, and the connection ends.
    Refused(u16),
}

/// A request that must not be seen where it stands.
pub(crate) const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// A request that must be seen where it stands.
pub(crate) const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: a\r\n\r\n";

/// How a request is written in [`Case::requests`]: method, target without authority, and body with
/// what is no plain text escaped.
pub(crate) fn seen(method: &str, path: &str, query: Option<&str>, body: &[u8]) -> String {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{method} {path}{query} {}", body.escape_ascii())
}

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, input: Vec<u8>, requests: &[&str], end: End| {
        let requests = requests.iter().map(|request| (*request).to_owned()).collect();
        cases.push(Case { name: name.to_owned(), input, requests, end });
    };
    for &(line, requests, end) in REQUEST_LINES {
        let name = format!("request line {}", line.escape_ascii());
        add(&name, [line, b"\r\nHost: a\r\n\r\n"].concat(), requests, end);
    }
    for &(hosts, requests, end) in HOSTS {
        let name = format!("host fields {}", hosts.escape_ascii());
        add(&name, [b"GET / ", hosts, b"\r\n\r\n"].concat(), requests, end);
    }
    for &(fields, end) in FIELDS {
        let name = format!("fields {}", fields.escape_ascii());
        let requests: &[_] = if matches!(end, Open | Closes) { &["GET / "] } else { &[] };
        let input = [b"GET / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n\r\n"].concat();
        add(&name, input, requests, end);
    }
    for &(fields, end) in FRAMINGS {
        let name = format!("framing {}", fields.escape_ascii());
        let input = [b"POST / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n\r\nhello"].concat();
        let requests: &[_] = if matches!(end, Open | Closes) { &["POST / hello"] } else { &[] };
        add(&name, input, requests, end);
    }
    for &(body, expected, end) in CHUNKS {
        let name = format!("chunks {}", body.escape_ascii());
        let input =
            [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", body].concat();
        let request = format!("POST / {expected}");
        let requests: &[_] = if end == Open { &[request.as_str()] } else { &[] };
        add(&name, input, requests, end);
    }
    for &(name, input, requests, end) in STREAMS {
        add(name, input.to_vec(), requests, end);
    }
    for (name, input, end) in long_ones() {
        add(name, input, &[], end);
    }
    cases
}

/// The first line, before `\r\nHost: a\r\n\r\n`.
const REQUEST_LINES: &[(&[u8], &[&str], End)] = &[
    (b"GET / HTTP/1.1", &["GET / "], Open),
    (b"GET / HTTP/1.0", &["GET / "], Closes),
    (b"get / HTTP/1.1", &["get / "], Open),
    (b"FOOBAR /a HTTP/1.1", &["FOOBAR /a "], Open),
    (b"M-SEARCH /a HTTP/1.1", &["M-SEARCH /a "], Open),
    (b"!#$%&'*+-.^_`|~ / HTTP/1.1", &["!#$%&'*+-.^_`|~ / "], Open),
    (b"GET /a?b=c&d=%26 HTTP/1.1", &["GET /a?b=c&d=%26 "], Open),
    (b"GET //a/../b HTTP/1.1", &["GET //a/../b "], Open),
    (b"GET /? HTTP/1.1", &["GET /? "], Open),
    (b"OPTIONS * HTTP/1.1", &["OPTIONS * "], Open),
    (b"GET http://a/b?c HTTP/1.1", &["GET /b?c "], Open),
    (b"GET HTTP://A:80/b HTTP/1.1", &["GET /b "], Open),
    (b"GET http://a HTTP/1.1", &["GET / "], Open),
    (b"OPTIONS http://a HTTP/1.1", &["OPTIONS * "], Open),
    // Versions.
    (b"GET /", &[], Refused(400)),
    (b"GET / ", &[], Refused(400)),
    (b"GET / HTTP", &[], Refused(400)),
    (b"GET / HTTP/", &[], Refused(400)),
    (b"GET / HTTP/1", &[], Refused(400)),
    (b"GET / HTTP/1.", &[], Refused(400)),
    (b"GET / HTTP/.1", &[], Refused(400)),
    (b"GET / HTTP/1,1", &[], Refused(400)),
    (b"GET / HTTP/1.1.1", &[], Refused(400)),
    (b"GET / HTTP/1.10", &[], Refused(400)),
    (b"GET / HTTP/01.1", &[], Refused(400)),
    (b"GET / HTTP/01.01", &[], Refused(400)),
    (b"GET / HTTP/ 1.1", &[], Refused(400)),
    (b"GET / HTTP /1.1", &[], Refused(400)),
    (b"GET / HTTP/1.1 ", &[], Refused(400)),
    (b"GET / HTTP/1.1\t", &[], Refused(400)),
    (b"GET / HTTP/1.1 HTTP/1.1", &[], Refused(400)),
    (b"GET / http/1.1", &[], Refused(400)),
    (b"GET / Http/1.1", &[], Refused(400)),
    (b"GET / HTTPS/1.1", &[], Refused(400)),
    (b"GET / HTTP/+1.1", &[], Refused(400)),
    (b"GET / HTTP/1.\xb1", &[], Refused(400)),
    (b"GET / HTTP/0.9", &[], Refused(505)),
    (b"GET / HTTP/1.2", &[], Refused(505)),
    (b"GET / HTTP/1.9", &[], Refused(505)),
    (b"GET / HTTP/2.0", &[], Refused(505)),
    (b"GET / HTTP/3.0", &[], Refused(505)),
    (b"GET / HTTP/9.9", &[], Refused(505)),
    (b"PRI * HTTP/2.0", &[], Refused(505)),
    // Methods.
    (b"TRACE / HTTP/1.1", &[], Refused(405)),
    (b"CONNECT example.com:443 HTTP/1.1", &[], Refused(501)),
    (b"CONNECT / HTTP/1.1", &[], Refused(501)),
    (b"G\x00T / HTTP/1.1", &[], Refused(400)),
    (b"G(T / HTTP/1.1", &[], Refused(400)),
    (b"G\xc3\x8bT / HTTP/1.1", &[], Refused(400)),
    (b" GET / HTTP/1.1", &[], Refused(400)),
    (b"\tGET / HTTP/1.1", &[], Refused(400)),
    (b"\x0bGET / HTTP/1.1", &[], Refused(400)),
    (b"\xef\xbb\xbfGET / HTTP/1.1", &[], Refused(400)),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[], Refused(400)),
    (b"Extra lineGET / HTTP/1.1", &[], Refused(400)),
    (b"GET", &[], Refused(400)),
    (b"GET HTTP/1.1", &[], Refused(400)),
    (b"/ HTTP/1.1", &[], Refused(400)),
    // White space.
    (b"GET  / HTTP/1.1", &[], Refused(400)),
    (b"GET /  HTTP/1.1", &[], Refused(400)),
    (b"GET\t/ HTTP/1.1", &[], Refused(400)),
    (b"GET /\tHTTP/1.1", &[], Refused(400)),
    (b"GET\x0b/ HTTP/1.1", &[], Refused(400)),
    (b"GET /\x0cHTTP/1.1", &[], Refused(400)),
    (b"GET /a b HTTP/1.1", &[], Refused(400)),
    (b"GET /a\tb HTTP/1.1", &[], Refused(400)),
    (b"GET /\rHTTP/1.1", &[], Refused(400)),
    (b"GET / HTTP/1.1\rX: y", &[], Refused(400)),
    (b"GET / HTTP/1.1\r", &[], Refused(400)),
    // Targets.
    (b"GET * HTTP/1.1", &[], Refused(400)),
    (b"GET a HTTP/1.1", &[], Refused(400)),
    (b"GET ?a HTTP/1.1", &[], Refused(400)),
    (b"GET ../a HTTP/1.1", &[], Refused(400)),
    (b"GET a:80 HTTP/1.1", &[], Refused(400)),
    (b"OPTIONS ** HTTP/1.1", &[], Refused(400)),
    (b"OPTIONS *? HTTP/1.1", &[], Refused(400)),
    (b"GET /a#b HTTP/1.1", &[], Refused(400)),
    (b"GET /?a#b HTTP/1.1", &[], Refused(400)),
    (b"GET /a\\b HTTP/1.1", &[], Refused(400)),
    (b"GET /\x00 HTTP/1.1", &[], Refused(400)),
    (b"GET /\x7f HTTP/1.1", &[], Refused(400)),
    (b"GET /\x1b[2J HTTP/1.1", &[], Refused(400)),
    (b"GET /?\x01 HTTP/1.1", &[], Refused(400)),
    (b"GET /caf\xc3\xa9 HTTP/1.1", &[], Refused(400)),
    (b"GET /\xc0\xaf HTTP/1.1", &[], Refused(400)),
    (b"GET /?\xff HTTP/1.1", &[], Refused(400)),
    (b"GET /% HTTP/1.1", &[], Refused(400)),
    (b"GET /%2 HTTP/1.1", &[], Refused(400)),
    (b"GET /%zz HTTP/1.1", &[], Refused(400)),
    (b"GET /%u0041 HTTP/1.1", &[], Refused(400)),
    (b"GET /a%00.html HTTP/1.1", &[], Refused(400)),
    (b"GET /a%0d%0aX:%20y HTTP/1.1", &[], Refused(400)),
    (b"GET /a%7f HTTP/1.1", &[], Refused(400)),
    (b"GET http://b/ HTTP/1.1", &[], Refused(400)),
    (b"GET http://a:8080/ HTTP/1.1", &[], Refused(400)),
    (b"GET http:///b HTTP/1.1", &[], Refused(400)),
    (b"GET http:/a HTTP/1.1", &[], Refused(400)),
    (b"GET http://u:p@a/ HTTP/1.1", &[], Refused(400)),
    (b"GET ftp://a/ HTTP/1.1", &[], Refused(400)),
    (b"GET file:///etc/passwd HTTP/1.1", &[], Refused(400)),
];

/// Version and header fields, between `GET / ` and `\r\n\r\n`.
const HOSTS: &[(&[u8], &[&str], End)] = &[
    (b"HTTP/1.0", &["GET / "], Closes),
    (b"HTTP/1.1\r\nHOST: example.com:8080", &["GET / "], Open),
    (b"HTTP/1.1\r\nhoSt:\texample.com\r\nempty:", &["GET / "], Open),
    (b"HTTP/1.1\r\nHost: [::1]:80", &["GET / "], Open),
    (b"HTTP/1.1", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost:", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost:  ", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a\r\nHost: b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: a", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a\r\nHost:", &[], Refused(400)),
    (b"HTTP/1.0\r\nHost: a\r\nHost: b", &[], Refused(400)),
    (b"HTTP/1.0\r\nHost: a b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: bad host", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a, b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a,b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a/b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a?b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a#b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: http://a", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: u@a", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a:b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a:65536", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a:-1", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a:80:80", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: :80", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: ::1", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: [::1", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a\x00b", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a%00", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: \xc3\xa9", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost : a", &[], Refused(400)),
    (b"HTTP/1.1\r\n Host: a", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a\r\n  continued", &[], Refused(400)),
    (b"HTTP/1.1\r\n \r\nHost: a", &[], Refused(400)),
    (b"HTTP/1.1\r\n\tX: y\r\nHost: a", &[], Refused(400)),
    (b"HTTP/1.1\nHost: a", &[], Refused(400)),
    (b"HTTP/1.1\r\nHost: a\nX: y", &[], Refused(400)),
    (b"HTTP/1.1\rHost: a", &[], Refused(400)),
];

/// Header fields after Host, without the last CRLF.
const FIELDS: &[(&[u8], End)] = &[
    (b"X-Empty:", Open),
    (b"X-Empty: \t ", Open),
    (b"X-Tab: a\tb", Open),
    (b"X-Text: \xff\xfe\x80", Open),
    (b"!#$%&'*+-.^_`|~09az: b", Open),
    (b"X: a:b: c", Open),
    (b"Content-Length: 0", Open),
    (b"Content_Length: 99", Open),
    (b"Transfer_Encoding: chunked", Open),
    (b"X-Content-Length: 99", Open),
    (b"Connection: keep-alive", Open),
    (b"Connection: x, Keep-Alive , ,y", Open),
    (b"Connection: closed", Open),
    (b"Connection: close", Closes),
    (b"Connection: CLOSE", Closes),
    (b"connection: keep-alive, close", Closes),
    (b"Connection: keep-alive\r\nConnection: close", Closes),
    (b"Expect: 100-continue", Open),
    (b"Upgrade: h2c\r\nConnection: Upgrade", Open),
    (b"Range: bytes=abc-xyz", Open),
    (b"Expect: 200-ok", Refused(417)),
    (b"Expect: 100-continue, 100-continue", Refused(417)),
    (b"Expect:", Refused(417)),
    (b"NoColon", Refused(400)),
    (b": b", Refused(400)),
    (b" : b", Refused(400)),
    (b":", Refused(400)),
    (b"X : b", Refused(400)),
    (b"X\t: b", Refused(400)),
    (b"X\x0b: b", Refused(400)),
    (b"X\x00: b", Refused(400)),
    (b"Bad Header: b", Refused(400)),
    (b"X-Invalid[]: b", Refused(400)),
    (b"X(y): b", Refused(400)),
    (b"X{y}: b", Refused(400)),
    (b"X@y: b", Refused(400)),
    (b"X=y: b", Refused(400)),
    (b"X/y: b", Refused(400)),
    (b"X,y: b", Refused(400)),
    (b"X;y: b", Refused(400)),
    (b"\"X\": b", Refused(400)),
    (b"X\xc3\xa9: b", Refused(400)),
    (b"\x7fX: b", Refused(400)),
    (b"GET / HTTP/1.1", Refused(400)),
    (b"X: a\x00b", Refused(400)),
    (b"X: a\x07b", Refused(400)),
    (b"X: a\x08b", Refused(400)),
    (b"X: a\x0bb", Refused(400)),
    (b"X: a\x0cb", Refused(400)),
    (b"X: a\x1bb", Refused(400)),
    (b"X: a\x7fb", Refused(400)),
    (b"X: a\rb", Refused(400)),
    (b"X: a\r", Refused(400)),
    (b"X: \rTransfer-Encoding: chunked", Refused(400)),
    (b"X: a\r\n b", Refused(400)),
    (b"X: a\r\n\tb", Refused(400)),
    (b"X:\r\n b", Refused(400)),
    (b"X: a\r\n ", Refused(400)),
    (b"X: a\nY: b", Refused(400)),
    (b"X: a\n", Refused(400)),
    (b"\n", Refused(400)),
    (b"X: a\r\n\rY: b", Refused(400)),
    (b"X: a\r\n\n", Refused(400)),
];

/// Header fields after Host, without the last CRLF, of a POST whose body would be `hello`.
const FRAMINGS: &[(&[u8], End)] = &[
    (b"Content-Length: 5", Open),
    (b"content-length:5", Open),
    (b"Content-Length:\t 5 \t", Open),
    (b"Content-Length: 5\r\nConnection: close", Closes),
    (b"Content-Length: 6", Waits),
    (b"Content-Length: 999999999", Waits),
    (b"Content-Length: 18446744073709551615", Waits),
    (b"Content-Length:", Refused(400)),
    (b"Content-Length: ", Refused(400)),
    (b"Content-Length: abc", Refused(400)),
    (b"Content-Length: +5", Refused(400)),
    (b"Content-Length: -5", Refused(400)),
    (b"Content-Length: -0", Refused(400)),
    (b"Content-Length: 0x5", Refused(400)),
    (b"Content-Length: 0o5", Refused(400)),
    (b"Content-Length: 5h", Refused(400)),
    (b"Content-Length: 5.0", Refused(400)),
    (b"Content-Length: 5e0", Refused(400)),
    (b"Content-Length: 1_0", Refused(400)),
    (b"Content-Length: 1 0", Refused(400)),
    (b"Content-Length: 5,5", Refused(400)),
    (b"Content-Length: 5, 5", Refused(400)),
    (b"Content-Length: 5, 10", Refused(400)),
    (b"Content-Length: 5,", Refused(400)),
    (b"Content-Length: ,5", Refused(400)),
    (b"Content-Length: 5;a", Refused(400)),
    (b"Content-Length: \"5\"", Refused(400)),
    (b"Content-Length: 00", Refused(400)),
    (b"Content-Length: 005", Refused(400)),
    (b"Content-Length: 0200", Refused(400)),
    (b"Content-Length: \x0b5", Refused(400)),
    (b"Content-Length: 5\x00", Refused(400)),
    (b"Content-Length: \xd9\xa5", Refused(400)),
    (b"Content-Length: 18446744073709551616", Refused(400)),
    (b"Content-Length: 99999999999999999999", Refused(400)),
    (b"Content-Length: -123456789123456789123456789", Refused(400)),
    (b"Content-Length: 5\r\nContent-Length: 5", Refused(400)),
    (b"Content-Length: 5\r\nContent-Length: 10", Refused(400)),
    (b"Content-Length: 0\r\ncontent-length: 5", Refused(400)),
    (b"Content-Length: 5\r\nX: y\r\nContent-Length:", Refused(400)),
    (b"Content-Length : 5", Refused(400)),
    (b"Content-Length\t: 5", Refused(400)),
    (b"Content\tLength: 5", Refused(400)),
    (b"Content-Length:\r\n 5", Refused(400)),
    (b"Content-Length: 5\r\n 0", Refused(400)),
    (b"Content-Length: 5\n", Refused(400)),
    (b"Content-Length: 5\r", Refused(400)),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 5", Refused(400)),
    (b"Content-Length: 5\r\nTransfer-Encoding: chunked", Refused(400)),
    (b"content-LengtH: 5\r\nTransFer-Encoding: chunked", Refused(400)),
    (b"Content-Length: 0\r\nTransfer-Encoding: chunked", Refused(400)),
    (b"Content-Length: 5\r\nTransfer-Encoding: identity", Refused(501)),
    (b"Content-Length: 5\r\nTransfer-Encoding:", Refused(400)),
    (b"Content-Length: 5\r\nTransfer-Encoding: xchunked", Refused(501)),
    (b"Content-Length: 5\r\nTransfer-Encoding: chunked, identity", Refused(400)),
    (b"Transfer-Encoding:", Refused(400)),
    (b"Transfer-Encoding: ,", Refused(400)),
    (b"Transfer-Encoding: identity", Refused(501)),
    (b"Transfer-Encoding: gzip", Refused(501)),
    (b"Transfer-Encoding: nonsense", Refused(501)),
    (b"Transfer-Encoding: xchunked", Refused(501)),
    (b"Transfer-Encoding: chunkedx", Refused(501)),
    (b"Transfer-Encoding: chunk", Refused(501)),
    (b"Transfer-Encoding: gzip, chunked", Refused(501)),
    (b"Transfer-Encoding: identity, chunked", Refused(501)),
    (b"Transfer-Encoding: chunked, gzip", Refused(400)),
    (b"Transfer-Encoding: chunked, identity", Refused(400)),
    (b"Transfer-Encoding: chunked, chunked", Refused(400)),
    (b"Transfer-Encoding: chunked,", Refused(400)),
    (b"Transfer-Encoding: , chunked", Refused(400)),
    (b"Transfer-Encoding: chunked;a=b", Refused(400)),
    (b"Transfer-Encoding: \"chunked\"", Refused(400)),
    (b"Transfer-Encoding: 'chunked'", Refused(501)),
    (b"Transfer-Encoding: chunked chunked", Refused(400)),
    (b"Transfer-Encoding: \x0bchunked", Refused(400)),
    (b"Transfer-Encoding: \x0cchunked", Refused(400)),
    (b"Transfer-Encoding: chunked\x0b", Refused(400)),
    (b"Transfer-Encoding: chunked\x00", Refused(400)),
    (b"Transfer-Encoding: chun\x00ked", Refused(400)),
    (b"Transfer-Encoding: \xa0chunked", Refused(400)),
    (b"Transfer-Encoding: chun\xe2\x84\xaaed", Refused(400)),
    (b"Transfer-Encoding:\r\n chunked", Refused(400)),
    (b"Transfer-Encoding: gzip\r\n\t, chunked", Refused(400)),
    (b"Transfer-Encoding : chunked", Refused(400)),
    (b"Transfer-Encoding\t: chunked", Refused(400)),
    (b" Transfer-Encoding: chunked", Refused(400)),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Refused(400)),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", Refused(400)),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", Refused(400)),
    (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", Refused(501)),
    (b"X: y\rTransfer-Encoding: chunked", Refused(400)),
    (b"X: y\nTransfer-Encoding: chunked", Refused(400)),
    (b"Transfer-Encoding: chunked\nX: y", Refused(400)),
    (b"Transfer\xadEncoding: chunked\r\nContent-Length: 5", Refused(400)),
];

/// Chunked bodies, and the data in those that are whole.
const CHUNKS: &[(&[u8], &str, End)] = &[
    (b"5\r\nhello\r\n0\r\n\r\n", "hello", Open),
    (b"c\r\nHellO world1\r\n0\r\n\r\n", "HellO world1", Open),
    (b"A\r\nhelloworld\r\n0\r\n\r\n", "helloworld", Open),
    (b"5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n", "hello world", Open),
    (b"0\r\n\r\n", "", Open),
    (b"0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", Open),
    (b"5;a=b\r\nhello\r\n0;c=\"d;\\\"e\"\r\n\r\n", "hello", Open),
    (b"5\r\nhello\r\n0\r\nX-Sum: abc\r\nY:\r\n\r\n", "hello", Open),
    // They are dropped, so they can say what they want.
    (b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", "hello", Open),
    (b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n", "hello", Open),
    (b"2\r\n\r\n\r\n0\r\n\r\n", "\\r\\n", Open),
    (b"5\r\nhello\r\n", "", Waits),
    (b"5\r\nhello\r\n0\r\n", "", Waits),
    (b"5\r\nhello\r\n0\r\nX: y\r\n", "", Waits),
    (b"ffffffffffffffff\r\nhello", "", Waits),
    (b"Z\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"+5\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"-5\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"+0\r\n\r\n", "", Refused(400)),
    (b"0x5\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"0X0\r\n\r\n", "", Refused(400)),
    (b"1_0\r\nhello world!!!!!\r\n0\r\n\r\n", "", Refused(400)),
    (b"5.\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5,\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"\"5\"\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b" 5\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"\t5\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5 \r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\t\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5 5\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\x0b\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\x00\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"10000000000000005\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"00000000000000005\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\nhello\n0\n\n", "", Refused(400)),
    (b"5\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\rhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\r\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\r\nhello\n0\r\n\r\n", "", Refused(400)),
    (b"5\r\nhello\r0\r\n\r\n", "", Refused(400)),
    (b"5\r\nhello0\r\n\r\n", "", Refused(400)),
    (b"5\r\nhello!!\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\r\nhell\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\r\nhello\r\n\r\n0\r\n\r\n", "", Refused(400)),
    (b"5\r\nhello\r\n0\n\r\n", "", Refused(400)),
    (b"5\r\nhello\r\n0\r\n\n", "", Refused(400)),
    (b"5\r\nhello\r\n0\r\n\rX", "", Refused(400)),
    (b"5;\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;a\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;a\rX\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;\rX\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;\x00a\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;a[=x\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;=x\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;a=\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5; a=b\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5 ;a=b\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;a=\"b\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n", "", Refused(400)),
    (b"0;a\n\r\n", "", Refused(400)),
    (b"0\r\n X: y\r\n\r\n", "", Refused(400)),
    (b"0\r\nX\r\n\r\n", "", Refused(400)),
    (b"0\r\n: y\r\n\r\n", "", Refused(400)),
    (b"0\r\nX : y\r\n\r\n", "", Refused(400)),
    (b"0\r\nX: y\r\n z\r\n\r\n", "", Refused(400)),
    (b"0\r\nX: y\nZ: z\r\n\r\n", "", Refused(400)),
    (b"0\r\nX: y\rZ: z\r\n\r\n", "", Refused(400)),
    (b"0\r\nX: \x00\r\n\r\n", "", Refused(400)),
    (b"0\r\nGET /a HTTP/1.1\r\n\r\n", "", Refused(400)),
];

/// Whole conversations.
const STREAMS: &[(&str, &[u8], &[&str], End)] = &[
    ("nothing", b"", &[], Waits),
    ("a letter", b"G", &[], Waits),
    ("a method", b"GET ", &[], Waits),
    ("half a target", b"GET /a", &[], Waits),
    ("a target", b"GET /a ", &[], Waits),
    ("half a version", b"GET /a HTTP", &[], Waits),
    ("a version", b"GET /a HTTP/1.1", &[], Waits),
    ("half a line end", b"GET /a HTTP/1.1\r", &[], Waits),
    ("a line", b"GET /a HTTP/1.1\r\n", &[], Waits),
    ("half a name", b"GET /a HTTP/1.1\r\nHos", &[], Waits),
    ("a name", b"GET /a HTTP/1.1\r\nHost:", &[], Waits),
    ("a blank value", b"GET /a HTTP/1.1\r\nHost: ", &[], Waits),
    ("half a field's end", b"GET /a HTTP/1.1\r\nHost: a\r", &[], Waits),
    ("a field", b"GET /a HTTP/1.1\r\nHost: a\r\n", &[], Waits),
    ("half a blank line", b"GET /a HTTP/1.1\r\nHost: a\r\n\r", &[], Waits),
    ("half a blank line in front", b"\r", &[], Waits),
    ("a blank line in front", b"\r\n", &[], Waits),
    (
        "a request after a blank line",
        b"\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /a "],
        Open,
    ),
    (
        "a blank line after a body, as old browsers sent it",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        &["POST /a hi", "GET /b "],
        Open,
    ),
    ("two blank lines", b"\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", &[], Refused(400)),
    ("a line feed in front", b"\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", &[], Refused(400)),
    ("a blank line and a feed", b"\r\n\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n", &[], Refused(400)),
    ("a carriage return in front", b"\rGET /a HTTP/1.1\r\nHost: a\r\n\r\n", &[], Refused(400)),
    ("white space alone", b"   \r\n\r\n", &[], Refused(400)),
    ("line feeds only", b"GET / HTTP/1.1\nHost: a\n\n", &[], Refused(400)),
    ("line feed for a blank line", b"GET / HTTP/1.1\r\nHost: a\r\n\n", &[], Refused(400)),
    ("no version and no fields", b"GET /\r\n", &[], Refused(400)),
    ("a space, no version and no fields", b"GET / \r\n\r\n", &[], Refused(400)),
    (
        "a preface of HTTP/2",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        &[],
        Refused(505),
    ),
    (
        "a proxy's greeting",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    ("noise", b"\x8f\x02\xff\x00\x13\x7e\x80\r\n\xaa\r\n\r\n", &[], Refused(400)),
    (
        "three at once",
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /c HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /a ", "POST /b hi", "GET /c "],
        Open,
    ),
    (
        "a good one, then a bad one",
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b\r\n\r\n",
        &["GET /a "],
        Refused(400),
    ),
    (
        "nothing counts after a close",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /a "],
        Closes,
    ),
    (
        "nothing counts after HTTP/1.0",
        b"GET /a HTTP/1.0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /a "],
        Closes,
    ),
    (
        "HTTP/1.0 that goes on",
        b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
        &["GET /a ", "GET /b "],
        Closes,
    ),
    (
        "HTTP/1.0 expects nothing",
        b"POST /a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        &["POST /a hello"],
        Closes,
    ),
    (
        "an expected go-ahead",
        b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        &["POST /a hello"],
        Open,
    ),
    (
        "chunks in HTTP/1.0",
        b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "chunks and length in HTTP/1.0",
        b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        &[],
        Refused(400),
    ),
    (
        "a GET with a body",
        b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &["GET /a GET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"],
        Open,
    ),
    (
        "a GET with chunks",
        b"GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        &["GET /a hi"],
        Open,
    ),
    (
        "a HEAD with a body",
        b"HEAD /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        &["HEAD /a hello"],
        Open,
    ),
    (
        "a request in a chunk",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n23\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        &["POST /a GET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"],
        Open,
    ),
    (
        "a body without a length",
        b"POST /a HTTP/1.1\r\nHost: a\r\n\r\nhello\r\n\r\n",
        &["POST /a "],
        Refused(400),
    ),
    (
        "more body than its length",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi there\r\n\r\n",
        &["POST /a hi"],
        Refused(400),
    ),
    (
        "CL.TE",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "CL.TE with a length that is none",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 40x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "TE.CL",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n23\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "TE.TE",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "CL.CL",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 39\r\n\r\nPINGGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "CL.0",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nX",
        &["POST /a "],
        Waits,
    ),
    (
        "a request in a chunk's extension",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "a chunk that ends in a line feed",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;\nxx\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "a request in the trailer fields",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    (
        "a connection that would drop fields",
        b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 35\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        &["POST /a GET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"],
        Open,
    ),
    (
        "a target and another host",
        b"GET http://internal/ HTTP/1.1\r\nHost: a\r\n\r\n",
        &[],
        Refused(400),
    ),
    ("an absolute target in HTTP/1.0", b"GET http://a/b HTTP/1.0\r\n\r\n", &["GET /b "], Closes),
    (
        "a trace with a body",
        b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        &[],
        Refused(405),
    ),
];

/// What is too long or too many with [the default limits](eserver_wire::http::HeadLimits).
fn long_ones() -> Vec<(&'static str, Vec<u8>, End)> {
    let get = |target: &str, fields: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
    };
    let chunked = |body: String| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
            .into_bytes()
    };
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    let long = |bytes: usize| "a".repeat(bytes);
    let extension = format!("1;{}\r\nx\r\n", long(200));
    vec![
        (
            "a long method",
            format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", long(33)).into(),
            Refused(400),
        ),
        ("a very long method", format!("{} / HTTP/1.1\r\n\r\n", long(20_000)).into(), Refused(400)),
        ("a long target", get(&format!("/{}", long(8 << 10)), ""), Refused(414)),
        ("a very long target", get(&format!("/{}", long(20_000)), ""), Refused(414)),
        ("a long target that has no end", format!("GET /{}", long(20_000)).into(), Refused(414)),
        ("a long query", get(&format!("/?{}", long(8 << 10)), ""), Refused(414)),
        ("a long name", get("/", &format!("{}: y\r\n", long(17_000))), Refused(431)),
        ("a long value", get("/", &format!("X: {}\r\n", long(17_000))), Refused(431)),
        (
            "a long value that has no end",
            format!("GET / HTTP/1.1\r\nX: {}", long(17_000)).into(),
            Refused(431),
        ),
        (
            "a long row of white space",
            get("/", &format!("X:{}y\r\n", " ".repeat(17_000))),
            Refused(431),
        ),
        ("many fields", get("/", &many(100)), Refused(431)),
        ("very many fields", get("/", &many(1_000)), Refused(431)),
        ("a long extension", chunked(format!("5;{}\r\nhello\r\n", long(300))), Refused(400)),
        (
            "a very long extension",
            chunked(format!("5;a={}\r\nhello\r\n", long(65_536))),
            Refused(400),
        ),
        ("many extensions", chunked(extension.repeat(30)), Refused(400)),
        (
            "many extensions of one chunk",
            chunked(format!("5{}\r\nhello\r\n", ";a=b".repeat(100))),
            Refused(400),
        ),
        ("a long trailer field", chunked(format!("0\r\nX: {}\r\n\r\n", long(9_000))), Refused(431)),
        ("many trailer fields", chunked(format!("0\r\n{}\r\n", many(1_500))), Refused(431)),
        ("many zeros of a chunk's size", chunked("0".repeat(5_000) + "\r\n\r\n"), Refused(400)),
    ]
}
