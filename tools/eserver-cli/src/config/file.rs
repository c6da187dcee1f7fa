//! A configuration file: TOML in, known keys with their values out.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{self, KEYS, Key};
use super::problem::Mistake;
use super::suggest::nearest;
use super::syntax::Broken;
use super::value::wrong_type;

/// A value that somebody gave to a key, not checked yet.
#[derive(Debug)]
pub(crate) struct Given<'s> {
    pub(crate) key: &'static Key,
    /// The value; its spans count from `offset` on.
    pub(crate) value: Spanned<DeValue<'s>>,
    /// Where the value's own text starts within its source.
    pub(crate) offset: usize,
}

/// Every known key of a file, and everything that is no known key.
pub(crate) fn read(text: &str) -> (Vec<Given<'_>>, Vec<Mistake>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = Broken::new(text, &errors);
    let mut walk = Walk { given: Vec::new(), mistakes: Vec::new() };
    walk.table("", table.into_inner());
    let Walk { mut given, mut mistakes } = walk;
    // What the parser made up to go on must not be complained about a second time.
    mistakes.retain(|mistake| !broken.touches(&mistake.span));
    given.retain(|given| !broken.touches(&given.value.span()));
    mistakes.extend(broken.into_mistakes());
    (given, mistakes)
}

struct Walk<'s> {
    given: Vec<Given<'s>>,
    mistakes: Vec<Mistake>,
}

impl<'s> Walk<'s> {
    fn table(&mut self, section: &str, table: DeTable<'s>) {
        for (name, value) in table {
            let path = match section {
                "" => name.get_ref().to_string(),
                _ => format!("{section}.{}", name.get_ref()),
            };
            let is_table = value.get_ref().is_table();
            if let Some(key) = key::find(&path) {
                if is_table {
                    let mut mistake = wrong_type(key, &value);
                    mistake.span = name.span();
                    self.mistakes.push(mistake);
                } else {
                    self.given.push(Given { key, value, offset: 0 });
                }
            } else if key::sections().contains(&path.as_str()) {
                match value.into_inner() {
                    DeValue::Table(table) => self.table(&path, table),
                    _ => self.mistakes.push(not_a_section(&path, &name)),
                }
            } else if is_table && section.is_empty() {
                self.mistakes.push(unknown_section(&path, &name));
            } else {
                self.mistakes.push(unknown_key(section, name.get_ref(), &name));
            }
        }
    }
}

fn not_a_section<T>(section: &str, at: &Spanned<T>) -> Mistake {
    Mistake::new(
        at.span(),
        format!("`{section}` is a section, not a value"),
        format!("write [{section}] on a line of its own, and its keys below"),
    )
}

fn unknown_section<T>(section: &str, at: &Spanned<T>) -> Mistake {
    let sections = key::sections();
    let mistake = Mistake::new(at.span(), format!("unknown section [{section}]"), "");
    match nearest(section, sections.iter().copied()) {
        Some(meant) => Mistake { label: format!("did you mean [{meant}]?"), ..mistake },
        None => Mistake { label: "no such section".to_owned(), ..mistake }
            .help(format!("the sections are [{}]", sections.join("], ["))),
    }
}

fn unknown_key<T>(section: &str, name: &str, at: &Spanned<T>) -> Mistake {
    let path = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
    let title = format!("unknown key `{path}`");
    let Some(meant) = meant(&path) else {
        let names: Vec<&str> = key::within(section).map(Key::name).collect();
        let place = if section.is_empty() {
            "the top of the file".to_owned()
        } else {
            format!("[{section}]")
        };
        return Mistake::new(at.span(), title, "no such key")
            .help(format!("{place} may hold {}", names.join(", ")));
    };
    let place = match meant.section() {
        "" => "at the top of the file, above the first [section]".to_owned(),
        section => format!("in [{section}]"),
    };
    let label = if meant.section() == section {
        format!("did you mean `{}`?", meant.name())
    } else if meant.name() == name {
        format!("`{name}` belongs {place}")
    } else {
        format!("did you mean `{}`, {place}?", meant.name())
    };
    Mistake::new(at.span(), title, label)
}

/// The key that was probably meant: a slip within the section, the right name in the wrong section,
/// a slip within a section that is a slip itself, or the nearest name anywhere.
pub(crate) fn meant(path: &str) -> Option<&'static Key> {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    nearest_within(section, name)
        .or_else(|| KEYS.iter().find(|key| key.name() == name))
        .or_else(|| nearest_within(nearest(section, key::sections())?, name))
        .or_else(|| {
            let name = nearest(name, KEYS.iter().map(Key::name))?;
            KEYS.iter().find(|key| key.name() == name)
        })
}

fn nearest_within(section: &str, name: &str) -> Option<&'static Key> {
    let name = nearest(name, key::within(section).map(Key::name))?;
    key::within(section).find(|key| key.name() == name)
}
