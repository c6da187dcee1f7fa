//! The commands' numbers, and the frames that answers and failures become.

use eserver_wire::framed;
use serde::Serialize;

use crate::queue::outcome::{ChangeError, PutError, ReadError};

/// The commands of the framed queue protocol; an answer carries its request's number.
pub(super) mod command {
    pub(crate) const FAILED: u16 = 0;
    pub(crate) const NO_SUCH_QUEUE: u16 = 4001;
    pub(crate) const EMPTY: u16 = 4002;
    pub(crate) const ENQUEUE: u16 = 8001;
    pub(crate) const DEQUEUE: u16 = 8002;
    pub(crate) const LENGTH: u16 = 8003;
    pub(crate) const RESERVE: u16 = 8011;
    pub(crate) const ACK: u16 = 8012;
    pub(crate) const RELEASE: u16 = 8013;
    pub(crate) const BURY: u16 = 8014;
    pub(crate) const PUT: u16 = 8015;
    pub(crate) const STATS: u16 = 8016;
    pub(crate) const BURIED: u16 = 8017;
    pub(crate) const KICK: u16 = 8018;
    pub(crate) const DROP: u16 = 8019;
    pub(crate) const WATCH: u16 = 8020;
}

/// Why a request was not carried out, as its client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Error {
    /// Command 0 with `{"error": sentence}`.
    Sentence(String),
    /// The old answer to a full or empty queue: command 0 with `{"msg":"error"}`.
    Msg,
    /// 4001, the old answer to an unknown `queue_type`.
    QueueType,
    /// 4001 with a sentence, for the newer commands.
    NoSuchQueue(String),
    /// 4002, the old answer of an empty named queue.
    Empty,
}

impl Error {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Error::Sentence(sentence.into())
    }

    pub(super) fn not_text() -> Self {
        Error::new("the body is not UTF-8")
    }

    pub(super) fn busy() -> Self {
        Error::new("the queue is busy: its disk is far behind, try again")
    }

    /// Appends the frame that tells it.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Error::Sentence(sentence) => encode_sentence(command::FAILED, sentence, out),
            Error::Msg => encode(command::FAILED, br#"{"msg":"error"}"#, out),
            Error::QueueType => {
                encode(command::NO_SUCH_QUEUE, br#"{"msg":"queue type error"}"#, out);
            }
            Error::NoSuchQueue(sentence) => encode_sentence(command::NO_SUCH_QUEUE, sentence, out),
            Error::Empty => encode(command::EMPTY, br#"{"msg":"queue is empty"}"#, out),
        }
    }
}

impl From<&PutError> for Error {
    fn from(error: &PutError) -> Self {
        match error {
            PutError::Full { .. } => Error::Msg,
            other => Error::new(chain(other)),
        }
    }
}

impl From<&ReadError> for Error {
    fn from(error: &ReadError) -> Self {
        Error::new(chain(error))
    }
}

impl From<&ChangeError> for Error {
    fn from(error: &ChangeError) -> Self {
        Error::new(chain(error))
    }
}

/// An error and its causes as one sentence.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence.push_str(": ");
        sentence.push_str(&error.to_string());
        cause = error.source();
    }
    sentence
}

/// Appends a frame whose body is known to fit.
pub(super) fn encode(command: u16, body: &[u8], out: &mut Vec<u8>) {
    encode_with(command, out, |out| out.extend_from_slice(body));
}

/// Appends a frame whose body `write` appends; should it not fit, the frame that says so.
pub(super) fn encode_with(command: u16, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if let Err(error) = framed::encode_with(command, out, write) {
        encode_sentence(command::FAILED, &format!("the answer does not fit: {error}"), out);
    }
}

/// Appends a frame whose body is a value's JSON.
pub(super) fn encode_json(command: u16, body: &impl Serialize, out: &mut Vec<u8>) {
    encode_with(command, out, |out| {
        serde_json::to_writer(out, body).expect("our own answers are plain data");
    });
}

fn encode_sentence(number: u16, sentence: &str, out: &mut Vec<u8>) {
    // A peer's own words may be quoted in it, and they may be long.
    let mut end = sentence.len().min(1000);
    while !sentence.is_char_boundary(end) {
        end -= 1;
    }
    encode_with(number, out, |out| {
        out.extend_from_slice(b"{\"error\":");
        serde_json::to_writer(&mut *out, &sentence[..end]).expect("a sentence is plain data");
        out.push(b'}');
    });
}
