//! [`Sources`]: where configuration is looked for, and how it becomes one.

use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use eserver_comet::Origins;
use toml::Spanned;
use toml::de::DeValue;

use super::file::{self, Given, Opened, Said};
use super::key::Key;
use super::problem::{Mistake, Problem};
use super::settings::Settings;
use super::source::{Origin, Source, SourceKind, Spot};
use super::value::{self, Value};
use super::{Config, Problems, assignment, comet, drain, http, key};

/// The file that is read when none is named, if it is there.
pub(crate) const FILE_DEFAULT: &str = "eserver.toml";

/// What environment variables for keys start with.
const VARIABLE_PREFIX: &str = "ESERVER__";

/// Where configuration is looked for. The same value is loaded again when a signal asks for it.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The file, and whether it must be there.
    pub(crate) file: ConfigFile,
    /// Variables of the process; only those that start with `ESERVER__` count.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Assignments from the command line; later ones win.
    pub(crate) flags: Vec<Flag>,
}

/// Which file is read.
#[derive(Debug, Clone)]
pub(crate) enum ConfigFile {
    /// The one that was named; it must be there.
    Named(PathBuf),
    /// This one if it is there.
    IfPresent(PathBuf),
}

/// One assignment from the command line.
#[derive(Debug, Clone)]
pub(crate) enum Flag {
    /// `--set KEY=VALUE`, with what stood after `--set`.
    Set(String),
    /// A flag of its own for the key at this path: its name with dashes, the path, the value.
    Own(&'static str, &'static str, String),
}

/// What [`Sources::load`] found.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// The same values as text, with their origins.
    pub(crate) settings: Settings,
    /// What is allowed but looks unintended; worth printing once.
    pub(crate) notes: Problems,
    /// The file that was read, if there was one.
    pub(crate) file: Option<PathBuf>,
    sources: Vec<Source>,
}

impl Loaded {
    /// Problems that were found later, to be shown in the same texts.
    pub(crate) fn show(&self, problems: Vec<Problem>) -> Problems {
        Problems::new(self.sources.clone(), problems)
    }
}

impl Sources {
    /// Reads, merges and checks everything.
    ///
    /// # Errors
    /// All problems of all sources at once.
    pub(crate) fn load(&self) -> Result<Loaded, Problems> {
        let mut problems = Vec::new();
        let (file, sources) = self.gather(&mut problems);
        let mut settings = Settings::defaults();
        // Whether what is missing was not said, rather than not understood.
        let mut whole = true;
        for (index, source) in sources.iter().enumerate() {
            let Said { tables, given, mistakes, broken } = read(source);
            whole &= !broken;
            problems.extend(mistakes.into_iter().map(|mistake| Problem::error(index, mistake)));
            for Opened { row, span, whole } in tables {
                let (origin, spot) = (source.origin(&span), Spot { source: index, span });
                let table = settings.tables(row.path).len();
                settings.open(row.path, table, &origin, &spot).whole = whole;
            }
            for given in given {
                let origin = source.origin(&given.span());
                match check(&given, &settings) {
                    Ok(checked) => {
                        problems.extend(doubt(given.place.key, &checked, &given.value).map(
                            |mistake| Problem::note(Some(index), mistake.shifted(given.offset)),
                        ));
                        let spot = Spot { source: index, span: given.span() };
                        settings.set(given.place, checked, origin, spot);
                    }
                    Err(mistakes) => {
                        whole &= given.place.table.is_some();
                        settings.spoil(&given.place);
                        problems.extend(mistakes.into_iter().map(|one| Problem::error(index, one)));
                    }
                }
            }
        }
        let mut config = Config::from_settings(&settings);
        problems.extend(contradictions(&settings, &config));
        config.drains = drain::read(&settings, &config.queue.names, whole, &mut problems);
        (config.http.responds, config.http.files) = http::read(&settings, whole, &mut problems);
        comet::read(&settings, &mut config.comet, whole, &mut problems);
        let found = Problems::new(sources.clone(), problems);
        if found.has_errors() {
            return Err(found);
        }
        Ok(Loaded { config, settings, notes: found, file, sources })
    }

    /// The texts in the order in which they override each other, and the file among them.
    fn gather(&self, problems: &mut Vec<Problem>) -> (Option<PathBuf>, Vec<Source>) {
        let mut sources = Vec::new();
        let mut file = None;
        match self.file.read() {
            Ok(Some((path, text))) => {
                let kind = SourceKind::File(path.display().to_string());
                sources.push(Source { kind, text });
                file = Some(path);
            }
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
        let mut variables: Vec<_> = self
            .environment
            .iter()
            .map(|(name, value)| (name.to_string_lossy(), value))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .collect();
        // The tenth table comes behind the ninth.
        let number = |part: &str| part.parse::<u64>().ok();
        let order = |name: &str| -> Vec<(Option<u64>, String)> {
            name.split("__").map(|part| (number(part), part.to_owned())).collect()
        };
        variables.sort_by_cached_key(|(name, _)| order(name));
        for (name, value) in variables {
            match value.to_str() {
                Some(value) => sources.push(Source {
                    kind: SourceKind::Environment,
                    text: format!("{name}={value}"),
                }),
                None => problems.push(Problem::elsewhere(
                    format!("the environment variable {name} is not UTF-8"),
                    "configuration is UTF-8 text",
                )),
            }
        }
        sources.extend(self.flags.iter().map(Flag::source));
        (file, sources)
    }
}

impl ConfigFile {
    /// Path and content, or `None` when there is none and need not be.
    fn read(&self) -> Result<Option<(PathBuf, String)>, Problem> {
        let (ConfigFile::Named(path) | ConfigFile::IfPresent(path)) = self;
        let shown = path.display();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match self {
                    ConfigFile::IfPresent(_) => Ok(None),
                    ConfigFile::Named(_) => Err(Problem::elsewhere(
                        format!("the configuration file {shown} does not exist"),
                        "`eserver check --explain > eserver.toml` writes one to start from",
                    )),
                };
            }
            Err(error) => {
                return Err(Problem::elsewhere(
                    format!("cannot read the configuration file {shown}: {error}"),
                    "name another one with --config FILE",
                ));
            }
        };
        String::from_utf8(bytes).map(|text| Some((path.clone(), text))).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
            Problem::elsewhere(
                format!("the configuration file {shown} is not UTF-8 text: see line {line}"),
                "TOML is always UTF-8",
            )
        })
    }
}

impl Flag {
    /// The flag as it could have been typed.
    fn source(&self) -> Source {
        let (key, text) = match self {
            Flag::Set(assignment) => (None, format!("--set {assignment}")),
            Flag::Own(flag, key, value) => (Some(*key), format!("{flag} {value}")),
        };
        Source { kind: SourceKind::Flag(key), text }
    }
}

impl Given<'_> {
    /// Where the value stands in its source.
    fn span(&self) -> Range<usize> {
        let span = self.value.span();
        span.start + self.offset..span.end + self.offset
    }
}

/// The value, or all that is wrong with it or with its place.
fn check(given: &Given<'_>, settings: &Settings) -> Result<Value, Vec<Mistake>> {
    let Given { place, name, value, offset } = given;
    let key = place.key;
    if let Some(table) = place.table {
        let tables = settings.tables(key.section()).len();
        if table > tables {
            let heading = key::heading(key.section());
            let title = format!("there are {tables} sections {heading}, so none is number {table}");
            let label = format!("they count from 0, so the next one is {tables}");
            return Err(vec![Mistake::new(name.clone(), title, label)]);
        }
    }
    if let Some(entry) = &place.entry {
        value::check_entry_name(key, entry, name.clone()).map_err(|mistake| vec![mistake])?;
    }
    let shifted = |mistakes: Vec<Mistake>| {
        mistakes.into_iter().map(|mistake| mistake.shifted(*offset)).collect()
    };
    value::check(key, value).map_err(shifted)
}

/// The keys that a source gives values to, and what in it is no key.
fn read(source: &Source) -> Said<'_> {
    let text = source.text.as_str();
    let single = |read: Result<_, _>| match read {
        Ok(given) => Said { given: vec![given], ..Said::default() },
        Err(mistake) => Said { mistakes: vec![mistake], broken: true, ..Said::default() },
    };
    match source.kind {
        SourceKind::File(_) => file::read(text),
        SourceKind::Environment => {
            let end = text.find('=').unwrap_or(text.len());
            single(assignment::variable(text, 0..end))
        }
        SourceKind::Flag(Some(path)) => {
            let key = key::find(path).expect("a flag of its own is for a key of KEYS");
            let start = text.find(' ').map_or(text.len(), |space| space + 1);
            single(assignment::given(key.into(), 0..start, text, start..text.len()))
        }
        SourceKind::Flag(None) => {
            let start = text.find(' ').map_or(0, |space| space + 1);
            single(match text[start..].find('=') {
                Some(length) => {
                    let end = start + length;
                    assignment::flag(text, start..end, end + 1..text.len())
                }
                None => {
                    Err(Mistake::new(start..text.len(), "--set takes KEY=VALUE", "no `=` here")
                        .help("for example --set queue.listen=127.0.0.1:9000"))
                }
            })
        }
    }
}

/// What is allowed within one value, but probably not meant.
fn doubt(key: &Key, value: &Value, given: &Spanned<DeValue<'_>>) -> Option<Mistake> {
    if *value == Value::Origins(Origins::Of(Vec::new())) {
        let title = format!("no web page may do anything by `{}`", key.path);
        return Some(Mistake::new(given.span(), title, "the list is empty"));
    }
    let Value::Allow(prefixes) = value else {
        return None;
    };
    if prefixes.is_empty() {
        let title = format!("nobody may connect by `{}`", key.path);
        return Some(Mistake::new(given.span(), title, "the list is empty"));
    }
    let loose = |prefix: &&ipnet::IpNet| prefix.addr() != prefix.network();
    let (prefix, item) = prefixes
        .iter()
        .zip(given.get_ref().as_array()?.iter())
        .find(|(prefix, _)| loose(prefix))?;
    let label = format!("all of {} is let in, not only {}", prefix.trunc(), prefix.addr());
    let title = format!("the prefix {prefix} is wider than the address in it");
    let help = format!("write \"{}\" or \"{}\"", prefix.trunc(), prefix.addr());
    Some(Mistake::new(item.span(), title, label).help(help))
}

/// Settings that are right one by one, but do not go together.
fn contradictions(settings: &Settings, config: &Config) -> Vec<Problem> {
    let mut notes = Vec::new();
    let mut note = |title: String, help: &str| {
        notes.push(Problem::note(None, Mistake::new(0..0, title, "").help(help)));
    };
    let interval = settings.get("queue.sync_interval_ms");
    if interval.origin != Origin::Default && !matches!(config.queue.sync, super::Sync::Interval(_))
    {
        let sync = &settings.get("queue.sync").value;
        note(
            format!("`queue.sync_interval_ms` ({}) has no effect: sync is {sync}", interval.origin),
            "it counts with sync = \"interval\"",
        );
    }
    let http = &config.http;
    if http.listen.is_empty() {
        for section in ["http.respond", "http.files"] {
            let tables = settings.tables(section);
            if let Some(table) = tables.first() {
                let heading = key::heading(section);
                note(
                    format!("`{heading}` ({}) has no effect: HTTP is off", table.origin),
                    "it counts with an address in http.listen, such as \"127.0.0.1:8080\"",
                );
            }
        }
    } else if ["http.respond", "http.files"].iter().all(|path| settings.tables(path).is_empty()) {
        note(
            format!(
                "HTTP listens ({}), but has nothing to answer",
                settings.get("http.listen").origin
            ),
            "write a [[http.respond]] or a [[http.files]]",
        );
    }
    let per_address = settings.get("limits.connections_per_address_max");
    if per_address.origin != Origin::Default
        && config.limits.connections_per_address_max > config.limits.connections_max
    {
        note(
            format!(
                "`limits.connections_per_address_max` ({}) has no effect: it is above \
                 connections_max",
                per_address.origin
            ),
            "one address may hold all connections",
        );
    }
    notes
}
