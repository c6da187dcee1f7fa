//! `KEY=VALUE` from the environment or the command line: short texts, forgiving about quotes.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::file::{Given, meant};
use super::key::{self, Key, Kind, Place};
use super::problem::Mistake;
use super::syntax;

/// The key behind the path at `name` in a flag's text, with its value.
pub(crate) fn flag(
    text: &str,
    name: Range<usize>,
    value: Range<usize>,
) -> Result<Given<'_>, Mistake> {
    let path = &text[name.clone()];
    let parts: Vec<&str> = path.splitn(4, '.').collect();
    if let Some(place) = key::locate(&parts) {
        return given(place, name, text, value);
    }
    let mistake = Mistake::new(name, format!("unknown key `{path}`"), "no such key");
    let (plain, table) = without_table(&parts);
    Err(match meant(&plain) {
        _ if key::sections().contains(&path) => {
            let names: Vec<String> = key::within(path).map(|key| key.typed(0)).collect();
            let heading = key::heading(path);
            mistake.help(format!("{heading} is a section, its keys are {}", names.join(", ")))
        }
        Some(key) => Mistake { label: format!("did you mean `{}`?", key.typed(table)), ..mistake },
        None => mistake.help("`eserver check` prints all keys"),
    })
}

/// The path as if its section did not repeat, and which of the tables it names; the first unless it
/// says.
fn without_table(parts: &[&str]) -> (String, usize) {
    match key::cut_at_table(parts) {
        // The name of an entry is not what was mistaken.
        Some((section, table, [name, ..])) => (format!("{section}.{name}"), table),
        Some((section, table, [])) => (section, table),
        None => (parts.join("."), 0),
    }
}

/// The key behind an environment variable, with its value; `text` is `NAME=value`.
pub(crate) fn variable(text: &str, name: Range<usize>) -> Result<Given<'_>, Mistake> {
    let variable = &text[name.clone()];
    let path = variable.trim_start_matches("ESERVER__").to_lowercase();
    let parts: Vec<&str> = path.splitn(4, "__").collect();
    let place = key::locate(&parts);
    if let Some(place) = place.clone().filter(|_| variable == variable.to_uppercase()) {
        let value = name.end + 1..text.len();
        return given(place, name, text, value);
    }
    let title = format!("the environment variable {variable} names no key");
    let mistake = Mistake::new(name, title, "no such key");
    let (plain, table) = without_table(&parts);
    Err(match place.map(|place| place.key).or_else(|| meant(&plain)) {
        Some(key) => Mistake { label: format!("did you mean {}?", key.variable(table)), ..mistake },
        None => mistake.help("the name is ESERVER__SECTION__KEY, as in ESERVER__QUEUE__LISTEN"),
    })
}

/// Reads the value as TOML where it looks like TOML, and otherwise as the text or list of texts
/// that the key takes: `--set queue.names=sql,img` and `--set 'queue.names=["sql","img"]'` agree.
pub(crate) fn given(
    place: Place,
    name: Range<usize>,
    text: &str,
    value: Range<usize>,
) -> Result<Given<'_>, Mistake> {
    let parsed =
        parse(place.key, &text[value.clone()]).map_err(|mistake| mistake.shifted(value.start))?;
    Ok(Given { place, name, value: parsed, offset: value.start })
}

fn parse<'s>(key: &Key, raw: &'s str) -> Result<Spanned<DeValue<'s>>, Mistake> {
    let bare = |text: &'s str| DeValue::String(text.into());
    let is_list = match key.kind {
        Kind::Allow | Kind::QueueNames | Kind::Origins => true,
        Kind::Listen { .. } => raw.contains(',') || opens_list(raw),
        _ => false,
    };
    let is_toml = match key.kind {
        // `[::1]:8888` is no list.
        Kind::Listen { .. } => opens_list(raw),
        _ => is_list && raw.starts_with('['),
    };
    let parsed = if is_toml || raw.starts_with(['"', '\'']) {
        DeValue::parse(raw).map_err(|error| syntax::plain(raw, &error))?
    } else if matches!(key.kind, Kind::Integer { .. } | Kind::Switch) {
        let whole = || Spanned::new(0..raw.len(), bare(raw));
        DeValue::parse(raw).unwrap_or_else(|_| whole())
    } else if is_list {
        Spanned::new(0..raw.len(), DeValue::Array(items(raw)))
    } else {
        Spanned::new(0..raw.len(), bare(raw))
    };
    Ok(parsed)
}

/// Whether a text starts as a TOML list of texts does.
fn opens_list(raw: &str) -> bool {
    let inside = raw.strip_prefix('[').map(str::trim_start);
    inside.is_some_and(|inside| inside.starts_with(['"', '\'', ']']))
}

/// The parts between commas, without the blanks around them; an empty text is an empty list.
fn items(raw: &str) -> DeArray<'_> {
    let mut start = 0;
    let part = |part: &'_ str| {
        let lead = part.len() - part.trim_start().len();
        let span = start + lead..start + lead + part.trim().len();
        start += part.len() + 1;
        span
    };
    let spans: Vec<Range<usize>> = match raw.trim() {
        "" => Vec::new(),
        _ => raw.split(',').map(part).collect(),
    };
    let item = |span: Range<usize>| Spanned::new(span.clone(), DeValue::String(raw[span].into()));
    spans.into_iter().map(item).collect()
}
