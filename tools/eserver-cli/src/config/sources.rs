//! [`Sources`]: where configuration is looked for, and how it becomes one.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::file::{self, Given};
use super::problem::{Mistake, Problem};
use super::settings::Settings;
use super::source::{Origin, Source, SourceKind};
use super::value::{self, Value};
use super::{Config, Problems, assignment, key};

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
        for (index, source) in sources.iter().enumerate() {
            let (given, mistakes) = read(source);
            problems.extend(mistakes.into_iter().map(|mistake| Problem::error(index, mistake)));
            for Given { key, value, offset } in given {
                match value::check(key, &value) {
                    Ok(checked) => {
                        problems
                            .extend(doubt(&checked, &value).map(|mistake| {
                                Problem::note(Some(index), mistake.shifted(offset))
                            }));
                        let span = value.span().start + offset..value.span().end + offset;
                        settings.set(key, checked, source.origin(&span));
                    }
                    Err(mistakes) => problems.extend(
                        mistakes.into_iter().map(|one| Problem::error(index, one.shifted(offset))),
                    ),
                }
            }
        }
        let config = Config::from_settings(&settings);
        problems.extend(contradictions(&settings, &config));
        let problems = Problems::new(sources, problems);
        if problems.has_errors() {
            return Err(problems);
        }
        Ok(Loaded { config, settings, notes: problems, file })
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
        let mut variables: Vec<_> = self.environment.iter().collect();
        variables.sort();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            if !name.starts_with(VARIABLE_PREFIX) {
                continue;
            }
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

/// The keys that a source gives values to, and what in it is no key.
fn read(source: &Source) -> (Vec<Given<'_>>, Vec<Mistake>) {
    let text = source.text.as_str();
    let single = |read: Result<_, _>| match read {
        Ok(given) => (vec![given], Vec::new()),
        Err(mistake) => (Vec::new(), vec![mistake]),
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
            single(assignment::given(key, text, start..text.len()))
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
fn doubt(value: &Value, given: &Spanned<DeValue<'_>>) -> Option<Mistake> {
    let Value::Allow(prefixes) = value else {
        return None;
    };
    if prefixes.is_empty() {
        let title = "nobody may connect to the queue";
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
