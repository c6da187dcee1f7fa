//! What the program says about itself: help, usage errors, completions, manual pages.

use std::process::{Command, Output};

fn eserver(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eserver"))
        .args(arguments)
        .env_remove("ESERVER_ADDR")
        .output()
        .expect("the program starts")
}

/// The output of a command that succeeds.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = eserver(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

const VERBS: [&str; 8] =
    ["serve", "check", "queue", "comet", "bench", "doctor", "completions", "man"];
const COMET_VERBS: [&str; 3] = ["publish", "subscribe", "info"];
const BENCH_VERBS: [&str; 1] = ["hold"];
const QUEUE_VERBS: [&str; 13] = [
    "push", "put", "pop", "reserve", "ack", "release", "bury", "buried", "kick", "drop", "length",
    "stats", "watch",
];

#[test]
fn alone_it_prints_its_help() {
    let help = printed(&[]);
    assert_eq!(help, printed(&["--help"]));
    for verb in VERBS {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}\n{help}");
    }
    assert!(help.contains("\nExamples:\n") && help.contains("\nExit codes:\n"), "{help}");
}

#[test]
fn every_command_explains_itself() {
    for verb in VERBS {
        let help = printed(&[verb, "--help"]);
        assert!(help.contains(&format!("Usage: eserver {verb}")), "{help}");
        assert!(help.contains("\nExamples:\n"), "{verb}\n{help}");
    }
    let queue = printed(&["queue", "--help"]);
    for verb in QUEUE_VERBS {
        assert!(queue.contains(&format!("\n  {verb} ")), "{verb}\n{queue}");
        let help = printed(&["queue", verb, "--help"]);
        assert!(help.contains(&format!("Usage: eserver queue {verb}")), "{help}");
        assert!(help.contains("[default: 127.0.0.1:8888]"), "{help}");
    }
    let comet = printed(&["comet", "--help"]);
    for verb in COMET_VERBS {
        assert!(comet.contains(&format!("\n  {verb} ")), "{verb}\n{comet}");
        let help = printed(&["comet", verb, "--help"]);
        assert!(help.contains(&format!("Usage: eserver comet {verb}")), "{help}");
    }
    let bench = printed(&["bench", "--help"]);
    for verb in BENCH_VERBS {
        assert!(bench.contains(&format!("\n  {verb} ")), "{verb}\n{bench}");
        let help = printed(&["bench", verb, "--help"]);
        assert!(help.contains("\nExamples:\n") && help.contains("\nExit codes:\n"), "{help}");
    }
}

#[test]
fn no_line_of_help_is_wider_than_a_terminal_page() {
    let queue = QUEUE_VERBS.map(|verb| vec!["queue", verb, "--help"]);
    let bench = BENCH_VERBS.map(|verb| vec!["bench", verb, "--help"]);
    let verbs = VERBS.map(|verb| vec![verb, "--help"]);
    let comet = COMET_VERBS.map(|verb| vec!["comet", verb, "--help"]);
    for arguments in verbs.into_iter().chain(queue).chain(bench).chain(comet) {
        for line in printed(&arguments).lines() {
            assert!(line.chars().count() <= 100, "{arguments:?}: {line}");
        }
    }
}

#[test]
fn what_is_not_understood_exits_64() {
    for arguments in [
        &["bogus"][..],
        &["serve", "--port", "1"],
        &["bench"],
        &["bench", "hold"],
        &["comet"],
        &["comet", "publish", "a"],
        &["comet", "publish", "a", "{", "--json"],
        &["comet", "subscribe"],
        &["doctor", "--connections", "0"],
        &["doctor", "--connect-rate", "0"],
        &["doctor", "--myths", "--json"],
        &["queue"],
        &["queue", "ack"],
        &["queue", "ack", "x"],
        &["queue", "pop", "--count", "0"],
        &["queue", "kick"],
        &["queue", "kick", "--all", "7"],
        &["queue", "drop", "all"],
        &["queue", "watch", "--count", "0"],
        &["queue", "push", "--param", "5"],
        &["queue", "push", "--stmt", "add", "select 1"],
        &["completions", "tcsh"],
    ] {
        let output = eserver(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_missing_server_is_one_sentence_with_what_to_do() {
    // An address of loopback that nobody else uses, and a port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.98.7.6:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let output = eserver(&["queue", "length", "--addr", &address]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let expected =
        format!("error: nothing listens on {address}: start a server with `eserver serve`");
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.starts_with(&expected) && shown.lines().count() == 1, "{shown}");
}

#[test]
fn shells_can_complete() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        for word in ["serve", "reserve", "data-dir"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn manual_pages_are_made() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH eserver 1") && page.contains(".SH SYNOPSIS"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("share/man1");
    printed(&["man", "--dir", pages.to_str().expect("UTF-8")]);
    let mut names: Vec<_> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut expected = vec!["eserver.1".to_owned()];
    expected.extend(VERBS.map(|verb| format!("eserver-{verb}.1")));
    expected.extend(QUEUE_VERBS.map(|verb| format!("eserver-queue-{verb}.1")));
    expected.extend(BENCH_VERBS.map(|verb| format!("eserver-bench-{verb}.1")));
    expected.extend(COMET_VERBS.map(|verb| format!("eserver-comet-{verb}.1")));
    expected.sort();
    assert_eq!(names, expected);
    let serve = std::fs::read_to_string(pages.join("eserver-serve.1")).unwrap();
    assert!(serve.contains("\n.SH NOTES\n.nf\n"), "examples keep their lines: {serve}");
    let taken = pages.join("eserver.1/below");
    let output = eserver(&["man", "--dir", taken.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(73), "{output:?}");
}
