//! [`KEYS`]: every key a configuration may hold, with its kind, its default and what it means.
//!
//! This table is the only place that knows a key. The file, the environment and the command line
//! are read against it, `eserver check` prints by it, and its order is the order of printing. A new
//! section is a few new rows, and fields in [`Config`](super::Config) that take their values. A
//! section that repeats (`[[drain]]`, `[[http.files]]`) is a row of a kind that holds a table like
//! this one.

/// One key: where it stands, what it takes, and what it is when nobody says otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Section and name, with a dot between: `queue.listen`. Without a dot, the top of the file.
    pub(crate) path: &'static str,
    /// What its value must be.
    pub(crate) kind: Kind,
    /// Its value as TOML, when no source gives one; empty for a key of a repeated section that then
    /// has none.
    pub(crate) default: &'static str,
    /// When a changed value starts to count.
    pub(crate) reload: Reload,
    /// One sentence, with the unit and what happens at the bound.
    pub(crate) doc: &'static str,
}

/// What a value must be. The unit of a number is in the key's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// A text that is not empty: a path.
    Path,
    /// A path as it is asked for by HTTP: a slash, and what follows as a person writes it.
    UrlPath,
    /// A text that is not shown.
    Secret,
    /// The value of a header field: a text on one line.
    FieldValue,
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
    Listen {
        /// The port to suggest where one is missing.
        port: u16,
        /// Whether the list may be empty: then nobody listens.
        may_be_empty: bool,
    },
    /// A list of addresses and prefixes.
    Allow,
    /// A list of names of queues, each once.
    QueueNames,
    /// A list of origins of web pages, or of `*` alone.
    Origins,
    /// A log level, perhaps followed by directives as in `info,eserver_queue=debug`.
    LogLevel,
    /// True or false.
    Switch,
    /// The name of a queue, `default` included.
    QueueName,
    /// Which database it is, where, and who we are to it. A password in it is not shown.
    Url,
    /// A section of statements: every key in it is a name, every value its SQL.
    Statements,
    /// A section that may stand there several times, with these keys each time.
    Tables(&'static [Key]),
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
        path: "private_fd_tables",
        kind: Kind::Choice(&["auto", "on", "off"]),
        default: r#""auto""#,
        reload: Reload::Start,
        doc: "Whether further threads with tables of descriptors of their own hold public connections.",
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
        kind: Kind::Listen { port: 8888, may_be_empty: false },
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
        path: "comet.listen",
        kind: Kind::Listen { port: 8100, may_be_empty: true },
        default: r#""127.0.0.1:8100""#,
        reload: Reload::Start,
        doc: "Address and port of the public port, or a list of them; an empty list turns channels off.",
    },
    Key {
        path: "comet.allow",
        kind: Kind::Allow,
        default: r#"["0.0.0.0/0", "::/0"]"#,
        reload: Reload::Signal,
        doc: "Addresses and prefixes that may connect; others are closed at once, without a byte.",
    },
    Key {
        path: "comet.allow_origins",
        kind: Kind::Origins,
        default: r#"["*"]"#,
        reload: Reload::Signal,
        doc: "Origins of web pages that may read answers and open WebSockets; \"*\" is all of them.",
    },
    Key {
        path: "comet.auth",
        kind: Kind::Choice(&["none", "token"]),
        default: r#""none""#,
        reload: Reload::Signal,
        doc: "Who may listen: everybody, or who has a token of the channel.",
    },
    Key {
        path: "comet.secret",
        kind: Kind::Secret,
        default: "\"\"",
        reload: Reload::Start,
        doc: "What tokens are signed with; if it is empty, they are good until the server ends.",
    },
    Key {
        path: "comet.secret_file",
        kind: Kind::Text,
        default: "\"\"",
        reload: Reload::Start,
        doc: "File whose first line is the secret, in its place.",
    },
    Key {
        path: "comet.channels_max",
        kind: Kind::Integer { min: 1, max: 100_000_000 },
        default: "1_000_000",
        reload: Reload::Signal,
        doc: "Channels there may be; one more is refused.",
    },
    Key {
        path: "comet.message_bytes_max",
        kind: Kind::Integer { min: 1, max: 268_435_456 },
        default: "1_048_576",
        reload: Reload::Signal,
        doc: "Bytes of the data of a message as JSON; longer ones are refused.",
    },
    Key {
        path: "comet.subscription_channels_max",
        kind: Kind::Integer { min: 1, max: 10_000 },
        default: "100",
        reload: Reload::Signal,
        doc: "Channels that one subscription may have; more are refused.",
    },
    Key {
        path: "comet.idempotency_keys_max",
        kind: Kind::Integer { min: 0, max: 1_000_000 },
        default: "64",
        reload: Reload::Signal,
        doc: "Idempotency keys that a channel remembers; the oldest are forgotten first.",
    },
    Key {
        path: "comet.idempotency_age_s",
        kind: Kind::Integer { min: 1, max: 86_400 },
        default: "300",
        reload: Reload::Signal,
        doc: "Seconds for which such a key is remembered, unless the channel ends before.",
    },
    Key {
        path: "comet.absence_grace_s",
        kind: Kind::Integer { min: 0, max: 3_600 },
        default: "5",
        reload: Reload::Signal,
        doc: "Seconds until somebody counts as gone who may come back: a poll is away for moments.",
    },
    Key {
        path: "comet.channel_subscribers_max",
        kind: Kind::Integer { min: 1, max: 100_000_000 },
        default: "100_000",
        reload: Reload::Signal,
        doc: "Subscribers that a channel may have at once; one more is refused.",
    },
    Key {
        path: "comet.history_messages_max",
        kind: Kind::Integer { min: 0, max: 1_000_000 },
        default: "10",
        reload: Reload::Signal,
        doc: "Messages that a channel keeps for those who come back; 0 keeps none.",
    },
    Key {
        path: "comet.history_bytes_max",
        kind: Kind::Integer { min: 0, max: 1_099_511_627_776 },
        default: "1_048_576",
        reload: Reload::Signal,
        doc: "Bytes that those messages may take; the oldest go first.",
    },
    Key {
        path: "comet.history_age_max_s",
        kind: Kind::Integer { min: 0, max: 31_536_000 },
        default: "0",
        reload: Reload::Signal,
        doc: "Seconds for which a message is kept; 0 keeps it as long as the channel lives.",
    },
    Key {
        path: "comet.channel_idle_s",
        kind: Kind::Integer { min: 1, max: 31_536_000 },
        default: "30",
        reload: Reload::Signal,
        doc: "Seconds that a channel lives without subscribers and messages.",
    },
    Key {
        path: "comet.poll_timeout_s",
        kind: Kind::Integer { min: 1, max: 14_400 },
        default: "30",
        reload: Reload::Signal,
        doc: "Seconds that a poll waits, and a stream is silent, before it gets a sign of life.",
    },
    Key {
        path: "comet.slow",
        kind: Kind::Choice(&["disconnect", "drop-oldest", "conflate"]),
        default: r#""disconnect""#,
        reload: Reload::Signal,
        doc: "What becomes of a subscriber that reads too slowly: it is closed, or misses messages.",
    },
    Key {
        path: "comet.outbox_bytes_max",
        kind: Kind::Integer { min: 1_024, max: 1_073_741_824 },
        default: "262_144",
        reload: Reload::Signal,
        doc: "Bytes that wait for a subscriber when it counts as slow; limits.outbox_bytes_max is above it.",
    },
    Key {
        path: "comet.announce_members",
        kind: Kind::Switch,
        default: "false",
        reload: Reload::Signal,
        doc: "Whether subscribers are told when members come and go.",
    },
    Key {
        path: "comet.deflate",
        kind: Kind::Switch,
        default: "false",
        reload: Reload::Signal,
        doc: "Whether messages to WebSockets are compressed, where the client offers that.",
    },
    Key {
        path: "comet.webhook_url",
        kind: Kind::Text,
        default: "\"\"",
        reload: Reload::Start,
        doc: "Where an application is told what becomes of channels, such as \"http://127.0.0.1/hook\".",
    },
    Key {
        path: "comet.webhook_secret",
        kind: Kind::Secret,
        default: "\"\"",
        reload: Reload::Start,
        doc: "What the bodies sent there are signed with; an empty text signs none.",
    },
    Key {
        path: "comet.webhook_timeout_s",
        kind: Kind::Integer { min: 1, max: 3_600 },
        default: "10",
        reload: Reload::Start,
        doc: "Seconds that the application may take for its answer; then it is tried again.",
    },
    Key {
        path: "comet.webhook_batch_max",
        kind: Kind::Integer { min: 1, max: 10_000 },
        default: "100",
        reload: Reload::Start,
        doc: "Events in one request, at most.",
    },
    Key {
        path: "comet.channel",
        kind: Kind::Tables(CHANNEL_KEYS),
        default: "[]",
        reload: Reload::Signal,
        doc: "Other values for channels whose name begins with a prefix; the longest that fits wins.",
    },
    Key {
        path: "admin.listen",
        kind: Kind::Listen { port: 8000, may_be_empty: true },
        default: r#""127.0.0.1:8000""#,
        reload: Reload::Start,
        doc: "Address and port where the application publishes, or a list of them.",
    },
    Key {
        path: "admin.allow",
        kind: Kind::Allow,
        default: r#"["127.0.0.1", "::1"]"#,
        reload: Reload::Signal,
        doc: "Addresses and prefixes that may connect; others are closed at once, without a byte.",
    },
    Key {
        path: "admin.deny",
        kind: Kind::Allow,
        default: "[]",
        reload: Reload::Signal,
        doc: "Exceptions from it: the longest prefix that fits decides, and of two the same, this one.",
    },
    Key {
        path: "http.listen",
        kind: Kind::Listen { port: 8080, may_be_empty: true },
        default: "[]",
        reload: Reload::Start,
        doc: "Address and port of HTTP, or a list of them; an empty list turns HTTP off.",
    },
    Key {
        path: "http.allow",
        kind: Kind::Allow,
        default: r#"["0.0.0.0/0", "::/0"]"#,
        reload: Reload::Signal,
        doc: "Addresses and prefixes that may connect; others are closed at once, without a byte.",
    },
    Key {
        path: "http.newcomers",
        kind: Kind::Choice(&["with-first-bytes", "at-once"]),
        default: r#""with-first-bytes""#,
        reload: Reload::Start,
        doc: "When the kernel shows a newcomer: with its first bytes, or after a second; or at once.",
    },
    Key {
        path: "http.access_log_one_in",
        kind: Kind::Integer { min: 0, max: 4_294_967_295 },
        default: "0",
        reload: Reload::Start,
        doc: "Of so many requests one is logged, with its answer; 1 means all of them, 0 none.",
    },
    Key {
        path: "http.respond",
        kind: Kind::Tables(RESPOND_KEYS),
        default: "[]",
        reload: Reload::Start,
        doc: "A fixed answer; repeat it for each path.",
    },
    Key {
        path: "http.files",
        kind: Kind::Tables(FILES_KEYS),
        default: "[]",
        reload: Reload::Start,
        doc: "A directory whose files are served; repeat it for each.",
    },
    Key {
        path: "limits.connections_max",
        kind: Kind::Integer { min: 1, max: 16_777_216 },
        default: "1_010_000",
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
        doc: "Seconds from the first byte of a request to its last (by HTTP, to the end of its head).",
    },
    Key {
        path: "limits.request_body_timeout_s",
        kind: Kind::Integer { min: 1, max: 3_600 },
        default: "10",
        reload: Reload::Signal,
        doc: "Seconds over which the body of an HTTP request must keep up the least rate.",
    },
    Key {
        path: "limits.request_body_bytes_per_s_min",
        kind: Kind::Integer { min: 1, max: 1_073_741_824 },
        default: "1_024",
        reload: Reload::Signal,
        doc: "The least rate of the body of an HTTP request; slower ones are told so and closed.",
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
        path: "limits.write_timeout_s",
        kind: Kind::Integer { min: 1, max: 3_600 },
        default: "10",
        reload: Reload::Signal,
        doc: "Seconds over which a peer must take 1 KiB/s of what waits for it; others are closed.",
    },
    Key {
        path: "limits.linger_timeout_s",
        kind: Kind::Integer { min: 1, max: 3_600 },
        default: "5",
        reload: Reload::Signal,
        doc: "Seconds for which what a refused HTTP client still sends is dropped, so that it can read.",
    },
    Key {
        path: "limits.linger_bytes_max",
        kind: Kind::Integer { min: 0, max: 1_099_511_627_776 },
        default: "67_108_864",
        reload: Reload::Signal,
        doc: "Bytes of it that are dropped at most; then the connection is closed.",
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
    Key {
        path: "drain",
        kind: Kind::Tables(DRAIN_KEYS),
        default: "[]",
        reload: Reload::Start,
        doc: "Works a queue off into a database; repeat it for each queue that is to be drained.",
    },
];

/// The keys of `[[drain]]`.
const DRAIN_KEYS: &[Key] = &[
    Key {
        path: "drain.queue",
        kind: Kind::QueueName,
        default: r#""default""#,
        reload: Reload::Start,
        doc: "The queue to work off: \"default\" or one of queue.names; a queue has one drain.",
    },
    Key {
        path: "drain.url",
        kind: Kind::Url,
        default: "",
        reload: Reload::Start,
        doc: "The database: \"sqlite:app.db\", \"postgres://user@host/db\" or \"mysql://user@host/db\".",
    },
    Key {
        path: "drain.url_file",
        kind: Kind::Path,
        default: "",
        reload: Reload::Start,
        doc: "File whose first line is the url, in its place.",
    },
    Key {
        path: "drain.password_file",
        kind: Kind::Path,
        default: "",
        reload: Reload::Start,
        doc: "File whose first line is the password, when the url has none.",
    },
    Key {
        path: "drain.batch_max",
        kind: Kind::Integer { min: 1, max: 100_000 },
        default: "1000",
        reload: Reload::Start,
        doc: "Messages applied in one transaction, at most.",
    },
    Key {
        path: "drain.linger_ms",
        kind: Kind::Integer { min: 0, max: 10_000 },
        default: "5",
        reload: Reload::Start,
        doc: "Milliseconds that a batch which is not full waits for more.",
    },
    Key {
        path: "drain.lanes",
        kind: Kind::Integer { min: 1, max: 64 },
        default: "1",
        reload: Reload::Start,
        doc: "Connections that apply side by side; messages with the same key keep their order.",
    },
    Key {
        path: "drain.raw_sql",
        kind: Kind::Switch,
        default: "false",
        reload: Reload::Start,
        doc: "Whether clients may send any SQL; if not, they name one of the statements below.",
    },
    Key {
        path: "drain.retries_max",
        kind: Kind::Integer { min: 0, max: 100 },
        default: "5",
        reload: Reload::Start,
        doc: "Times that a message is tried again after a deadlock or the like, before it is buried.",
    },
    Key {
        path: "drain.statements",
        kind: Kind::Statements,
        default: "",
        reload: Reload::Start,
        doc: "What clients may ask for by name, each `?` being one of their parameters.",
    },
];

/// The keys of `[[comet.channel]]`; those that are not given are as in `[comet]`.
const CHANNEL_KEYS: &[Key] = &[
    Key {
        path: "comet.channel.prefix",
        kind: Kind::Text,
        default: "",
        reload: Reload::Signal,
        doc: "The beginning of their names.",
    },
    Key {
        path: "comet.channel.channel_subscribers_max",
        kind: Kind::Integer { min: 1, max: 100_000_000 },
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
    Key {
        path: "comet.channel.history_messages_max",
        kind: Kind::Integer { min: 0, max: 1_000_000 },
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
    Key {
        path: "comet.channel.history_bytes_max",
        kind: Kind::Integer { min: 0, max: 1_099_511_627_776 },
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
    Key {
        path: "comet.channel.history_age_max_s",
        kind: Kind::Integer { min: 0, max: 31_536_000 },
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
    Key {
        path: "comet.channel.channel_idle_s",
        kind: Kind::Integer { min: 1, max: 31_536_000 },
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
    Key {
        path: "comet.channel.poll_timeout_s",
        kind: Kind::Integer { min: 1, max: 14_400 },
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
    Key {
        path: "comet.channel.slow",
        kind: Kind::Choice(&["disconnect", "drop-oldest", "conflate"]),
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
    Key {
        path: "comet.channel.outbox_bytes_max",
        kind: Kind::Integer { min: 1_024, max: 1_073_741_824 },
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
    Key {
        path: "comet.channel.announce_members",
        kind: Kind::Switch,
        default: "",
        reload: Reload::Signal,
        doc: "As in [comet].",
    },
];

/// The keys of `[[http.respond]]`.
const RESPOND_KEYS: &[Key] = &[
    Key {
        path: "http.respond.path",
        kind: Kind::UrlPath,
        default: "",
        reload: Reload::Start,
        doc: "The path that is answered, to GET, HEAD, POST, PUT, PATCH and DELETE.",
    },
    Key {
        path: "http.respond.status",
        kind: Kind::Integer { min: 200, max: 599 },
        default: "200",
        reload: Reload::Start,
        doc: "The status of the answer.",
    },
    Key {
        path: "http.respond.body",
        kind: Kind::Text,
        default: "\"\"",
        reload: Reload::Start,
        doc: "The body of the answer.",
    },
    Key {
        path: "http.respond.content_type",
        kind: Kind::FieldValue,
        default: r#""text/plain; charset=utf-8""#,
        reload: Reload::Start,
        doc: "The type of the body; an empty text leaves the field out.",
    },
];

/// The keys of `[[http.files]]`.
const FILES_KEYS: &[Key] = &[
    Key {
        path: "http.files.prefix",
        kind: Kind::UrlPath,
        default: r#""/""#,
        reload: Reload::Start,
        doc: "What their paths begin with.",
    },
    Key {
        path: "http.files.root",
        kind: Kind::Path,
        default: "",
        reload: Reload::Start,
        doc: "The directory they lie in; a relative path starts in the current directory.",
    },
];

/// Which value is meant: that of a key, in which of the tables if its section repeats, and under
/// which name if it takes names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: &'static Key,
    /// Counted from 0.
    pub(crate) table: Option<usize>,
    pub(crate) entry: Option<String>,
}

impl From<&'static Key> for Place {
    fn from(key: &'static Key) -> Self {
        Place { key, table: None, entry: None }
    }
}

impl Key {
    /// The section this key stands in; empty for the top of the file.
    pub(crate) fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within its section.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// The keys of the tables that it holds, if it is a section that repeats.
    pub(crate) fn inner(&self) -> &'static [Key] {
        match self.kind {
            Kind::Tables(keys) => keys,
            _ => &[],
        }
    }

    /// How it is called where one text says it all: `queue.listen`, `drain.0.url`.
    ///
    /// `table` counts only for a key of a section that repeats.
    pub(crate) fn typed(&self, table: usize) -> String {
        let (section, name) = (self.section(), self.name());
        match self.kind {
            _ if find(section).is_none() => self.path.to_owned(),
            Kind::Statements => format!("{section}.{table}.{name}.NAME"),
            _ => format!("{section}.{table}.{name}"),
        }
    }

    /// The environment variable that sets it, see [`Key::typed`].
    pub(crate) fn variable(&self, table: usize) -> String {
        format!("ESERVER__{}", self.typed(table).replace('.', "__").to_uppercase())
    }
}

impl Kind {
    /// What to say when something else was given: "expected …".
    pub(crate) fn expectation(self) -> String {
        match self {
            Kind::Text | Kind::Secret => "a text in quotes".to_owned(),
            Kind::Path => "a path in quotes".to_owned(),
            Kind::UrlPath => "a path that begins with a slash, in quotes".to_owned(),
            Kind::FieldValue => "a text on one line, in quotes".to_owned(),
            Kind::Integer { min, max } => {
                format!("a whole number from {} to {}", grouped(min), grouped(max))
            }
            Kind::Choice(words) => quoted_list(words),
            Kind::Listen { port, .. } => {
                format!("an address with its port, such as \"127.0.0.1:{port}\", or a list of them")
            }
            Kind::Allow => {
                "a list of addresses and prefixes, such as [\"127.0.0.1\", \"10.0.0.0/8\"]"
                    .to_owned()
            }
            Kind::QueueNames => "a list of names, such as [\"sql\", \"img\"]".to_owned(),
            Kind::Origins => "a list of origins, such as [\"https://example.org\"]".to_owned(),
            Kind::LogLevel => "a log level in quotes, such as \"info\"".to_owned(),
            Kind::Switch => "true or false".to_owned(),
            Kind::QueueName => "the name of a queue in quotes".to_owned(),
            Kind::Url => format!("a URL in quotes, such as {}", self.example()),
            Kind::Statements => "an SQL statement in quotes".to_owned(),
            Kind::Tables(_) => "a section that repeats".to_owned(),
        }
    }

    /// A value to show for a key without a default.
    pub(crate) fn example(self) -> &'static str {
        match self {
            Kind::Url => "\"sqlite:app.db\"",
            Kind::Statements => "\"insert into t(num) values (?)\"",
            Kind::UrlPath => "\"/health\"",
            Kind::Integer { .. } => "100",
            Kind::Choice(_) => "\"disconnect\"",
            Kind::Switch => "true",
            _ => "\"…\"",
        }
    }
}

/// The row of [`KEYS`] at this path.
pub(crate) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The place that a path names, cut at its dots: `queue` and `listen`, or `drain`, `0`,
/// `statements` and `add_num`, or `http`, `files`, `0` and `root`.
pub(crate) fn locate(path: &[&str]) -> Option<Place> {
    let key = |section: &str, name: &str| within(section).find(|key| key.name() == name);
    let Some((section, table, inside)) = cut_at_table(path) else {
        let (name, section) = path.split_last()?;
        let section = section.join(".");
        return key(&section, name).filter(|_| find(&section).is_none()).map(Place::from);
    };
    let (name, entry) = match *inside {
        [name] => (name, None),
        [name, entry] => (name, Some(entry.to_owned())),
        _ => return None,
    };
    let key = find(&section).and(key(&section, name))?;
    let place = Place { key, table: Some(table), entry };
    (place.entry.is_some() == matches!(key.kind, Kind::Statements)).then_some(place)
}

/// The section in front of the number of a table in a path that is cut at its dots, the number, and
/// what follows it; `None` if there is no number.
pub(crate) fn cut_at_table<'p>(path: &'p [&'p str]) -> Option<(String, usize, &'p [&'p str])> {
    let number = |at: usize| Some((at, path.get(at)?.parse().ok()?));
    let (at, table) = (1..path.len()).find_map(number)?;
    Some((path[..at].join("."), table, &path[at + 1..]))
}

/// Every key that takes a value: those of [`KEYS`], and those within sections that repeat.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    let keys = KEYS.iter().flat_map(|key| std::iter::once(key).chain(key.inner()));
    keys.filter(|key| key.inner().is_empty())
}

/// The sections in their order, without the top of the file.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = all().map(Key::section).collect();
    sections.dedup();
    sections.retain(|section| !section.is_empty());
    sections
}

/// A section's line in a file: `[queue]`, or `[[drain]]` for one that repeats.
pub(crate) fn heading(section: &str) -> String {
    if find(section).is_some() { format!("[[{section}]]") } else { format!("[{section}]") }
}

/// The keys of a section; those of the top of the file for the empty one.
pub(crate) fn within(section: &str) -> impl Iterator<Item = &'static Key> {
    all().filter(move |key| key.section() == section)
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
        for (index, key) in all().enumerate() {
            assert!(all().take(index).all(|other| other.path != key.path), "{}", key.path);
        }
        // `sections` only drops neighbors, so a section in two pieces would show up twice.
        let expected = [
            "queue",
            "comet",
            "comet.channel",
            "admin",
            "http",
            "http.respond",
            "http.files",
            "limits",
            "log",
            "drain",
        ];
        assert_eq!(sections(), expected);
        assert_eq!(within("").map(Key::name).next(), Some("data_dir"));
        for row in KEYS {
            assert!(row.inner().iter().all(|key| key.section() == row.path), "{}", row.path);
            assert!(!row.default.is_empty(), "{} is always there", row.path);
        }
    }

    #[test]
    fn a_key_knows_its_names() {
        let key = find("queue.length_max").unwrap();
        assert_eq!((key.section(), key.name()), ("queue", "length_max"));
        assert_eq!(key.variable(0), "ESERVER__QUEUE__LENGTH_MAX");
        assert_eq!(find("data_dir").unwrap().variable(0), "ESERVER__DATA_DIR");
        assert!(find("queue").is_none());
        assert_eq!((heading("queue"), heading("drain")), ("[queue]".into(), "[[drain]]".into()));
    }

    #[test]
    fn a_path_leads_to_one_place() {
        for key in all() {
            let typed = key.typed(7);
            let place = locate(&typed.split('.').collect::<Vec<_>>()).unwrap();
            assert_eq!((place.key.path, place.table.is_some()), (key.path, typed.contains(".7.")));
        }
        let place = locate(&["drain", "0", "statements", "add_num"]).unwrap();
        assert_eq!((place.table, place.entry.as_deref()), (Some(0), Some("add_num")));
        assert_eq!(place.key.variable(0), "ESERVER__DRAIN__0__STATEMENTS__NAME");
        let place = locate(&["http", "files", "2", "root"]).unwrap();
        assert_eq!((place.key.path, place.table), ("http.files.root", Some(2)));
        assert_eq!(place.key.variable(1), "ESERVER__HTTP__FILES__1__ROOT");
        for path in [
            "drain",
            "drain.url",
            "drain.0",
            "drain.x.url",
            "drain.-1.url",
            "drain.0.ulr",
            "drain.0.url.x",
            "drain.0.statements",
            "queue",
            "queue.0.listen",
            "http.files",
            "http.files.root",
            "http.files.0",
            "http.0.files.root",
            "http.files.0.root.x",
            "0.root",
            "",
        ] {
            assert_eq!(locate(&path.split('.').collect::<Vec<_>>()), None, "{path}");
        }
    }

    #[test]
    fn numbers_are_grouped_from_five_digits_on() {
        let texts = [0, 999, 3600, 10_000, 262_144, 1_000_000].map(grouped);
        assert_eq!(texts, ["0", "999", "3600", "10_000", "262_144", "1_000_000"]);
    }
}
