//! A configuration file: TOML in, known keys with their values out.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{self, Key, Kind, Place};
use super::problem::Mistake;
use super::suggest::nearest;
use super::syntax::Broken;
use super::value::wrong_type;

/// What one source says.
#[derive(Debug, Default)]
pub(crate) struct Said<'s> {
    /// Tables of sections that repeat, in their order.
    pub(crate) tables: Vec<Opened>,
    /// The values of known keys.
    pub(crate) given: Vec<Given<'s>>,
    /// Everything that is no known key.
    pub(crate) mistakes: Vec<Mistake>,
    /// Whether something could not be read at all, so that values may be missing.
    pub(crate) broken: bool,
}

/// A table of a section that repeats.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The row of the section.
    pub(crate) row: &'static Key,
    /// Its first line.
    pub(crate) span: Range<usize>,
    /// Whether everything in it could be read.
    pub(crate) whole: bool,
}

/// A value that somebody gave to a key, not checked yet.
#[derive(Debug)]
pub(crate) struct Given<'s> {
    pub(crate) place: Place,
    /// Where the key is named.
    pub(crate) name: Range<usize>,
    /// The value; its spans count from `offset` on.
    pub(crate) value: Spanned<DeValue<'s>>,
    /// Where the value's own text starts within its source.
    pub(crate) offset: usize,
}

/// Every known key of a file, and everything that is no known key.
pub(crate) fn read(text: &str) -> Said<'_> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = Broken::new(text, &errors);
    let mut said = Said { broken: !errors.is_empty(), ..Said::default() };
    said.table("", table.into_inner());
    // What the parser made up to go on must not be complained about a second time.
    said.mistakes.retain(|mistake| !broken.touches(&mistake.span));
    said.given.retain(|given| !broken.touches(&given.value.span()));
    said.mistakes.extend(broken.into_mistakes());
    said
}

impl<'s> Said<'s> {
    fn table(&mut self, section: &str, table: DeTable<'s>) {
        for (name, value) in table {
            let path = match section {
                "" => name.get_ref().to_string(),
                _ => format!("{section}.{}", name.get_ref()),
            };
            let is_table = value.get_ref().is_table();
            if let Some(key) = key::find(&path) {
                match key.kind {
                    Kind::Tables(_) => self.tables(key, &name, value),
                    _ => self.value(key.into(), &name, value),
                }
            } else if key::sections().contains(&path.as_str()) {
                match value.into_inner() {
                    DeValue::Table(table) => self.table(&path, table),
                    _ => self.mistakes.push(not_a_section(&path, &name)),
                }
            } else if (is_table && section.is_empty()) || has_tables(value.get_ref()) {
                self.mistakes.push(unknown_section(&path, &name));
            } else {
                self.mistakes.push(unknown_key(section, name.get_ref(), &name));
            }
        }
    }

    fn value<T>(&mut self, place: Place, name: &Spanned<T>, value: Spanned<DeValue<'s>>) {
        if value.get_ref().is_table() {
            let mistake = wrong_type(place.key, &value);
            self.mistakes.push(Mistake { span: name.span(), ..mistake });
            self.spoil(&place);
        } else {
            self.given.push(Given { place, name: name.span(), value, offset: 0 });
        }
    }

    /// The tables of a section that repeats.
    fn tables<T>(&mut self, row: &'static Key, name: &Spanned<T>, value: Spanned<DeValue<'s>>) {
        let DeValue::Array(items) = value.into_inner() else {
            self.mistakes.push(not_repeated(row, name));
            return;
        };
        for (index, item) in items.into_iter().enumerate() {
            let span = item.span();
            let DeValue::Table(table) = item.into_inner() else {
                self.mistakes.push(not_repeated(row, &Spanned::new(span, ())));
                return;
            };
            self.tables.push(Opened { row, span, whole: true });
            for (name, value) in table {
                let key = row.inner().iter().find(|key| key.name() == name.get_ref().as_ref());
                let Some(key) = key else {
                    self.mistakes.push(unknown_key(row.path, name.get_ref(), &name));
                    self.spoil(&Place { key: row, table: Some(index), entry: None });
                    continue;
                };
                let place = Place { key, table: Some(index), entry: None };
                match key.kind {
                    Kind::Statements => self.entries(&place, &name, value),
                    _ => self.value(place, &name, value),
                }
            }
        }
    }

    /// The names and values of a section in which every key is a name.
    fn entries<T>(&mut self, place: &Place, name: &Spanned<T>, value: Spanned<DeValue<'s>>) {
        let DeValue::Table(entries) = value.into_inner() else {
            self.mistakes.push(not_a_section(place.key.path, name));
            self.spoil(place);
            return;
        };
        for (name, value) in entries {
            let entry = Some(name.get_ref().to_string());
            self.value(Place { entry, ..place.clone() }, &name, value);
        }
    }

    /// Something of this table could not be read.
    fn spoil(&mut self, place: &Place) {
        if let Some(table) = place.table.and_then(|index| self.tables.get_mut(index)) {
            table.whole = false;
        }
    }
}

/// Whether a value was written as a section that repeats.
fn has_tables(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|items| items.iter().any(|item| item.get_ref().is_table()))
}

fn not_repeated<T>(row: &Key, at: &Spanned<T>) -> Mistake {
    let heading = key::heading(row.path);
    Mistake::new(
        at.span(),
        format!("`{}` is a section that repeats", row.path),
        format!("write {heading} on a line of its own, and its keys below"),
    )
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
        Some(meant) => {
            Mistake { label: format!("did you mean {}?", key::heading(meant)), ..mistake }
        }
        None => {
            let headings: Vec<String> = sections.into_iter().map(key::heading).collect();
            Mistake { label: "no such section".to_owned(), ..mistake }
                .help(format!("the sections are {}", headings.join(", ")))
        }
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
            key::heading(section)
        };
        return Mistake::new(at.span(), title, "no such key")
            .help(format!("{place} may hold {}", names.join(", ")));
    };
    let place = match meant.section() {
        "" => "at the top of the file, above the first [section]".to_owned(),
        section => format!("in {}", key::heading(section)),
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
        .or_else(|| key::all().find(|key| key.name() == name))
        .or_else(|| nearest_within(nearest(section, key::sections())?, name))
        .or_else(|| {
            let name = nearest(name, key::all().map(Key::name))?;
            key::all().find(|key| key.name() == name)
        })
}

fn nearest_within(section: &str, name: &str) -> Option<&'static Key> {
    let name = nearest(name, key::within(section).map(Key::name))?;
    key::within(section).find(|key| key.name() == name)
}
