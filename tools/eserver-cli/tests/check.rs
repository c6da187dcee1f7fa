//! `eserver check`, and what `serve` says to a bad configuration: the real program, its output and
//! its exit code; with `--connect` also real databases, as far as they need no server.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in an empty directory with nothing of ours in its environment.
fn eserver(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eserver"));
    command.args(arguments).current_dir(directory);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ESERVER") {
            command.env_remove(name);
        }
    }
    command.envs(environment.iter().copied()).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

#[test]
fn the_merged_configuration_is_printed_with_its_origins() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[queue]\nlength_max = 5\nnames = [\"mail\"]\n[log]\nlevel = \"warn\"\n";
    std::fs::write(directory.path().join("eserver.toml"), file).unwrap();
    let arguments = ["check", "--set", "queue.names=a,b", "--data-dir", "/srv/queue"];
    let environment = [("ESERVER__LOG__LEVEL", "debug"), ("ESERVER_ADDR", "127.0.0.1:1")];
    let output = eserver(directory.path(), &arguments, &environment);
    assert_exit(&output, 0);
    assert_eq!(text(&output.stderr), "");
    let printed = text(&output.stdout);
    assert!(printed.starts_with("# Read from eserver.toml.\n"), "{printed}");
    for (start, origin) in [
        ("data_dir = \"/srv/queue\" ", "--data-dir"),
        ("length_max = 5 ", "eserver.toml:2"),
        ("names = [\"a\", \"b\"] ", "--set"),
        ("level = \"debug\" ", "environment ESERVER__LOG__LEVEL"),
        ("shards = 0 ", "default"),
    ] {
        let is_it =
            |line: &&str| line.starts_with(start) && line.ends_with(&format!(" # {origin}"));
        assert_eq!(printed.lines().filter(is_it).count(), 1, "{start}\n{printed}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let values = |arguments: &[&str]| {
        let output = eserver(directory.path(), arguments, &[]);
        assert_exit(&output, 0);
        let printed = text(&output.stdout).to_owned();
        let table: toml::Table = printed.parse().expect("valid TOML");
        (printed, table)
    };
    let set = ["--set", "queue.allow=10.0.0.0/8,::1", "--set", "queue.listen=[::1]:0,127.0.0.1:0"];
    let (printed, first) = values(&[&["check", "--explain"], &set[..]].concat());
    assert!(printed.contains("\n# Messages a queue holds"), "{printed}");
    std::fs::write(directory.path().join("again.toml"), printed).unwrap();
    let (_, again) = values(&["check", "--config", "again.toml"]);
    assert_eq!(first, again);

    let drains = "[[drain]]\nurl = \"sqlite:a\"\n[drain.statements]\n\
                  a = \"\"\"\ninsert into t(x, \\\"y\\\")\nvalues ('\\\\', ?)\"\"\"\nb = \"delete from t\"\n\
                  [[drain]]\nqueue = \"img\"\nurl = \"mysql://a@b/c\"\nraw_sql = true\n";
    std::fs::write(directory.path().join("drains.toml"), drains).unwrap();
    for explain in [&["--explain"][..], &[]] {
        let (printed, first) = values(&[&["check", "--config", "drains.toml"], explain].concat());
        assert_eq!(first["drain"].as_array().map(Vec::len), Some(2), "{printed}");
        assert_eq!(
            first["drain"][0]["statements"]["a"].as_str(),
            Some("insert into t(x, \"y\")\nvalues ('\\', ?)"),
            "{printed}"
        );
        std::fs::write(directory.path().join("again.toml"), printed).unwrap();
        let (_, again) = values(&["check", "--config", "again.toml"]);
        assert_eq!(first, again);
    }
}

#[test]
fn every_error_is_shown_and_the_exit_code_is_78() {
    let directory = tempfile::tempdir().unwrap();
    let file = "data_dri = \"x\"\n[queue]\nlisten = \"localhost:8888\"\nlength_max = 0\nsync =\n";
    std::fs::write(directory.path().join("bad.toml"), file).unwrap();
    for verb in ["check", "serve"] {
        let arguments = [verb, "--config", "bad.toml", "--set", "queue.names=a,a"];
        let environment = [("ESERVER__QUEU__FULL", "reject")];
        let output = eserver(directory.path(), &arguments, &environment);
        assert_exit(&output, 78);
        assert_eq!(text(&output.stdout), "");
        let shown = text(&output.stderr);
        for part in [
            "--> bad.toml:1:1\n",
            "^^^^^^^^ did you mean `data_dir`?",
            "--> bad.toml:3:10\n",
            "3 | listen = \"localhost:8888\"\n  |          ^^^^^^^^^^^^^^^^ a host name",
            "--> bad.toml:4:14\n",
            "^ expected a whole number from 1 to 1_000_000_000",
            "--> bad.toml:5:7\n",
            "did you mean ESERVER__QUEUE__FULL?",
            "`queue.names` holds \"a\" twice",
            "\n6 errors in the configuration\n",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "no color where nobody sees it: {shown}");
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "a bad configuration starts nothing: {left:?}");
}

#[test]
fn a_named_file_must_exist() {
    let directory = tempfile::tempdir().unwrap();
    let output = eserver(directory.path(), &["check", "--config", "none.toml"], &[]);
    assert_exit(&output, 78);
    let shown = text(&output.stderr);
    assert!(shown.starts_with("error: the configuration file none.toml does not exist"), "{shown}");
}

#[test]
fn a_note_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["check", "--set", "queue.sync_interval_ms=50"];
    let output = eserver(directory.path(), &arguments, &[]);
    assert_exit(&output, 0);
    assert!(
        text(&output.stderr).starts_with("note: `queue.sync_interval_ms` (--set) has no effect")
    );
    assert!(text(&output.stdout).contains("\nsync_interval_ms = 50 "));
}

/// Runs `eserver check --connect` by this file; answers with stdout and stderr.
#[track_caller]
fn connect(directory: &Path, file: &str, code: i32) -> (String, String) {
    std::fs::write(directory.join("eserver.toml"), file).expect("our own directory");
    let output = eserver(directory, &["check", "--connect"], &[]);
    assert_exit(&output, code);
    (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
}

/// A SQLite database with one table.
fn make_database(path: &Path) {
    let database = rusqlite::Connection::open(path).expect("our own directory");
    database.execute("create table t(num integer not null)", []).expect("a new database");
}

const SQLITE: &str = "[[drain]]\nurl = \"sqlite:app.db\"\n[drain.statements]\n\
                      add = \"insert into t(num) values (?)\"\n";

#[test]
fn a_database_is_tried_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    make_database(&directory.path().join("app.db"));
    let (stdout, stderr) = connect(directory.path(), SQLITE, 0);
    assert_eq!(stderr, "");
    let last = stdout.lines().last().expect("some output");
    assert!(last.starts_with("# The drain of the queue \"default\": SQLite 3."), "{stdout}");
    assert!(last.ends_with(", 1 statement in order."), "{stdout}");
    assert!(stdout.parse::<toml::Table>().is_ok(), "what is said is a comment: {stdout}");
}

#[test]
fn a_database_is_left_alone_unless_asked() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("eserver.toml"), SQLITE).unwrap();
    let output = eserver(directory.path(), &["check"], &[]);
    assert_exit(&output, 0);
    assert!(!directory.path().join("app.db").exists(), "nothing was connected to");
    assert!(!text(&output.stdout).contains("The drain of"), "{}", text(&output.stdout));
}

#[test]
fn a_statement_that_the_database_refuses_is_pointed_at() {
    let directory = tempfile::tempdir().unwrap();
    make_database(&directory.path().join("app.db"));
    let file = format!("{SQLITE}lost = \"insert into nowhere(num) values (?)\"\n");
    let (_, stderr) = connect(directory.path(), &file, 78);
    assert!(stderr.starts_with("error: the database refuses the statement `lost`\n"), "{stderr}");
    assert!(stderr.contains("--> eserver.toml:5:8\n"), "{stderr}");
    assert!(stderr.contains("no such table: nowhere"), "{stderr}");
    assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
}

#[test]
fn a_database_that_cannot_be_reached_is_pointed_at_and_exits_69() {
    // An address of loopback that nobody else uses, and a port that was free a moment ago.
    let listener = TcpListener::bind("127.98.7.5:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let directory = tempfile::tempdir().unwrap();
    let file = format!(
        "[[drain]]\nurl = \"sqlite:nowhere/app.db\"\nraw_sql = true\n\
         [[drain]]\nqueue = \"sql\"\nraw_sql = true\n\
         url = \"postgres://app:s3cr3t@{address}/app\"\n\
         [[drain]]\nqueue = \"img\"\nraw_sql = true\n\
         url = \"mysql://app:s3cr3t@{address}/app\"\n"
    );
    let (stdout, stderr) = connect(directory.path(), &file, 69);
    let parts = [
        ("default", "--> eserver.toml:2:7\n".to_owned(), "2 | url = \"sqlite:nowhere/app.db\""),
        ("sql", "--> eserver.toml:7:7\n".to_owned(), "7 | url = \"postgres://app:***@127.98.7.5:"),
        ("img", "--> eserver.toml:11:7\n".to_owned(), "url = \"mysql://app:***@127.98.7.5:"),
    ];
    for (queue, place, line) in parts {
        let title = format!("error: the drain of the queue {queue:?} cannot work\n");
        for part in [&title, &place, line] {
            assert!(stderr.contains(part), "{part}\n{stderr}");
        }
    }
    assert!(stderr.contains("\n3 errors in the configuration\n"), "{stderr}");
    assert!(!format!("{stdout}{stderr}").contains("s3cr3t"), "{stdout}{stderr}");
    assert!(stdout.contains("url = \"mysql://app:***@127.98.7.5:"), "{stdout}");
    assert!(!stdout.contains("The drain of"), "{stdout}");
}

#[test]
fn without_a_drain_there_is_nothing_to_connect_to() {
    let directory = tempfile::tempdir().unwrap();
    let (stdout, stderr) = connect(directory.path(), "[queue]\nnames = []\n", 0);
    assert!(stdout.contains("\nnames = [] "), "{stdout}");
    assert_eq!(stderr, "note: there is nothing to connect to: no queue has a [[drain]]\n");
}

#[test]
fn a_bad_drain_is_not_connected_to() {
    let directory = tempfile::tempdir().unwrap();
    let (stdout, stderr) =
        connect(directory.path(), &format!("{SQLITE}bad = \"drop table t\"\n"), 78);
    assert_eq!(stdout, "");
    assert!(stderr.contains("--> eserver.toml:5:7\n"), "{stderr}");
    assert!(!directory.path().join("app.db").exists());
}
