//! Taking messages out: for good, or for a while.

use std::io::{self, Write};

use anyhow::bail;
use serde_json::{Value, json};

use super::answer::Answer;
use super::client::{Client, encode};
use super::{Name, command};

/// Pops that may wait for their answers at once.
const WINDOW_REQUESTS: usize = 64;

/// `eserver queue pop`: up to `count` messages, oldest first.
///
/// # Errors
/// When there is not even one.
pub(super) fn pop(client: &mut Client, queue: &Name, count: u64, json: bool) -> anyhow::Result<()> {
    let body = match queue.legacy() {
        None => json!({}),
        Some(name) => json!({ "queue_type": name }),
    };
    let mut frame = Vec::new();
    encode(command::POP, &body, &mut frame)?;
    let mut out = io::stdout().lock();
    let mut left = count;
    while left > 0 {
        let window =
            usize::try_from(left).map_or(WINDOW_REQUESTS, |left| left.min(WINDOW_REQUESTS));
        client.send(&frame.repeat(window))?;
        let mut refused = None;
        for _ in 0..window {
            match client.answer(command::POP)? {
                Answer::Done(message) => {
                    // A popped message is nowhere but here: it must be seen before anything else.
                    writeln!(out, "{}", shown(&message, json))?;
                    left -= 1;
                }
                answer => refused = refused.or(Some(answer)),
            }
        }
        out.flush()?;
        match refused {
            Some(Answer::Empty) if left < count => return Ok(()),
            Some(answer) => bail!(answer.sentence(&queue.name)),
            None => {}
        }
    }
    Ok(())
}

/// SQL text as it is; everything else as JSON.
fn shown(message: &Value, json: bool) -> String {
    match message {
        Value::String(text) if !json => text.clone(),
        message => message.to_string(),
    }
}

/// `eserver queue reserve`: up to `max` messages, each as one line of JSON.
///
/// # Errors
/// When there is not even one.
pub(super) fn reserve(
    client: &mut Client,
    queue: &Name,
    lease_ms: u64,
    max: u64,
) -> anyhow::Result<()> {
    let body = json!({ "queue": queue.name, "lease_ms": lease_ms, "max": max });
    let reply = client.ask(command::RESERVE, &body)?.done(&queue.name)?;
    let messages = reply["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if messages.is_empty() {
        bail!("no message of the queue {:?} is ready", queue.name);
    }
    let mut out = io::stdout().lock();
    for message in messages {
        writeln!(out, "{message}")?;
    }
    out.flush()?;
    Ok(())
}
