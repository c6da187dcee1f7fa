//! Putting a message in that asks a drain for one of its statements.

use std::io::{self, Write};

use anyhow::bail;
use serde_json::{Value, json};

use super::client::Client;
use super::{Name, command};

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct StatementArgs {
    /// Ask the queue's drain for the statement of this name, in place of a message
    #[arg(long, value_name = "NAME", conflicts_with = "items")]
    stmt: Option<String>,
    /// A value for each `?` of the statement, in their order; JSON, or else a text
    #[arg(long, value_name = "VALUE", requires = "stmt", allow_hyphen_values = true)]
    param: Vec<String>,
    /// Keep the order among messages with the same key
    #[arg(long, value_name = "KEY", requires = "stmt")]
    key: Option<String>,
    /// Announce on this channel what became of it; `eserver queue watch` shows it
    #[arg(long, value_name = "CHANNEL", requires = "stmt")]
    notify: Option<String>,
}

impl StatementArgs {
    /// The message, if one is asked for.
    pub(super) fn message(&self) -> Option<Value> {
        let params: Vec<Value> = self.param.iter().map(|text| json_or_text(text)).collect();
        let mut message = json!({ "stmt": self.stmt.as_ref()?, "params": params });
        if let Some(key) = &self.key {
            // A number and the same digits as a text are two keys; other JSON is none.
            let number = serde_json::from_str(key).ok().filter(Value::is_number);
            message["key"] = number.unwrap_or_else(|| Value::from(key.as_str()));
        }
        if let Some(channel) = &self.notify {
            message["notify"] = Value::from(channel.as_str());
        }
        Some(message)
    }
}

fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// `eserver queue push --stmt`.
pub(super) fn push(client: &mut Client, queue: &Name, message: &Value) -> anyhow::Result<()> {
    let body = json!({ "queue": queue.name, "items": [message] });
    let reply = client.ask(command::PUT_BATCH, &body)?.done(&queue.name)?;
    match &reply["ids"][0] {
        Value::Null => bail!("the server stored nothing, and says {reply}"),
        id => writeln!(io::stdout().lock(), "stored 1 message, its id is {id}")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_becomes_the_message_of_a_drain() {
        let args = |param: &[&str], key: Option<&str>, notify: Option<&str>| StatementArgs {
            stmt: Some("add".to_owned()),
            param: param.iter().map(|text| (*text).to_owned()).collect(),
            key: key.map(str::to_owned),
            notify: notify.map(str::to_owned),
        };
        for (args, expected) in [
            (args(&[], None, None), r#"{"stmt":"add","params":[]}"#),
            (
                args(&["5", "-1.50", "text", "\"5\"", "null", "[1]", ""], None, None),
                r#"{"stmt":"add","params":[5,-1.50,"text","5",null,[1],""]}"#,
            ),
            (
                args(&[], Some("user:7"), Some("done")),
                r#"{"stmt":"add","params":[],"key":"user:7","notify":"done"}"#,
            ),
            (args(&[], Some("7"), None), r#"{"stmt":"add","params":[],"key":7}"#),
            (args(&[], Some("true"), None), r#"{"stmt":"add","params":[],"key":"true"}"#),
        ] {
            assert_eq!(args.message().unwrap().to_string(), expected);
        }
        assert_eq!(StatementArgs { stmt: None, ..args(&["5"], None, None) }.message(), None);
    }
}
