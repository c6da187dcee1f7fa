//! What became of reserved messages.

use std::io::{self, Write};

use anyhow::bail;
use serde_json::{Value, json};

use super::client::Client;
use super::{Name, command};

/// `eserver queue ack`.
pub(super) fn ack(client: &mut Client, queue: &Name, ids: &[u64]) -> anyhow::Result<()> {
    let body = json!({ "queue": queue.name, "ids": ids });
    report(&client.ask(command::ACK, &body)?.done(&queue.name)?, "acked")
}

/// `eserver queue release`.
pub(super) fn release(
    client: &mut Client,
    queue: &Name,
    ids: &[u64],
    delay_ms: u64,
) -> anyhow::Result<()> {
    let body = json!({ "queue": queue.name, "ids": ids, "delay_ms": delay_ms });
    report(&client.ask(command::RELEASE, &body)?.done(&queue.name)?, "released")
}

/// `eserver queue bury`.
pub(super) fn bury(
    client: &mut Client,
    queue: &Name,
    ids: &[u64],
    reason: &str,
) -> anyhow::Result<()> {
    let body = json!({ "queue": queue.name, "ids": ids, "reason": reason });
    report(&client.ask(command::BURY, &body)?.done(&queue.name)?, "buried")
}

/// Prints how many it was done to; the others are an error.
fn report(reply: &Value, done: &str) -> anyhow::Result<()> {
    let count = reply[done].as_u64().unwrap_or(0);
    writeln!(io::stdout().lock(), "{done} {count}")?;
    let missing: Vec<String> =
        reply["missing"].as_array().into_iter().flatten().map(Value::to_string).collect();
    if !missing.is_empty() {
        bail!("not {done}, because not reserved or not there: {}", missing.join(", "));
    }
    Ok(())
}
