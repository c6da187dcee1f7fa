//! [`Settings`]: one value for every key, each with where it came from.

use std::fmt::{self, Write};

use toml::de::DeValue;

use super::key::{self, KEYS, Key, Kind, Place, Reload};
use super::problem::Problem;
use super::source::{Origin, Spot};
use super::value::{self, Value};

/// The value a key has after all sources were laid over each other.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    /// Its name, where the key takes names.
    pub(crate) entry: Option<String>,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
    /// Where it stands; nowhere, if it is a default.
    pub(crate) spot: Option<Spot>,
}

/// One [`Setting`] for every key, in the order of [`KEYS`].
#[derive(Debug, Clone)]
pub(crate) struct Settings(Vec<Setting>);

/// One table of a section that repeats: a [`Setting`] for every key that has a default or was given,
/// in the order of their rows, and entries in the order of their names.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Where it begins.
    pub(crate) spot: Spot,
    pub(crate) origin: Origin,
    /// Whether everything said about it was understood, so that what is missing really is.
    pub(crate) whole: bool,
    settings: Vec<Setting>,
}

impl Settings {
    /// Every key at its default.
    pub(crate) fn defaults() -> Self {
        Settings(KEYS.iter().map(Setting::by_default).collect())
    }

    /// Lays a value over the one that was there. One for the table behind the last opens it.
    pub(crate) fn set(&mut self, place: Place, value: Value, origin: Origin, spot: Spot) {
        match place.table {
            Some(table) => {
                self.open(place.key.section(), table, &origin, &spot).set(
                    place.key,
                    place.entry,
                    value,
                    origin,
                    spot,
                );
            }
            None => {
                let index = self.index(place.key.path);
                let setting = &mut self.0[index];
                (setting.value, setting.origin, setting.spot) = (value, origin, Some(spot));
            }
        }
    }

    /// The table of the section at `section` with this index, which is at most one more than there
    /// are; that one is added.
    pub(crate) fn open(
        &mut self,
        section: &str,
        table: usize,
        origin: &Origin,
        spot: &Spot,
    ) -> &mut Table {
        let index = self.index(section);
        let setting = &mut self.0[index];
        let Value::Tables(tables) = &mut setting.value else {
            unreachable!("KEYS says that [[{section}]] repeats");
        };
        if table == tables.len() {
            let inner = setting.key.inner().iter().filter(|key| !key.default.is_empty());
            tables.push(Table {
                spot: spot.clone(),
                origin: origin.clone(),
                whole: true,
                settings: inner.map(Setting::by_default).collect(),
            });
        }
        &mut tables[table]
    }

    /// Remembers that something said about a table was not understood, so that it is not said to be
    /// missing too. A table that is only mentioned by it is not opened.
    pub(crate) fn spoil(&mut self, place: &Place) {
        let Some(table) = place.table else { return };
        let index = self.index(place.key.section());
        if let Value::Tables(tables) = &mut self.0[index].value
            && let Some(table) = tables.get_mut(table)
        {
            table.whole = false;
        }
    }

    /// The tables of a section that repeats.
    pub(crate) fn tables(&self, section: &str) -> &[Table] {
        match &self.get(section).value {
            Value::Tables(tables) => tables,
            other => unreachable!("KEYS gives {section} another kind: {other:?}"),
        }
    }

    /// The setting at this path, which must be one of [`KEYS`].
    pub(crate) fn get(&self, path: &str) -> &Setting {
        &self.0[self.index(path)]
    }

    fn index(&self, path: &str) -> usize {
        let is_it = |setting: &Setting| setting.key.path == path;
        self.0.iter().position(is_it).expect("only keys of KEYS are asked for")
    }

    /// The settings whose values differ from those in `before`: what a reload is about.
    pub(crate) fn changed_since<'a>(
        &'a self,
        before: &'a Settings,
    ) -> impl Iterator<Item = &'a Setting> {
        let pairs = self.0.iter().zip(&before.0);
        pairs.filter(|(now, before)| now.value != before.value).map(|(now, _)| now)
    }

    /// The whole as TOML, each value with its origin behind it.
    ///
    /// With `explain`, what each key means stands above it, which makes a file to start from.
    pub(crate) fn to_toml(&self, explain: bool) -> String {
        // One very long list must not push the origins of all others out of sight.
        let widths = self.0.iter().flat_map(Setting::with_inner).map(|one| one.line().len());
        let width = widths.filter(|width| *width <= 48).max().unwrap_or(0);
        let mut page = Page { text: String::new(), explain, width };
        let mut section = "";
        for setting in &self.0 {
            let Value::Tables(tables) = &setting.value else {
                page.begin(&mut section, setting.key.section());
                page.setting(setting);
                continue;
            };
            for table in tables {
                page.table(setting.key, table);
            }
            if explain && tables.is_empty() {
                page.example(setting.key);
            }
        }
        page.text
    }
}

impl Setting {
    fn by_default(key: &'static Key) -> Self {
        let value = DeValue::parse(key.default).expect("a default in KEYS is TOML");
        let value = value::check(key, &value).expect("a default in KEYS fits its kind");
        Setting { key, entry: None, value, origin: Origin::Default, spot: None }
    }

    /// The value of a key that takes a text.
    pub(crate) fn text(&self) -> &str {
        match &self.value {
            Value::Text(text) => text,
            other => unreachable!("KEYS gives {} another kind: {other:?}", self.key.path),
        }
    }

    /// An error at the place where the value was given; none for a default.
    pub(crate) fn problem(&self, title: &str, label: &str) -> Option<Problem> {
        self.spot.as_ref().map(|spot| Problem::at(spot, title, label))
    }

    /// The setting, or those within its tables.
    fn with_inner(&self) -> Vec<&Setting> {
        match &self.value {
            Value::Tables(tables) => tables.iter().flat_map(|table| &table.settings).collect(),
            _ => vec![self],
        }
    }

    /// What it is called within its section, or within its own.
    fn name(&self) -> &str {
        self.entry.as_deref().unwrap_or(self.key.name())
    }

    fn line(&self) -> String {
        format!("{} = {}", self.name(), self.value)
    }
}

impl Table {
    fn set(
        &mut self,
        key: &'static Key,
        entry: Option<String>,
        value: Value,
        origin: Origin,
        spot: Spot,
    ) {
        self.settings.retain(|setting| (setting.key, &setting.entry) != (key, &entry));
        self.settings.push(Setting { key, entry, value, origin, spot: Some(spot) });
        let row = |key: &Key| key::within(key.section()).position(|row| row == key);
        self.settings.sort_by_key(|setting| (row(setting.key), setting.entry.clone()));
    }

    /// The setting of this name within the table, if it has a default or was given.
    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.entries(name).next()
    }

    /// The number of a key that has a default.
    pub(crate) fn integer(&self, name: &str) -> u64 {
        match self.get(name).map(|setting| &setting.value) {
            Some(Value::Integer(number)) => *number,
            other => unreachable!("KEYS gives {name} another kind or no default: {other:?}"),
        }
    }

    /// Where one of its settings stands; a default stands where the table begins.
    pub(crate) fn spot_of(&self, setting: Option<&Setting>) -> Spot {
        setting.and_then(|setting| setting.spot.as_ref()).unwrap_or(&self.spot).clone()
    }

    /// All settings of a key that takes names.
    pub(crate) fn entries(&self, name: &str) -> impl Iterator<Item = &Setting> {
        self.settings.iter().filter(move |setting| setting.key.name() == name)
    }
}

/// What matters is what was said, not where.
impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        let said = |one: &Setting| (one.key, one.entry.clone(), one.value.clone());
        self.settings.iter().map(said).eq(other.settings.iter().map(said))
    }
}

/// What was given, as an inline table.
impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.settings.iter().filter(|setting| setting.origin != Origin::Default);
        let texts: Vec<String> = given
            .map(|setting| match &setting.entry {
                Some(_) => format!("{}.{}", setting.key.name(), setting.line()),
                None => setting.line(),
            })
            .collect();
        write!(formatter, "{{ {} }}", texts.join(", "))
    }
}

/// A configuration as TOML while it is written.
struct Page {
    text: String,
    explain: bool,
    /// Columns before the origins.
    width: usize,
}

impl Page {
    /// Writes a section's heading when another one begins.
    fn begin(&mut self, current: &mut &'static str, section: &'static str) {
        if *current != section {
            *current = section;
            writeln!(self.text, "\n{}", key::heading(section)).expect(STRING);
        }
    }

    fn setting(&mut self, setting: &Setting) {
        if setting.entry.is_none() {
            self.doc("", setting.key);
        }
        let (line, width) = (setting.line(), self.width);
        writeln!(self.text, "{line:width$}  # {}", setting.origin).expect(STRING);
    }

    fn doc(&mut self, indent: &str, key: &Key) {
        if self.explain {
            let reload = match key.reload {
                Reload::Signal => "SIGHUP reloads it.",
                Reload::Start => "Read at the start.",
            };
            writeln!(self.text, "{indent}# {} {reload}", key.doc).expect(STRING);
        }
    }

    fn table(&mut self, row: &Key, table: &Table) {
        writeln!(self.text).expect(STRING);
        self.doc("", row);
        writeln!(self.text, "{}", key::heading(row.path)).expect(STRING);
        let mut section = row.path;
        for setting in &table.settings {
            if setting.entry.is_some() && section != setting.key.path {
                section = setting.key.path;
                writeln!(self.text).expect(STRING);
                self.doc("", setting.key);
                writeln!(self.text, "[{section}]").expect(STRING);
            }
            self.setting(setting);
        }
    }

    /// A table that nobody has written, as comments.
    fn example(&mut self, row: &Key) {
        writeln!(self.text).expect(STRING);
        self.doc("", row);
        writeln!(self.text, "# {}", key::heading(row.path)).expect(STRING);
        for key in row.inner() {
            let value = if key.default.is_empty() { key.kind.example() } else { key.default };
            self.doc("# ", key);
            if key.kind == Kind::Statements {
                writeln!(self.text, "# [{}]\n# add_num = {value}", key.path).expect(STRING);
            } else {
                writeln!(self.text, "# {} = {value}", key.name()).expect(STRING);
            }
        }
    }
}

/// Why writing into a text is certain.
const STRING: &str = "a String takes everything";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_fits_its_kind_and_prints_as_it_was_written() {
        let settings = Settings::defaults();
        for setting in &settings.0 {
            let printed = setting.value.to_string();
            let plain = |text: &str| text.replace('_', "");
            assert_eq!(plain(&printed), plain(setting.key.default), "{}", setting.key.path);
        }
    }

    #[test]
    fn what_is_printed_is_toml_with_every_key() {
        for explain in [false, true] {
            let text = Settings::defaults().to_toml(explain);
            let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
            for key in KEYS.iter().filter(|key| key.inner().is_empty()) {
                let mut value = &toml::Value::Table(table.clone());
                for part in key.path.split('.') {
                    value = &value[part];
                }
            }
        }
    }

    #[test]
    fn only_different_values_count_as_changed() {
        let set = |settings: &mut Settings, path: &str, value: Value, at: usize| {
            let place = key::locate(&path.split('.').collect::<Vec<_>>()).unwrap();
            let spot = Spot { source: 0, span: at..at + 1 };
            settings.set(place, value, Origin::Flag(format!("--set{at}")), spot);
        };
        let mut before = Settings::defaults();
        set(&mut before, "drain.0.lanes", Value::Integer(7), 0);
        let mut after = before.clone();
        set(&mut after, "queue.length_max", Value::Integer(7), 1);
        let level = before.get("log.level").value.clone();
        set(&mut after, "log.level", level, 1);
        set(&mut after, "drain.0.lanes", Value::Integer(7), 1);
        let changed: Vec<_> = after.changed_since(&before).map(|one| one.key.path).collect();
        assert_eq!(changed, ["queue.length_max"]);
        let text = |text: &str| Value::Text(text.to_owned());
        for (path, value) in [
            ("drain.0.lanes", Value::Integer(8)),
            ("drain.1.lanes", Value::Integer(1)),
            ("drain.0.statements.a", text("insert")),
        ] {
            let mut after = before.clone();
            set(&mut after, path, value, 1);
            let changed: Vec<_> = after.changed_since(&before).map(|one| one.key.path).collect();
            assert_eq!(changed, ["drain"], "{path}");
        }
    }

    #[test]
    fn the_example_of_a_repeated_section_is_its_toml_as_comments() {
        let text = Settings::defaults().to_toml(true);
        let (_, example) = text.split_once("\n# [[drain]]\n").expect("it is there");
        let toml: String =
            example.lines().map(|line| &line["# ".len()..]).collect::<Vec<_>>().join("\n");
        let table: toml::Table = toml.parse().unwrap_or_else(|error| panic!("{error}\n{toml}"));
        for key in key::within("drain") {
            let value = table.get(key.name()).or_else(|| table.get("drain")?.get(key.name()));
            assert!(value.is_some(), "{}", key.path);
        }
    }
}
