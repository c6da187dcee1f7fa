//! A crowd of subscribers, each on a channel of its own, in one server that may open far fewer
//! descriptors than there are connections: all stay, nothing is lost, little memory is taken, and it
//! is given back.
//!
//! A few thousand in every run of the tests; `cargo xtask soak million` makes it a million, for ten
//! minutes.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::server::{Setup, binary};
use support::{rounds, within};

/// From so many connections on, memory for each of them can be told from what the process takes.
const CROWD: u64 = 100_000;

/// What each may take of the server's memory, in bytes.
const BYTES_MAX: f64 = 256.0;

/// How long memory may take to be given back: channels end half a minute after their subscribers.
const GIVING_BACK: Duration = Duration::from_secs(120);

fn hold(profile: &str) {
    let connections = rounds("ESERVER_HOLD_CONNECTIONS", 3_000) as u64;
    let (seconds, descriptors) =
        (rounds("ESERVER_HOLD_SECONDS", 0), rounds("ESERVER_HOLD_DESCRIPTORS", 1_000));
    let limit = format!("--nofile={descriptors}");
    let mut server = Setup::new()
        .under(&["prlimit", &limit])
        .set("comet.poll_timeout_s", 14_400)
        .set("comet.history_messages_max", if profile == "eserver" { 10 } else { 0 })
        // Those who publish are connections, too.
        .set("limits.connections_max", connections + 1_000)
        .start();
    let empty = server.resident_bytes();
    let mut command = Command::new("prlimit");
    command.arg(&limit).arg(binary()).args(["bench", "hold", "--json", "--profile", profile]);
    command.args(["--front", &server.public_address().to_string()]);
    command.args(["--admin", &server.admin_address().to_string()]);
    command.args(["--connections", &connections.to_string(), "--hold", &seconds.to_string()]);
    command.args(["--settle", if connections < CROWD { "0.2" } else { "10" }]);
    command.args(["--timeout", "60", "--pid", &server.process_id().to_string()]);
    let output = command.stderr(Stdio::inherit()).output().expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    println!("{report:#}");
    assert!(output.status.success(), "something was lost: {report:#}");

    let round = &report["rounds"][0];
    assert_eq!(round["opened"].as_u64(), Some(connections));
    assert_eq!(round["subscribers"].as_u64(), Some(connections));
    for (phase, expected) in
        round["phases"].as_array().expect("phases").iter().zip([1, connections, connections])
    {
        assert_eq!(phase["deliveries"]["delivered"].as_u64(), Some(expected), "{phase:#}");
    }
    if connections >= CROWD {
        let last = round["samples"].as_array().and_then(|all| all.last()).expect("a sample");
        let resident = last["server_rss_bytes"].as_f64().expect("it was looked at");
        let each = (resident - empty as f64) / connections as f64;
        assert!(each <= BYTES_MAX, "{profile}: {each} bytes for each connection");
        let idle = last["server_idle_cpu"].as_f64().expect("it was looked at");
        assert!(idle <= 0.01, "{profile}: {idle} of a core while nothing happens");
    }
    let began = Instant::now();
    let limit = empty + empty / 10 + 20_000_000;
    let given_back = within(GIVING_BACK, || (server.resident_bytes() <= limit).then_some(()));
    let resident = server.resident_bytes();
    println!("{profile}: empty {empty}, after {:?} {resident} bytes", began.elapsed());
    assert!(
        given_back.is_some(),
        "{profile}: {resident} bytes are kept, and {empty} were there before"
    );
    server.stop();
}

#[test]
fn polls_of_a_crowd() {
    hold("eserver");
}

#[test]
fn event_streams_of_a_crowd() {
    hold("sse");
}

#[test]
fn websockets_of_a_crowd() {
    hold("websocket");
}
