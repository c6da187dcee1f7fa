//! How what is to be told looks on the wire: the body of an answer, without head and framing.
//!
//! **icomet's transports** get objects of four keys, in this order, always valid JSON:
//! `{"type":T,"cname":C,"seq":N,"content":S}`. Messages are of the type `data` or `broadcast`, each
//! broadcast followed by a `next_seq`; the other types are `next_seq`, `noop`, `close`, `401` and
//! `429`.
//!
//! | transport | what is told | body |
//! | --- | --- | --- |
//! | `IcometPoll` | messages of before | `[object,object,…]` |
//! | | a live broadcast | `[broadcast,next_seq]` |
//! | | anything else | `object` |
//! | `IcometStream` | | `object` and a line feed, for each |
//! | `IcometSse` | | `data: object` and an empty line, for each |
//! | `IcometIframe` | | `<script>parent.icomet_cb(object);</script>` and a line feed, for each |
//!
//! The body of a poll goes through [`enclose`], which ends the line or puts it into a call.
//!
//! **The modern transports** get objects that begin with `"type"`, and with `"channel"` where they
//! are about one. `"offset"` is the message's number in its channel's life.
//!
//! | type | further keys | when |
//! | --- | --- | --- |
//! | `message` | `offset`, `event` if it has one, `data`: any JSON value | |
//! | `broadcast` | `offset`, `data` | to all channels |
//! | `subscribed` | `offset` of the last message before | streams: what follows comes after it |
//! | `skipped` | `count` | the subscriber read too slowly, and missed so many for good |
//! | `reset` | `reason`, `offset` | what was missed cannot be had; it goes on after this offset |
//! | `join`, `leave` | `subject` | presence |
//! | `closed` | `offset` of the last message | the channel was closed |
//! | `error` | `code`: `token`, `channels_full`, `subscribers_full`, `token_expired` or `too_slow` | |
//! | `ping` | | a sign of life |
//! | `goodbye` | `retry_ms` | the server ends |
//!
//! | transport | body |
//! | --- | --- |
//! | `Poll` | `{"cursor":C,"messages":[object,…]}`; no cursor if the subscription was refused |
//! | `Stream` | the object with a last key `cursor`, and a line feed |
//! | `Sse` | `event: TYPE` unless it is `message`, `id: C` if it moves on, `data: object`; an empty comment for `ping`, and `retry:` for `goodbye` |
//! | `Socket` | the text of one WebSocket message: the object with a last key `cursor` |
//!
//! A cursor is a [position](crate::Position) where there is one channel, and opaque where there are
//! several, or could be, as on a socket ([`Cursor`]).

use std::fmt::Write;

use crate::cursor::Cursor;
use crate::letter::Refusal;
use crate::message::{Kind, Message, write_quoted};
use crate::outgoing::{CursorText, Outgoing, What};
use crate::position::{Epoch, Position, Seq};
use crate::transport::Transport;

/// What the body of icomet's `/iframe` begins with: 461 bytes, as there, since browsers of its time
/// showed nothing before they had some.
pub const IFRAME_PREAMBLE: &str = concat!(
    "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>icomet</title></head><body>\n",
    "<!-- .................................................................................... -->\n",
    "<!-- .................................................................................... -->\n",
    "<!-- .................................................................................... -->\n",
    "<!-- .................................................................................... -->\n",
);

const _: () = assert!(IFRAME_PREAMBLE.len() == 461);

/// The type that each transport's answer has; `nosniff` may stand beside every one of them.
#[must_use]
pub const fn media_type(transport: Transport, has_callback: bool) -> &'static str {
    match transport {
        // Scripts and pages are what browsers run; icomet calls them JSON.
        Transport::IcometPoll if has_callback => "text/javascript; charset=utf-8",
        Transport::IcometIframe => "text/html; charset=utf-8",
        Transport::IcometSse | Transport::Sse => "text/event-stream; charset=utf-8",
        Transport::Stream => "application/x-ndjson",
        Transport::IcometPoll | Transport::IcometStream => "application/json; charset=utf-8",
        Transport::Poll | Transport::Socket => "application/json",
    }
}

/// Appends what `outgoing` is on the wire.
pub fn write<H>(outgoing: &Outgoing<'_, H>, out: &mut String) {
    if outgoing.transport.is_icomet() {
        write_icomet(outgoing.transport, outgoing.channel, outgoing.what, out);
    } else {
        write_modern(outgoing.transport, outgoing.channel, outgoing.what, outgoing.cursor, out);
    }
}

/// What was rendered last, for each transport: a message for ten thousand is rendered once.
#[derive(Debug, Default)]
pub struct Rendered {
    of: Option<(Epoch, Seq)>,
    is_there: [bool; Transport::COUNT],
    texts: [String; Transport::COUNT],
}

impl Rendered {
    /// What `outgoing` is on the wire.
    pub fn of<H>(&mut self, outgoing: &Outgoing<'_, H>) -> &str {
        let index = outgoing.transport as usize;
        let of = match (outgoing.what, outgoing.cursor) {
            (What::Message { seq, .. }, CursorText::At(position)) => Some((position.epoch, seq)),
            _ => None,
        };
        if of.is_none() || of != self.of {
            (self.of, self.is_there) = (of, [false; Transport::COUNT]);
        }
        if !self.is_there[index] {
            self.is_there[index] = of.is_some();
            self.texts[index].clear();
            write(outgoing, &mut self.texts[index]);
        }
        &self.texts[index]
    }
}

/// A name that JSONP may call: dots, and what JavaScript has in names, of ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callback<'a>(&'a str);

impl<'a> Callback<'a> {
    /// How long a name may be, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The name that `text` is, if it may be called. Anything else could be a script.
    #[must_use]
    pub fn new(text: &'a str) -> Option<Self> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_$.[]".contains(&byte);
        let is_name = !text.is_empty()
            && text.len() <= Self::BYTES_MAX
            && !text.as_bytes()[0].is_ascii_digit()
            && text.bytes().all(is_part);
        is_name.then_some(Callback(text))
    }

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// Appends a JSON body as icomet ends one: `F(body);` if it is to be called, and a line feed.
pub fn enclose(callback: Option<Callback<'_>>, body: &str, out: &mut String) {
    match callback {
        Some(Callback(name)) => {
            for part in [name, "(", body, ");\n"] {
                out.push_str(part);
            }
        }
        None => {
            out.push_str(body);
            out.push('\n');
        }
    }
}

fn write_icomet(transport: Transport, channel: &str, what: What<'_>, out: &mut String) {
    let is_array = match what {
        What::Missed { .. } => true,
        What::Message { message, .. } => message.kind == Kind::Broadcast,
        _ => false,
    } && transport == Transport::IcometPoll;
    if is_array {
        out.push('[');
    }
    let start = out.len();
    let mut item = |kind: &str, seq: i32, content: &dyn Fn(&mut String)| {
        match transport {
            Transport::IcometPoll if out.len() > start => out.push(','),
            Transport::IcometSse => out.push_str("data: "),
            Transport::IcometIframe => out.push_str("<script>parent.icomet_cb("),
            _ => {}
        }
        let json = out.len();
        out.push_str("{\"type\":\"");
        out.push_str(kind);
        out.push_str("\",\"cname\":");
        write_quoted(channel, out);
        out.push_str(",\"seq\":");
        out.push_str(itoa::Buffer::new().format(seq));
        out.push_str(",\"content\":");
        content(out);
        out.push('}');
        match transport {
            Transport::IcometStream => out.push('\n'),
            Transport::IcometSse => out.push_str("\n\n"),
            Transport::IcometIframe => {
                // In a script element `<` could end it; in JSON it stands in strings only.
                if out[json..].contains('<') {
                    let escaped = out[json..].replace('<', "\\u003c");
                    out.replace_range(json.., &escaped);
                }
                out.push_str(");</script>\n");
            }
            _ => {}
        }
    };
    let text = |text: &'static str| move |out: &mut String| write_quoted(text, out);
    let mut message = |seq: Seq, message: &Message| {
        let content = |out: &mut String| message.data.write_string(out);
        match message.kind {
            Kind::Data => item("data", seq.wrapped(), &content),
            Kind::Broadcast => {
                item("broadcast", seq.wrapped(), &content);
                item("next_seq", seq.next().wrapped(), &text(""));
            }
        }
    };
    match what {
        What::Message { seq, message: one } => message(seq, one),
        What::Missed { first, messages } => {
            let mut seq = first;
            for one in messages {
                message(seq, one);
                seq = seq.next();
            }
        }
        What::Here(next) | What::Reset(_, next) => item("next_seq", next.wrapped(), &text("")),
        What::Noop(noop) => item("noop", noop, &text("")),
        What::Goodbye { noop, .. } if transport == Transport::IcometPoll => {
            item("noop", noop, &text(""));
        }
        What::Closed(next) => item("close", next.wrapped(), &text("")),
        What::Refused(refusal) => {
            let (kind, content) = refusal.icomet();
            item(kind, 0, &text(content));
        }
        What::Goodbye { .. }
        | What::Skipped(_)
        | What::Member { .. }
        | What::TokenExpired
        | What::TooSlow
        | What::Answer(_) => {}
    }
    if is_array {
        out.push(']');
    }
}

fn write_modern(
    transport: Transport,
    channel: &str,
    what: What<'_>,
    cursor: CursorText<'_>,
    out: &mut String,
) {
    if let (What::Missed { first, messages }, CursorText::At(end)) = (what, cursor)
        && transport != Transport::Poll
    {
        let mut seq = first;
        for message in messages {
            let at = Position { next: seq.next(), ..end };
            let what = What::Message { seq, message };
            write_modern(transport, channel, what, CursorText::At(at), out);
            seq = seq.next();
        }
        return;
    }
    // One by one, with a cursor each.
    let what = match (what, cursor) {
        (What::Missed { first: seq, messages: [message] }, CursorText::Several(_)) => {
            What::Message { seq, message }
        }
        _ => what,
    };
    let mut position;
    let cursor = match cursor {
        CursorText::None => None,
        // A socket may be on other channels tomorrow: its cursor says which one it is about.
        CursorText::At(at) if transport == Transport::Socket => {
            position = String::new();
            Cursor::write_several([(channel, at)], &mut position);
            Some(position.as_str())
        }
        CursorText::At(at) => {
            position = at.to_string();
            Some(position.as_str())
        }
        CursorText::Several(text) => Some(text),
    };
    match transport {
        Transport::Poll => {
            out.push('{');
            // Who was refused is nowhere.
            if let Some(cursor) = cursor.filter(|_| !matches!(what, What::Refused(_))) {
                write!(out, "\"cursor\":\"{cursor}\",").expect("a string takes all");
            }
            out.push_str("\"messages\":[");
            match what {
                What::Answer(objects) => out.push_str(objects),
                What::Missed { .. }
                | What::Message { .. }
                | What::Reset(..)
                | What::Refused(_)
                | What::Closed(_) => write_object(channel, what, None, out),
                // It came for nothing else than the cursor.
                _ => {}
            }
            out.push_str("]}");
        }
        Transport::Sse => match what {
            What::Answer(_) => {}
            What::Noop(_) => out.push_str(":\n\n"),
            What::Goodbye { retry_ms, .. } => {
                write!(out, "retry: {retry_ms}\n\n").expect("a string takes all");
            }
            _ => {
                match type_of(what) {
                    "message" => {}
                    kind => writeln!(out, "event: {kind}").expect("a string takes all"),
                }
                if let Some(cursor) = cursor.filter(|_| moves_on(what)) {
                    writeln!(out, "id: {cursor}").expect("a string takes all");
                }
                out.push_str("data: ");
                write_object(channel, what, None, out);
                out.push_str("\n\n");
            }
        },
        _ if matches!(what, What::Answer(_)) => {}
        _ => {
            write_object(channel, what, cursor.filter(|_| moves_on(what)), out);
            if transport == Transport::Stream {
                out.push('\n');
            }
        }
    }
}

/// Whether a subscriber is somewhere else when it has been told this.
fn moves_on(what: What<'_>) -> bool {
    matches!(
        what,
        What::Message { .. }
            | What::Missed { .. }
            | What::Here(_)
            | What::Skipped(_)
            | What::Reset(..)
    )
}

fn type_of(what: What<'_>) -> &'static str {
    match what {
        What::Message { message: Message { kind: Kind::Broadcast, .. }, .. } => "broadcast",
        What::Message { .. } | What::Missed { .. } | What::Answer(_) => "message",
        What::Here(_) => "subscribed",
        What::Skipped(_) => "skipped",
        What::Reset(..) => "reset",
        What::Refused(Refusal::Closed) | What::Closed(_) => "closed",
        What::Refused(_) | What::TokenExpired | What::TooSlow => "error",
        What::Member { joined: true, .. } => "join",
        What::Member { joined: false, .. } => "leave",
        What::Noop(_) => "ping",
        What::Goodbye { .. } => "goodbye",
    }
}

/// Appends the object of the modern transports, or several with commas between them.
pub(crate) fn write_object(channel: &str, what: What<'_>, cursor: Option<&str>, out: &mut String) {
    if let What::Missed { first, messages } = what {
        let mut seq = first;
        for message in messages {
            if seq != first {
                out.push(',');
            }
            write_object(channel, What::Message { seq, message }, cursor, out);
            seq = seq.next();
        }
        return;
    }
    out.push_str("{\"type\":\"");
    out.push_str(type_of(what));
    out.push('"');
    let is_about_all =
        matches!(what, What::Noop(_) | What::TokenExpired | What::TooSlow | What::Goodbye { .. });
    if !is_about_all {
        out.push_str(",\"channel\":");
        write_quoted(channel, out);
    }
    let mut number = |key: &str, number: u64| {
        out.push_str(",\"");
        out.push_str(key);
        out.push_str("\":");
        out.push_str(itoa::Buffer::new().format(number));
    };
    match what {
        What::Message { seq, message } => {
            number("offset", seq.get());
            if let Some(event) = &message.event {
                out.push_str(",\"event\":");
                write_quoted(event, out);
            }
            out.push_str(",\"data\":");
            out.push_str(message.data.as_json());
        }
        What::Here(next) | What::Closed(next) => number("offset", next.get() - 1),
        What::Skipped(count) => number("count", count),
        What::Reset(reason, next) => {
            number("offset", next.get() - 1);
            write!(out, ",\"reason\":\"{}\"", reason.as_str()).expect("a string takes all");
        }
        What::Refused(refusal) => match refusal {
            Refusal::Token => out.push_str(",\"code\":\"token\""),
            Refusal::Channels => out.push_str(",\"code\":\"channels_full\""),
            Refusal::Subscribers => out.push_str(",\"code\":\"subscribers_full\""),
            Refusal::Closed => {}
        },
        What::TokenExpired => out.push_str(",\"code\":\"token_expired\""),
        What::TooSlow => out.push_str(",\"code\":\"too_slow\""),
        What::Member { subject, .. } => {
            out.push_str(",\"subject\":");
            write_quoted(subject, out);
        }
        What::Goodbye { retry_ms, .. } => number("retry_ms", retry_ms),
        What::Noop(_) | What::Answer(_) | What::Missed { .. } => {}
    }
    if let Some(cursor) = cursor {
        write!(out, ",\"cursor\":\"{cursor}\"").expect("a string takes all");
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::ResetReason;
    use crate::message::Data;
    use crate::millis::Millis;
    use crate::outgoing::SubscriberId;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::sync::Arc;

    const TRANSPORTS: [Transport; Transport::COUNT] = [
        Transport::IcometPoll,
        Transport::IcometStream,
        Transport::IcometSse,
        Transport::IcometIframe,
        Transport::Poll,
        Transport::Stream,
        Transport::Sse,
        Transport::Socket,
    ];

    fn position(next: u64) -> Position {
        Position { epoch: Epoch::new(0xabc), next: Seq::new(next) }
    }

    fn outgoing<'a>(
        transport: Transport,
        channel: &'a str,
        what: What<'a>,
        cursor: CursorText<'a>,
    ) -> Outgoing<'a, ()> {
        let id = SubscriberId::new(0);
        Outgoing { id, handle: (), transport, channel, cursor, what, ends: false }
    }

    fn text(transport: Transport, what: What<'_>) -> String {
        let mut out = String::new();
        write(&outgoing(transport, "c", what, CursorText::At(position(8))), &mut out);
        out
    }

    #[test]
    fn the_modern_formats() {
        let data = Data::json("{\"a\":1}").unwrap();
        let event = Some("e".into());
        let one = Arc::new(Message { kind: Kind::Data, event, data, at: Millis::new(0) });
        let data = Data::text("x");
        let all =
            Arc::new(Message { kind: Kind::Broadcast, event: None, data, at: Millis::new(0) });
        let message = What::Message { seq: Seq::new(7), message: &one };
        let messages = [Arc::clone(&one), all];
        let missed = What::Missed { first: Seq::new(6), messages: &messages };
        let (six, seven, broadcast) = (
            r#"{"type":"message","channel":"c","offset":6,"event":"e","data":{"a":1}}"#,
            r#"{"type":"message","channel":"c","offset":7,"event":"e","data":{"a":1}}"#,
            r#"{"type":"broadcast","channel":"c","offset":7,"data":"x"}"#,
        );
        let with_cursor = |object: &str, offset| {
            format!("{},\"cursor\":\"abc:{offset}\"}}", object.strip_suffix('}').unwrap())
        };
        // What the text of this cursor is, its own tests say.
        let mut several = String::new();
        Cursor::write_several([("c", position(8))], &mut several);
        let on_socket = |object: &str| {
            format!("{},\"cursor\":\"{several}\"}}", object.strip_suffix('}').unwrap())
        };
        for (transport, what, expected) in [
            (Transport::Sse, message, format!("id: abc:7\ndata: {seven}\n\n")),
            (
                Transport::Sse,
                missed,
                format!("id: abc:6\ndata: {six}\n\nevent: broadcast\nid: abc:7\ndata: {broadcast}\n\n"),
            ),
            (Transport::Sse, What::Noop(1), ":\n\n".into()),
            (
                Transport::Sse,
                What::Here(Seq::new(8)),
                "event: subscribed\nid: abc:7\ndata: {\"type\":\"subscribed\",\"channel\":\"c\",\"offset\":7}\n\n".into(),
            ),
            (
                Transport::Sse,
                What::Member { subject: "ann", joined: true },
                "event: join\ndata: {\"type\":\"join\",\"channel\":\"c\",\"subject\":\"ann\"}\n\n".into(),
            ),
            (Transport::Sse, What::Goodbye { retry_ms: 5, noop: 0 }, "retry: 5\n\n".into()),
            (Transport::Stream, message, with_cursor(seven, 7) + "\n"),
            (
                Transport::Stream,
                missed,
                format!("{}\n{}\n", with_cursor(six, 6), with_cursor(broadcast, 7)),
            ),
            (Transport::Stream, What::Noop(1), "{\"type\":\"ping\"}\n".into()),
            (Transport::Socket, message, on_socket(seven)),
            (
                Transport::Socket,
                What::Closed(Seq::new(8)),
                r#"{"type":"closed","channel":"c","offset":7}"#.into(),
            ),
            (
                Transport::Socket,
                What::Skipped(3),
                on_socket(r#"{"type":"skipped","channel":"c","count":3}"#),
            ),
            (Transport::Poll, message, format!(r#"{{"cursor":"abc:7","messages":[{seven}]}}"#)),
            (
                Transport::Poll,
                missed,
                format!(r#"{{"cursor":"abc:7","messages":[{six},{broadcast}]}}"#),
            ),
            (Transport::Poll, What::Noop(0), r#"{"cursor":"abc:7","messages":[]}"#.into()),
            (
                Transport::Poll,
                What::Reset(ResetReason::Expired, Seq::new(8)),
                r#"{"cursor":"abc:7","messages":[{"type":"reset","channel":"c","offset":7,"reason":"expired"}]}"#.into(),
            ),
            (
                Transport::Poll,
                What::Refused(Refusal::Token),
                r#"{"messages":[{"type":"error","channel":"c","code":"token"}]}"#.into(),
            ),
        ] {
            assert_eq!(text(transport, what), expected, "{transport:?} {what:?}");
        }
    }

    #[test]
    fn a_message_is_rendered_once_for_each_transport() {
        let message = |text: &str| Message {
            kind: Kind::Data,
            event: None,
            data: Data::text(text),
            at: Millis::new(0),
        };
        let (one, other) = (message("one"), message("other"));
        let mut rendered = Rendered::default();
        for transport in TRANSPORTS {
            let what = What::Message { seq: Seq::new(1), message: &one };
            let told = outgoing(transport, "c", what, CursorText::At(position(2)));
            assert!(rendered.of(&told).contains("one"));
            // The same number again is the same message: nobody looks at it.
            let what = What::Message { seq: Seq::new(1), message: &other };
            let told = outgoing(transport, "c", what, CursorText::At(position(2)));
            assert!(rendered.of(&told).contains("one"), "{transport:?}");
        }
        for (cursor, seq) in [(CursorText::At(position(3)), 2), (CursorText::Several("x"), 1)] {
            let what = What::Message { seq: Seq::new(seq), message: &other };
            assert!(rendered.of(&outgoing(Transport::Sse, "c", what, cursor)).contains("other"));
        }
        let noop = outgoing(Transport::Sse, "c", What::Noop(1), CursorText::None);
        assert_eq!(rendered.of(&noop), ":\n\n");
    }

    proptest! {
        #[test]
        fn whatever_is_told_is_json_and_breaks_no_frame(
            channel in "\\PC{0,9}|[\"\n\r\u{0}-\u{20}<>\u{2028}]{0,9}",
            content in "\\PC{0,20}|[\"\n\r\u{0}-\u{20}<>\u{2028}\\\\]{0,20}",
            event in proptest::option::of("\\PC{0,5}|[\n\r\"]{0,5}"),
            is_json: bool,
            is_broadcast: bool,
        ) {
            let data = Data::text(&content);
            let data = if is_json { Data::json(&format!("[\n{}]", data.as_json()))? } else { data };
            let kind = if is_broadcast { Kind::Broadcast } else { Kind::Data };
            let event = event.map(Into::into);
            let message = Arc::new(Message { kind, event, data, at: Millis::new(0) });
            let messages = [Arc::clone(&message), Arc::clone(&message)];
            let seq = Seq::new(3);
            for what in [
                What::Message { seq, message: &message },
                What::Missed { first: seq, messages: &messages },
                What::Here(seq),
                What::Skipped(1),
                What::Reset(ResetReason::EpochChanged, seq),
                What::Refused(Refusal::Subscribers),
                What::Closed(seq),
                What::Member { subject: &content, joined: false },
                What::Noop(3),
                What::TokenExpired,
                What::TooSlow,
                What::Goodbye { retry_ms: 1, noop: 3 },
            ] {
                for transport in TRANSPORTS {
                    // A socket has one message a frame, and gets each by itself.
                    if transport == Transport::Socket && matches!(what, What::Missed { .. }) {
                        continue;
                    }
                    let mut out = String::new();
                    let told = outgoing(transport, &channel, what, CursorText::At(position(5)));
                    write(&told, &mut out);
                    for json in jsons(transport, &out) {
                        let value: Value = serde_json::from_str(json)
                            .map_err(|error| TestCaseError::fail(format!("{error}: {json:?}")))?;
                        let objects = match &value {
                            Value::Array(objects) => objects.as_slice(),
                            object => std::slice::from_ref(object),
                        };
                        for object in objects {
                            let name = object.get("cname").or(object.get("channel"));
                            prop_assert!(name.is_none_or(|name| *name == *channel));
                        }
                    }
                }
            }
        }
    }

    /// The JSON in what is sent, once its frames have been taken off as a client does.
    fn jsons(transport: Transport, out: &str) -> Vec<&str> {
        match transport {
            Transport::IcometPoll | Transport::Poll | Transport::Socket if out.is_empty() => vec![],
            Transport::IcometPoll | Transport::Poll | Transport::Socket => vec![out],
            Transport::IcometStream | Transport::Stream => {
                assert!(out.is_empty() || out.ends_with('\n'));
                out.split_terminator('\n').collect()
            }
            Transport::IcometSse | Transport::Sse => {
                assert!(!out.contains('\r') && (out.is_empty() || out.ends_with("\n\n")));
                let lines = out.split('\n').filter(|line| !line.is_empty());
                let fields = ["id: abc:", "event: ", "retry: 1", ":"];
                let is_field = |line: &str| fields.iter().any(|field| line.starts_with(field));
                lines
                    .filter(|line| !is_field(line))
                    .map(|line| line.strip_prefix("data: ").expect("a field"))
                    .collect()
            }
            Transport::IcometIframe => out
                .split_terminator('\n')
                .map(|line| {
                    let call = line.strip_prefix("<script>parent.icomet_cb(").expect("a script");
                    let json = call.strip_suffix(");</script>").expect("that ends");
                    assert!(!json.contains('<'));
                    json
                })
                .collect(),
        }
    }
}
