//! [`read`]: the bytes of a held connection, taken apart wherever they were cut.
//!
//! A connection that waits keeps nothing but its place in the answer, 16 bytes of its record. What
//! is unfinished when the bytes end, half a head or half a message, is [`Leftover`]; few connections
//! have any at the same time, so it stands beside the records.

use eserver_wire::http::{BodyDecoder, HeadLimits, ResponseHead};
use eserver_wire::sse;
use eserver_wire::ws::{Event, Role, Rules, Scratch, Step};

use crate::hold::connection::{Connection, Stage};
use crate::hold::profile::{Framing, Profile, join_nchan, shown};

/// The longest message that is put together from parts, in bytes. Ours are short.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// What is unfinished of a connection.
#[derive(Debug, Default)]
pub(crate) struct Leftover {
    /// Bytes as they came.
    pub(crate) raw: Vec<u8>,
    /// Of a body: the beginning of a message.
    pub(crate) text: Vec<u8>,
    /// Of a request: what the kernel did not take.
    pub(crate) unsent: Vec<u8>,
}

impl Leftover {
    /// Whether there is nothing to keep.
    pub(crate) fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.text.is_empty() && self.unsent.is_empty()
    }
}

/// What was found in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A head that says the subscription is accepted.
    Accepted,
    /// The text of a message, or of several.
    Text(&'a str),
    /// A poll is answered to its end.
    Answered,
    /// A ping of a WebSocket, to be answered with the same bytes.
    Ping(&'a [u8]),
}

/// Goes through `input`, which follows `leftover`, and tells what is in it; what is unfinished
/// becomes the new leftover.
///
/// # Errors
/// With a sentence when it is not what a server should send; the connection is of no use then.
pub(crate) fn read(
    connection: &mut Connection,
    profile: &Profile,
    input: &[u8],
    leftover: &mut Leftover,
    scratch: &mut Scratch,
    mut found: impl FnMut(&mut Connection, Found<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut raw = std::mem::take(&mut leftover.raw);
    let whole = if raw.is_empty() {
        input
    } else {
        raw.extend_from_slice(input);
        &raw
    };
    let mut at = 0;
    while at < whole.len() {
        let rest = &whole[at..];
        let used = match connection.stage {
            Stage::Head => take_head(connection, profile, rest, &mut found)?,
            Stage::Body => Some(take_body(connection, profile, rest, leftover, &mut found)?),
            Stage::Frames => take_frame(connection, rest, scratch, &mut found)?,
            Stage::Silence | Stage::Unopened | Stage::Gone => {
                let text = String::from_utf8_lossy(rest);
                return Err(format!("nothing was asked: {}", shown(&text)));
            }
        };
        match used {
            Some(used) => at += used,
            None if rest.len() > TEXT_BYTES_MAX => return Err("a message without end".to_owned()),
            None => break,
        }
    }
    leftover.raw = whole[at..].to_vec();
    Ok(())
}

fn take_head(
    connection: &mut Connection,
    profile: &Profile,
    input: &[u8],
    found: &mut impl FnMut(&mut Connection, Found<'_>) -> Result<(), String>,
) -> Result<Option<usize>, String> {
    let parsed = ResponseHead::parse(input, "GET", &HeadLimits::default());
    let head = match parsed {
        Ok(None) => return Ok(None),
        Ok(Some(head)) => head,
        Err(error) => {
            let text = String::from_utf8_lossy(input);
            return Err(format!("no head of an answer, {error}: {}", shown(&text)));
        }
    };
    let expected = if profile.framing() == Framing::Frames { 101 } else { 200 };
    match head.status {
        status if status == expected => {}
        // Another head follows that is the real one.
        100 | 102..=199 => return Ok(Some(head.encoded_bytes)),
        status => return Err(format!("the answer was {status} {}", head.reason)),
    }
    if matches!(profile, Profile::Nchan { .. }) {
        let modified = head.fields.get_str("last-modified").unwrap_or_default();
        let seconds = httpdate::parse_http_date(modified).ok().and_then(|time| {
            time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
        });
        let tag = head.fields.get_str("etag").and_then(|tag| tag.trim_matches('"').parse().ok());
        if let (Some(seconds), Some(tag)) = (seconds, tag) {
            connection.cursor = join_nchan(seconds, tag);
        }
    }
    let used = head.encoded_bytes;
    connection.body = BodyDecoder::new(head.body);
    connection.stage =
        if profile.framing() == Framing::Frames { Stage::Frames } else { Stage::Body };
    found(connection, Found::Accepted)?;
    if connection.stage == Stage::Body && connection.body.is_done() {
        end_body(connection, profile, &mut Vec::new(), found)?;
    }
    Ok(Some(used))
}

fn take_body(
    connection: &mut Connection,
    profile: &Profile,
    input: &[u8],
    leftover: &mut Leftover,
    found: &mut impl FnMut(&mut Connection, Found<'_>) -> Result<(), String>,
) -> Result<usize, String> {
    let progress = connection.body.decode(input).map_err(|error| error.to_string())?;
    let text = &mut leftover.text;
    text.extend_from_slice(&input[progress.data]);
    if text.len() > TEXT_BYTES_MAX {
        return Err("a message without end".to_owned());
    }
    if profile.framing() == Framing::Events {
        let mut at = 0;
        while let Some(event) = sse::decode(&text[at..]) {
            at += event.encoded_bytes;
            if let Some(data) = event.data {
                found(connection, Found::Text(&data))?;
            }
        }
        text.drain(..at);
    }
    if connection.body.is_done() {
        let mut text = std::mem::take(text);
        end_body(connection, profile, &mut text, found)?;
    }
    Ok(progress.used)
}

fn end_body(
    connection: &mut Connection,
    profile: &Profile,
    text: &mut Vec<u8>,
    found: &mut impl FnMut(&mut Connection, Found<'_>) -> Result<(), String>,
) -> Result<(), String> {
    if profile.framing() != Framing::Polls {
        return Err("the stream has ended".to_owned());
    }
    found(connection, Found::Text(utf8(text)?))?;
    text.clear();
    connection.stage = Stage::Head;
    found(connection, Found::Answered)
}

/// Takes the first frame of `input`, if it is all there.
fn take_frame(
    connection: &mut Connection,
    input: &[u8],
    scratch: &mut Scratch,
    found: &mut impl FnMut(&mut Connection, Found<'_>) -> Result<(), String>,
) -> Result<Option<usize>, String> {
    const RULES: Rules =
        Rules { role: Role::Client, deflate: false, message_bytes_max: TEXT_BYTES_MAX };
    let mut frames = std::mem::take(&mut connection.frames);
    let step = frames.take(input, RULES, scratch);
    connection.frames = frames;
    let (used, event) = match step.map_err(|violation| violation.to_string())? {
        Step::Need(_) => return Ok(None),
        Step::Frame(used, event) => (used, event),
    };
    match event {
        Some(Event::Text(text)) => found(connection, Found::Text(text))?,
        Some(Event::Ping(payload)) => found(connection, Found::Ping(payload))?,
        Some(Event::Binary(_)) => return Err("a message that is not text".to_owned()),
        Some(Event::Close(_)) => return Err("the server has closed the WebSocket".to_owned()),
        Some(Event::Pong(_)) | None => {}
    }
    Ok(Some(used))
}

fn utf8(text: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(text).map_err(|_| "a message is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection { stage: Stage::Head, ..Connection::new() }
    }

    /// Reads `input` in `parts` and says what was found, each part behind the one before.
    fn found(profile: &Profile, parts: &[&[u8]]) -> Result<Vec<String>, String> {
        let (mut connection, mut leftover, mut all) =
            (connection(), Leftover::default(), Vec::new());
        let mut scratch = Scratch::default();
        for part in parts {
            read(&mut connection, profile, part, &mut leftover, &mut scratch, |_, found| {
                all.push(match found {
                    Found::Text(text) => text.trim_end().to_owned(),
                    other => format!("{other:?}"),
                });
                Ok(())
            })?;
        }
        Ok(all)
    }

    /// What is found is the same whole, cut at every byte, and byte by byte.
    fn check(profile: &Profile, input: &str, expected: &[&str]) {
        let input = input.as_bytes();
        assert_eq!(found(profile, &[input]).unwrap(), expected);
        for cut in 0..=input.len() {
            let (front, back) = input.split_at(cut);
            assert_eq!(found(profile, &[front, back]).unwrap(), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(found(profile, &bytes).unwrap(), expected, "byte by byte");
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn polls_are_answered_by_length_or_in_chunks() {
        let input = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\none\n{CHUNKED}2\r\ntw\r\n2\r\no\n\r\n0\r\n\r\n"
        );
        let expected = ["Accepted", "one", "Answered", "Accepted", "two", "Answered"];
        check(&Profile::Eserver, &input, &expected);
    }

    #[test]
    fn events_come_one_by_one_and_comments_do_not() {
        let input = format!(
            "{CHUNKED}a\r\ndata: one\n\r\n1\r\n\n\r\n4\r\n: x\n\r\n1\r\n\n\r\nb\r\ndata: two\n\n\r\n"
        );
        check(&Profile::Sse, &input, &["Accepted", "one", "two"]);
        let nchan = "HTTP/1.1 200 OK\r\n\r\n: hi\n\nid: 1:0\ndata: one\n\nid: 1:1\ndata: two\n\n";
        check(&Profile::nchan_sse(), nchan, &["Accepted", "one", "two"]);
    }

    #[test]
    fn frames_follow_the_upgrade() {
        let input = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let mut bytes = input.as_bytes().to_vec();
        bytes.extend_from_slice(b"\x81\x03one\x89\x01p\x01\x01t\x80\x02wo");
        for cut in 0..=bytes.len() {
            let (front, back) = bytes.split_at(cut);
            let found = found(&Profile::WebSocket, &[front, back]).unwrap();
            assert_eq!(found, ["Accepted", "one", "Ping([112])", "two"], "cut at {cut}");
        }
    }

    #[test]
    fn nchan_says_in_the_head_what_to_ask_for_next() {
        let mut connection = connection();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nEtag: 5\r\n\
                     Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nx";
        let (mut leftover, mut scratch) = (Leftover::default(), Scratch::default());
        let profile = Profile::nchan();
        read(&mut connection, &profile, head, &mut leftover, &mut scratch, |_, _| Ok(())).unwrap();
        assert_eq!(connection.cursor, join_nchan(784_111_777, 5));
        assert!(leftover.is_empty());
    }

    #[test]
    fn what_no_server_should_send_is_an_error() {
        let ended = format!("{CHUNKED}0\r\n\r\n");
        for (profile, input) in [
            (Profile::Eserver, "SSH-2.0\r\n\r\n"),
            (Profile::Eserver, "HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n"),
            (Profile::Sse, ended.as_str()),
            (Profile::WebSocket, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ] {
            assert!(found(&profile, &[input.as_bytes()]).is_err(), "{input}");
        }
        let mut silent = Connection { stage: Stage::Silence, ..Connection::new() };
        let (mut leftover, mut scratch) = (Leftover::default(), Scratch::default());
        let told =
            read(&mut silent, &Profile::Tcp, b"x", &mut leftover, &mut scratch, |_, _| Ok(()));
        assert!(told.is_err());
    }
}
