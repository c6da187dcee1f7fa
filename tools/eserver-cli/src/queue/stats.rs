//! What is in the queues, as a table.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Name, command};

/// `eserver queue length`.
pub(super) fn length(client: &mut Client, queue: &Name) -> anyhow::Result<()> {
    let body = match queue.legacy() {
        None => json!({}),
        Some(name) => json!({ "queue_type": name }),
    };
    let length = client.ask(command::LENGTH, &body)?.done(&queue.name)?;
    writeln!(io::stdout().lock(), "{length}")?;
    Ok(())
}

/// `eserver queue stats`: a column for each queue, or the server's JSON.
pub(super) fn stats(client: &mut Client, queue: Option<&str>, json: bool) -> anyhow::Result<()> {
    let body = match queue {
        Some(name) => json!({ "queue": name }),
        None => json!({}),
    };
    let reply = client.ask(command::STATS, &body)?.done(queue.unwrap_or("all"))?;
    let text = if json { format!("{reply:#}\n") } else { table(&columns(queue, &reply)) };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// A heading, and what stands below it by name.
type Column = (String, Vec<(String, String)>);

/// The queues in the server's order.
fn columns(queue: Option<&str>, reply: &Value) -> Vec<Column> {
    let column = |name: &str, stats: &Value| {
        let mut fields = Vec::new();
        flatten("", stats, &mut fields);
        (name.to_owned(), fields)
    };
    match (queue, reply["queues"].as_object()) {
        (Some(name), _) => vec![column(name, reply)],
        (None, Some(queues)) => queues.iter().map(|(name, stats)| column(name, stats)).collect(),
        (None, None) => vec![column("all", reply)],
    }
}

/// The fields of an object, those of inner objects as `outer.inner`.
fn flatten(path: &str, value: &Value, fields: &mut Vec<(String, String)>) {
    let object: Option<&Map<String, Value>> = value.as_object();
    for (name, value) in object.into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Object(_) => flatten(&path, value, fields),
            Value::String(text) => fields.push((path, text.clone())),
            Value::Null => fields.push((path, "-".to_owned())),
            other => fields.push((path, other.to_string())),
        }
    }
}

/// One row for each field that any queue has, one column for each queue.
fn table(columns: &[Column]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in columns.iter().flat_map(|(_, fields)| fields) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut rows = vec![(String::new(), columns.iter().map(|(name, _)| name.clone()).collect())];
    rows.extend(names.iter().map(|name| {
        let cell = |(_, fields): &Column| {
            let field = fields.iter().find(|(other, _)| other == name);
            field.map_or("-".to_owned(), |(_, value)| value.clone())
        };
        ((*name).to_owned(), columns.iter().map(cell).collect::<Vec<String>>())
    }));
    let left = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|(_, cells)| cells[column].chars().count()).max())
        .map(|width| width.unwrap_or(0))
        .collect();
    let line = |(name, cells): &(String, Vec<String>)| {
        let mut line = format!("{name:left$}");
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        line + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_stand_side_by_side() {
        let reply = json!({"queues": {
            "default": {"ready": 1200, "totals": {"put": 1300}},
            "sql": {"ready": 0, "oldest_ms": null, "drain": {"state": "running", "applied": 7}},
        }});
        let expected = "               default      sql
ready             1200        0
totals.put        1300        -
oldest_ms            -        -
drain.state          -  running
drain.applied        -        7
";
        assert_eq!(table(&columns(None, &reply)), expected);
    }

    #[test]
    fn one_queue_is_one_column() {
        let reply = json!({"ready": 3, "state": "ok"});
        assert_eq!(table(&columns(Some("sql"), &reply)), "       sql\nready    3\nstate   ok\n");
    }
}
