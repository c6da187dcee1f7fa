//! [`Value`]: what a key holds once it has been checked against its kind.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use eserver_queue::QueueName;
use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::address::{Misread, parse_listen, parse_prefix};
use super::key::{Key, Kind, grouped};
use super::problem::Mistake;
use super::suggest::nearest;
use crate::log::LogLevel;

/// The name that the modern commands give to the queue without a name.
const DEFAULT_QUEUE: &str = "default";

/// A checked value; which variant it is follows from the key's [`Kind`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Of [`Kind::Path`] and [`Kind::Choice`].
    Text(String),
    /// Of [`Kind::Integer`], within its bounds.
    Integer(u64),
    /// Of [`Kind::Listen`]: at least one, none twice.
    Listen(Vec<SocketAddr>),
    /// Of [`Kind::Allow`].
    Allow(Vec<IpNet>),
    /// Of [`Kind::QueueNames`]: valid and distinct.
    QueueNames(Vec<String>),
    /// Of [`Kind::LogLevel`].
    LogLevel(LogLevel),
}

/// The value of `key`, or all that is wrong with it.
pub(crate) fn check(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Value, Vec<Mistake>> {
    match key.kind {
        Kind::Path => text(key, value).and_then(|text| match text {
            "" => one(Mistake::new(value.span(), says(key, "is empty"), "expected a path")),
            _ => Ok(Value::Text(text.to_owned())),
        }),
        Kind::Integer { min, max } => integer(key, value, min..=max).map(Value::Integer),
        Kind::Choice(words) => text(key, value).and_then(|text| choice(key, value, text, words)),
        Kind::Listen => listen(key, value).map(Value::Listen),
        Kind::Allow => list(key, value, |item, text| {
            parse_prefix(text).map_err(|misread| unreadable(key, item, misread))
        })
        .map(Value::Allow),
        Kind::QueueNames => {
            list(key, value, |item, text| queue_name(key, item, text)).map(Value::QueueNames)
        }
        Kind::LogLevel => text(key, value).and_then(|text| {
            LogLevel::parse(text).map(Value::LogLevel).map_err(|error| {
                let title = says(key, "is not a log level");
                vec![Mistake::new(value.span(), title, error.to_string()).help(LogLevel::HELP)]
            })
        }),
    }
}

fn one<T>(mistake: Mistake) -> Result<T, Vec<Mistake>> {
    Err(vec![mistake])
}

fn says(key: &Key, what: &str) -> String {
    format!("`{}` {what}", key.path)
}

/// An English name for what was given instead.
fn given(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value of another type than the key takes.
pub(crate) fn wrong_type(key: &Key, value: &Spanned<DeValue<'_>>) -> Mistake {
    let inner = value.get_ref();
    let title = format!("`{}` cannot be {}", key.path, given(inner));
    let mistake = Mistake::new(value.span(), title, format!("expected {}", key.kind.expectation()));
    match (key.kind, inner) {
        (Kind::Integer { .. }, DeValue::String(text)) if text.parse::<u64>().is_ok() => {
            mistake.help(format!("a number stands without quotes: {text}"))
        }
        (Kind::Allow | Kind::QueueNames, DeValue::String(text)) => {
            mistake.help(format!("a list stands in brackets: [{text:?}]"))
        }
        _ => mistake,
    }
}

fn text<'v>(key: &Key, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str, Vec<Mistake>> {
    value.get_ref().as_str().ok_or_else(|| vec![wrong_type(key, value)])
}

fn integer(
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    bounds: std::ops::RangeInclusive<u64>,
) -> Result<u64, Vec<Mistake>> {
    let Some(integer) = value.get_ref().as_integer() else {
        return one(wrong_type(key, value));
    };
    u64::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| {
            let label = format!("expected {}", key.kind.expectation());
            vec![Mistake::new(value.span(), says(key, "is out of range"), label)]
        })
}

fn choice(
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    text: &str,
    words: &[&str],
) -> Result<Value, Vec<Mistake>> {
    if words.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    let title = format!("`{}` cannot be {text:?}", key.path);
    let mistake = Mistake::new(value.span(), title, format!("expected {}", key.kind.expectation()));
    one(match nearest(text, words.iter().copied()) {
        Some(word) => mistake.help(format!("did you mean {word:?}?")),
        None => mistake,
    })
}

/// Every item of a list of texts, none twice, or the mistakes of all of them.
fn list<T>(
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    read: impl Fn(Range<usize>, &str) -> Result<T, Mistake>,
) -> Result<Vec<T>, Vec<Mistake>> {
    let Some(items) = value.get_ref().as_array() else {
        return one(wrong_type(key, value));
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for item in items.iter() {
        let read = match item.get_ref().as_str() {
            // Port 0 takes a free port each time, so two of them are two listeners.
            Some(text) if !seen.insert(text) && !text.ends_with(":0") => {
                let title = format!("`{}` holds {text:?} twice", key.path);
                Err(Mistake::new(item.span(), title, "already in the list"))
            }
            Some(text) => read(item.span(), text),
            None => Err(wrong_type(key, item)),
        };
        match read {
            Ok(item) => good.push(item),
            Err(mistake) => bad.push(mistake),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

fn unreadable(key: &Key, span: Range<usize>, misread: Misread) -> Mistake {
    let title = match key.kind {
        Kind::Listen => says(key, "takes an IP address and a port"),
        _ => says(key, "takes IP addresses and prefixes"),
    };
    Mistake::new(span, title, misread.label).help(misread.help)
}

fn listen(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Vec<SocketAddr>, Vec<Mistake>> {
    let read =
        |span, text: &str| parse_listen(text).map_err(|misread| unreadable(key, span, misread));
    if let Some(text) = value.get_ref().as_str() {
        return read(value.span(), text).map(|address| vec![address]).map_err(|bad| vec![bad]);
    }
    let addresses = list(key, value, read)?;
    if addresses.is_empty() {
        let title = says(key, "is empty");
        return one(Mistake::new(value.span(), title, "expected at least one address"));
    }
    Ok(addresses)
}

fn queue_name(key: &Key, span: Range<usize>, name: &str) -> Result<String, Mistake> {
    let title = says(key, "holds a name that no queue can have");
    match QueueName::new(name) {
        Ok(name) if name.as_str() == DEFAULT_QUEUE => {
            let label = "the queue without a name is called so, and it is always there";
            Err(Mistake::new(span, title, label))
        }
        Ok(name) => Ok(name.to_string()),
        Err(error) => Err(Mistake::new(span, title, error.to_string())),
    }
}

/// The value as TOML.
impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => write_text(formatter, text),
            Value::Integer(number) => formatter.write_str(&grouped(*number)),
            Value::Listen(addresses) => match addresses.as_slice() {
                [address] => write_text(formatter, address),
                addresses => write_list(formatter, addresses),
            },
            Value::Allow(prefixes) => {
                let texts: Vec<String> = prefixes.iter().map(prefix_text).collect();
                write_list(formatter, &texts)
            }
            Value::QueueNames(names) => write_list(formatter, names),
            Value::LogLevel(level) => write_text(formatter, level),
        }
    }
}

/// A prefix of one address is written as that address.
fn prefix_text(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

fn write_text(formatter: &mut fmt::Formatter<'_>, text: &impl ToString) -> fmt::Result {
    write!(formatter, "{}", toml::Value::String(text.to_string()))
}

fn write_list(formatter: &mut fmt::Formatter<'_>, items: &[impl ToString]) -> fmt::Result {
    formatter.write_str("[")?;
    for (index, item) in items.iter().enumerate() {
        formatter.write_str(if index == 0 { "" } else { ", " })?;
        write_text(formatter, item)?;
    }
    formatter.write_str("]")
}
