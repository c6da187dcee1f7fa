//! [`Answer`]: what a frame from the server means to the one who asked.

use anyhow::{anyhow, bail};
use eserver_wire::framed::Frame;
use serde_json::Value;

use super::command;
use crate::exit::{Exit, OrExit};

/// What the server said to a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// It did what was asked; this is the body.
    Done(Value),
    /// There is no message to take.
    Empty,
    /// There is no room for a message.
    Full,
    /// There is no queue of that name.
    NoSuchQueue,
    /// It said why not.
    Refused(String),
}

impl Answer {
    /// Reads the answer to a request of the command `asked`.
    ///
    /// # Errors
    /// When the frame is none that a queue server sends; the process exits with
    /// [`Exit::Unavailable`].
    pub(super) fn read(asked: u16, frame: Frame<'_>, address: &str) -> anyhow::Result<Answer> {
        let body: Value = serde_json::from_slice(frame.body)
            .map_err(|_| anyhow!("{address} does not answer in JSON: is it an eserver queue?"))
            .or_exit(Exit::Unavailable)?;
        let error = body.get("error").and_then(Value::as_str);
        Ok(match (frame.command, error) {
            (0, Some(error)) => Answer::Refused(error.to_owned()),
            // The old protocol has one error frame, and what was asked tells what it means.
            (0, None) if asked == command::PUT => Answer::Full,
            (0, None) if asked == command::POP => Answer::Empty,
            (0, None) => Answer::Refused(body.to_string()),
            (4001, _) => Answer::NoSuchQueue,
            (4002, _) => Answer::Empty,
            (command, _) if command == asked => Answer::Done(body),
            (command, _) => {
                let sentence =
                    anyhow!("{address} answers {asked} with {command}: is it an eserver queue?");
                return Err(sentence).or_exit(Exit::Unavailable);
            }
        })
    }

    /// The body, or a sentence.
    pub(super) fn done(self, queue: &str) -> anyhow::Result<Value> {
        match self {
            Answer::Done(body) => Ok(body),
            refused => bail!(refused.sentence(queue)),
        }
    }

    /// Why it is not done, as a sentence.
    pub(super) fn sentence(&self, queue: &str) -> String {
        match self {
            Answer::Done(_) => "done".to_owned(),
            Answer::Empty => format!("the queue {queue:?} is empty"),
            Answer::Full => format!("the queue {queue:?} is full"),
            Answer::NoSuchQueue => {
                format!("the server has no queue {queue:?}: its queue.names lists those it has")
            }
            Answer::Refused(why) => format!("the server refused: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_frame_of_the_protocol_is_understood() {
        for (asked, command, body, expected) in [
            (8001, 8001, json!({"msg": "success"}), Answer::Done(json!({"msg": "success"}))),
            (8001, 0, json!({"msg": "error"}), Answer::Full),
            (8002, 0, json!({"msg": "error"}), Answer::Empty),
            (8002, 4002, json!({"msg": "queue is empty"}), Answer::Empty),
            (8003, 4001, json!({"msg": "queue type error"}), Answer::NoSuchQueue),
            (8011, 0, json!({"error": "no such lease"}), Answer::Refused("no such lease".into())),
        ] {
            let body = body.to_string();
            let frame = Frame { command, body: body.as_bytes() };
            assert_eq!(Answer::read(asked, frame, "here").unwrap(), expected, "{asked} {body}");
        }
    }

    #[test]
    fn another_protocol_is_noticed() {
        for (command, body) in [(0x4854, "TP/1.1 400"), (8003, "7")] {
            let frame = Frame { command, body: body.as_bytes() };
            let error = Answer::read(8001, frame, "here").unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Unavailable);
            assert!(error.to_string().contains("is it an eserver queue?"), "{error}");
        }
    }
}
