//! `eserver doctor` on the machine that the tests run on, whatever that has.

use std::process::{Command, Output};

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eserver"))
        .arg("doctor")
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// More than any machine has memory for.
const TOO_MANY: &str = "100000000";

#[test]
fn any_machine_can_hold_a_thousand() {
    let output = doctor(&["--connections", "1000"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = text(&output.stdout);
    assert!(page.starts_with("1,000 connections on this machine, as "), "{page}");
    assert!(page.ends_with("This machine can hold 1,000 connections.\n"), "{page}");
    for name in ["open files of a process", "open files of the machine", "memory", "newcomers"] {
        assert!(page.contains(name), "{name}\n{page}");
    }
}

#[test]
fn the_exit_code_is_what_the_last_line_says() {
    for arguments in [
        &["--connections", "1000000"][..],
        &["--connections", "1000000", "--with-clients"],
        &["--connections", "1000000", "--one-table"],
        &["--connections", "50000", "--connect-rate", "1000000"],
        &["--connections", TOO_MANY],
    ] {
        let output = doctor(arguments);
        let page = text(&output.stdout);
        let last = page.lines().next_back().unwrap_or_default();
        let expected = i32::from(last.starts_with("This machine cannot hold "));
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {page}");
        for line in page.lines().filter(|line| !line.contains("    # ")) {
            assert!(line.chars().count() <= 100, "{arguments:?}: {line}");
        }
    }
    let output = doctor(&["--connections", TOO_MANY]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("\n  NOT ENOUGH  memory "), "{output:?}");
}

#[test]
fn a_rate_is_never_needed_to_hold_them() {
    let output = doctor(&["--connections", "1000", "--connect-rate", "10000000"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = text(&output.stdout);
    assert!(page.contains("\nTo let 10,000,000 come in a second:\n"), "{page}");
    assert!(page.contains("\n  slower      queue of newcomers "), "{page}");
    assert!(page.contains("\nNot needed, but better:\n  sysctl -w "), "{page}");
}

#[test]
fn programs_read_json() {
    for (connections, enough) in [("1000", true), (TOO_MANY, false)] {
        let output = doctor(&["--connections", connections, "--json"]);
        assert_eq!(output.status.code(), Some(i32::from(!enough)), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["enough"], enough);
        assert_eq!(json["connections"].to_string(), connections);
        let facts = &json["facts"];
        assert!(facts["memory_bytes"].as_u64() > facts["available_bytes"].as_u64(), "{facts}");
        assert!(facts["sysctls"]["fs.file-max"].is_string(), "{facts}");
        let findings = json["findings"].as_array().expect("an array");
        for finding in findings {
            for key in ["name", "purpose", "verdict", "sentence"] {
                assert!(finding[key].is_string(), "{key}: {finding}");
            }
            assert!(finding["commands"].is_array() && finding["settings"].is_array());
        }
        let lacking = findings.iter().any(|finding| finding["verdict"] == "not-enough");
        assert_eq!(lacking, !enough, "{json}");
    }
}

#[test]
fn what_has_to_change_is_written_once_and_nothing_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sysctl.conf");
    let path = file.to_str().expect("UTF-8");
    let output = doctor(&["--connections", TOO_MANY, "--write", path]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).starts_with("note: wrote "), "{output:?}");
    let written = std::fs::read_to_string(&file).unwrap();
    let settings: Vec<_> =
        written.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(!settings.is_empty(), "{written}");
    for line in &settings {
        let name = line.split(" = ").next().unwrap();
        assert!(std::path::Path::new("/proc/sys").join(name.replace('.', "/")).exists(), "{line}");
        assert_eq!(settings.iter().filter(|other| other.starts_with(name)).count(), 1, "{line}");
    }
    let output = doctor(&["--connections", TOO_MANY, "--write", path]);
    assert_eq!(output.status.code(), Some(73), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn myths_are_told() {
    let output = doctor(&["--myths"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = text(&output.stdout);
    for myth in ["tcp_tw_recycle", "tcp_mem in bytes", "ulimit -n", "tcp_fin_timeout"] {
        assert!(page.contains(myth), "{page}");
    }
}
