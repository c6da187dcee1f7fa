//! Commands 8001 to 8003 as clients of the Python eserver speak them.
//!
//! A request with `queue_type` is for a named queue, one without for the default queue. What is
//! stored is JSON text: the statement as a JSON string, or the object without `queue_type`; a
//! dequeue then answers with the stored bytes as they are.

use std::borrow::Cow;
use std::fmt;

use eserver::framed::{Answered, Call};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Error;
use super::order::{Order, Stored};
use super::{QueueService, refuse};
use crate::placeholder::Placeholder;
use crate::queues::DEFAULT_QUEUE;

impl QueueService {
    pub(super) fn enqueue(&mut self, body: &[u8], call: Call<'_, '_>) -> Answered {
        let has_consumer = self.queues.consumer(DEFAULT_QUEUE).is_some();
        let stored = match Enqueue::parse(body, has_consumer) {
            Ok(Enqueue::Statement(json)) => self.store_statement(&json, body.len()),
            Ok(Enqueue::Whole(json)) => self.store_whole(json),
            Ok(Enqueue::Object { queue_type, json, i }) => self.store_object(&queue_type, &json, i),
            Err(error) => Err(error),
        };
        match stored {
            Ok((queue, order)) => self.order(queue, call, order),
            Err(error) => refuse(call, &error),
        }
    }

    fn store_statement(&mut self, json: &str, bytes: usize) -> Result<(usize, Order), Error> {
        self.admit(DEFAULT_QUEUE, json.as_bytes())?;
        let placeholder = Placeholder::parse(json.as_bytes());
        let payload = self.batch(DEFAULT_QUEUE, bytes)?.store(json.as_bytes());
        Ok((DEFAULT_QUEUE, Order::Put { payload, placeholder, answer: Stored::Success }))
    }

    fn store_whole(&mut self, json: &str) -> Result<(usize, Order), Error> {
        self.admit(DEFAULT_QUEUE, json.as_bytes())?;
        let payload = self.batch(DEFAULT_QUEUE, json.len())?.store(json.as_bytes());
        Ok((DEFAULT_QUEUE, Order::Put { payload, placeholder: None, answer: Stored::Success }))
    }

    fn store_object(
        &mut self,
        queue_type: &str,
        json: &str,
        i: String,
    ) -> Result<(usize, Order), Error> {
        let queue = self.find_type(queue_type)?;
        self.admit(queue, json.as_bytes())?;
        let payload = self.batch(queue, json.len())?.store(json.as_bytes());
        Ok((queue, Order::Put { payload, placeholder: None, answer: Stored::SuccessI(i.into()) }))
    }

    pub(super) fn dequeue(&mut self, body: &[u8], call: Call<'_, '_>) -> Answered {
        match self.addressed(body) {
            Ok(queue) => self.order(queue, call, Order::Pop { named: queue != DEFAULT_QUEUE }),
            Err(error) => refuse(call, &error),
        }
    }

    pub(super) fn length(&mut self, body: &[u8], call: Call<'_, '_>) -> Answered {
        match self.addressed(body) {
            Ok(queue) => self.order(queue, call, Order::Length),
            Err(error) => refuse(call, &error),
        }
    }

    /// The queue that a dequeue or length is about. Its body may be anything; only an object with
    /// `queue_type` means something.
    fn addressed(&self, body: &[u8]) -> Result<usize, Error> {
        match serde_json::from_slice::<Members>(body) {
            Ok(Members { queue_type: Some(queue_type), .. }) => self.find_type(&text(queue_type)),
            _ => Ok(DEFAULT_QUEUE),
        }
    }

    fn find_type(&self, queue_type: &str) -> Result<usize, Error> {
        match self.queues.index_of(queue_type) {
            Some(index) if index != DEFAULT_QUEUE => Ok(index),
            _ => Err(Error::QueueType),
        }
    }
}

/// What an enqueue asks to store, as JSON text.
enum Enqueue<'a> {
    Statement(Cow<'a, str>),
    /// All of the body, for the default queue's consumer.
    Whole(&'a str),
    Object {
        queue_type: String,
        json: String,
        i: String,
    },
}

impl<'a> Enqueue<'a> {
    /// A consumer of the default queue is shown what is more than a statement; nobody else asks.
    fn parse(body: &'a [u8], has_consumer: bool) -> Result<Self, Error> {
        let members: Members = parse(body, r#"{"sql": "a statement"}"#)?;
        match (members.queue_type, members.sql) {
            (Some(queue_type), _) => Self::object(body, text(queue_type)),
            (None, _) if has_consumer && members.for_consumer => {
                let json = std::str::from_utf8(body).map_err(|_| Error::not_text())?;
                Ok(Enqueue::Whole(json.trim_ascii()))
            }
            (None, None) => Err(Error::new("`sql` is missing: it holds the statement to store")),
            (None, Some(sql)) => Ok(Enqueue::Statement(canonical_string(sql)?)),
        }
    }

    /// The object without its `queue_type`, members in their order; of duplicates the last counts,
    /// as in Python.
    fn object(body: &[u8], queue_type: String) -> Result<Self, Error> {
        let mut object: serde_json::Map<String, Value> =
            parse(body, r#"{"queue_type": "a queue", …}"#)?;
        object.shift_remove("queue_type");
        let i = object.get("i").map_or_else(|| "0".to_owned(), python_text);
        let json = serde_json::to_string(&object).expect("parsed JSON can be written");
        Ok(Enqueue::Object { queue_type, json, i })
    }
}

/// Reads a request's body, or says what is wrong with it.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], expected: &str) -> Result<T, Error> {
    if body.is_empty() {
        return Err(Error::new(format!("the body is empty: send {expected}")));
    }
    serde_json::from_slice(body).map_err(|error| {
        if std::str::from_utf8(body).is_err() {
            Error::not_text()
        } else if error.is_data() {
            Error::new(format!("{error}; send {expected}"))
        } else {
            Error::new(format!("the body is not JSON: {error}"))
        }
    })
}

/// The members of a request that decide what it means, not yet looked into.
struct Members<'a> {
    sql: Option<&'a RawValue>,
    queue_type: Option<&'a RawValue>,
    /// There is one that means something to a consumer only.
    for_consumer: bool,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    /// Written out because of duplicates: derived code refuses them, Python takes the last.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members { sql: None, queue_type: None, for_consumer: false };
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Sql => members.sql = Some(map.next_value()?),
                Key::QueueType => members.queue_type = Some(map.next_value()?),
                Key::ForConsumer => {
                    members.for_consumer = true;
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(members)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Sql,
    QueueType,
    #[serde(rename = "stmt", alias = "params", alias = "key", alias = "notify")]
    ForConsumer,
    #[serde(other)]
    Other,
}

/// A JSON string in its shortest form: raw UTF-8, only what must be escaped is.
///
/// Most statements have no escapes and are taken as they stand.
fn canonical_string(json: &RawValue) -> Result<Cow<'_, str>, Error> {
    let text = json.get();
    if !text.starts_with('"') {
        return Err(Error::new(format!("`sql` must be a string, not {}", kind(text))));
    }
    if !text.contains('\\') {
        return Ok(Cow::Borrowed(text));
    }
    let statement: String = serde_json::from_str(text)
        .map_err(|error| Error::new(format!("`sql` is not valid JSON: {error}")))?;
    Ok(Cow::Owned(serde_json::to_string(&statement).expect("a string can be written")))
}

/// What a JSON text holds, in words.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(b'"') => "a string",
        _ => "a number",
    }
}

/// The text of a JSON string; of anything else, which names no queue, its JSON.
fn text(json: &RawValue) -> String {
    serde_json::from_str(json.get()).unwrap_or_else(|_| json.get().to_owned())
}

/// What Python's `str()` makes of a member, as far as clients can mean it.
fn python_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}
