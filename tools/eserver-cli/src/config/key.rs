//! [`KEYS`]: every key a configuration may hold, with its kind, its default and what it means.
//!
//! This table is the only place that knows a key. The file, the environment and the command line
//! are read against it, `eserver check` prints by it, and its order is the order of printing. A new
//! section is a few new rows, and fields in [`Config`](super::Config) that take their values. A
//! section that repeats (`[[drain]]`) would be a row of a kind that holds a table like this one.

/// One key: where it stands, what it takes, and what it is when nobody says otherwise.
#[derive(Debug)]
pub(crate) struct Key {
    /// Section and name, with a dot between: `queue.listen`. Without a dot, the top of the file.
    pub(crate) path: &'static str,
    /// What its value must be.
    pub(crate) kind: Kind,
    /// Its value as TOML, when no source gives one.
    pub(crate) default: &'static str,
    /// When a changed value starts to count.
    pub(crate) reload: Reload,
    /// One sentence, with the unit and what happens at the bound.
    pub(crate) doc: &'static str,
}

/// What a value must be. The unit of a number is in the key's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text that is not empty: a path.
    Path,
    /// A whole number, bounds included.
    Integer {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An address with its port, or a list of them.
    Listen,
    /// A list of addresses and prefixes.
    Allow,
    /// A list of names of queues, each once.
    QueueNames,
    /// A log level, perhaps followed by directives as in `info,eserver_queue=debug`.
    LogLevel,
}

/// When a changed value starts to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// At the next SIGHUP.
    Signal,
    /// At the next start.
    Start,
}

/// All keys. The top of the file first, then section by section.
pub(crate) const KEYS: &[Key] = &[
    Key {
        path: "data_dir",
        kind: Kind::Path,
        default: r#""eserver-data""#,
        reload: Reload::Start,
        doc: "Directory that holds the queues; a relative path starts in the current directory.",
    },
    Key {
        path: "shards",
        kind: Kind::Integer { min: 0, max: 1024 },
        default: "0",
        reload: Reload::Start,
        doc: "Threads that serve connections; 0 means one per core, but for one core left to the disk.",
    },
    Key {
        path: "shutdown_timeout_s",
        kind: Kind::Integer { min: 0, max: 86_400 },
        default: "30",
        reload: Reload::Signal,
        doc: "Seconds to finish what is in flight after SIGTERM; what is left then is cut off.",
    },
    Key {
        path: "queue.listen",
        kind: Kind::Listen,
        default: r#""127.0.0.1:8888""#,
        reload: Reload::Start,
        doc: "Address and port of the framed queue protocol, or a list of them.",
    },
    Key {
        path: "queue.allow",
        kind: Kind::Allow,
        default: r#"["127.0.0.1", "::1"]"#,
        reload: Reload::Signal,
        doc: "Addresses and prefixes that may connect; others are closed at once, without a byte.",
    },
    Key {
        path: "queue.names",
        kind: Kind::QueueNames,
        default: r#"["sql", "img"]"#,
        reload: Reload::Start,
        doc: "Named queues (`queue_type` in a request), beside the default queue.",
    },
    Key {
        path: "queue.length_max",
        kind: Kind::Integer { min: 1, max: 1_000_000_000 },
        default: "1_000_000",
        reload: Reload::Start,
        doc: "Messages a queue holds; `full` says what happens to one more.",
    },
    Key {
        path: "queue.full",
        kind: Kind::Choice(&["reject", "overwrite-oldest"]),
        default: r#""reject""#,
        reload: Reload::Start,
        doc: "What a full queue does: reject the new message, or overwrite the oldest one.",
    },
    Key {
        path: "queue.sync",
        kind: Kind::Choice(&["always", "interval", "never"]),
        default: r#""always""#,
        reload: Reload::Start,
        doc: "When a message is safe from power loss: before its reply, at intervals, or never.",
    },
    Key {
        path: "queue.sync_interval_ms",
        kind: Kind::Integer { min: 1, max: 60_000 },
        default: "100",
        reload: Reload::Start,
        doc: "Milliseconds between two syncs when sync = \"interval\"; power loss costs that much.",
    },
    Key {
        path: "limits.connections_max",
        kind: Kind::Integer { min: 1, max: 16_777_216 },
        default: "1_000_000",
        reload: Reload::Signal,
        doc: "Connections held at once; one more is told so and closed.",
    },
    Key {
        path: "limits.connections_per_address_max",
        kind: Kind::Integer { min: 1, max: 16_777_216 },
        default: "20_000",
        reload: Reload::Signal,
        doc: "Connections held at once from one address; one more is told so and closed.",
    },
    Key {
        path: "limits.request_head_timeout_s",
        kind: Kind::Integer { min: 1, max: 3_600 },
        default: "10",
        reload: Reload::Signal,
        doc: "Seconds from the first byte of a request to its last; slower connections are closed.",
    },
    Key {
        path: "limits.idle_timeout_s",
        kind: Kind::Integer { min: 0, max: 31_536_000 },
        default: "3_600",
        reload: Reload::Signal,
        doc: "Seconds without a request after which a connection is closed; 0 means never.",
    },
    Key {
        path: "limits.outbox_bytes_max",
        kind: Kind::Integer { min: 1_024, max: 1_073_741_824 },
        default: "262_144",
        reload: Reload::Signal,
        doc: "Bytes kept for a peer that does not read; past it that peer is not served further.",
    },
    Key {
        path: "log.level",
        kind: Kind::LogLevel,
        default: r#""info""#,
        reload: Reload::Signal,
        doc: "off, error, warn, info, debug or trace; per module as in \"info,eserver_queue=debug\".",
    },
    Key {
        path: "log.format",
        kind: Kind::Choice(&["auto", "text", "json"]),
        default: r#""auto""#,
        reload: Reload::Start,
        doc: "How log lines look on stderr; auto: text on a terminal, JSON elsewhere.",
    },
];

impl Key {
    /// The section this key stands in; empty for the top of the file.
    pub(crate) fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within its section.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("ESERVER__{}", self.path.replace('.', "__").to_uppercase())
    }
}

impl Kind {
    /// What to say when something else was given: "expected …".
    pub(crate) fn expectation(self) -> String {
        match self {
            Kind::Path => "a path in quotes".to_owned(),
            Kind::Integer { min, max } => {
                format!("a whole number from {} to {}", grouped(min), grouped(max))
            }
            Kind::Choice(words) => quoted_list(words),
            Kind::Listen => {
                "an address with its port, such as \"127.0.0.1:8888\", or a list of them".to_owned()
            }
            Kind::Allow => {
                "a list of addresses and prefixes, such as [\"127.0.0.1\", \"10.0.0.0/8\"]"
                    .to_owned()
            }
            Kind::QueueNames => "a list of names, such as [\"sql\", \"img\"]".to_owned(),
            Kind::LogLevel => "a log level in quotes, such as \"info\"".to_owned(),
        }
    }
}

/// The key at this path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The sections in their order, without the top of the file.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS.iter().map(Key::section).collect();
    sections.dedup();
    sections.retain(|section| !section.is_empty());
    sections
}

/// The keys of a section; those of the top of the file for the empty one.
pub(crate) fn within(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section() == section)
}

/// `"a", "b" or "c"`.
fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The number as TOML, its digits in groups of three from five digits on: `1_000_000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_unique_and_sections_stay_together() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.path != key.path), "{}", key.path);
        }
        // `sections` only drops neighbors, so a section in two pieces would show up twice.
        assert_eq!(sections(), ["queue", "limits", "log"]);
        assert_eq!(within("").map(Key::name).next(), Some("data_dir"));
    }

    #[test]
    fn a_key_knows_its_names() {
        let key = find("queue.length_max").unwrap();
        assert_eq!((key.section(), key.name()), ("queue", "length_max"));
        assert_eq!(key.variable(), "ESERVER__QUEUE__LENGTH_MAX");
        assert_eq!(find("data_dir").unwrap().variable(), "ESERVER__DATA_DIR");
        assert!(find("queue").is_none());
    }

    #[test]
    fn numbers_are_grouped_from_five_digits_on() {
        let texts = [0, 999, 3600, 10_000, 262_144, 1_000_000].map(grouped);
        assert_eq!(texts, ["0", "999", "3600", "10_000", "262_144", "1_000_000"]);
    }
}
