//! What drains announce: that a message with `"notify"` was applied, or buried.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::command;

/// Longest time that one request waits for an event.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// `eserver queue watch`: events from now on, each as one line of JSON; `count` of them, or without
/// end. `timeout` is how long the client waits for any answer.
pub(super) fn watch(
    client: &mut Client,
    channel: Option<&str>,
    count: Option<u64>,
    timeout: Duration,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    // The answer comes well before the client gives up on the server.
    let wait = WAIT_MAX.min(timeout / 2);
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    // The first asks for nothing but where "now" is.
    let mut reply = ask(client, channel, None, 0)?;
    if out.is_terminal() {
        eprintln!("watching what is announced; Ctrl-C ends");
    }
    let mut left = count;
    while left != Some(0) {
        let cursor = reply["cursor"].clone();
        reply = ask(client, channel, Some(cursor), wait_ms)?;
        if reply["restarted"] == true {
            eprintln!("the server was restarted: events may be missing here");
        }
        match reply["missed"].as_u64() {
            None | Some(0) => {}
            Some(missed) => {
                eprintln!("missed {missed} events: they came faster than they were read");
            }
        }
        for event in reply["events"].as_array().into_iter().flatten() {
            if left == Some(0) {
                break;
            }
            writeln!(out, "{event}")?;
            left = left.map(|left| left - 1);
        }
        out.flush()?;
    }
    Ok(())
}

fn ask(
    client: &mut Client,
    channel: Option<&str>,
    after: Option<Value>,
    wait_ms: u64,
) -> anyhow::Result<Value> {
    let mut body = json!({ "wait_ms": wait_ms });
    if let Some(channel) = channel {
        body["channel"] = Value::from(channel);
    }
    if let Some(after) = after {
        body["after"] = after;
    }
    client.ask(command::WATCH, &body)?.done("default")
}
