//! `eserver queue buried`, `kick`, `drop` and `watch` as they are typed: the real program, its output
//! and its exit code.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

use serde_json::{Value, json};
use support::PATIENCE;
use support::client::{Client, frame};
use support::server::{Server, binary};

/// Runs `eserver queue …` with this server.
fn queue(address: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("queue").args(arguments).arg("--addr").arg(address.to_string());
    command.output().expect("the program starts")
}

/// The output of a command that ends with this code: stdout and stderr.
#[track_caller]
fn run(address: SocketAddr, arguments: &[&str], code: i32) -> (String, String) {
    let output = queue(address, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr))
}

/// Puts messages into the queue `sql` and buries all of them.
fn bury(client: &mut Client, items: &[Value], reason: &str) -> Vec<u64> {
    let ids: Vec<u64> = items
        .chunks(1000)
        .flat_map(|items| {
            let ids = client.ask_json(8015, &json!({"queue": "sql", "items": items})).json();
            serde_json::from_value::<Vec<u64>>(ids["ids"].clone()).expect("ids are numbers")
        })
        .collect();
    for ids in ids.chunks(1000) {
        client.ask_json(8011, &json!({"queue": "sql", "lease_ms": 600_000, "max": ids.len()}));
        let request = json!({"queue": "sql", "ids": ids, "reason": reason});
        let reply = client.ask_json(8014, &request).json();
        assert_eq!(reply["buried"], ids.len(), "{reply}");
    }
    ids
}

fn stat(client: &mut Client, key: &str) -> u64 {
    let stats = client.ask_json(8016, &json!({"queue": "sql"})).json();
    stats[key].as_u64().unwrap_or_else(|| panic!("{key} is a number: {stats}"))
}

#[test]
fn what_was_put_aside_is_listed_with_its_reason() {
    let server = Server::start();
    let address = server.address();
    let none = "no message of the queue \"sql\" is buried\n";
    assert_eq!(run(address, &["buried", "--queue", "sql"], 0), (String::new(), none.to_owned()));

    let mut client = server.client();
    bury(&mut client, &[json!({"stmt": "a", "params": [1]})], "19: null\nvalue");
    bury(&mut client, &[json!("select 1")], "");
    let (stdout, stderr) = run(address, &["buried", "--queue", "sql"], 0);
    let expected = "1  1 attempt  19: null value\n    {\"stmt\":\"a\",\"params\":[1]}\n\
                    2  1 attempt  no reason given\n    select 1\n";
    assert_eq!((stdout.as_str(), stderr.as_str()), (expected, ""));

    let (stdout, stderr) = run(address, &["buried", "--queue", "sql", "--from", "2", "--json"], 0);
    let message: Value = serde_json::from_str(&stdout).expect("one line of JSON");
    let expected = json!({"id": 2, "attempts": 1, "reason": "", "payload": "select 1"});
    assert_eq!((message, stderr.as_str()), (expected, ""));

    let (stdout, stderr) = run(address, &["buried", "--queue", "sql", "--max", "1"], 0);
    assert_eq!(stdout.lines().count(), 2, "{stdout}");
    assert_eq!(stderr, "there are more: --from 2 goes on\n");

    let (_, stderr) = run(address, &["buried", "--queue", "nowhere"], 1);
    assert!(stderr.starts_with("error: the server has no queue \"nowhere\""), "{stderr}");
}

#[test]
fn however_many_there_are_all_are_seen_to() {
    // More than one request may show, or bring back.
    const COUNT: usize = 2500;
    let server = Server::start();
    let (address, mut client) = (server.address(), server.client());
    let items: Vec<Value> = (0..COUNT).map(Value::from).collect();
    let ids = bury(&mut client, &items, "why");
    let (stdout, stderr) =
        run(address, &["buried", "--queue", "sql", "--max", "10000", "--json"], 0);
    let listed: Vec<u64> = stdout
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("JSON")["id"].as_u64().expect("an id")
        })
        .collect();
    assert_eq!((listed, stderr.as_str()), (ids.clone(), ""));

    let (stdout, _) = run(address, &["kick", "--queue", "sql", "--all"], 0);
    assert_eq!(stdout, format!("kicked {COUNT}\n"));
    assert_eq!((stat(&mut client, "buried"), stat(&mut client, "ready")), (0, COUNT as u64));

    client.ask_json(8011, &json!({"queue": "sql", "lease_ms": 600_000, "max": 1000}));
    client.ask_json(8014, &json!({"queue": "sql", "ids": &ids[..1000], "reason": "again"}));
    let texts: Vec<String> = ids.iter().map(u64::to_string).collect();
    let all: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (stdout, stderr) = run(address, &[&["drop", "--queue", "sql"], &all[..]].concat(), 1);
    assert_eq!(stdout, "dropped 1000\n");
    assert!(stderr.starts_with("error: not dropped, because not buried: 1001, 1002"), "{stderr}");
    assert_eq!((stat(&mut client, "buried"), stat(&mut client, "ready")), (0, COUNT as u64 - 1000));

    for verb in ["kick", "drop"] {
        let (stdout, stderr) = run(address, &[verb, "--queue", "sql", "--all"], 0);
        assert!(stdout.ends_with("ed 0\n") && stderr.is_empty(), "{stdout}{stderr}");
    }
}

#[test]
fn single_messages_are_brought_back_or_dropped() {
    let server = Server::start();
    let (address, mut client) = (server.address(), server.client());
    bury(&mut client, &[json!("a"), json!("b"), json!("c")], "why");
    assert_eq!(run(address, &["kick", "--queue", "sql", "2"], 0).0, "kicked 1\n");
    let (stdout, stderr) = run(address, &["kick", "--queue", "sql", "3", "2", "99"], 1);
    assert_eq!(stdout, "kicked 1\n");
    assert_eq!(stderr, "error: not kicked, because not buried: 2, 99\n");
    assert_eq!(run(address, &["drop", "--queue", "sql", "--all"], 0).0, "dropped 1\n");
    let (stdout, _) = run(address, &["pop", "--queue", "sql", "--count", "9"], 0);
    assert_eq!(stdout, "b\nc\n", "in their old places");
}

#[test]
fn a_queue_without_a_drain_stores_what_would_be_a_statement() {
    let server = Server::start();
    let address = server.address();
    let push = ["push", "--queue", "sql", "--stmt", "add", "--param", "-5", "--param", "x"];
    let (stdout, _) = run(address, &[&push[..], &["--key", "k", "--notify", "n"]].concat(), 0);
    assert_eq!(stdout, "stored 1 message, its id is 1\n");
    let (stdout, _) = run(address, &["pop", "--queue", "sql"], 0);
    let expected = "{\"stmt\":\"add\",\"params\":[-5,\"x\"],\"key\":\"k\",\"notify\":\"n\"}\n";
    assert_eq!(stdout, expected);
}

#[test]
fn what_did_not_fit_in_a_batch_is_an_error() {
    let server = support::server::Setup::new().set("queue.length_max", 2).start();
    let (stdout, stderr) = run(server.address(), &["put", "1", "2", "3"], 1);
    assert_eq!(stdout, "1\n2\n");
    assert!(stderr.starts_with("error: the server stored no more than that: "), "{stderr}");
}

/// Answers one client's requests by this script, each of which must be what it says there.
fn scripted(
    script: &[(Value, Value)],
    client: impl FnOnce(SocketAddr) -> (String, String),
) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let (mut peer, _) = listener.accept().expect("the client comes");
            peer.set_read_timeout(Some(PATIENCE)).expect("a socket of our own");
            for (request, reply) in script {
                let mut head = [0; 4];
                peer.read_exact(&mut head).expect("the client asks");
                let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
                peer.read_exact(&mut body).expect("the client asks");
                assert_eq!(u16::from_be_bytes([head[0], head[1]]), 8020);
                assert_eq!(String::from_utf8_lossy(&body), request.to_string());
                peer.write_all(&frame(8020, reply.to_string())).expect("the client reads");
            }
        });
        let shown = client(address);
        server.join().expect("every request was the expected one");
        shown
    })
}

#[test]
fn what_is_announced_is_shown_as_it_comes() {
    let page = |events: &[u64], cursor: &str, missed: u64| {
        let event = |number: &u64| json!({"channel": "c", "event": {"id": number, "ok": true}});
        json!({"events": events.iter().map(event).collect::<Vec<_>>(), "cursor": cursor,
               "missed": missed})
    };
    let mut restarted = page(&[4, 5, 6], "b-6", 0);
    restarted["restarted"] = json!(true);
    let after = |cursor: &str| json!({"wait_ms": 30_000, "channel": "c", "after": cursor});
    let script = [
        (json!({"wait_ms": 0, "channel": "c"}), page(&[], "a-0", 0)),
        (after("a-0"), page(&[1, 2], "a-2", 0)),
        (after("a-2"), page(&[], "a-2", 0)),
        (after("a-2"), page(&[3], "a-9", 6)),
        (after("a-9"), restarted),
    ];
    let watch = ["watch", "--channel", "c", "--count", "5", "--timeout", "600"];
    let (stdout, stderr) = scripted(&script, |address| run(address, &watch, 0));
    let line =
        |number| format!("{{\"channel\":\"c\",\"event\":{{\"id\":{number},\"ok\":true}}}}\n");
    assert_eq!(stdout, (1..=5).map(line).collect::<String>());
    assert_eq!(
        stderr,
        "missed 6 events: they came faster than they were read\n\
         the server was restarted: events may be missing here\n"
    );
}

#[test]
fn a_watch_asks_again_before_its_patience_ends() {
    let script = [
        (json!({"wait_ms": 0}), json!({"events": [], "cursor": "a-0", "missed": 0})),
        (
            json!({"wait_ms": 2_500, "after": "a-0"}),
            json!({"events": [{"channel": "c", "bytes": 70_000}], "cursor": "a-1", "missed": 0}),
        ),
    ];
    let watch = ["watch", "--count", "1", "--timeout", "5"];
    let (stdout, stderr) = scripted(&script, |address| run(address, &watch, 0));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("{\"channel\":\"c\",\"bytes\":70000}\n", ""));
}
