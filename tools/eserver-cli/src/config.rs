//! The configuration: what was written where, merged, checked, and typed.
//!
//! [`Sources`] says where to look: a TOML file, `ESERVER__SECTION__KEY` variables, and flags; each
//! lies over the ones before, and all of them over the defaults. [`Sources::load`] reads them
//! against the table of keys ([`key::KEYS`]), remembers for every value where it came from
//! ([`Settings`]), and hands out a [`Config`] in which every value is proven and has its type.
//! A mistake never stops the reading: all of them are found at once, also in values that a later
//! source overrides, and each is shown in the line where it stands ([`Problems`]).

mod address;
mod assignment;
mod file;
pub(crate) mod key;
mod problem;
mod settings;
mod source;
mod sources;
mod suggest;
mod syntax;
#[cfg(test)]
mod tests;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::log::LogLevel;
use value::Value;

pub(crate) use problem::Problems;
pub(crate) use settings::Settings;
pub(crate) use sources::{ConfigFile, FILE_DEFAULT, Flag, Loaded, Sources};

/// Everything the server runs by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Directory of the queues; relative to the current directory.
    pub(crate) data_dir: PathBuf,
    /// Threads that serve connections: at least one; unless configured, one core fewer than there
    /// are.
    pub(crate) shards: usize,
    /// Time to finish what is in flight after SIGTERM; zero cuts it off at once.
    pub(crate) shutdown_timeout: Duration,
    pub(crate) queue: QueueConfig,
    pub(crate) limits: LimitsConfig,
    pub(crate) log: LogConfig,
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

/// Section `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitsConfig {
    /// Connections held at once, at least 1.
    pub(crate) connections_max: usize,
    /// Connections held at once from one address, at least 1.
    pub(crate) connections_per_address_max: usize,
    /// From the first byte of a request to its last, at least a second.
    pub(crate) request_head_timeout: Duration,
    /// Without a request; zero means for ever.
    pub(crate) idle_timeout: Duration,
    /// Bytes kept for a peer that does not read, at least 1,024.
    pub(crate) outbox_bytes_max: usize,
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
    /// The typed form of settings, which are already checked one by one.
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
            limits: LimitsConfig {
                connections_max: get.size("limits.connections_max"),
                connections_per_address_max: get.size("limits.connections_per_address_max"),
                request_head_timeout: get.seconds("limits.request_head_timeout_s"),
                idle_timeout: get.seconds("limits.idle_timeout_s"),
                outbox_bytes_max: get.size("limits.outbox_bytes_max"),
            },
            log: LogConfig {
                level: get.level("log.level"),
                format: match get.text("log.format") {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => LogFormat::Auto,
                },
            },
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
    get!(names, QueueNames, Vec<String>);
    get!(level, LogLevel, LogLevel);

    fn text(&self, path: &str) -> &str {
        match &self.0.get(path).value {
            Value::Text(text) => text,
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
