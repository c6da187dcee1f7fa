//! [`Message`]: what a queue's message asks the database to do, and the [`Reader`] of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::engine::Engine;
use crate::statement::{Statement, StatementError};

/// Most statements of `{"sql": …, "params": …}` that a reader keeps; it forgets all when there is
/// one more.
pub(crate) const STATEMENTS_CACHED_MAX: usize = 1_024;

/// Longest text of a statement that is kept, in bytes.
pub(crate) const STATEMENT_CACHED_BYTES_MAX: usize = 16 * 1_024;

/// Longest name of a channel in `notify`, in bytes.
pub(crate) const NOTIFY_BYTES_MAX: usize = 256;

/// A message that was read: a statement, and the values bound to its placeholders.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Its number in the queue.
    pub(crate) id: u64,
    /// Bytes of its payload.
    pub(crate) bytes: u32,
    /// Shared by all messages with the same text.
    pub(crate) statement: Arc<Statement>,
    /// As many as the statement has placeholders.
    pub(crate) params: Vec<Param>,
    /// Messages with the same key keep their order among lanes; a hash of the key, `None` without.
    pub(crate) key: Option<u64>,
    /// The channel that is told when it has been applied, or buried.
    pub(crate) notify: Option<Box<str>>,
}

/// A value to bind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Param {
    Null,
    Bool(bool),
    /// A whole number that fits.
    Integer(i64),
    /// Any other number, as it was written.
    Number(Box<str>),
    Text(Box<str>),
    /// An object or an array, as JSON text.
    Json(Box<str>),
}

/// How a drain reads messages: the named statements, and whether SQL may come in messages.
///
/// A message is one of
/// - `{"stmt": name, "params": […]}`, a statement of the configuration;
/// - `{"sql": "… ? …", "params": […]}`, a statement and the values for its placeholders;
/// - `{"sql": text}`, or just the text as a JSON string, which is sent as it stands.
///
/// Objects may have a `key` (a string or a number: those with the same key keep their order) and
/// `notify` (the name of a channel); `null` is as good as no member. The member `i`, which old
/// clients send, is ignored, and any other refused.
#[derive(Debug)]
pub(crate) struct Reader {
    engine: Engine,
    named: HashMap<Box<str>, Arc<Statement>>,
    raw_sql: bool,
    /// Statements with placeholders that came in messages, by their text.
    cached: HashMap<Box<str>, Arc<Statement>>,
}

impl Reader {
    /// Reads the statements of the configuration, which are pairs of name and SQL. The error has the
    /// name of the one at fault.
    pub(crate) fn new(
        engine: Engine,
        named: &[(String, String)],
        raw_sql: bool,
    ) -> Result<Reader, (String, StatementError)> {
        let read = |(name, sql): &(String, String)| match Statement::with_params(engine, sql) {
            Ok(statement) => Ok((Box::from(name.as_str()), Arc::new(statement))),
            Err(error) => Err((name.clone(), error)),
        };
        let named = named.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Reader { engine, named, raw_sql, cached: HashMap::new() })
    }

    /// The statements of the configuration.
    pub(crate) fn named(&self) -> Vec<(String, Arc<Statement>)> {
        let named = self.named.iter();
        named.map(|(name, statement)| (String::from(&**name), Arc::clone(statement))).collect()
    }

    /// Whether a payload can be read, for the put; a sentence says why not.
    pub(crate) fn admit(&self, payload: &[u8]) -> Result<(), String> {
        let body = Body::read(payload)?;
        let given = each_param(self.engine, body.params, |_| ())?;
        match self.form(&body)? {
            Form::Named(statement) => check_count(statement, given)?,
            Form::WithParams(sql) => {
                check_count(&self.with_params(&sql)?, given)?;
            }
            Form::Raw(sql) => {
                self.raw(&sql)?;
            }
        }
        body.key()?;
        body.notify()?;
        Ok(())
    }

    /// Reads a payload; a sentence says why it cannot be read.
    pub(crate) fn read(&mut self, id: u64, payload: &[u8]) -> Result<Message, String> {
        let body = Body::read(payload)?;
        let mut params = Vec::new();
        each_param(self.engine, body.params, |param| params.push(param))?;
        let statement = match self.form(&body)? {
            Form::Named(statement) => statement.clone(),
            Form::WithParams(sql) => match self.cached.get(&*sql) {
                Some(statement) => statement.clone(),
                None => self.keep(&sql)?,
            },
            Form::Raw(sql) => Arc::new(self.raw(&sql)?),
        };
        check_count(&statement, params.len())?;
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Ok(Message { id, bytes, statement, params, key: body.key()?, notify: body.notify()? })
    }

    /// The channel to tell about a payload that cannot be read as a whole.
    pub(crate) fn notify_of(&self, payload: &[u8]) -> Option<Box<str>> {
        Body::read(payload).ok()?.notify().ok()?
    }

    /// What a body asks for, as far as the members `stmt` and `sql` say.
    fn form<'p>(&self, body: &Body<'p>) -> Result<Form<'_, 'p>, String> {
        match (body.stmt, body.sql) {
            (Some(name), None) => {
                let name = string("stmt", name)?;
                let statement = self.named.get(&*name).ok_or_else(|| self.unknown(&name))?;
                Ok(Form::Named(statement))
            }
            (None, Some(_)) if !self.raw_sql => {
                Err("SQL in messages is not allowed for this queue \
                 (raw_sql is off), send {\"stmt\": name, \"params\": […]}"
                    .to_owned())
            }
            (None, Some(sql)) if body.params.is_some() => Ok(Form::WithParams(string("sql", sql)?)),
            (None, Some(sql)) => Ok(Form::Raw(string("sql", sql)?)),
            (Some(_), Some(_)) => Err("`stmt` and `sql` exclude each other".to_owned()),
            (None, None) => Err("there is neither `stmt` nor `sql`".to_owned()),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let mut names: Vec<&str> = self.named.keys().map(|name| &**name).collect();
        names.sort_unstable();
        let more = if names.len() > NAMES_SHOWN_MAX { " and others" } else { "" };
        names.truncate(NAMES_SHOWN_MAX);
        let name = clipped(name, NAME_SHOWN_BYTES_MAX);
        match names.is_empty() {
            true => format!("there is no statement `{name}`, the drain names none"),
            false => {
                format!("there is no statement `{name}`, there are {}{more}", names.join(", "))
            }
        }
    }

    fn with_params(&self, sql: &str) -> Result<Statement, String> {
        Statement::with_params(self.engine, sql).map_err(|error| error.to_string())
    }

    fn raw(&self, sql: &str) -> Result<Statement, String> {
        Statement::raw(self.engine, sql).map_err(|error| error.to_string())
    }

    /// Reads a statement with placeholders, and keeps it for the next message with the same text.
    fn keep(&mut self, sql: &str) -> Result<Arc<Statement>, String> {
        let statement = Arc::new(self.with_params(sql)?);
        if sql.len() <= STATEMENT_CACHED_BYTES_MAX {
            if self.cached.len() >= STATEMENTS_CACHED_MAX {
                self.cached.clear();
            }
            self.cached.insert(sql.into(), statement.clone());
        }
        Ok(statement)
    }
}

/// Most names of statements in a sentence.
const NAMES_SHOWN_MAX: usize = 10;

/// Most bytes of a peer's words in a sentence.
const NAME_SHOWN_BYTES_MAX: usize = 64;

/// Which of the forms a message has.
enum Form<'r, 'p> {
    Named(&'r Arc<Statement>),
    WithParams(Cow<'p, str>),
    Raw(Cow<'p, str>),
}

/// A payload's members, not looked into yet. None may come twice.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    stmt: Option<&'a RawValue>,
    #[serde(borrow)]
    sql: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    notify: Option<&'a RawValue>,
    /// What old clients send.
    #[serde(rename = "i")]
    _ignored: Option<IgnoredAny>,
}

impl<'a> Body<'a> {
    fn read(payload: &'a [u8]) -> Result<Body<'a>, String> {
        let text = std::str::from_utf8(payload).map_err(|_| "the message is not UTF-8")?;
        let body = match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => serde_json::from_str(text),
            Some(b'"') => {
                serde_json::from_str(text).map(|text| Body { sql: Some(text), ..Body::default() })
            }
            _ => return Err("a message is a JSON object, or a string with SQL".to_owned()),
        };
        body.map_err(|error| {
            let sentence = error.to_string();
            match sentence.rsplit_once(" at line ") {
                Some((what, _)) if error.is_data() => {
                    format!("not a message: {}", clipped(what, SERDE_SHOWN_BYTES_MAX))
                }
                _ => format!("not JSON: {sentence}"),
            }
        })
    }

    /// A hash of the key. The number 7 and the string "7" are the same key.
    fn key(&self) -> Result<Option<u64>, String> {
        let Some(key) = self.key else { return Ok(None) };
        let key = match key.get().as_bytes() {
            [b'"', ..] => string("key", key)?,
            [b'-' | b'0'..=b'9', ..] => Cow::Borrowed(key.get()),
            _ => return Err("`key` is a string or a number".to_owned()),
        };
        // Without random state: whatever process reads the message, it goes to the same lane.
        Ok(Some(BuildHasherDefault::<DefaultHasher>::default().hash_one(&*key)))
    }

    fn notify(&self) -> Result<Option<Box<str>>, String> {
        let Some(notify) = self.notify else { return Ok(None) };
        let channel = string("notify", notify)?;
        match channel.len() {
            1..=NOTIFY_BYTES_MAX => Ok(Some(channel.into())),
            length => Err(format!(
                "`notify` is a channel's name of 1 to {NOTIFY_BYTES_MAX} bytes, not of {length}"
            )),
        }
    }
}

/// Whether a message brings as many values as its statement has placeholders.
fn check_count(statement: &Statement, given: usize) -> Result<(), String> {
    match statement.params() {
        wanted if wanted == given => Ok(()),
        1 => Err(format!("the statement has 1 placeholder, but `params` has {given} values")),
        wanted => {
            Err(format!("the statement has {wanted} placeholders, but `params` has {given} values"))
        }
    }
}

/// Calls `take` with each value in turn, and counts them.
fn each_param(
    engine: Engine,
    params: Option<&RawValue>,
    mut take: impl FnMut(Param),
) -> Result<usize, String> {
    let Some(params) = params else { return Ok(0) };
    if !params.get().starts_with('[') {
        return Err("`params` is an array".to_owned());
    }
    let (mut given, mut fault) = (0, None);
    let each = Each(|value: &RawValue| {
        given += 1;
        match Param::read(engine, value) {
            Ok(param) => take(param),
            Err(why) if fault.is_none() => fault = Some(format!("parameter {given} {why}")),
            Err(_) => {}
        }
    });
    let walked = serde_json::Deserializer::from_str(params.get()).deserialize_seq(each);
    debug_assert!(walked.is_ok(), "an array that was read once");
    match (fault, walked) {
        (Some(fault), _) => Err(fault),
        (None, walked) => walked.map(|()| given).map_err(|error| error.to_string()),
    }
}

/// Calls a function with each element of an array.
struct Each<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

impl Param {
    fn read(engine: Engine, value: &RawValue) -> Result<Param, String> {
        let text = value.get();
        Ok(match text.as_bytes()[0] {
            b'n' => Param::Null,
            b't' => Param::Bool(true),
            b'f' => Param::Bool(false),
            b'"' => {
                let text = unquoted(value)?;
                if engine == Engine::Postgres && text.contains('\0') {
                    return Err("has a NUL character, which PostgreSQL cannot store".to_owned());
                }
                Param::Text(text.into())
            }
            b'[' | b'{' => Param::Json(text.into()),
            _ => match text.parse() {
                Ok(whole) => Param::Integer(whole),
                // PostgreSQL alone has numbers beyond those of eight bytes.
                Err(_)
                    if engine != Engine::Postgres
                        && !text.parse().is_ok_and(|number: f64| number.is_finite()) =>
                {
                    return Err(format!("is a number that {engine} cannot store"));
                }
                Err(_) => Param::Number(text.into()),
            },
        })
    }
}

/// The text of a member that must be a string.
fn string<'a>(member: &str, value: &'a RawValue) -> Result<Cow<'a, str>, String> {
    if !value.get().starts_with('"') {
        return Err(format!("`{member}` is a string"));
    }
    unquoted(value).map_err(|why| format!("`{member}` {why}"))
}

/// The text of a JSON string.
fn unquoted(value: &RawValue) -> Result<Cow<'_, str>, String> {
    let quoted = value.get();
    if quoted.contains('\\') {
        // What was skipped over until now: halves of surrogate pairs.
        let text = serde_json::from_str(quoted).map_err(|_| "has half a character (\\u)")?;
        return Ok(Cow::Owned(text));
    }
    Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
}

/// Most bytes of the JSON parser's sentence in ours.
const SERDE_SHOWN_BYTES_MAX: usize = 200;

/// The front of a text that is too long for a sentence.
fn clipped(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(bytes_max)]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn reader(engine: Engine, raw_sql: bool) -> Reader {
        let named = [
            ("add", "insert into t(a, b) values (?, ?)"),
            ("one", "insert into t(a) values (?)"),
            ("tick", "update t set a = a + 1"),
        ]
        .map(|(name, sql)| (name.to_owned(), sql.to_owned()));
        Reader::new(engine, &named, raw_sql).unwrap()
    }

    /// Reads, and sees that the put would have been answered alike.
    fn read(reader: &mut Reader, payload: &[u8]) -> Result<Message, String> {
        let admitted = reader.admit(payload);
        let message = reader.read(7, payload);
        assert_eq!(admitted.err(), message.as_ref().err().cloned());
        message
    }

    fn refusal(raw_sql: bool, payload: &str) -> String {
        read(&mut reader(Engine::MySql, raw_sql), payload.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_message_has_one_of_three_forms() {
        let text = |text: &str| Param::Text(text.into());
        let add = "insert into t(a, b) values ($1, $2)";
        #[rustfmt::skip]
        let table = [
            (r#"{"stmt": "add", "params": [1, "x"]}"#, add, false, vec![Param::Integer(1), text("x")]),
            (r#" {"params":[null,true],"i":7,"stmt":"\u0061dd"} "#, add, false, vec![Param::Null, Param::Bool(true)]),
            (r#"{"stmt":"tick"}"#, "update t set a = a + 1", false, vec![]),
            (r#"{"stmt":"tick","params":null,"sql":null,"key":null}"#, "update t set a = a + 1", false, vec![]),
            (r#"{"stmt":"tick","params":[]}"#, "update t set a = a + 1", false, vec![]),
            (r#"{"sql":"select ?","params":["?"]}"#, "select $1", false, vec![text("?")]),
            (r#"{"sql":"select 1","params":[]}"#, "select 1", false, vec![]),
            (r#"{"sql":"select 'a' ?? 'b'","params":[]}"#, "select 'a' ? 'b'", false, vec![]),
            (r#"{"sql":"select 'a' ?? 'b'"}"#, "select 'a' ?? 'b'", true, vec![]),
            (r#"{"sql":"insert into t values ('\"');"}"#, r#"insert into t values ('"')"#, true, vec![]),
            (r#""insert into t(num) values (%d)""#, "insert into t(num) values (%d)", true, vec![]),
            (r#" "insert into t values ('\u00e9\n')" "#, "insert into t values ('é\n')", true, vec![]),
        ];
        let mut reader = reader(Engine::Postgres, true);
        for (payload, sql, raw, params) in table {
            let message = read(&mut reader, payload.as_bytes()).expect(payload);
            assert_eq!(message.id, 7);
            assert_eq!(message.statement.text(), sql, "{payload}");
            assert_eq!(message.statement.is_raw(), raw, "{payload}");
            assert_eq!(message.params, params, "{payload}");
            assert_eq!((message.key, message.notify), (None, None), "{payload}");
        }
    }

    #[test]
    fn values_keep_what_was_written() {
        let value = |engine, value: &str| {
            let payload = format!(r#"{{"stmt":"one","params":[{value}]}}"#);
            read(&mut reader(engine, false), payload.as_bytes())
                .map(|message| message.params[0].clone())
        };
        for engine in [Engine::Sqlite, Engine::Postgres, Engine::MySql] {
            for (written, expected) in [
                ("null", Param::Null),
                ("true", Param::Bool(true)),
                ("false", Param::Bool(false)),
                ("0", Param::Integer(0)),
                ("-0", Param::Integer(0)),
                ("9223372036854775807", Param::Integer(i64::MAX)),
                ("-9223372036854775808", Param::Integer(i64::MIN)),
                ("9223372036854775808", Param::Number("9223372036854775808".into())),
                ("1.50", Param::Number("1.50".into())),
                ("-1E+3", Param::Number("-1E+3".into())),
                ("1e-999", Param::Number("1e-999".into())),
                (r#""""#, Param::Text("".into())),
                (r#""it's \"\u00e9\ud83d\ude00\n""#, Param::Text("it's \"é😀\n".into())),
                (
                    r#"{ "a": [1.0, "x\u0041"] }"#,
                    Param::Json(r#"{ "a": [1.0, "x\u0041"] }"#.into()),
                ),
                ("[]", Param::Json("[]".into())),
            ] {
                assert_eq!(value(engine, written), Ok(expected), "{written} on {engine}");
            }
            assert_eq!(
                value(engine, r#""\ud83d""#).unwrap_err(),
                "parameter 1 has half a character (\\u)"
            );
        }
        assert_eq!(value(Engine::Postgres, "1e999"), Ok(Param::Number("1e999".into())));
        assert_eq!(
            value(Engine::Sqlite, "1e999").unwrap_err(),
            "parameter 1 is a number that SQLite cannot store"
        );
        assert_eq!(value(Engine::MySql, r#""\u0000""#), Ok(Param::Text("\0".into())));
        assert_eq!(
            value(Engine::Postgres, r#""a\u0000""#).unwrap_err(),
            "parameter 1 has a NUL character, which PostgreSQL cannot store"
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_a_sentence() {
        let long = "x".repeat(1_000);
        let members = "expected one of `stmt`, `sql`, `params`, `key`, `notify`, `i`";
        for (payload, sentence) in [
            ("", "a message is a JSON object, or a string with SQL"),
            ("[1]", "a message is a JSON object, or a string with SQL"),
            ("5", "a message is a JSON object, or a string with SQL"),
            ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
            (r#"{"stmt":"tick"} x"#, "not JSON: trailing characters"),
            (r#""select 1"#, "not JSON: EOF while parsing a string"),
            ("{}", "there is neither `stmt` nor `sql`"),
            (r#"{"params":[1]}"#, "there is neither `stmt` nor `sql`"),
            (r#"{"stmt":"tick","sql":"select 1"}"#, "`stmt` and `sql` exclude each other"),
            (
                r#"{"stmt":"tick","parms":[]}"#,
                &format!("not a message: unknown field `parms`, {members}"),
            ),
            (r#"{"stmt":"tick","stmt":"tick"}"#, "not a message: duplicate field `stmt`"),
            (r#"{"stmt":"tick","i":1,"i":2}"#, "duplicate field `i`"),
            (r#"{"stmt":5}"#, "`stmt` is a string"),
            (r#"{"sql":["select 1"]}"#, "`sql` is a string"),
            (r#"{"sql":"\ud800"}"#, "`sql` has half a character"),
            (r#"{"stmt":"tock"}"#, "there is no statement `tock`, there are add, one, tick"),
            (r#"{"stmt":"add","params":5}"#, "`params` is an array"),
            (r#"{"stmt":"add","params":{"a":1}}"#, "`params` is an array"),
            (r#"{"stmt":"add"}"#, "the statement has 2 placeholders, but `params` has 0 values"),
            (r#"{"stmt":"add","params":[1,2,3]}"#, "has 2 placeholders, but `params` has 3 values"),
            (
                r#"{"stmt":"one","params":[]}"#,
                "the statement has 1 placeholder, but `params` has 0",
            ),
            (
                r#"{"stmt":"add","params":[1,1e999]}"#,
                "parameter 2 is a number that MySQL cannot store",
            ),
            (r#"{"sql":"select ?","params":[]}"#, "has 1 placeholder, but `params` has 0 values"),
            (r#"{"sql":"select ?"}"#, "`?` at byte 7 is a placeholder, but nothing is bound"),
            (r#"{"sql":"drop table t","params":[]}"#, "`drop` is not allowed: definitions"),
            (r#""insert into t values (1); drop table t""#, "there is more than one statement"),
            (r#""""#, "the statement is empty"),
            (r#""select '\u0000'""#, "the statement has a NUL byte at byte 8"),
            (r#"{"stmt":"tick","key":true}"#, "`key` is a string or a number"),
            (r#"{"stmt":"tick","key":["a"]}"#, "`key` is a string or a number"),
            (r#"{"stmt":"tick","notify":5}"#, "`notify` is a string"),
            (
                r#"{"stmt":"tick","notify":""}"#,
                "`notify` is a channel's name of 1 to 256 bytes, not of 0",
            ),
            (&format!(r#"{{"stmt":"tick","notify":"{long}"}}"#), "not of 1000"),
        ] {
            let refusal = refusal(true, payload);
            assert!(refusal.contains(sentence), "{payload}: {refusal}");
        }
        let error = reader(Engine::MySql, true).read(1, b"{\"stmt\": \"\xff\"}").unwrap_err();
        assert_eq!(error, "the message is not UTF-8");
        for payload in [
            format!(r#"{{"stmt":"{long}"}}"#),
            format!(r#"{{"{long}":1}}"#),
            format!(r#""{long}""#),
        ] {
            assert!(refusal(true, &payload).len() < 400, "{payload}");
        }
    }

    #[test]
    fn sql_in_messages_needs_leave() {
        for payload in
            [r#""select 1""#, r#"{"sql":"select 1"}"#, r#"{"sql":"select ?","params":[1]}"#]
        {
            assert_eq!(
                refusal(false, payload),
                "SQL in messages is not allowed for this queue (raw_sql is off), send \
                 {\"stmt\": name, \"params\": […]}"
            );
        }
        assert!(reader(Engine::MySql, false).admit(br#"{"stmt":"tick"}"#).is_ok());
    }

    #[test]
    fn names_are_listed_but_not_without_end() {
        let named = |count: usize| -> Vec<_> {
            (0..count).map(|at| (format!("s{at:02}"), "select 1".to_owned())).collect()
        };
        let refusal = |count| {
            let reader = Reader::new(Engine::Sqlite, &named(count), false).unwrap();
            reader.admit(br#"{"stmt":"x"}"#).unwrap_err()
        };
        assert_eq!(refusal(0), "there is no statement `x`, the drain names none");
        assert!(refusal(10).ends_with("s08, s09"));
        assert!(refusal(11).ends_with("s08, s09 and others"));
    }

    #[test]
    fn a_statement_at_fault_is_named() {
        let named = [("good", "select ?"), ("bad", "begin")];
        let named = named.map(|(name, sql)| (name.to_owned(), sql.to_owned()));
        let (name, error) = Reader::new(Engine::MySql, &named, false).unwrap_err();
        assert_eq!((name.as_str(), error), ("bad", StatementError::Transaction("begin".into())));
    }

    #[test]
    fn keys_tell_messages_apart() {
        let mut reader = reader(Engine::Sqlite, false);
        let mut key = |key: &str| {
            let payload = format!(r#"{{"stmt":"tick","key":{key},"notify":"done:é"}}"#);
            let message = read(&mut reader, payload.as_bytes()).unwrap();
            assert_eq!(message.notify.as_deref(), Some("done:é"));
            message.key.unwrap()
        };
        assert_eq!(key(r#""user:7""#), key(r#""user\u003a7""#));
        assert_eq!(key("7"), key(r#""7""#));
        assert_ne!(key("7"), key("8"));
        assert_ne!(key(r#""""#), key("0"));
        let lanes: HashSet<u64> = (0..200).map(|user| key(&user.to_string()) % 16).collect();
        assert_eq!(lanes.len(), 16);
    }

    #[test]
    fn statements_are_shared_and_kept_up_to_a_bound() {
        let mut reader = reader(Engine::Sqlite, true);
        let mut statement = |payload: &str| reader.read(1, payload.as_bytes()).unwrap().statement;
        for payload in
            [r#"{"stmt":"one","params":[1]}"#, r#"{"sql":"select ?","params":["\u0061"]}"#]
        {
            assert!(Arc::ptr_eq(&statement(payload), &statement(payload)), "{payload}");
        }
        let sql = r#"{"sql":"select 1"}"#;
        assert!(!Arc::ptr_eq(&statement(sql), &statement(sql)));
        for number in 0..2 * STATEMENTS_CACHED_MAX {
            statement(&format!(r#"{{"sql":"select {number}","params":[]}}"#));
            statement(&format!(r#"{{"sql":"select {number}"}}"#));
        }
        let long = "x".repeat(STATEMENT_CACHED_BYTES_MAX);
        statement(&format!(r#"{{"sql":"select '{long}'","params":[]}}"#));
        assert!(!reader.cached.is_empty() && reader.cached.len() <= STATEMENTS_CACHED_MAX);
        assert!(reader.cached.keys().all(|sql| sql.len() <= STATEMENT_CACHED_BYTES_MAX));
    }

    proptest! {
        #[test]
        fn no_payload_panics_and_the_put_agrees(
            payload in r#"([{}\[\]":,\\?'1-]|"(stmt|sql|params|key|notify|i)":|"one"|"select 1"|\[1\]|\\u00|null|.){0,12}"#,
            cut in 0_usize..40,
        ) {
            let mut reader = reader(Engine::Postgres, true);
            for text in [payload.clone(), format!("{{{payload}}}"), format!("\"{payload}\"")] {
                let _ = read(&mut reader, text.as_bytes());
                let _ = read(&mut reader, &text.as_bytes()[..cut.min(text.len())]);
            }
        }

        #[test]
        fn values_come_back(texts in proptest::collection::vec(any::<String>(), 2)) {
            let payload = serde_json::json!({ "stmt": "add", "params": texts }).to_string();
            let message = read(&mut reader(Engine::MySql, false), payload.as_bytes());
            let expected: Vec<Param> =
                texts.into_iter().map(|text| Param::Text(text.into())).collect();
            prop_assert_eq!(message.unwrap().params, expected);
        }
    }
}
