//! Whole configurations: what is read, what is shown, and where it came from.

mod drains;
mod http;
mod origins;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// What the sources of one case say.
#[derive(Default)]
struct Case<'a> {
    file: &'a str,
    environment: &'a [(&'a str, &'a str)],
    set: &'a [&'a str],
    data_dir: Option<&'a str>,
}

impl Case<'_> {
    fn load(&self) -> Result<Loaded, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("eserver.toml");
        std::fs::write(&path, self.file).unwrap();
        let own = |value: &str| Flag::Own("--data-dir", "data_dir", value.to_owned());
        let sets = self.set.iter().map(|set| Flag::Set((*set).to_owned()));
        let sources = Sources {
            file: ConfigFile::Named(path),
            environment: self
                .environment
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value)))
                .collect(),
            flags: sets.chain(self.data_dir.map(own)).collect(),
        };
        let shown = format!("{}/", directory.path().display());
        sources.load().map_err(|problems| problems.to_string().replace(&shown, ""))
    }

    #[track_caller]
    fn good(&self) -> Loaded {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }
}

fn file(text: &str) -> Case<'_> {
    Case { file: text, ..Case::default() }
}

/// A file, and everything that is said about it.
#[track_caller]
fn check(text: &str, expected: &str) {
    let problems = file(text).load().map(|loaded| loaded.config).unwrap_err();
    assert_eq!(problems.trim_end(), expected.trim(), "\n{problems}");
}

/// One line of a file below `[queue]`, and three things said about it: title, label, help.
#[track_caller]
fn check_line(line: &str, title: &str, label: &str, help: &str) {
    let problems = file(&format!("[queue]\n{line}\n")).load().map(|loaded| loaded.config);
    let problems = problems.unwrap_err();
    assert!(problems.starts_with(&format!("error: {title}\n")), "{problems}");
    assert!(problems.contains(&format!("^ {label}")), "{problems}");
    assert_eq!(problems.contains("= help: "), !help.is_empty(), "{problems}");
    assert!(problems.contains(help), "{problems}");
    assert_eq!(problems.matches("error: ").count(), 1, "{problems}");
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = file("").good().config;
    assert_eq!(config.data_dir, PathBuf::from("eserver-data"));
    assert!(config.shards >= 1, "0 means as many as suit the machine");
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.queue.listen, ["127.0.0.1:8888".parse().unwrap()]);
    assert_eq!(config.queue.names, ["sql", "img"]);
    assert_eq!(config.queue.length_max, 1_000_000);
    assert_eq!((config.queue.full, config.queue.sync), (Full::Reject, Sync::Always));
    assert_eq!(config.limits.connections_max, 1_010_000);
    assert_eq!(config.limits.connections_per_address_max, 20_000);
    assert_eq!(config.limits.request_head_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(3600));
    assert_eq!(config.limits.outbox_bytes_max, 262_144);
    // What is said here is what the engine does by itself.
    let (limits, engine) = (&config.limits, eserver::Limits::default());
    assert_eq!(limits.request_body_timeout, engine.request_body_timeout);
    assert_eq!(limits.request_body_bytes_per_s_min, engine.request_body_bytes_per_s_min);
    assert_eq!(limits.write_timeout, engine.write_timeout);
    assert_eq!(limits.linger_timeout, engine.linger_timeout);
    assert_eq!(limits.linger_bytes_max, engine.linger_bytes_max);
    assert_eq!(config.log.level.to_string(), "info");
    assert_eq!(config.log.format, LogFormat::Auto);
    assert!(config.drains.is_empty(), "a queue is just a queue");
    assert!(config.http.listen.is_empty(), "HTTP is off");
}

#[test]
fn every_key_can_be_given() {
    let loaded = file(
        r#"
data_dir = "/srv/queue"
shards = 3
shutdown_timeout_s = 0
[queue]
listen = ["0.0.0.0:0", "0.0.0.0:0", "[::1]:9"]
allow = ["::/0", "10.0.0.0/8"]
names = []
length_max = 0x10
full = "overwrite-oldest"
sync = "interval"
sync_interval_ms = 250
[limits]
connections_max = 5
connections_per_address_max = 4
request_head_timeout_s = 3
request_body_timeout_s = 4
request_body_bytes_per_s_min = 5
idle_timeout_s = 2
outbox_bytes_max = 1_024
write_timeout_s = 6
linger_timeout_s = 7
linger_bytes_max = 0
[log]
level = "warn,eserver=trace"
format = "json"
"#,
    )
    .good();
    assert!(loaded.notes.is_empty(), "{}", loaded.notes);
    let config = loaded.config;
    assert_eq!((config.shards, config.shutdown_timeout), (3, Duration::ZERO));
    assert_eq!(config.queue.listen.len(), 3);
    assert_eq!(config.queue.allow, ["::/0", "10.0.0.0/8"].map(|text| text.parse().unwrap()));
    assert!(config.queue.names.is_empty());
    assert_eq!(config.queue.length_max, 16);
    assert_eq!(config.queue.full, Full::OverwriteOldest);
    assert_eq!(config.queue.sync, Sync::Interval(Duration::from_millis(250)));
    assert_eq!(
        config.limits,
        LimitsConfig {
            connections_max: 5,
            connections_per_address_max: 4,
            request_head_timeout: Duration::from_secs(3),
            request_body_timeout: Duration::from_secs(4),
            request_body_bytes_per_s_min: 5,
            idle_timeout: Duration::from_secs(2),
            outbox_bytes_max: 1024,
            write_timeout: Duration::from_secs(6),
            linger_timeout: Duration::from_secs(7),
            linger_bytes_max: 0,
        }
    );
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn flag_over_environment_over_file_over_default() {
    let case = Case {
        file: "data_dir = \"a\"\nshards = 1\n[queue]\nlength_max = 1\nfull = \"reject\"\n",
        environment: &[
            ("ESERVER__SHARDS", "2"),
            ("ESERVER__QUEUE__LENGTH_MAX", "2"),
            ("ESERVER_ADDR", "is not a key"),
            ("PATH", "neither"),
        ],
        set: &["queue.length_max=3", "data_dir=b", "queue.length_max=4"],
        data_dir: Some("/c d"),
    };
    let loaded = case.good();
    let shown = |path: &str| {
        let setting = loaded.settings.get(path);
        let origin = setting.origin.to_string();
        let origin = origin.rsplit_once('/').map_or(origin.as_str(), |(_, name)| name);
        format!("{} {origin}", setting.value)
    };
    assert_eq!(shown("data_dir"), "\"/c d\" --data-dir");
    assert_eq!(shown("shards"), "2 environment ESERVER__SHARDS");
    assert_eq!(shown("queue.length_max"), "4 --set");
    assert_eq!(shown("queue.full"), "\"reject\" eserver.toml:5");
    assert_eq!(shown("queue.sync"), "\"always\" default");
}

#[test]
fn short_texts_need_no_quotes() {
    for (set, expected) in [
        ("queue.names=a,b", "[\"a\", \"b\"]"),
        ("queue.names= a , b ", "[\"a\", \"b\"]"),
        ("queue.names=[\"a\", 'b']", "[\"a\", \"b\"]"),
        ("queue.names=7", "[\"7\"]"),
        ("queue.names=", "[]"),
        ("queue.listen=127.0.0.1:9000", "\"127.0.0.1:9000\""),
        ("queue.listen=\"127.0.0.1:9000\"", "\"127.0.0.1:9000\""),
        ("queue.listen=[::1]:9000", "\"[::1]:9000\""),
        ("queue.listen=[::1]:1,[::1]:2", "[\"[::1]:1\", \"[::1]:2\"]"),
        ("queue.listen=[ '[::1]:1']", "\"[::1]:1\""),
        ("queue.listen=127.0.0.1:1,[::1]:1", "[\"127.0.0.1:1\", \"[::1]:1\"]"),
        ("queue.allow=10.0.0.0/8", "[\"10.0.0.0/8\"]"),
        ("queue.full=overwrite-oldest", "\"overwrite-oldest\""),
        ("queue.length_max=1_000", "1000"),
        ("data_dir=7", "\"7\""),
        ("data_dir=a=b", "\"a=b\""),
        ("log.level=info,eserver=debug", "\"info,eserver=debug\""),
    ] {
        let loaded = Case { set: &[set], ..Case::default() }.good();
        let (path, _) = set.split_once('=').unwrap();
        assert_eq!(loaded.settings.get(path).value.to_string(), expected, "{set}");
    }
}

#[test]
fn all_errors_of_all_sources_come_at_once() {
    let problems = Case {
        file: "[queue]\nlenght_max = 5\nfull = \"drop\"\n",
        environment: &[
            ("ESERVER__QUEUE__LISTEN", "localhost:80"),
            ("ESERVER__QUEU__SYNC", "never"),
        ],
        set: &["queue.sync=sometimes", "shards", "limits=3"],
        data_dir: Some(""),
    }
    .load()
    .map(|loaded| loaded.config)
    .unwrap_err();
    let expected = r#"
error: unknown key `queue.lenght_max`
 --> eserver.toml:2:1
  |
2 | lenght_max = 5
  | ^^^^^^^^^^ did you mean `length_max`?

error: `queue.full` cannot be "drop"
 --> eserver.toml:3:8
  |
3 | full = "drop"
  |        ^^^^^^ expected "reject" or "overwrite-oldest"

error: the environment variable ESERVER__QUEU__SYNC names no key
--> environment:1:1
 |
 | ESERVER__QUEU__SYNC=never
 | ^^^^^^^^^^^^^^^^^^^ did you mean ESERVER__QUEUE__SYNC?

error: `queue.listen` takes an IP address and a port
--> environment:1:24
 |
 | ESERVER__QUEUE__LISTEN=localhost:80
 |                        ^^^^^^^^^^^^ a host name; names are not looked up here
 |
 = help: write "127.0.0.1:80", "[::1]:80", or both in a list

error: `queue.sync` cannot be "sometimes"
--> command line:1:18
 |
 | --set queue.sync=sometimes
 |                  ^^^^^^^^^ expected "always", "interval" or "never"

error: --set takes KEY=VALUE
--> command line:1:7
 |
 | --set shards
 |       ^^^^^^ no `=` here
 |
 = help: for example --set queue.listen=127.0.0.1:9000

error: unknown key `limits`
--> command line:1:7
 |
 | --set limits=3
 |       ^^^^^^ no such key
 |
 = help: [limits] is a section, its keys are limits.connections_max, limits.connections_per_address_max, limits.request_head_timeout_s, limits.request_body_timeout_s, limits.request_body_bytes_per_s_min, limits.idle_timeout_s, limits.outbox_bytes_max, limits.write_timeout_s, limits.linger_timeout_s, limits.linger_bytes_max

error: `data_dir` is empty
--> command line:1:12
 |
 | --data-dir 
 |            ^ expected a path

8 errors in the configuration"#;
    assert_eq!(problems.trim_end(), expected.trim(), "\n{problems}");
}

#[test]
fn a_key_is_found_where_it_was_meant() {
    for (text, title, label) in [
        ("data_dri = 1", "unknown key `data_dri`", "did you mean `data_dir`?"),
        ("listen = 1", "unknown key `listen`", "`listen` belongs in [queue]"),
        ("[queue]\nshards = 1", "unknown key `queue.shards`", "`shards` belongs at the top of the"),
        ("[queue]\nidle = 1", "unknown key `queue.idle`", "did you mean `idle_timeout_s`, in [lim"),
        ("[queue]\ncolor = 1", "unknown key `queue.color`", "no such key"),
        ("[queue]\nx.y = 1", "unknown key `queue.x`", "no such key"),
        ("[queues]\nlisten = 1", "unknown section [queues]", "did you mean [queue]?"),
        ("[smtp]\nlisten = 1", "unknown section [smtp]", "no such section"),
        ("[htpp]\nlisten = 1", "unknown section [htpp]", "did you mean [http]?"),
        ("[[http.file]]\nroot = 1", "unknown section [http.file]", "did you mean [[http.files]]?"),
        ("[[respond]]\npath = 1", "unknown section [respond]", "no such section"),
        ("[http]\nroot = 1", "unknown key `http.root`", "`root` belongs in [[http.files]]"),
        (
            "[http.files]\nroot = 1",
            "`http.files` is a section that repeats",
            "write [[http.files]]",
        ),
        ("[http]\nfiles = 1", "`http.files` is a section that repeats", "write [[http.files]] on"),
        ("[drian]\nurl = 1", "unknown section [drian]", "did you mean [[drain]]?"),
        ("url = 1", "unknown key `url`", "`url` belongs in [[drain]]"),
        ("drain = 1", "`drain` is a section that repeats", "write [[drain]] on a line"),
        ("drain = [1]", "`drain` is a section that repeats", "write [[drain]] on a line"),
        ("[drain]\nurl = 1", "`drain` is a section that repeats", "write [[drain]] on a line"),
        ("queue = 1", "`queue` is a section, not a value", "write [queue] on a line"),
        ("[[queue]]\nfull = 1", "`queue` is a section, not a value", "write [queue] on a line"),
        ("[queue.listen]\na = 1", "`queue.listen` cannot be a table", "expected an address"),
    ] {
        let problems = file(text).load().map(|loaded| loaded.config).unwrap_err();
        assert!(problems.starts_with(&format!("error: {title}\n")), "{text}\n{problems}");
        assert!(problems.contains(&format!("^ {label}")), "{text}\n{problems}");
        assert_eq!(problems.matches("error: ").count(), 1, "{text}\n{problems}");
    }
}

#[test]
fn a_value_is_held_to_its_kind() {
    let number = "expected a whole number from 1 to 1_000_000_000";
    for line in ["length_max = 0", "length_max = -1", "length_max = 99_999_999_999_999_999_999_999"]
    {
        check_line(line, "`queue.length_max` is out of range", number, "");
    }
    for (value, given, help) in [
        ("\"5\"", "a text", "a number stands without quotes: 5"),
        ("\"5 MB\"", "a text", ""),
        ("1e6", "a number with a fraction", ""),
        ("true", "true or false", ""),
        ("[5]", "a list", ""),
        ("2024-01-01", "a date or time", ""),
        ("{}", "a table", ""),
    ] {
        let title = format!("`queue.length_max` cannot be {given}");
        let label = format!("expected {}", "a whole number");
        check_line(&format!("length_max = {value}"), &title, &label, help);
    }
    let title = "`queue.full` cannot be \"overwrite\"";
    let label = "expected \"reject\" or \"overwrite-oldest\"";
    check_line("full = \"overwrite\"", title, label, "did you mean \"overwrite-oldest\"?");
    let title = "`queue.names` cannot be a text";
    check_line("names = \"sql\"", title, "expected a list", "a list stands in brackets: [\"sql\"]");
    check_line("listen = []", "`queue.listen` is empty", "expected at least one address", "");
}

#[test]
fn names_of_queues_are_names_of_directories() {
    let title = "`queue.names` holds a name that no queue can have";
    let long = "x".repeat(65);
    for (name, label) in [
        ("", "a queue's name must not be empty"),
        (".x", "a queue's name must not start with a dot"),
        ("a/b", "a queue's name is made of letters"),
        ("größe", "a queue's name is made of letters"),
        ("default", "the queue without a name is called so"),
        (&long, "a queue's name has at most 64"),
    ] {
        check_line(&format!("names = [{name:?}]"), title, label, "");
    }
    let twice = "`queue.names` holds \"a\" twice";
    check_line("names = [\"a\", \"b\", \"a\"]", twice, "already in the list", "");
    let problems =
        file("[queue]\nnames = [\"a\", \".\", \"a\", 7]").load().map(|loaded| loaded.config);
    assert_eq!(problems.unwrap_err().matches("error: ").count(), 3, "every item on its own");
}

#[test]
fn what_is_not_toml_is_shown_with_the_rest() {
    check(
        "data_dir = /srv/queue\n[queue]\nlisten = 127.0.0.1:8888\nlength_max =\nfull = 3\n",
        r#"
error: not valid TOML
 --> eserver.toml:1:12
  |
1 | data_dir = /srv/queue
  |            ^^^^^^^^^^ a text needs quotes
  |
  = help: write data_dir = "/srv/queue"

error: not valid TOML
 --> eserver.toml:3:10
  |
3 | listen = 127.0.0.1:8888
  |          ^^^^^^^^^^^^^^ a text needs quotes
  |
  = help: write listen = "127.0.0.1:8888"

error: not valid TOML
 --> eserver.toml:4:13
  |
4 | length_max =
  |             ^ a value is missing after `=`

error: `queue.full` cannot be a number
 --> eserver.toml:5:8
  |
5 | full = 3
  |        ^ expected "reject" or "overwrite-oldest"

4 errors in the configuration"#,
    );
}

#[test]
fn one_slip_in_the_syntax_is_one_error() {
    for (text, line, label) in [
        ("[queue\nfull = \"reject\"\nlength_max = 5\n", 1, "unclosed table"),
        (
            "[queue]\nnames = [\"a\", \"b\"\nfull = \"reject\"\n[log]\nlevel = \"x\"\n",
            3,
            "expected `]`",
        ),
        ("[queue]\nfull = \"reject\nsync = \"never\"\n", 2, "invalid basic string"),
        ("shards = 1\nshards = 2\n", 2, "already written above"),
        ("[log]\n[queue]\n[log]\nlevel = \"info\"\n", 3, "already written above"),
        ("shards = 1__0\n", 1, "`_` may only go between digits"),
        ("shards 3\n", 1, "key with no value: expected `=`"),
    ] {
        let problems = file(text).load().map(|loaded| loaded.config).unwrap_err();
        assert!(problems.contains(&format!(" eserver.toml:{line}:")), "{text}\n{problems}");
        assert!(problems.contains(label), "{text}\n{problems}");
        assert_eq!(problems.matches("error: ").count(), 1, "{text}\n{problems}");
    }
}

#[test]
fn a_file_cut_anywhere_or_with_any_byte_changed_never_panics() {
    let text = "data_dir = \"ä\"\n[queue]\nlisten = [\"[::1]:1\", '127.0.0.1:0']\nallow = []\n\
                names = [\n  \"a\", # one\n  \"b\"]\nlength_max = 1_000\n[[log]]\nx = {a = 1}\n\
                [[http.files]]\nprefix = \"ü\"\n[[drain]]\nurl = \"a://b:ü@d\"\nraw_sql = 1\n[drain.statements]\na = \"?\"\n";
    let load = |text: &str| {
        let said = super::file::read(text);
        for one in &said.given {
            let _ = value::check(one.place.key, &one.value);
        }
        let source = source::Source {
            kind: source::SourceKind::File("f".to_owned()),
            text: text.to_owned(),
        };
        let mistakes = said.mistakes.into_iter();
        let problems = mistakes.map(|one| problem::Problem::error(0, one)).collect();
        Problems::new(vec![source], problems).to_string()
    };
    for (cut, _) in text.char_indices() {
        load(&text[..cut]);
        load(&text[cut..]);
        for other in ['[', ']', '"', '=', '\n', '#', '\0', 'é', '\u{feff}'] {
            let mut changed = text.to_owned();
            let end = cut + changed[cut..].chars().next().map_or(0, char::len_utf8);
            changed.replace_range(cut..end, other.encode_utf8(&mut [0; 4]));
            load(&changed);
        }
    }
}

#[test]
fn what_is_probably_not_meant_is_a_note() {
    let notes = |text: &str| file(text).good().notes.to_string();
    let note = notes("[queue]\nsync_interval_ms = 5\n");
    assert!(note.contains("eserver.toml:2) has no effect: sync is \"always\""), "{note}");
    let note = notes("[limits]\nconnections_max = 5\nconnections_per_address_max = 6\n");
    assert!(note.contains("it is above connections_max"), "{note}");
    let note = notes("[queue]\nallow = [\"10.0.0.5/8\"]\n");
    assert!(note.contains("^ all of 10.0.0.0/8 is let in, not only 10.0.0.5"), "{note}");
    for section in ["queue", "http"] {
        let note = notes(&format!("[{section}]\nallow = []\n"));
        assert!(note.contains(&format!("nobody may connect by `{section}.allow`")), "{note}");
    }
    assert_eq!(notes("[limits]\nconnections_max = 5\n"), "", "a default is nobody's mistake");
}

#[test]
fn a_file_must_be_there_when_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("eserver.toml");
    let load = |file| Sources { file, environment: Vec::new(), flags: Vec::new() }.load();
    assert_eq!(load(ConfigFile::IfPresent(path.clone())).unwrap().file, None);
    let problems = load(ConfigFile::Named(path.clone())).unwrap_err().to_string();
    assert!(problems.contains("eserver.toml does not exist"), "{problems}");

    std::fs::write(&path, b"shards = 1\ndata_dir = \"\xff\"\n").unwrap();
    let problems = load(ConfigFile::Named(path.clone())).unwrap_err().to_string();
    assert!(problems.contains("is not UTF-8 text: see line 2"), "{problems}");

    std::fs::write(&path, "shards = 3\n").unwrap();
    let loaded = load(ConfigFile::IfPresent(path.clone())).unwrap();
    assert_eq!((loaded.config.shards, loaded.file), (3, Some(path)));

    let problems = load(ConfigFile::Named(directory.path().to_owned())).unwrap_err().to_string();
    assert!(problems.contains("cannot read the configuration file"), "{problems}");
}
