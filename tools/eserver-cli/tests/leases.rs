//! The modern commands 8011 to 8016: taking a message on lease, and what becomes of it then.

mod support;

use serde_json::{Value, json};
use support::client::Client;
use support::server::Server;
use support::{eventually, load};

const RESERVE: u16 = 8011;
const ACK: u16 = 8012;
const RELEASE: u16 = 8013;
const BURY: u16 = 8014;
const PUT: u16 = 8015;
const STATS: u16 = 8016;

/// Longer than any test runs.
const LONG_LEASE_MS: u64 = 600_000;

/// Asks a command that must succeed.
fn ask(client: &mut Client, command: u16, body: &Value) -> Value {
    let reply = client.ask_json(command, body);
    assert_eq!(reply.command, command, "{body}: {reply:?}");
    reply.json()
}

/// Stores the items and answers with their ids.
fn put(client: &mut Client, queue: &str, items: &[Value]) -> Vec<u64> {
    let reply = ask(client, PUT, &json!({"queue": queue, "items": items}));
    let ids: Vec<u64> = serde_json::from_value(reply["ids"].clone())
        .unwrap_or_else(|error| panic!("ids are numbers ({error}): {reply}"));
    assert_eq!(ids.len(), items.len(), "an id for each item: {reply}");
    ids
}

/// Reserves up to `max` messages as (id, attempts, payload).
fn reserve(client: &mut Client, queue: &str, lease_ms: u64, max: u64) -> Vec<(u64, u64, Value)> {
    let request = json!({"queue": queue, "lease_ms": lease_ms, "max": max});
    let reply = ask(client, RESERVE, &request);
    let messages = reply["messages"].as_array().expect("a list of messages");
    messages
        .iter()
        .map(|message| {
            let number = |key: &str| {
                message[key].as_u64().unwrap_or_else(|| panic!("{key} is a number: {message}"))
            };
            (number("id"), number("attempts"), message["payload"].clone())
        })
        .collect()
}

fn ids_of(messages: &[(u64, u64, Value)]) -> Vec<u64> {
    messages.iter().map(|(id, _, _)| *id).collect()
}

/// One number of a queue's statistics.
fn stat(client: &mut Client, queue: &str, key: &str) -> u64 {
    let stats = ask(client, STATS, &json!({"queue": queue}));
    stats[key].as_u64().unwrap_or_else(|| panic!("{key} is a number: {stats}"))
}

#[test]
fn a_batch_is_stored_at_once_and_its_ids_grow() {
    let server = Server::start();
    let mut client = server.client();
    let first = put(&mut client, "default", &[json!("a"), json!("b"), json!("c")]);
    let second = put(&mut client, "default", &[json!("d")]);
    let ids: Vec<_> = first.iter().chain(&second).copied().collect();
    assert!(ids.is_sorted_by(|before, after| before < after), "{ids:?}");
    assert_eq!(load::drain(server.address()), ["a", "b", "c", "d"], "the old commands see them");
}

#[test]
fn an_acked_message_is_gone() {
    let server = Server::start();
    let mut client = server.client();
    let objects = [json!({"a": 1}), json!([2, "x"]), json!("text"), json!(null)];
    let ids = put(&mut client, "sql", &objects);
    let taken = reserve(&mut client, "sql", LONG_LEASE_MS, 10);
    let expected: Vec<_> = ids.iter().zip(objects).map(|(&id, object)| (id, 1, object)).collect();
    assert_eq!(taken, expected, "oldest first, first attempt, as they were put");
    assert_eq!(reserve(&mut client, "sql", LONG_LEASE_MS, 10), [], "all are on lease");

    let reply = ask(&mut client, ACK, &json!({"queue": "sql", "ids": ids}));
    assert_eq!(reply, json!({"acked": ids.len(), "missing": []}));
    let reply = ask(&mut client, ACK, &json!({"queue": "sql", "ids": [ids[0], 999_999]}));
    assert_eq!(reply, json!({"acked": 0, "missing": [ids[0], 999_999]}), "not twice");
    let reply = client.ask_json(8003, &json!({"queue_type": "sql"}));
    assert_eq!(reply.json(), json!(0));
}

#[test]
fn reserve_takes_no_more_than_asked_for() {
    let server = Server::start();
    let mut client = server.client();
    let items: Vec<_> = (0..5).map(|number| json!(number.to_string())).collect();
    let ids = put(&mut client, "default", &items);
    assert_eq!(ids_of(&reserve(&mut client, "default", LONG_LEASE_MS, 2)), ids[..2]);
    assert_eq!(ids_of(&reserve(&mut client, "default", LONG_LEASE_MS, 2)), ids[2..4]);
    assert_eq!(client.length(), 5, "what is on lease still counts");
    assert_eq!(client.pop().as_deref(), Some("4"), "a dequeue passes by what is on lease");
}

#[test]
fn a_released_message_comes_back_to_its_place() {
    let server = Server::start();
    let mut client = server.client();
    let ids = put(&mut client, "default", &[json!("first"), json!("second")]);
    reserve(&mut client, "default", LONG_LEASE_MS, 1);
    let request = json!({"queue": "default", "ids": [ids[0]], "delay_ms": 0});
    let reply = ask(&mut client, RELEASE, &request);
    assert_eq!(reply, json!({"released": 1, "missing": []}));
    let again = reserve(&mut client, "default", LONG_LEASE_MS, 2);
    let expected = [(ids[0], 2, json!("first")), (ids[1], 1, json!("second"))];
    assert_eq!(again, expected, "before the younger one, with its attempts counted");

    let reply = ask(&mut client, ACK, &json!({"queue": "default", "ids": ids}));
    assert_eq!(reply["acked"], 2);
    let reply = ask(&mut client, RELEASE, &request);
    assert_eq!(reply, json!({"released": 0, "missing": [ids[0]]}), "gone is gone");
}

#[test]
fn a_delayed_release_waits() {
    let server = Server::start();
    let mut client = server.client();
    let ids = put(&mut client, "default", &[json!("later")]);
    reserve(&mut client, "default", LONG_LEASE_MS, 1);
    let request = json!({"queue": "default", "ids": ids, "delay_ms": 1_500});
    let released = std::time::Instant::now();
    ask(&mut client, RELEASE, &request);
    assert_eq!(stat(&mut client, "default", "delayed"), 1);
    let again =
        eventually("the delay ends", || reserve(&mut client, "default", LONG_LEASE_MS, 1).pop());
    assert_eq!(again, (ids[0], 2, json!("later")));
    let waited = released.elapsed().as_millis();
    assert!(waited >= 1_400, "it came back after {waited} ms");
}

#[test]
fn a_lease_that_runs_out_gives_the_message_to_the_next() {
    let server = Server::start();
    let (mut slow, mut next) = (server.client(), server.client());
    let ids = put(&mut slow, "default", &[json!("work")]);
    assert_eq!(reserve(&mut slow, "default", 200, 1).len(), 1);
    let again =
        eventually("the lease runs out", || reserve(&mut next, "default", LONG_LEASE_MS, 1).pop());
    assert_eq!(again, (ids[0], 2, json!("work")));
}

#[test]
fn a_buried_message_is_kept_but_not_served() {
    let server = Server::start();
    let mut client = server.client();
    let ids = put(&mut client, "default", &[json!("poison"), json!("good")]);
    reserve(&mut client, "default", LONG_LEASE_MS, 1);
    let request = json!({"queue": "default", "ids": [ids[0], 424_242], "reason": "no such table"});
    let reply = ask(&mut client, BURY, &request);
    assert_eq!(reply, json!({"buried": 1, "missing": [424_242]}));
    assert_eq!(stat(&mut client, "default", "buried"), 1);
    assert_eq!(client.pop().as_deref(), Some("good"), "it never blocks those behind it");
    assert_eq!(client.pop(), None);
}

#[test]
fn a_lease_does_not_survive_the_server_but_the_message_does() {
    let data = tempfile::tempdir().expect("a private directory");
    let start = || support::server::Setup::new().data_dir(data.path()).start();
    let mut server = start();
    let mut client = server.client();
    let ids = put(&mut client, "default", &[json!("a"), json!("b"), json!("c")]);
    reserve(&mut client, "default", LONG_LEASE_MS, 2);
    ask(&mut client, ACK, &json!({"queue": "default", "ids": [ids[0]]}));
    server.kill();

    let server = start();
    let again = reserve(&mut server.client(), "default", LONG_LEASE_MS, 10);
    assert_eq!(ids_of(&again), ids[1..], "what was acked stays gone, the rest is ready");
}

#[test]
fn statistics_of_one_queue_and_of_all() {
    let server = Server::start();
    let mut client = server.client();
    put(&mut client, "default", &[json!("a"), json!("b"), json!("c")]);
    reserve(&mut client, "default", LONG_LEASE_MS, 1);
    for (key, number) in [("ready", 2), ("leased", 1), ("delayed", 0), ("buried", 0)] {
        assert_eq!(stat(&mut client, "default", key), number, "{key}");
    }
    let all = ask(&mut client, STATS, &json!({}));
    for queue in ["default", "sql", "img"] {
        assert!(all["queues"][queue].is_object(), "{queue} in {all}");
    }
}

#[test]
fn an_object_put_in_a_batch_reaches_old_clients() {
    let server = Server::start();
    let mut client = server.client();
    put(&mut client, "sql", &[json!({"kept": "as object"})]);
    let reply = client.ask_json(8002, &json!({"queue_type": "sql"}));
    assert_eq!((reply.command, reply.json()), (8002, json!({"kept": "as object"})));
}

#[test]
fn what_is_wrong_is_said_and_nothing_done() {
    let server = Server::start();
    let mut client = server.client();
    put(&mut client, "default", &[json!("kept")]);
    for command in [RESERVE, ACK, RELEASE, BURY, PUT] {
        for body in ["nonsense", "[]", r#"{"queue": 7}"#, r#"{"unknown": 1}"#] {
            let reply = client.ask(command, body);
            assert!(!reply.error().is_empty(), "{command} {body:?}: {reply:?}");
        }
        let reply = client.ask_json(command, &json!({"queue": "nosuch", "ids": [1], "items": [1]}));
        assert!([0, 4001].contains(&reply.command), "{command}: {reply:?}");
    }
    for (command, body) in [
        (ACK, json!({"queue": "default", "ids": "1"})),
        (ACK, json!({"queue": "default", "ids": [-1]})),
        (PUT, json!({"queue": "default", "items": "x"})),
        (RESERVE, json!({"queue": "default", "lease_ms": "soon", "max": 1})),
        (RELEASE, json!({"queue": "default", "ids": [1], "delay_ms": -5})),
    ] {
        let reply = client.ask_json(command, &body);
        assert!(!reply.error().is_empty(), "{command} {body}: {reply:?}");
    }
    assert_eq!(load::drain(server.address()), ["kept"]);
}
