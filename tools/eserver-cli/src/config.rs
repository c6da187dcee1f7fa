//! The configuration: what was written where, merged, checked, and typed.
//!
//! [`Sources`] says where to look: a TOML file, `ESERVER__SECTION__KEY` variables, and flags; each
//! lies over the ones before, and all of them over the defaults. [`Sources::load`] reads them
//! against the table of keys ([`key::KEYS`]), remembers for every value where it came from
//! ([`Settings`]), and hands out a [`Config`] in which every value is proven and has its type.
//! A mistake never stops the reading: all of them are found at once, also in values that a later
//! source overrides, and each is shown in the line where it stands ([`Problems`]), but for passwords
//! ([`secret`]).

mod address;
mod assignment;
mod comet;
mod drain;
mod file;
mod http;
pub(crate) mod key;
mod problem;
mod secret;
mod settings;
mod source;
mod sources;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod value;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use eserver::Newcomers;
use eserver::PrivateTables;
use eserver_comet::Origins;
use ipnet::IpNet;

use crate::log::LogLevel;
use value::Value;

pub(crate) use comet::{AdminConfig, CometConfig};
pub(crate) use drain::DrainConfig;
pub(crate) use http::{FilesConfig, RespondConfig};
pub(crate) use problem::{Problem, Problems};
pub(crate) use settings::Settings;
pub(crate) use sources::{ConfigFile, FILE_DEFAULT, Flag, Loaded, Sources};

/// Everything the server runs by.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Directory of the queues; relative to the current directory.
    pub(crate) data_dir: PathBuf,
    /// Threads that serve connections: at least one; unless configured, one core fewer than there
    /// are.
    pub(crate) shards: usize,
    /// Whether a low limit on descriptors bounds a thread and not the process.
    pub(crate) private_tables: PrivateTables,
    /// Time to finish what is in flight after SIGTERM; zero cuts it off at once.
    pub(crate) shutdown_timeout: Duration,
    pub(crate) queue: QueueConfig,
    pub(crate) comet: CometConfig,
    pub(crate) admin: AdminConfig,
    pub(crate) http: HttpConfig,
    pub(crate) limits: LimitsConfig,
    pub(crate) log: LogConfig,
    /// Sections `[[drain]]`, each of another queue.
    pub(crate) drains: Vec<DrainConfig>,
}

/// Section `[queue]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueueConfig {
    /// At least one; port 0 takes a free one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Who may connect; empty means nobody.
    pub(crate) allow: Vec<IpNet>,
    /// Valid, distinct names; the default queue is not among them.
    pub(crate) names: Vec<String>,
    /// Messages per queue, at least 1.
    pub(crate) length_max: u64,
    pub(crate) full: Full,
    pub(crate) sync: Sync,
}

/// What a full queue does with one more message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Reject,
    OverwriteOldest,
}

/// When messages are made safe from power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Before their replies.
    Always,
    /// This often; power loss costs what came since the last time.
    Interval(Duration),
    /// When the kernel likes.
    Never,
}

/// Section `[http]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpConfig {
    /// None if HTTP is off; port 0 takes a free one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Who may connect; empty means nobody.
    pub(crate) allow: Vec<IpNet>,
    /// When the kernel shows one who has connected.
    pub(crate) newcomers: Newcomers,
    /// Of so many requests one is logged, if any.
    pub(crate) access_log_one_in: Option<NonZeroU32>,
    /// Sections `[[http.respond]]`, each of another path.
    pub(crate) responds: Vec<RespondConfig>,
    /// Sections `[[http.files]]`, each of another prefix.
    pub(crate) files: Vec<FilesConfig>,
}

/// Section `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitsConfig {
    /// Connections held at once, at least 1.
    pub(crate) connections_max: usize,
    /// Connections held at once from one address, at least 1.
    pub(crate) connections_per_address_max: usize,
    /// From the first byte of a request to its last, or to the end of its head by HTTP, at least a
    /// second.
    pub(crate) request_head_timeout: Duration,
    /// Over which the body of an HTTP request must keep up the least rate, at least a second.
    pub(crate) request_body_timeout: Duration,
    /// That rate, at least a byte per second.
    pub(crate) request_body_bytes_per_s_min: u64,
    /// Without a request; zero means for ever.
    pub(crate) idle_timeout: Duration,
    /// Bytes kept for a peer that does not read, at least 1,024.
    pub(crate) outbox_bytes_max: usize,
    /// Over which a peer must take what waits for it at the least rate, at least a second.
    pub(crate) write_timeout: Duration,
    /// For which a refused peer is still read from, at least a second.
    pub(crate) linger_timeout: Duration,
    /// Bytes read from it and dropped.
    pub(crate) linger_bytes_max: usize,
}

/// Section `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogConfig {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

impl Config {
    /// The typed form of settings, which are already checked one by one; without the sections that
    /// repeat, which are to be checked as a whole.
    fn from_settings(settings: &Settings) -> Self {
        let get = Get(settings);
        Config {
            data_dir: PathBuf::from(get.text("data_dir")),
            shards: match get.size("shards") {
                // One core is left to the disks' threads and the kernel: on two cores one shard is
                // a third faster than two, see docs/benchmarks/queue.md.
                0 => std::thread::available_parallelism().map_or(1, |cores| cores.get() - 1).max(1),
                shards => shards,
            },
            private_tables: match get.text("private_fd_tables") {
                "on" => PrivateTables::On,
                "off" => PrivateTables::Off,
                _ => PrivateTables::Auto,
            },
            shutdown_timeout: get.seconds("shutdown_timeout_s"),
            queue: QueueConfig {
                listen: get.listen("queue.listen"),
                allow: get.allow("queue.allow"),
                names: get.names("queue.names"),
                length_max: get.integer("queue.length_max"),
                full: match get.text("queue.full") {
                    "overwrite-oldest" => Full::OverwriteOldest,
                    _ => Full::Reject,
                },
                sync: match get.text("queue.sync") {
                    "interval" => Sync::Interval(get.milliseconds("queue.sync_interval_ms")),
                    "never" => Sync::Never,
                    _ => Sync::Always,
                },
            },
            comet: CometConfig::from_settings(&get),
            admin: AdminConfig {
                listen: get.listen("admin.listen"),
                allow: get.allow("admin.allow"),
                deny: get.allow("admin.deny"),
            },
            http: HttpConfig {
                listen: get.listen("http.listen"),
                allow: get.allow("http.allow"),
                newcomers: match get.text("http.newcomers") {
                    "at-once" => Newcomers::AtOnce,
                    _ => Newcomers::WithFirstBytes,
                },
                access_log_one_in: u32::try_from(get.integer("http.access_log_one_in"))
                    .map(NonZeroU32::new)
                    .expect("KEYS bounds it"),
                responds: Vec::new(),
                files: Vec::new(),
            },
            limits: LimitsConfig {
                connections_max: get.size("limits.connections_max"),
                connections_per_address_max: get.size("limits.connections_per_address_max"),
                request_head_timeout: get.seconds("limits.request_head_timeout_s"),
                request_body_timeout: get.seconds("limits.request_body_timeout_s"),
                request_body_bytes_per_s_min: get.integer("limits.request_body_bytes_per_s_min"),
                idle_timeout: get.seconds("limits.idle_timeout_s"),
                outbox_bytes_max: get.size("limits.outbox_bytes_max"),
                write_timeout: get.seconds("limits.write_timeout_s"),
                linger_timeout: get.seconds("limits.linger_timeout_s"),
                linger_bytes_max: get.size("limits.linger_bytes_max"),
            },
            log: LogConfig {
                level: get.level("log.level"),
                format: match get.text("log.format") {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                },
            },
            drains: Vec::new(),
        }
    }
}

/// Typed access to checked settings. That a path and its type belong together is an invariant of
/// `key::KEYS`, and every test that loads anything proves it.
struct Get<'a>(&'a Settings);

/// One accessor: the variant's content, copied out.
macro_rules! get {
    ($name:ident, $variant:ident, $type:ty) => {
        fn $name(&self, path: &str) -> $type {
            match &self.0.get(path).value {
                Value::$variant(value) => value.clone(),
                other => unreachable!("KEYS gives {path} another kind: {other:?}"),
            }
        }
    };
}

impl Get<'_> {
    get!(integer, Integer, u64);
    get!(listen, Listen, Vec<SocketAddr>);
    get!(allow, Allow, Vec<IpNet>);
    get!(origins, Origins, Origins);
    get!(names, QueueNames, Vec<String>);
    get!(level, LogLevel, LogLevel);
    get!(switch, Switch, bool);

    fn text(&self, path: &str) -> &str {
        match &self.0.get(path).value {
            Value::Text(text) => text,
            other => unreachable!("KEYS gives {path} another kind: {other:?}"),
        }
    }

    fn secret(&self, path: &str) -> &str {
        match &self.0.get(path).value {
            Value::Secret(text) => text,
            other => unreachable!("KEYS gives {path} another kind: {other:?}"),
        }
    }

    fn size(&self, path: &str) -> usize {
        usize::try_from(self.integer(path)).expect("KEYS bounds sizes far below the machine's")
    }

    fn seconds(&self, path: &str) -> Duration {
        Duration::from_secs(self.integer(path))
    }

    fn milliseconds(&self, path: &str) -> Duration {
        Duration::from_millis(self.integer(path))
    }
}
