//! [`Handshake`]: how a client asks for WebSocket (RFC 6455, 4).

use data_encoding::BASE64;
use sha1::{Digest, Sha1};
use thiserror::Error;

use crate::http::{Body, Head};

/// The name of the protocol in the field Upgrade.
pub const PROTOCOL: &str = "websocket";

/// The version that is spoken here, as it stands in Sec-WebSocket-Version.
pub const VERSION: &str = "13";

/// How long the key of a handshake is once it is decoded, in bytes.
pub const KEY_BYTES: usize = 16;

/// What Sec-WebSocket-Extensions says when messages may be compressed: each by itself, so that no
/// connection needs memory for it, and all listeners can be sent the same bytes.
pub const ANSWER_DEFLATE: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What the accept key is made with (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request that may become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The value of Sec-WebSocket-Accept, which shows that the request was understood.
    pub accept: String,
    /// Whether the client would have messages compressed in a way that can be answered with
    /// [`ANSWER_DEFLATE`].
    pub deflate: bool,
}

/// Why a request does not become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadHandshake {
    /// It asks for nothing of the kind. The answer is 426, with `Upgrade: websocket` and
    /// `Sec-WebSocket-Version: 13`.
    #[error("this is for WebSocket: send Upgrade: websocket and Connection: Upgrade")]
    NoUpgrade,
    /// The version is another. The answer is the same.
    #[error("only version 13 of WebSocket is spoken here")]
    Version,
    /// The method is not GET, whatever else is asked for: no upgrade would help. The answer is 405.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// There is not exactly one key of 16 bytes in base64. The answer is 400.
    #[error("Sec-WebSocket-Key is not one key of 16 bytes in base64")]
    Key,
    /// It has a body. The answer is 400.
    #[error("the request that opens a WebSocket has no body")]
    Body,
}

impl BadHandshake {
    /// The status to answer with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            BadHandshake::NoUpgrade | BadHandshake::Version => 426,
            BadHandshake::Method => 405,
            BadHandshake::Key | BadHandshake::Body => 400,
        }
    }
}

impl Handshake {
    /// What a request's head asks for.
    ///
    /// # Errors
    /// [`BadHandshake`]
    pub fn read(head: &Head<'_>) -> Result<Self, BadHandshake> {
        if head.method != "GET" {
            return Err(BadHandshake::Method);
        }
        let fields = &head.fields;
        let mut upgrades =
            fields.all("upgrade").flat_map(|value| value.split(|byte| *byte == b','));
        let wants = |name: &[u8]| name.trim_ascii().eq_ignore_ascii_case(PROTOCOL.as_bytes());
        if !head.upgrade || !upgrades.any(wants) {
            return Err(BadHandshake::NoUpgrade);
        }
        if !matches!(head.body, Body::None | Body::Length(0)) {
            return Err(BadHandshake::Body);
        }
        let only = |name: &str| {
            let mut values = fields.all(name);
            values.next().filter(|_| values.next().is_none())
        };
        if only("sec-websocket-version") != Some(VERSION.as_bytes()) {
            return Err(BadHandshake::Version);
        }
        let key = only("sec-websocket-key").ok_or(BadHandshake::Key)?;
        if !BASE64.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES) {
            return Err(BadHandshake::Key);
        }
        let mut offers = fields.all("sec-websocket-extensions");
        let deflate = offers.any(|value| value.split(|byte| *byte == b',').any(is_acceptable));
        Ok(Handshake { accept: accept_key(key), deflate })
    }
}

/// The value of Sec-WebSocket-Accept for a key as it was sent.
#[must_use]
pub fn accept_key(key: &[u8]) -> String {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    BASE64.encode(&hash)
}

/// Whether an extension that is offered is permessage-deflate with parameters that [`ANSWER_DEFLATE`]
/// is an answer to (RFC 7692, 7.1). A window smaller than the usual one cannot be promised.
fn is_acceptable(offer: &[u8]) -> bool {
    let mut parts = offer.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if parts.next() != Some(b"permessage-deflate") {
        return false;
    }
    let mut seen: Vec<&[u8]> = Vec::new();
    parts.all(|part| {
        let mut halves = part.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
        let (name, value) = (halves.next().unwrap_or_default(), halves.next());
        let value = value.map(|value| value.strip_prefix(b"\"").unwrap_or(value));
        let value = value.map(|value| value.strip_suffix(b"\"").unwrap_or(value));
        let is_new = !seen.contains(&name);
        seen.push(name);
        let is_window = |value: &[u8]| {
            matches!(value, b"8" | b"9" | b"10" | b"11" | b"12" | b"13" | b"14" | b"15")
        };
        is_new
            && match (name, value) {
                (b"server_no_context_takeover" | b"client_no_context_takeover", None) => true,
                (b"server_max_window_bits", Some(b"15")) => true,
                (b"client_max_window_bits", None) => true,
                (b"client_max_window_bits", Some(value)) => is_window(value),
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;

    fn read(fields: &str) -> Result<Handshake, BadHandshake> {
        read_request("GET /chat HTTP/1.1", fields)
    }

    fn read_request(line: &str, fields: &str) -> Result<Handshake, BadHandshake> {
        let request = format!("{line}\r\nHost: a\r\n{fields}\r\n");
        let head = Head::parse(request.as_bytes(), 0, &HeadLimits::default());
        Handshake::read(&head.expect("it is good").expect("it is whole"))
    }

    const GOOD: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

    #[test]
    fn the_example_of_the_rfc() {
        let handshake = read(GOOD).expect("it is one");
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!handshake.deflate);
        let firefox = GOOD
            .replace("Connection: Upgrade", "Connection: keep-alive, Upgrade")
            .replace("websocket", "WebSocket");
        assert!(read(&firefox).is_ok());
    }

    #[test]
    fn what_is_no_handshake_is_told_why() {
        use BadHandshake::{Body, Key, Method, NoUpgrade, Version};
        for (from, to, error) in [
            ("Upgrade: websocket\r\n", "", NoUpgrade),
            ("Upgrade: websocket", "Upgrade: h2c", NoUpgrade),
            ("Connection: Upgrade\r\n", "", NoUpgrade),
            ("Version: 13", "Version: 8", Version),
            ("Sec-WebSocket-Version: 13\r\n", "", Version),
            ("Version: 13\r\n", "Version: 13\r\nSec-WebSocket-Version: 13\r\n", Version),
            ("dGhlIHNhbXBsZSBub25jZQ==", "", Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", Key),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", Key),
            ("Upgrade: websocket\r\n", "Upgrade: websocket\r\nContent-Length: 3\r\n", Body),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(read(&GOOD.replace(from, to)), Err(error), "{from} {to}");
        }
        for (line, fields) in
            [("POST / HTTP/1.1", GOOD), ("POST / HTTP/1.1", ""), ("PUT / HTTP/1.0", "")]
        {
            assert_eq!(read_request(line, fields), Err(Method));
        }
        assert_eq!(read_request("GET / HTTP/1.0", GOOD), Err(NoUpgrade));
    }

    #[test]
    fn compression_is_taken_up_where_it_can_be_answered() {
        for (offer, deflate) in [
            ("permessage-deflate", true),
            ("permessage-deflate; client_max_window_bits", true),
            ("permessage-deflate; client_max_window_bits=10; server_no_context_takeover", true),
            ("permessage-deflate; server_max_window_bits=15", true),
            ("permessage-deflate; server_max_window_bits=\"15\"", true),
            ("permessage-deflate; server_max_window_bits=10", false),
            ("permessage-deflate; server_max_window_bits=10, permessage-deflate", true),
            ("x-webkit-deflate-frame, permessage-deflate", true),
            ("permessage-deflate; client_max_window_bits=16", false),
            ("permessage-deflate; client_max_window_bits=07", false),
            ("permessage-deflate; server_no_context_takeover=1", false),
            ("permessage-deflate; unknown", false),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits", false),
            ("permessage-bzip2", false),
        ] {
            let fields = format!("{GOOD}Sec-WebSocket-Extensions: {offer}\r\n");
            assert_eq!(read(&fields).expect("it is one").deflate, deflate, "{offer}");
        }
    }
}
