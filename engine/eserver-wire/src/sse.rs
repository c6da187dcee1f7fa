//! Server-sent events, `text/event-stream` as WHATWG's HTML standard has it, both roles.

use memchr::memchr2;
use thiserror::Error;

/// An event to send. What is `None` is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Event<'a> {
    /// What a client that comes back names as the last event it saw.
    pub id: Option<&'a str>,
    /// The event's type; clients call an event without one a `message`.
    pub event: Option<&'a str>,
    /// Any text; clients see each of its line ends as a line feed. Without data, clients take
    /// notice of the id only.
    pub data: Option<&'a str>,
}

/// An id or type that would become something else on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an event's id and type have one line each, and an id has no NUL")]
pub struct BadEvent;

/// Appends the event.
///
/// ```
/// use eserver_wire::sse::{Event, encode};
///
/// let mut out = Vec::new();
/// let event = Event { id: Some("7"), data: Some("two\nlines"), ..Event::default() };
/// encode(&event, &mut out)?;
/// assert_eq!(out, b"id: 7\ndata: two\ndata: lines\n\n");
/// # Ok::<(), eserver_wire::sse::BadEvent>(())
/// ```
///
/// # Errors
/// [`BadEvent`] when the id or the type has a line end, or the id a NUL; `out` is then as it was.
pub fn encode(event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), BadEvent> {
    let has_line_end = |text: &str| memchr2(b'\r', b'\n', text.as_bytes()).is_some();
    if event.id.is_some_and(|id| has_line_end(id) || id.contains('\0'))
        || event.event.is_some_and(has_line_end)
    {
        return Err(BadEvent);
    }
    for (name, value) in [("id", event.id), ("event", event.event)] {
        if let Some(value) = value {
            write_line(name, value.as_bytes(), out);
        }
    }
    if let Some(data) = event.data {
        write_lines("data", data, out);
    }
    out.push(b'\n');
    Ok(())
}

/// Appends a comment, which clients do not show: it keeps the connection from looking dead.
pub fn encode_comment(text: &str, out: &mut Vec<u8>) {
    write_lines("", text, out);
    out.push(b'\n');
}

/// Appends how long a client shall wait before it comes back after the connection ended.
pub fn encode_retry(milliseconds: u64, out: &mut Vec<u8>) {
    write_line("retry", itoa::Buffer::new().format(milliseconds).as_bytes(), out);
    out.push(b'\n');
}

fn write_lines(name: &str, text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some((line, after)) = split_line(rest) {
        write_line(name, line, out);
        rest = after;
    }
    write_line(name, rest, out);
}

fn write_line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// What a client reads up to a blank line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// A new last event id, which stays until another one comes.
    pub id: Option<String>,
    /// The event's type, `message` if it is `None`.
    pub event: Option<String>,
    /// The event's data; without any there was no event.
    pub data: Option<String>,
    /// The new time to wait before coming back, in milliseconds.
    pub retry: Option<u64>,
    /// Bytes this block took from the front of the input.
    pub encoded_bytes: usize,
}

/// The first block of `input`, or `None` while it is not all there.
///
/// Comments and fields that nobody knows are left out. A line feed that follows belongs to the next
/// block and changes nothing there, so a carriage return need not wait to see whether one comes. A
/// byte order mark in front of the stream is the caller's to skip; only it knows where the front is.
#[must_use]
pub fn decode(input: &[u8]) -> Option<Block> {
    let mut block = Block::default();
    let mut is_empty = true;
    let mut rest = input;
    loop {
        let (line, after) = split_line(rest)?;
        rest = after;
        if line.is_empty() {
            if is_empty {
                continue;
            }
            block.encoded_bytes = input.len() - rest.len();
            return Some(block);
        }
        is_empty = false;
        block.take_line(line);
    }
}

impl Block {
    fn take_line(&mut self, line: &[u8]) {
        let colon = memchr::memchr(b':', line);
        let (name, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let text = || String::from_utf8_lossy(value);
        match name {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&text());
                }
                None => self.data = Some(text().into_owned()),
            },
            // An empty type is no type.
            b"event" => self.event = Some(text().into_owned()).filter(|event| !event.is_empty()),
            b"id" if !value.contains(&0) => self.id = Some(text().into_owned()),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                self.retry = text().parse().ok().or(self.retry);
            }
            _ => {}
        }
    }
}

/// The first line without its end, be that CR, LF or both, and what follows.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr2(b'\r', b'\n', text)?;
    let end_bytes = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
    Some((&text[..end], &text[end + end_bytes..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut kept = Vec::new();
        for piece in pieces {
            kept.extend_from_slice(piece);
            while let Some(block) = decode(&kept) {
                kept.drain(..block.encoded_bytes);
                // How many line ends a block took depends on the cut, and nothing else does.
                blocks.push(Block { encoded_bytes: 0, ..block });
            }
        }
        blocks
    }

    /// One input, three ways: whole, byte by byte, and cut in two at every index.
    fn check(input: &[u8], expected: &[Block]) {
        assert_eq!(decode_in_pieces([input]), expected, "whole");
        assert_eq!(decode_in_pieces(input.chunks(1)), expected, "byte by byte");
        for cut in 0..=input.len() {
            let (head, tail) = input.split_at(cut);
            assert_eq!(decode_in_pieces([head, tail]), expected, "cut at {cut}");
        }
    }

    fn data(data: &str) -> Block {
        Block { data: Some(data.to_owned()), ..Block::default() }
    }

    #[test]
    fn the_examples_of_the_standard() {
        check(
            b"data: This is the first message.\n\ndata: This is the second message, it\n\
              data: has two lines.\n\ndata: This is the third message.\n\n",
            &[
                data("This is the first message."),
                data("This is the second message, it\nhas two lines."),
                data("This is the third message."),
            ],
        );
        check(b"data: YHOO\ndata: +2\ndata: 10\n\n", &[data("YHOO\n+2\n10")]);
        check(
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &[
                Block::default(),
                Block { id: Some("1".to_owned()), ..data("first event") },
                Block { id: Some(String::new()), ..data("second event") },
                data(" third event"),
            ],
        );
        check(b"data\n\ndata\ndata\n\ndata:", &[data(""), data("\n")]);
        check(b"data:test\n\ndata: test\n\n", &[data("test"), data("test")]);
        check(
            b"event: add\ndata: 73857293\n\n",
            &[Block { event: Some("add".to_owned()), ..data("73857293") }],
        );
    }

    #[test]
    fn lines_end_in_three_ways() {
        check(
            b"data: a\r\rdata: b\r\n\r\ndata: c\n\ndata: d\r\n\r",
            &["a", "b", "c", "d"].map(data),
        );
        check(b"\r\n\n\r\rdata: a\n\r\n\r", &[data("a")]);
    }

    #[test]
    fn odd_lines() {
        let id = |id: &str| Block { id: Some(id.to_owned()), ..Block::default() };
        check("data: ä\n\n\u{feff}data: x\n\n".as_bytes(), &[data("ä"), Block::default()]);
        check(b"data: \xff\n\n", &[data("\u{fffd}")]);
        check(b"id: a\0b\nid2: x\nData: y\n\n", &[Block::default()]);
        check(b"id: 1\nid: 2\n\n", &[id("2")]);
        check(
            b"retry: 1x\nretry: 25\nretry: -1\nretry:\n\n",
            &[Block { retry: Some(25), ..Block::default() }],
        );
        check(b"retry: 99999999999999999999999\n\n", &[Block::default()]);
        check(b"event: a\nevent:\n\n", &[Block::default()]);
        check(b"data: unfinished\n", &[]);
    }

    #[test]
    fn what_cannot_be_said_is_not_written() {
        let mut out = b"x".to_vec();
        for (id, event) in [("a\nb", ""), ("a\r", ""), ("a\0", ""), ("", "a\nb"), ("", "\r")] {
            let event = Event { id: Some(id), event: Some(event), data: Some("d") };
            assert_eq!(encode(&event, &mut out), Err(BadEvent));
            assert_eq!(out, b"x");
        }
    }

    #[test]
    fn comments_and_waits() {
        let mut out = Vec::new();
        encode_comment("still\r\nhere", &mut out);
        encode_retry(2500, &mut out);
        assert_eq!(out, b": still\n: here\n\nretry: 2500\n\n");
        check(&out, &[Block::default(), Block { retry: Some(2500), ..Block::default() }]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            events in prop::collection::vec(
                (
                    prop::option::of("[^\r\n\0]{0,9}"),
                    prop::option::of("[^\r\n]{1,9}"),
                    prop::option::of("[a\r\n: é]{0,9}"),
                ),
                0..4,
            ),
        ) {
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for (id, event, data) in &events {
                let sent = Event { id: id.as_deref(), event: event.as_deref(), data: data.as_deref() };
                encode(&sent, &mut wire).unwrap();
                let as_seen = |data: &String| data.replace("\r\n", "\n").replace('\r', "\n");
                let seen = Block {
                    id: id.clone(),
                    event: event.clone(),
                    data: data.as_ref().map(as_seen),
                    ..Block::default()
                };
                if seen != Block::default() {
                    expected.push(seen);
                }
            }
            check(&wire, &expected);
        }
    }
}
