//! [`Value`]: what a key holds once it has been checked against its kind.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use eserver_comet::{BadOrigin, Origin, Origins};
use eserver_queue::QueueName;
use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::address::{Misread, parse_listen, parse_prefix};
use super::key::{Key, Kind, grouped};
use super::problem::Mistake;
use super::secret::{HIDDEN, Secretive};
use super::settings::Table;
use super::suggest::nearest;
use crate::log::LogLevel;

/// The name that the modern commands give to the queue without a name.
pub(crate) const DEFAULT_QUEUE: &str = "default";

/// What stands for the origins of all web pages.
const ALL_ORIGINS: &str = "*";

/// Characters in the name of a statement, at most.
const STATEMENT_NAME_MAX: usize = 64;

/// A checked value; which variant it is follows from the key's [`Kind`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Of [`Kind::Text`], [`Kind::Path`], [`Kind::UrlPath`], [`Kind::FieldValue`],
    /// [`Kind::Choice`], [`Kind::QueueName`], and one of [`Kind::Statements`].
    Text(String),
    /// Of [`Kind::Integer`], within its bounds.
    Integer(u64),
    /// Of [`Kind::Listen`]: at least one unless there may be none, none twice.
    Listen(Vec<SocketAddr>),
    /// Of [`Kind::Allow`].
    Allow(Vec<IpNet>),
    /// Of [`Kind::QueueNames`]: valid and distinct.
    QueueNames(Vec<String>),
    /// Of [`Kind::Origins`]: distinct.
    Origins(Origins),
    /// Of [`Kind::LogLevel`].
    LogLevel(LogLevel),
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of [`Kind::Url`]; not looked into yet.
    Url(Secretive),
    /// Of [`Kind::Secret`].
    Secret(String),
    /// Of [`Kind::Tables`].
    Tables(Vec<Table>),
}

/// The value of `key`, or all that is wrong with it.
pub(crate) fn check(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Value, Vec<Mistake>> {
    match key.kind {
        Kind::Text => text(key, value).map(|text| Value::Text(text.to_owned())),
        Kind::Secret => text(key, value).and_then(|text| {
            if text == HIDDEN {
                let title = says(key, "was printed without what it is");
                let label = format!("{HIDDEN} stands in the place of a secret");
                return one(Mistake::new(value.span(), title, label).help("write the secret here"));
            }
            Ok(Value::Secret(text.to_owned()))
        }),
        Kind::Path => filled(key, value, "expected a path").map(Value::Text),
        Kind::UrlPath => url_path(key, value).map(Value::Text),
        Kind::FieldValue => field_value(key, value).map(Value::Text),
        Kind::Integer { min, max } => integer(key, value, min..=max).map(Value::Integer),
        Kind::Choice(words) => text(key, value).and_then(|text| choice(key, value, text, words)),
        Kind::Listen { port, may_be_empty } => {
            listen(key, value, port, may_be_empty).map(Value::Listen)
        }
        Kind::Allow => list(key, value, |item, text| {
            parse_prefix(text).map_err(|misread| unreadable(key, item, misread))
        })
        .map(Value::Allow),
        Kind::QueueNames => {
            list(key, value, |item, text| queue_name(key, item, text)).map(Value::QueueNames)
        }
        Kind::Origins => origins(key, value).map(Value::Origins),
        Kind::LogLevel => text(key, value).and_then(|text| {
            LogLevel::parse(text).map(Value::LogLevel).map_err(|error| {
                let title = says(key, "is not a log level");
                vec![Mistake::new(value.span(), title, error.to_string()).help(LogLevel::HELP)]
            })
        }),
        Kind::Switch => match value.get_ref() {
            DeValue::Boolean(switch) => Ok(Value::Switch(*switch)),
            _ => one(wrong_type(key, value)),
        },
        Kind::QueueName => text(key, value).and_then(|text| match QueueName::new(text) {
            Ok(name) => Ok(Value::Text(name.to_string())),
            Err(error) => {
                let title = says(key, "is a name that no queue can have");
                one(Mistake::new(value.span(), title, error.to_string()))
            }
        }),
        Kind::Url => filled(key, value, "expected a URL").and_then(|url| {
            if url.contains(&format!(":{HIDDEN}@")) {
                let title = says(key, "was printed without its password");
                let label = format!("{HIDDEN} stands in the place of a password");
                let help = "write the password here, or leave `:***` out and name a password_file";
                return one(Mistake::new(value.span(), title, label).help(help));
            }
            Ok(Value::Url(Secretive(url)))
        }),
        Kind::Statements => filled(key, value, "expected SQL").map(Value::Text),
        Kind::Tables(_) => match value.get_ref().as_array() {
            // Tables are read key by key; only the default comes this way.
            Some(none) if none.is_empty() => Ok(Value::Tables(Vec::new())),
            _ => one(wrong_type(key, value)),
        },
    }
}

/// Whether an entry may have this name: one that can be written anywhere without quotes.
pub(crate) fn check_entry_name(key: &Key, name: &str, span: Range<usize>) -> Result<(), Mistake> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=STATEMENT_NAME_MAX).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(());
    }
    let label = format!(
        "a name is made of 1 to {STATEMENT_NAME_MAX} of the letters a to z, digits and `_`"
    );
    let mistake = Mistake::new(span, says(key, &format!("cannot have the name {name:?}")), label);
    let lower = name.to_ascii_lowercase();
    Err(match lower != name && lower.bytes().all(is_plain) {
        true => mistake.help(format!("write {lower}")),
        false => mistake,
    })
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
        (Kind::Switch, DeValue::String(text)) if text.parse::<bool>().is_ok() => {
            mistake.help(format!("it stands without quotes: {text}"))
        }
        (Kind::Allow | Kind::QueueNames | Kind::Origins, DeValue::String(text)) => {
            mistake.help(format!("a list stands in brackets: [{text:?}]"))
        }
        _ => mistake,
    }
}

fn text<'v>(key: &Key, value: &'v Spanned<DeValue<'_>>) -> Result<&'v str, Vec<Mistake>> {
    value.get_ref().as_str().ok_or_else(|| vec![wrong_type(key, value)])
}

/// A text that is not empty.
fn filled(key: &Key, value: &Spanned<DeValue<'_>>, expected: &str) -> Result<String, Vec<Mistake>> {
    match text(key, value)? {
        "" => one(Mistake::new(value.span(), says(key, "is empty"), expected)),
        text => Ok(text.to_owned()),
    }
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
        Kind::Listen { .. } => says(key, "takes an IP address and a port"),
        _ => says(key, "takes IP addresses and prefixes"),
    };
    Mistake::new(span, title, misread.label).help(misread.help)
}

fn listen(
    key: &Key,
    value: &Spanned<DeValue<'_>>,
    port: u16,
    may_be_empty: bool,
) -> Result<Vec<SocketAddr>, Vec<Mistake>> {
    let read = |span, text: &str| {
        parse_listen(text, port).map_err(|misread| unreadable(key, span, misread))
    };
    if let Some(text) = value.get_ref().as_str() {
        return read(value.span(), text).map(|address| vec![address]).map_err(|bad| vec![bad]);
    }
    let addresses = list(key, value, read)?;
    if addresses.is_empty() && !may_be_empty {
        let title = says(key, "is empty");
        return one(Mistake::new(value.span(), title, "expected at least one address"));
    }
    Ok(addresses)
}

/// A path that a request can have and a route can be made of.
fn url_path(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Mistake>> {
    let path = filled(key, value, "expected a path that begins with a slash")?;
    let at = |what: &str| Mistake::new(value.span(), says(key, "is no path"), what);
    let reserved = |letter: char| letter.is_control() || "?#{}*\\".contains(letter);
    if path.contains("://") {
        return one(at("a URL").help("write only the path, from the slash after the host on"));
    } else if !path.starts_with('/') {
        return one(at("it does not begin with a slash").help(format!("write \"/{path}\"")));
    } else if path.contains('%') {
        return one(at("it is encoded").help("write it as a person reads it, such as \"/a b\""));
    } else if let Some(letter) = path.chars().find(|letter| reserved(*letter)) {
        return one(at(&format!("{letter:?} cannot be in it")));
    } else if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return one(at("clients leave out steps such as `..` before they ask"));
    }
    Ok(path)
}

/// A text that can be sent as a header field.
fn field_value(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<String, Vec<Mistake>> {
    let text = text(key, value)?;
    match text.chars().find(|letter| letter.is_control()) {
        Some(letter) => {
            let label = format!("{letter:?} cannot be in it");
            one(Mistake::new(value.span(), says(key, "cannot be a header field"), label))
        }
        None => Ok(text.to_owned()),
    }
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

/// All origins, or each of those that are listed.
fn origins(key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Origins, Vec<Mistake>> {
    let is_all = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str() == Some(ALL_ORIGINS);
    if value.get_ref().as_array().is_some_and(|items| items.len() == 1 && is_all(&items[0])) {
        return Ok(Origins::Any);
    }
    let read = |span: Range<usize>, text: &str| {
        text.parse::<Origin>().map_err(|error| {
            let title = says(key, "takes origins, as browsers send them");
            let mistake = Mistake::new(span, title, error.to_string());
            match instead(text) {
                Some(origin) if error != BadOrigin::Null => {
                    mistake.help(format!("write \"{origin}\""))
                }
                _ => mistake.help("an origin is scheme://host, or scheme://host:port"),
            }
        })
    };
    list(key, value, read).map(Origins::Of)
}

/// The origin that was probably meant.
fn instead(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", &text));
    let (scheme, port) = match scheme {
        "http" | "ws" => ("http", ":80"),
        "https" | "wss" => ("https", ":443"),
        other => (other, ""),
    };
    let host = rest.split(['/', '?', '#']).next()?;
    let meant = format!("{scheme}://{}", host.strip_suffix(port).unwrap_or(host));
    meant.parse::<Origin>().is_ok().then_some(meant)
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
            Value::Origins(Origins::Any) => write_list(formatter, &[ALL_ORIGINS]),
            Value::Origins(Origins::Of(origins)) => {
                let texts: Vec<&str> = origins.iter().map(Origin::as_str).collect();
                write_list(formatter, &texts)
            }
            Value::LogLevel(level) => write_text(formatter, level),
            Value::Switch(switch) => write!(formatter, "{switch}"),
            Value::Url(url) => write_text(formatter, url),
            Value::Secret(secret) if secret.is_empty() => write_text(formatter, secret),
            Value::Secret(_) => write_text(formatter, &HIDDEN),
            Value::Tables(tables) => {
                let texts: Vec<String> = tables.iter().map(Table::to_string).collect();
                write!(formatter, "[{}]", texts.join(", "))
            }
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
