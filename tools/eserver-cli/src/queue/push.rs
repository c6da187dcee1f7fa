//! Putting messages in: one request each as old clients do, or many to a request.

use std::io::{self, BufRead, BufReader, IsTerminal, StdinLock, Write};

use anyhow::{Context, bail};
use eserver_wire::framed::{BODY_BYTES_MAX, HEADER_BYTES};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::client::{Client, encode};
use super::{Name, command};

/// Requests that may wait for their answers at once. Below the server's own bound, so that neither
/// side ever waits for the other to read.
const WINDOW_REQUESTS: usize = 128;

/// Bytes of requests that may wait for their answers at once.
const WINDOW_BYTES: usize = 64 * 1024;

/// Messages of a batch, so that its reply has room for an id of twenty digits for each.
const BATCH_MESSAGES_MAX: usize = 3_000;

/// `eserver queue push`.
pub(super) fn push(client: &mut Client, queue: &Name, items: Vec<String>) -> anyhow::Result<()> {
    let mut items = Items::new(items);
    let mut window = Window::default();
    while let Some(item) = items.next()? {
        let read = request(queue.legacy(), &item)
            .and_then(|body| encode(command::PUT, &body, &mut window.frames));
        if let Err(error) = read {
            window.flush(client, &queue.name)?;
            return Err(error.context(format!("message {}; {}", items.count, window.stored())));
        }
        window.waiting += 1;
        if window.is_full() || items.would_wait() {
            window.flush(client, &queue.name)?;
        }
    }
    window.flush(client, &queue.name)?;
    writeln!(io::stdout().lock(), "{}", window.stored())?;
    Ok(())
}

/// The body of a put: SQL text for the default queue, an object for a named one.
fn request(queue: Option<&str>, item: &str) -> anyhow::Result<Value> {
    let Some(queue) = queue else {
        return Ok(json!({ "sql": item }));
    };
    let Ok(mut object) = serde_json::from_str::<Map<String, Value>>(item) else {
        bail!("{} is not a JSON object, and a named queue takes nothing else", shortened(item));
    };
    if object.contains_key("queue_type") {
        bail!("\"queue_type\" is the name of the queue: give it with --queue");
    }
    object.insert("queue_type".to_owned(), Value::from(queue));
    Ok(Value::Object(object))
}

/// Requests on their way.
#[derive(Default)]
struct Window {
    frames: Vec<u8>,
    waiting: usize,
    stored: u64,
}

impl Window {
    fn is_full(&self) -> bool {
        self.waiting >= WINDOW_REQUESTS || self.frames.len() >= WINDOW_BYTES
    }

    /// Sends what is waiting and reads all its answers.
    fn flush(&mut self, client: &mut Client, queue: &str) -> anyhow::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let first = self.stored + 1;
        let outcome = self.exchange(client, waiting);
        self.frames.clear();
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some((index, refused))) => {
                let number = first + index as u64;
                bail!("message {number}: {}; {}", refused.sentence(queue), self.stored())
            }
            Err(error) if self.stored > 0 => Err(error.context(self.stored())),
            Err(error) => Err(error),
        }
    }

    /// The first refusal and its place in this window, if there is one.
    fn exchange(
        &mut self,
        client: &mut Client,
        waiting: usize,
    ) -> anyhow::Result<Option<(usize, Answer)>> {
        client.send(&self.frames)?;
        let mut refused = None;
        for index in 0..waiting {
            match client.answer(command::PUT)? {
                Answer::Done(_) => self.stored += 1,
                answer => refused = refused.or(Some((index, answer))),
            }
        }
        Ok(refused)
    }

    fn stored(&self) -> String {
        match self.stored {
            1 => "stored 1 message".to_owned(),
            count => format!("stored {count} messages"),
        }
    }
}

/// `eserver queue put`.
pub(super) fn put(client: &mut Client, queue: &Name, items: Vec<String>) -> anyhow::Result<()> {
    let mut items = Items::new(items);
    let mut batch = Batch::new(&queue.name);
    while let Some(item) = items.next()? {
        let item: Value = serde_json::from_str(&item).unwrap_or(Value::String(item));
        let item = item.to_string();
        if !batch.fits(&item) {
            batch.flush(client)?;
        }
        if !batch.fits(&item) {
            bail!("message {}: {} bytes do not fit into a request", items.count, item.len());
        }
        batch.add(&item);
        if items.would_wait() {
            batch.flush(client)?;
        }
    }
    batch.flush(client)
}

/// The body of a batch put while it grows: `{"queue":"…","items":[…`.
struct Batch<'a> {
    queue: &'a str,
    start: String,
    items: String,
    count: usize,
}

impl<'a> Batch<'a> {
    const END: &'static str = "]}";

    fn new(queue: &'a str) -> Self {
        let start = format!("{{\"queue\":{},\"items\":[", Value::from(queue));
        Batch { queue, start, items: String::new(), count: 0 }
    }

    /// Whether one more item, with its comma, leaves the body and its reply short enough.
    fn fits(&self, item: &str) -> bool {
        let bytes = self.start.len() + self.items.len() + 1 + item.len() + Self::END.len();
        bytes <= BODY_BYTES_MAX && self.count < BATCH_MESSAGES_MAX
    }

    fn add(&mut self, item: &str) {
        if !self.items.is_empty() {
            self.items.push(',');
        }
        self.items.push_str(item);
        self.count += 1;
    }

    /// Sends the items, if there are any, and prints their ids.
    fn flush(&mut self, client: &mut Client) -> anyhow::Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        let body = format!("{}{}{}", self.start, self.items, Self::END);
        self.items.clear();
        self.count = 0;
        let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
        eserver_wire::framed::encode(command::PUT_BATCH, body.as_bytes(), &mut frame)
            .context("a batch outgrew its frame")?;
        client.send(&frame)?;
        let reply = client.answer(command::PUT_BATCH)?.done(self.queue)?;
        let mut out = io::stdout().lock();
        for id in reply["ids"].as_array().into_iter().flatten() {
            writeln!(out, "{id}")?;
        }
        out.flush()?;
        if let Some(error) = reply["error"].as_str() {
            bail!("the server stored no more than that: {error}");
        }
        Ok(())
    }
}

/// Messages from the command line, or else from the lines of the standard input.
struct Items {
    from: From,
    /// Messages handed out so far.
    count: u64,
}

enum From {
    Arguments(std::vec::IntoIter<String>),
    Lines(BufReader<StdinLock<'static>>),
}

impl Items {
    fn new(arguments: Vec<String>) -> Self {
        let from = if arguments.is_empty() {
            let input = io::stdin().lock();
            if input.is_terminal() {
                eprintln!("reading messages, one to a line; Ctrl-D ends");
            }
            From::Lines(BufReader::with_capacity(WINDOW_BYTES, input))
        } else {
            From::Arguments(arguments.into_iter())
        };
        Items { from, count: 0 }
    }

    /// The next message; blank lines are none.
    fn next(&mut self) -> anyhow::Result<Option<String>> {
        let item = match &mut self.from {
            From::Arguments(arguments) => arguments.next(),
            From::Lines(input) => next_line(input).context("cannot read the standard input")?,
        };
        self.count += u64::from(item.is_some());
        Ok(item)
    }

    /// Whether the next message may take its time, so that those before it should go out now.
    fn would_wait(&self) -> bool {
        match &self.from {
            From::Arguments(_) => false,
            From::Lines(input) => !input.buffer().contains(&b'\n'),
        }
    }
}

fn next_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    for line in input.lines() {
        let line = line?;
        if !line.trim().is_empty() {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

/// The beginning of a text, for a sentence.
fn shortened(text: &str) -> String {
    const CHARACTERS: usize = 40;
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_old_clients_send() {
        let body = request(None, "select 1").unwrap();
        assert_eq!(body.to_string(), r#"{"sql":"select 1"}"#);
        let body = request(Some("sql"), r#"{"i": 7, "n": 1.50}"#).unwrap();
        assert_eq!(body.to_string(), r#"{"i":7,"n":1.50,"queue_type":"sql"}"#);
    }

    #[test]
    fn what_a_named_queue_cannot_hold_is_refused_here() {
        for item in ["select 1", "7", "[1]", "", r#"{"queue_type": "img"}"#] {
            assert!(request(Some("sql"), item).is_err(), "{item:?}");
        }
        let error = request(Some("sql"), &"é".repeat(50)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{:?}… is not", "é".repeat(40))), "{error}");
    }

    #[test]
    fn a_batch_fills_a_frame_to_the_last_byte() {
        let mut batch = Batch::new("sql");
        batch.add("1");
        let room = BODY_BYTES_MAX - r#"{"queue":"sql","items":[1,]}"#.len();
        assert!(batch.fits(&"x".repeat(room)));
        assert!(!batch.fits(&"x".repeat(room + 1)));
        for _ in 1..BATCH_MESSAGES_MAX {
            assert!(batch.fits("1"));
            batch.add("1");
        }
        assert!(!batch.fits("1"));
    }

    #[test]
    fn lines_are_messages_and_blank_ones_are_not() {
        let mut input = "a\r\n\n  \n b\nlast".as_bytes();
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input).unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["a", " b", "last"]);
    }
}
