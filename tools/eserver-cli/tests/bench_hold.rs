//! `eserver bench hold` as it is typed, against `eserver serve`: both programs as they are.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use support::server::{Server, Setup, binary};
use support::within;

/// The command line for a server, under a limit of descriptors.
fn hold(server: &Server, descriptors: u32, words: &[&str]) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={descriptors}")).arg(binary()).args(["bench", "hold"]);
    command.args(["--front", &server.public_address().to_string()]);
    command.args(["--admin", &server.admin_address().to_string()]);
    command.args(["--settle", "0.2", "--timeout", "20"]).args(words);
    command
}

/// Runs it and returns its report and exit code.
#[track_caller]
fn report(mut command: Command) -> (Value, i32) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}\n{stderr}", String::from_utf8_lossy(&output.stdout))
    });
    (report, output.status.code().unwrap())
}

/// How many the server counts.
fn subscribers(server: &Server) -> u64 {
    let mut stream = TcpStream::connect(server.admin_address()).unwrap();
    stream.write_all(b"GET /info HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str::<Value>(body).unwrap()["subscribers"].as_u64().unwrap()
}

#[test]
fn nothing_is_lost_whatever_the_transport_and_the_limit_of_descriptors() {
    let server = Setup::new().start();
    for (profile, connections) in
        [("eserver", 3000), ("icomet-sse", 500), ("sse", 500), ("websocket", 500)]
    {
        let count = connections.to_string();
        // As many prefixes as runs: what is left of one is not another's.
        let words = ["--json", "--profile", profile, "--connections", &count, "--prefix", profile];
        let (report, code) = report(hold(&server, 1000, &words));
        assert_eq!(code, 0, "{report:#}");
        assert_eq!(report["server_pid"], server.process_id());
        let round = &report["rounds"][0];
        assert_eq!(round["subscribers"], connections, "{report:#}");
        let deliveries: Vec<_> = ["one_channel", "each_channel", "broadcast"]
            .iter()
            .zip(round["phases"].as_array().unwrap())
            .map(|(kind, phase)| {
                assert_eq!(phase["kind"], *kind);
                phase["deliveries"]["delivered"].as_u64().unwrap()
            })
            .collect();
        assert_eq!(deliveries, [1, connections, connections], "{report:#}");
    }
}

#[test]
fn a_server_that_takes_fewer_is_told_of_by_the_exit_code() {
    let server = Setup::new().set("comet.channels_max", 50).start();
    let (report, code) = report(hold(&server, 1000, &["--json", "--connections", "80"]));
    assert_eq!(code, 1, "{report:#}");
    assert_eq!(report["rounds"][0]["opened"], 50, "{report:#}");
    assert_eq!(report["rounds"][0]["before"]["refused"], 30, "{report:#}");
}

#[test]
fn control_c_ends_it_with_a_report() {
    let server = Setup::new().start();
    let mut command = hold(&server, 1000, &["--json", "--connections", "200", "--hold", "600"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let held = within(Duration::from_secs(30), || (subscribers(&server) == 200).then_some(()));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(held.is_some(), "the connections never came");
    assert_eq!(output.status.code(), Some(130));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["is_interrupted"], true);
    let left = within(Duration::from_secs(30), || (subscribers(&server) == 0).then_some(()));
    assert!(left.is_some(), "the connections are still there");
}

#[test]
fn where_there_is_no_server_it_says_so() {
    let mut server = Setup::new().start();
    let command = hold(&server, 1000, &["--connections", "10"]);
    server.stop();
    let output = { command }.output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("refused"), "{stderr}");
}

#[test]
fn load_on_other_machines_has_to_be_meant() {
    let mut command = Command::new(binary());
    command.args(["bench", "hold", "--connections", "10", "--front", "192.0.2.1:80"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("loopback"));
}

#[test]
fn a_page_and_values_are_written() {
    let server = Setup::new().start();
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("hold.html");
    let words = ["--csv", "--connections", "20", "--steps", "10", "--html"];
    let mut command = hold(&server, 1000, &words);
    let output = command.arg(&page).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 4, "0, 10 and 20");
    assert!(std::fs::read_to_string(&page).unwrap().contains("<svg"));
}
