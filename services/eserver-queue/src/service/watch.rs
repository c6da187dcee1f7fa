//! Command 8020: waiting for what is announced.

use std::borrow::Cow;
use std::time::Duration;

use eserver::framed::{Answered, Call};
use eserver_wire::framed::BODY_BYTES_MAX;
use serde::Deserialize;

use super::answer::{Error, chain, command, encode_with};
use super::legacy::parse;
use super::{QueueService, refuse};
use crate::events::{Page, Watch};

/// How long a watch waits when the request does not say, in milliseconds.
const WAIT_MS_DEFAULT: u64 = 30_000;

/// The longest wait, in milliseconds. Longer ones are shortened to it.
const WAIT_MS_MAX: u64 = 60_000;

/// Bytes that the answer has besides events, at most.
const FRAMEWORK_BYTES: usize = 128;

/// Bytes that an event has besides its channel and its JSON.
const AROUND_BYTES: usize = 40;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow, default)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    after: Option<Cow<'a, str>>,
    wait_ms: Option<u64>,
}

impl QueueService {
    pub(super) fn watch(&mut self, body: &[u8], call: Call<'_, '_>) -> Answered {
        let watch = match read(body) {
            Ok(watch) => watch,
            Err(error) => return refuse(call, &error),
        };
        let (to, answered) = call.later();
        let post = self.post.clone();
        let answer = Box::new(move |page: Page<'_>| {
            let mut out = Vec::new();
            encode(&page, &mut out);
            post.reply(to, out);
        });
        if let Err(error) = self.queues.events().watch(watch, answer) {
            let mut out = Vec::new();
            Error::new(chain(&error)).encode(&mut out);
            self.post.reply(to, out);
        }
        answered
    }
}

fn read(body: &[u8]) -> Result<Watch, Error> {
    let body = if body.is_empty() { b"{}" } else { body };
    let expected = r#"{"channel": "a name", "after": "a cursor", "wait_ms": 30000}"#;
    let request: Request = parse(body, expected)?;
    let after = request.after.map(|text| {
        let cursor = text.parse();
        cursor.map_err(|()| Error::new("`after` is not a cursor: send one from an earlier answer"))
    });
    let wait_ms = request.wait_ms.unwrap_or(WAIT_MS_DEFAULT).min(WAIT_MS_MAX);
    Ok(Watch {
        channel: request.channel.map(Cow::into_owned),
        after: after.transpose()?,
        wait: Duration::from_millis(wait_ms),
    })
}

/// Appends the frame with as many events as fit.
fn encode(page: &Page<'_>, out: &mut Vec<u8>) {
    encode_with(command::WATCH, out, |out| {
        let start = out.len();
        out.extend_from_slice(b"{\"events\":[");
        // Up to where the watcher has seen with this answer; `None` is all that there is.
        let mut seen = None;
        let mut last = page.after();
        for (number, channel, json) in page.events() {
            let room = (BODY_BYTES_MAX - FRAMEWORK_BYTES).saturating_sub(out.len() - start);
            let name = serde_json::to_vec(channel).expect("a text is plain data");
            let bytes = name.len() + AROUND_BYTES;
            let is_first = last == page.after();
            if bytes + json.len() > room && !is_first {
                seen = Some(last);
                break;
            }
            last = number;
            if !is_first {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"channel\":");
            out.extend_from_slice(if bytes > room { b"null" } else { &name });
            if bytes + json.len() > room {
                out.extend_from_slice(format!(",\"bytes\":{}}}", json.len()).as_bytes());
            } else {
                out.extend_from_slice(b",\"event\":");
                out.extend_from_slice(json);
                out.push(b'}');
            }
        }
        let (cursor, missed) = (page.cursor(seen), page.missed);
        out.extend_from_slice(format!("],\"cursor\":\"{cursor}\",\"missed\":{missed}").as_bytes());
        out.extend_from_slice(if page.restarted { b",\"restarted\":true}" } else { b"}" });
    });
}
