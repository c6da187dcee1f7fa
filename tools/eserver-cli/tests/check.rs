//! `eserver check`, and what `serve` says to a bad configuration: the real program, its output and
//! its exit code.

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
