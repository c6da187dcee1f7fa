//! [`Profile`]: what a server speaks: how to subscribe, what its answers hold, how to publish.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::SocketAddr;

use serde::Deserialize;

/// What stands for a channel's name in the paths of [`Profile::Nchan`].
const PLACE: &str = "{channel}";

/// What a server speaks to subscribers. Publishing goes by icomet's `/push` and `/broadcast`, except
/// to nchan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Profile {
    /// Long polls of icomet's API, `/sub?cname=NAME&seq=N`, of eserver.
    #[default]
    Eserver,
    /// The same of the original, whose admin port is slow with more than one request at a time.
    Icomet,
    /// Streams of icomet's API, `/sse?cname=NAME&seq=N`.
    IcometSse,
    /// Server-sent events of eserver's own API, `/v1/events?channel=NAME`.
    Sse,
    /// WebSockets of eserver's own API, `/v1/socket?channel=NAME`.
    WebSocket,
    /// Long polls of nchan, which go by Last-Modified and Etag. It has no broadcast.
    Nchan {
        /// Where to subscribe, such as `/sub/{channel}`.
        subscribe: String,
        /// Where to publish, such as `/pub/{channel}`.
        publish: String,
    },
    /// Server-sent events of nchan. It has no broadcast.
    NchanSse {
        /// Where to subscribe, such as `/sub/{channel}`; what is accepted says that events are meant.
        subscribe: String,
        /// Where to publish, such as `/pub/{channel}`.
        publish: String,
    },
    /// Connections that nothing is said on: what the kernel and the server's record cost.
    Tcp,
}

/// How messages stand in what the server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// An answer's whole body, and then another request.
    Polls,
    /// Events in an answer without end.
    Events,
    /// WebSocket frames after an upgrade.
    Frames,
    /// Nothing comes.
    Silence,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// A message; `next` is what to ask for after it, if the protocol counts in the message.
    Message { content: Cow<'a, str>, next: Option<u64> },
    /// What to ask for next.
    Next(u64),
    /// Nothing has happened for a while.
    Noop,
    /// Something that a subscriber need not act on.
    Other,
    /// The subscription was refused or ended.
    Refused,
}

/// An object of icomet's API.
#[derive(Deserialize)]
struct IcometObject<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    seq: i64,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

/// An object of eserver's own API.
#[derive(Deserialize)]
struct ModernObject<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<Cow<'a, str>>,
}

impl Profile {
    /// The profile of nchan with the paths of its manual.
    #[must_use]
    pub fn nchan() -> Self {
        Profile::Nchan { subscribe: format!("/sub/{PLACE}"), publish: format!("/pub/{PLACE}") }
    }

    /// The same with server-sent events.
    #[must_use]
    pub fn nchan_sse() -> Self {
        Profile::NchanSse { subscribe: format!("/sub/{PLACE}"), publish: format!("/pub/{PLACE}") }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Profile::Eserver => "eserver",
            Profile::Icomet => "icomet",
            Profile::IcometSse => "icomet-sse",
            Profile::Sse => "sse",
            Profile::WebSocket => "websocket",
            Profile::Nchan { .. } => "nchan",
            Profile::NchanSse { .. } => "nchan-sse",
            Profile::Tcp => "tcp",
        }
    }

    /// Whether one request can publish to all channels.
    pub(crate) fn has_broadcast(&self) -> bool {
        !matches!(self, Profile::Nchan { .. } | Profile::NchanSse { .. } | Profile::Tcp)
    }

    pub(crate) fn framing(&self) -> Framing {
        match self {
            Profile::Eserver | Profile::Icomet | Profile::Nchan { .. } => Framing::Polls,
            Profile::IcometSse | Profile::Sse | Profile::NchanSse { .. } => Framing::Events,
            Profile::WebSocket => Framing::Frames,
            Profile::Tcp => Framing::Silence,
        }
    }

    /// Whether the answer to the first poll comes at once and only says what to ask for; one waits
    /// from the second on.
    pub(crate) fn first_poll_returns(&self) -> bool {
        matches!(self, Profile::Eserver | Profile::Icomet)
    }

    /// Appends the request by which a connection subscribes to `channel` from `cursor` on.
    pub(crate) fn subscribe(
        &self,
        channel: &str,
        cursor: u64,
        front: SocketAddr,
        out: &mut String,
    ) {
        let written = match self {
            Profile::Eserver | Profile::Icomet => {
                write!(out, "GET /sub?cname={channel}&seq={cursor} HTTP/1.1\r\n")
            }
            Profile::IcometSse => {
                write!(out, "GET /sse?cname={channel}&seq={cursor} HTTP/1.1\r\n")
            }
            Profile::Sse => write!(out, "GET /v1/events?channel={channel} HTTP/1.1\r\n"),
            // The key of RFC 6455's example; a server that answers 101 has seen one.
            Profile::WebSocket => write!(
                out,
                "GET /v1/socket?channel={channel} HTTP/1.1\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            ),
            Profile::Nchan { subscribe, .. } => {
                let path = subscribe.replace(PLACE, channel);
                write!(out, "GET {path} HTTP/1.1\r\n").and_then(|()| match cursor {
                    0 => Ok(()),
                    cursor => {
                        let (time, tag) = split_nchan(cursor);
                        let date = httpdate(time);
                        write!(out, "If-Modified-Since: {date}\r\nIf-None-Match: {tag}\r\n")
                    }
                })
            }
            Profile::NchanSse { subscribe, .. } => {
                let path = subscribe.replace(PLACE, channel);
                write!(out, "GET {path} HTTP/1.1\r\nAccept: text/event-stream\r\n")
            }
            Profile::Tcp => return,
        };
        written
            .and_then(|()| write!(out, "Host: {front}\r\n\r\n"))
            .expect("a string takes whatever is written");
    }

    /// Appends the request that publishes `content` to `channel`, or to all.
    pub(crate) fn publish(
        &self,
        channel: Option<&str>,
        content: &str,
        admin: SocketAddr,
        out: &mut String,
    ) {
        let written = match (self, channel) {
            (Profile::Nchan { publish, .. } | Profile::NchanSse { publish, .. }, Some(channel)) => {
                let path = publish.replace(PLACE, channel);
                let bytes = content.len();
                write!(
                    out,
                    "POST {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {bytes}\r\n\r\n{content}"
                )
            }
            (_, Some(channel)) => write!(
                out,
                "GET /push?cname={channel}&content={content} HTTP/1.1\r\nHost: {admin}\r\n\r\n"
            ),
            (_, None) => {
                write!(out, "GET /broadcast?content={content} HTTP/1.1\r\nHost: {admin}\r\n\r\n")
            }
        };
        written.expect("a string takes whatever is written");
    }

    /// Goes through the messages in `text`: the body of a poll, the data of an event, or a frame.
    ///
    /// # Errors
    /// With a sentence when it is not what this server should say.
    pub(crate) fn hear<'a>(
        &self,
        text: &'a str,
        mut each: impl FnMut(Heard<'a>),
    ) -> Result<(), String> {
        let unreadable = |error: serde_json::Error| format!("{error}: {}", shown(text));
        match self {
            Profile::Eserver | Profile::Icomet | Profile::IcometSse => {
                if text.starts_with('[') {
                    let objects: Vec<IcometObject<'a>> =
                        serde_json::from_str(text).map_err(unreadable)?;
                    objects.into_iter().for_each(|object| each(object.heard()));
                } else {
                    let object: IcometObject<'a> =
                        serde_json::from_str(text).map_err(unreadable)?;
                    each(object.heard());
                }
            }
            Profile::Sse | Profile::WebSocket => {
                let object: ModernObject<'a> = serde_json::from_str(text).map_err(unreadable)?;
                each(object.heard());
            }
            Profile::Nchan { .. } | Profile::NchanSse { .. } => {
                each(Heard::Message { content: text.into(), next: None });
            }
            Profile::Tcp => return Err(format!("nothing was asked: {}", shown(text))),
        }
        Ok(())
    }
}

impl<'a> IcometObject<'a> {
    fn heard(self) -> Heard<'a> {
        // Numbers are signed 32-bit ones that wrap around; none comes near that here.
        let seq = u64::try_from(self.seq).unwrap_or_default();
        match &*self.kind {
            "data" | "broadcast" => Heard::Message { content: self.content, next: Some(seq + 1) },
            "next_seq" => Heard::Next(seq),
            "noop" => Heard::Noop,
            _ => Heard::Refused,
        }
    }
}

impl<'a> ModernObject<'a> {
    fn heard(self) -> Heard<'a> {
        match (&*self.kind, self.data) {
            ("message" | "broadcast", Some(content)) => Heard::Message { content, next: None },
            ("ping", _) => Heard::Noop,
            ("error" | "closed" | "goodbye" | "reset" | "skipped", _) => Heard::Refused,
            _ => Heard::Other,
        }
    }
}

/// A cursor of nchan, put together: seconds since 1970 above, the number in the Etag below.
pub(crate) fn join_nchan(seconds: u64, tag: u64) -> u64 {
    seconds << 24 | tag & 0xff_ffff
}

fn split_nchan(cursor: u64) -> (u64, u64) {
    (cursor >> 24, cursor & 0xff_ffff)
}

/// The beginning of a text, for a sentence about it.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 160;
    format!("{:?}", text.chars().take(SHOWN_MAX).collect::<String>())
}

fn httpdate(seconds: u64) -> String {
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(profile: &Profile, text: &str) -> String {
        let mut all = Vec::new();
        match profile.hear(text, |heard| all.push(format!("{heard:?}"))) {
            Ok(()) => all.join(" "),
            Err(_) => "unreadable".to_owned(),
        }
    }

    #[test]
    fn objects_of_icomet_come_alone_or_in_arrays() {
        let object = |kind: &str, seq: i32| {
            format!("{{\"type\":\"{kind}\",\"cname\":\"c1\",\"seq\":{seq},\"content\":\"x\"}}")
        };
        let message = "Message { content: \"x\", next: Some(8) }";
        for profile in [Profile::Eserver, Profile::Icomet, Profile::IcometSse] {
            for (text, expected) in [
                (object("data", 7), message.to_owned()),
                (object("broadcast", 7) + "\n", message.to_owned()),
                (
                    format!("[{},{}]\n", object("broadcast", 7), object("next_seq", 8)),
                    format!("{message} Next(8)"),
                ),
                (object("noop", 3), "Noop".to_owned()),
                (object("401", 0), "Refused".to_owned()),
                ("{\"type\":\"data\"}".to_owned(), "unreadable".to_owned()),
                ("hello".to_owned(), "unreadable".to_owned()),
            ] {
                assert_eq!(heard(&profile, &text), expected, "{text}");
            }
        }
    }

    #[test]
    fn objects_of_the_modern_api_are_told_apart() {
        for (text, expected) in [
            (
                "{\"type\":\"message\",\"channel\":\"c\",\"offset\":1,\"data\":\"x\"}",
                "Message { content: \"x\", next: None }",
            ),
            ("{\"type\":\"subscribed\",\"offset\":0}", "Other"),
            ("{\"type\":\"ping\"}", "Noop"),
            ("{\"type\":\"error\",\"code\":\"channels_full\"}", "Refused"),
        ] {
            assert_eq!(heard(&Profile::Sse, text), expected, "{text}");
        }
    }

    #[test]
    fn requests_are_what_each_server_expects() {
        let front: SocketAddr = "127.0.0.1:81".parse().unwrap();
        let host = "Host: 127.0.0.1:81\r\n\r\n";
        let nchan_again = join_nchan(784_111_777, 3);
        for (profile, cursor, expected) in [
            (Profile::Eserver, 4, "GET /sub?cname=c1&seq=4 HTTP/1.1\r\n"),
            (Profile::IcometSse, 4, "GET /sse?cname=c1&seq=4 HTTP/1.1\r\n"),
            (Profile::Sse, 0, "GET /v1/events?channel=c1 HTTP/1.1\r\n"),
            (Profile::nchan(), 0, "GET /sub/c1 HTTP/1.1\r\n"),
            (Profile::nchan_sse(), 0, "GET /sub/c1 HTTP/1.1\r\nAccept: text/event-stream\r\n"),
            (
                Profile::nchan(),
                nchan_again,
                "GET /sub/c1 HTTP/1.1\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 If-None-Match: 3\r\n",
            ),
        ] {
            let mut request = String::new();
            profile.subscribe("c1", cursor, front, &mut request);
            assert_eq!(request, format!("{expected}{host}"));
        }
    }
}
