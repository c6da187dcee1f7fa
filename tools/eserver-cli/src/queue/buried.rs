//! What was put aside: to look at, to try again, to throw away.

use std::io::{self, Write};

use anyhow::bail;
use serde_json::{Value, json};

use super::client::Client;
use super::{Name, Which, command};

/// Ids in one request, at most.
const REQUEST_IDS_MAX: usize = 1000;

/// `eserver queue buried`: up to `max` messages from the id `from` on, oldest first.
pub(super) fn list(
    client: &mut Client,
    queue: &Name,
    from: u64,
    max: u64,
    json: bool,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let (mut next, mut left) = (Some(from), max);
    while let Some(from) = next.filter(|_| left > 0) {
        let body = json!({ "queue": queue.name, "from": from, "max": left });
        let reply = client.ask(command::BURIED, &body)?.done(&queue.name)?;
        let messages = reply["buried"].as_array().map(Vec::as_slice).unwrap_or_default();
        for message in messages {
            if json {
                writeln!(out, "{message}")?;
            } else {
                out.write_all(shown(message).as_bytes())?;
            }
        }
        out.flush()?;
        left = left.saturating_sub(messages.len() as u64);
        // A server that shows nothing and promises more is not asked for ever.
        next = reply["next"].as_u64().filter(|next| *next > from && !messages.is_empty());
    }
    if left == max {
        eprintln!("no message of the queue {:?} is buried", queue.name);
    }
    if let Some(next) = next {
        eprintln!("there are more: --from {next} goes on");
    }
    Ok(())
}

/// A buried message as a person reads it: why it is there, and below that what it is.
fn shown(message: &Value) -> String {
    let attempts = match message["attempts"].as_u64() {
        Some(1) => "1 attempt".to_owned(),
        attempts => format!("{} attempts", attempts.unwrap_or(0)),
    };
    let reason = match message["reason"].as_str().unwrap_or_default() {
        "" => "no reason given".to_owned(),
        reason => reason.lines().collect::<Vec<_>>().join(" "),
    };
    let payload = match (&message["payload"], &message["bytes"]) {
        (Value::Null, Value::Number(bytes)) => format!("({bytes} bytes, too long to be shown)"),
        (Value::String(text), _) => text.clone(),
        (payload, _) => payload.to_string(),
    };
    format!("{}  {attempts}  {reason}\n    {payload}\n", message["id"])
}

/// `eserver queue kick`.
pub(super) fn kick(client: &mut Client, queue: &Name, which: &Which) -> anyhow::Result<()> {
    see_to(client, queue, which, command::KICK, "kicked")
}

/// `eserver queue drop`.
pub(super) fn discard(client: &mut Client, queue: &Name, which: &Which) -> anyhow::Result<()> {
    see_to(client, queue, which, command::DROP, "dropped")
}

/// Prints how many it was done to; ids that are not buried are an error.
fn see_to(
    client: &mut Client,
    queue: &Name,
    which: &Which,
    command: u16,
    done: &str,
) -> anyhow::Result<()> {
    let (mut count, mut missing) = (0, Vec::new());
    if which.all {
        // What comes back while we are at it was seen to already.
        let stats = client.ask(command::STATS, &json!({ "queue": queue.name }))?;
        let buried = stats.done(&queue.name)?["buried"].as_u64().unwrap_or(0);
        while count < buried {
            let body = json!({ "queue": queue.name, "all": true });
            let reply = client.ask(command, &body)?.done(&queue.name)?;
            let these = reply[done].as_u64().unwrap_or(0);
            count += these;
            if these == 0 || reply["more"] != true {
                break;
            }
        }
    }
    for ids in which.ids.chunks(REQUEST_IDS_MAX) {
        let body = json!({ "queue": queue.name, "ids": ids });
        let reply = client.ask(command, &body)?.done(&queue.name)?;
        count += reply[done].as_u64().unwrap_or(0);
        missing.extend(reply["missing"].as_array().into_iter().flatten().map(Value::to_string));
    }
    writeln!(io::stdout().lock(), "{done} {count}")?;
    if !missing.is_empty() {
        bail!("not {done}, because not buried: {}", missing.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_with_its_reason() {
        for (message, expected) in [
            (
                json!({"id": 17, "attempts": 5, "reason": "23502: null\nvalue", "payload": {"a": 1}}),
                "17  5 attempts  23502: null value\n    {\"a\":1}\n",
            ),
            (
                json!({"id": 1, "attempts": 1, "reason": "", "payload": "select 1"}),
                "1  1 attempt  no reason given\n    select 1\n",
            ),
            (
                json!({"id": 1, "attempts": 0, "reason": "x", "bytes": 65_000}),
                "1  0 attempts  x\n    (65000 bytes, too long to be shown)\n",
            ),
        ] {
            assert_eq!(shown(&message), expected);
        }
    }
}
