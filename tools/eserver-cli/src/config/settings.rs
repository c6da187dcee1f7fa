//! [`Settings`]: one value for every key, each with where it came from.

use std::fmt::Write;

use toml::de::DeValue;

use super::key::{KEYS, Key, Reload};
use super::source::Origin;
use super::value::{self, Value};

/// The value a key has after all sources were laid over each other.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// One [`Setting`] for every key, in the order of [`KEYS`].
#[derive(Debug, Clone)]
pub(crate) struct Settings(Vec<Setting>);

impl Settings {
    /// Every key at its default.
    pub(crate) fn defaults() -> Self {
        let setting = |key: &'static Key| {
            let value = DeValue::parse(key.default).expect("a default in KEYS is TOML");
            let value = value::check(key, &value).expect("a default in KEYS fits its kind");
            Setting { key, value, origin: Origin::Default }
        };
        Settings(KEYS.iter().map(setting).collect())
    }

    /// Lays a value over the one that was there.
    pub(crate) fn set(&mut self, key: &Key, value: Value, origin: Origin) {
        let index = self.index(key.path);
        self.0[index].value = value;
        self.0[index].origin = origin;
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
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|setting| format!("{} = {}", setting.key.name(), setting.value))
            .collect();
        // One very long list must not push the origins of all others out of sight.
        let width = lines.iter().map(String::len).filter(|width| *width <= 48).max().unwrap_or(0);
        let mut text = String::new();
        let mut section = "";
        for (setting, line) in self.0.iter().zip(&lines) {
            let key = setting.key;
            if key.section() != section {
                section = key.section();
                write!(text, "\n[{section}]\n").expect(STRING);
            }
            if explain {
                let reload = match key.reload {
                    Reload::Signal => "SIGHUP reloads it.",
                    Reload::Start => "Read at the start.",
                };
                writeln!(text, "# {} {reload}", key.doc).expect(STRING);
            }
            writeln!(text, "{line:width$}  # {}", setting.origin).expect(STRING);
        }
        text
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
            for key in KEYS {
                let mut value = &toml::Value::Table(table.clone());
                for part in key.path.split('.') {
                    value = &value[part];
                }
            }
        }
    }

    #[test]
    fn only_different_values_count_as_changed() {
        let before = Settings::defaults();
        let mut after = before.clone();
        let length = before.get("queue.length_max");
        after.set(length.key, Value::Integer(7), Origin::Flag("--set".to_owned()));
        let level = before.get("log.level");
        after.set(level.key, level.value.clone(), Origin::Flag("--set".to_owned()));
        let changed: Vec<_> = after.changed_since(&before).map(|one| one.key.path).collect();
        assert_eq!(changed, ["queue.length_max"]);
    }
}
