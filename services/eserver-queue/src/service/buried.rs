//! Commands 8017 to 8019: looking at what was set aside, and seeing to it.

use std::borrow::Cow;

use eserver_wire::framed::BODY_BYTES_MAX;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::answer::{Error, command, encode_json, encode_with};
use super::legacy::parse;
use super::modern::{Addressed, seqs};
use super::order::{Order, each};
use crate::disk::RealDisk;
use crate::queue::Queue;
use crate::queue::outcome::{self, ChangeError, Outcome};
use crate::seq::Seq;

/// Messages that one request may look at; more are asked for in vain.
const LOOK_MAX: usize = 100;

/// Messages that one request for all of them may see to.
const ALL_MAX: usize = 1000;

/// The messages that a request is about.
pub(super) enum Which {
    Ids(Vec<Seq>),
    /// All that are buried, up to [`ALL_MAX`] at once.
    All,
}

impl Which {
    /// How many there are, at most.
    pub(super) fn len(&self) -> usize {
        match self {
            Which::Ids(ids) => ids.len(),
            Which::All => ALL_MAX,
        }
    }
}

pub(super) fn look(body: &[u8]) -> Addressed<'_> {
    let request: Look = parse(body, r#"{"queue": "a name", "from": 1, "max": 100}"#)?;
    let max = request.max.unwrap_or(LOOK_MAX).clamp(1, LOOK_MAX);
    Ok((request.queue, Order::Look { from: Seq::new(request.from), max }))
}

pub(super) fn kick(body: &[u8]) -> Addressed<'_> {
    let (queue, which) = choose(body)?;
    Ok((queue, Order::Kick(which)))
}

pub(super) fn discard(body: &[u8]) -> Addressed<'_> {
    let (queue, which) = choose(body)?;
    Ok((queue, Order::Discard(which)))
}

fn choose(body: &[u8]) -> Result<(Option<Cow<'_, str>>, Which), Error> {
    let expected = r#"{"queue": "a name", "ids": [1, …]} or {"queue": "a name", "all": true}"#;
    let request: Chosen = parse(body, expected)?;
    let which = match (request.ids, request.all) {
        (Some(ids), false) => Which::Ids(seqs(&ids)?),
        (None, true) => Which::All,
        (None, false) => return Err(Error::new(format!("`ids` is missing: send {expected}"))),
        (Some(_), true) => return Err(Error::new("`ids` and `all` exclude each other")),
    };
    Ok((request.queue, which))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look<'a> {
    #[serde(borrow, default)]
    queue: Option<Cow<'a, str>>,
    #[serde(default)]
    from: u64,
    max: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chosen<'a> {
    #[serde(borrow, default)]
    queue: Option<Cow<'a, str>>,
    ids: Option<Vec<u64>>,
    #[serde(default)]
    all: bool,
}

/// Appends the frame that shows buried messages, as many as fit it.
pub(super) fn show(from: Seq, max: usize, queue: &mut Queue<RealDisk>, out: &mut Vec<u8>) {
    /// What surrounds payload and reason in the answer, at its longest, in bytes.
    const AROUND_BYTES: usize = 128;
    let frame_start = out.len();
    let mut failure = None;
    encode_with(command::BURIED, out, |out| {
        let start = out.len();
        out.extend_from_slice(b"{\"buried\":[");
        let mut last = None;
        // Where to go on, should there be no room for all.
        let mut next = None;
        let result = queue.buried(from, max, |message| {
            let outcome::Buried { seq, attempts, reason, payload } = message;
            let reason = serde_json::to_string(reason).expect("a text is plain data");
            let room = BODY_BYTES_MAX - (out.len() - start);
            let bytes = reason.len() + AROUND_BYTES;
            if next.is_some() || (bytes + payload.len() > room && last.is_some()) {
                next.get_or_insert(seq);
                return;
            }
            let comma = if last.is_some() { "," } else { "" };
            let head = format!("{comma}{{\"id\":{seq},\"attempts\":{attempts},\"reason\":{reason}");
            out.extend_from_slice(head.as_bytes());
            if bytes + payload.len() > room || payload.is_empty() {
                out.extend_from_slice(format!(",\"bytes\":{}}}", payload.len()).as_bytes());
            } else {
                out.extend_from_slice(b",\"payload\":");
                out.extend_from_slice(payload);
                out.push(b'}');
            }
            last = Some(seq);
        });
        failure = result.err();
        let behind = last.map_or(from, Seq::next);
        let next = next.or_else(|| queue.buried_seqs(behind, 1).next());
        let next = next.map_or("null".to_owned(), |seq| seq.to_string());
        out.extend_from_slice(format!("],\"next\":{next}}}").as_bytes());
    });
    if let Some(error) = failure {
        out.truncate(frame_start);
        Error::from(&error).encode(out);
    }
}

/// Acts on each of the messages; the answer's parts: how many that changed, which it did not apply
/// to, and whether more are buried, if all were meant.
pub(super) fn see_to(
    which: &Which,
    queue: &mut Queue<RealDisk>,
    mut act: impl FnMut(&mut Queue<RealDisk>, Seq) -> Result<Outcome, ChangeError>,
) -> Result<SeenTo, ChangeError> {
    let all: Vec<Seq>;
    let seqs = match which {
        Which::Ids(seqs) => seqs,
        Which::All => {
            all = queue.buried_seqs(Seq::new(0), ALL_MAX).collect();
            &all
        }
    };
    let (done, missing) = each(seqs, |seq| act(queue, seq))?;
    let more = matches!(which, Which::All) && queue.buried_seqs(Seq::new(0), 1).next().is_some();
    Ok(SeenTo { done, missing, more })
}

/// What came of it.
pub(super) struct SeenTo {
    done: usize,
    missing: Vec<u64>,
    more: bool,
}

/// Appends the frame that tells it, in which the number done is called `done`.
pub(super) fn answer(
    command: u16,
    done: &'static str,
    result: Result<SeenTo, ChangeError>,
    out: &mut Vec<u8>,
) {
    match result {
        Ok(seen_to) => encode_json(command, &Answer { done, seen_to }, out),
        Err(error) => Error::from(&error).encode(out),
    }
}

struct Answer {
    done: &'static str,
    seen_to: SeenTo,
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let SeenTo { done, missing, more } = &self.seen_to;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.done, done)?;
        map.serialize_entry("missing", missing)?;
        if *more {
            map.serialize_entry("more", more)?;
        }
        map.end()
    }
}
