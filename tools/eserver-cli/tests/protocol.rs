//! The framed protocol that existing clients speak: every line of its description is a test here,
//! and so is every place where the Python original was wrong.

mod support;

use std::net::IpAddr;

use serde_json::{Value, json};
use support::client::{Client, Reply, frame, popped};
use support::server::{Server, Setup};

/// What an empty default queue answers to a dequeue, and a full one to an enqueue.
fn assert_msg_error(reply: &Reply) {
    assert_eq!(reply.command, 0, "{reply:?}");
    assert_eq!(reply.json(), json!({"msg": "error"}));
}

fn assert_reply(reply: &Reply, command: u16, body: &Value) {
    assert_eq!(reply.command, command, "{reply:?}");
    assert_eq!(&reply.json(), body, "{reply:?}");
}

#[test]
fn the_default_queue_enqueues_counts_and_dequeues_in_order() {
    let server = Server::start();
    let mut client = server.client();
    assert_reply(&client.ask(8003, ""), 8003, &json!(0));
    for sql in ["insert into t values (1)", "delete from t", ""] {
        let reply = client.ask_json(8001, &json!({"sql": sql, "other": [1, {"key": null}]}));
        assert_reply(&reply, 8001, &json!({"msg": "success"}));
    }
    assert_reply(&client.ask(8003, ""), 8003, &json!(3));
    for sql in ["insert into t values (1)", "delete from t", ""] {
        assert_reply(&client.ask(8002, ""), 8002, &json!(sql));
    }
    assert_msg_error(&client.ask(8002, ""));
    assert_reply(&client.ask(8003, ""), 8003, &json!(0));
}

#[test]
fn dequeue_and_length_take_any_body() {
    let server = Server::start();
    let mut client = server.client();
    let bodies: [&[u8]; 7] = [b"", b"{}", b"[]", b"\"x\"", b"nonsense", b"\xff\xfe", b"{\"a\":"];
    for body in bodies {
        client.put("select 1");
        assert_reply(&client.ask(8003, body), 8003, &json!(1));
        assert_reply(&client.ask(8002, body), 8002, &json!("select 1"));
        assert_msg_error(&client.ask(8002, body));
    }
}

#[test]
fn a_single_conversion_becomes_a_counter_that_runs_across_connections() {
    let server = Server::start();
    type Render = fn(u64) -> String;
    let cases: [(&str, Render); 12] = [
        ("insert into t(num) values (%d)", |n| format!("insert into t(num) values ({n})")),
        ("no conversion", |_| "no conversion".to_owned()),
        ("%d", |n| n.to_string()),
        ("%i", |n| n.to_string()),
        ("%s", |n| n.to_string()),
        ("<%05d>", |n| format!("<{n:05}>")),
        ("<%6d>", |n| format!("<{n:6}>")),
        ("<%-6d>", |n| format!("<{n:<6}>")),
        ("%d is 100%%", |n| format!("{n} is 100%")),
        ("%%%d%%", |n| format!("%{n}%")),
        ("%x", |n| format!("{n:x}")),
        ("'é' %x", |n| format!("'é' {n:x}")),
    ];
    for (round, number) in (0..2).zip([0, cases.len() as u64]) {
        for (text, _) in &cases {
            server.client().put(text);
        }
        let mut client = server.client();
        for ((text, rendered), index) in cases.iter().zip(1..) {
            let expected = rendered(number + index);
            assert_eq!(client.pop(), Some(expected), "{text:?} in round {round}");
        }
    }
}

#[test]
fn concurrent_clients_never_get_the_same_number() {
    let server = Server::start();
    let address = server.address();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                (0..100).for_each(|_| client.put("%d"));
            })
        })
        .collect();
    for client in clients {
        client.join().expect("each put succeeds");
    }
    let numbers = support::load::drain(address);
    let expected: Vec<_> = (1..=800).map(|number: u32| number.to_string()).collect();
    assert_eq!(numbers, expected, "1 to 800, each once and in the order of storing");
}

#[test]
fn text_that_is_no_single_conversion_is_stored_as_it_is() {
    let server = Server::start();
    let mut client = server.client();
    let texts = [
        "select * from t where a like 'a%'",
        "select 10 % 3",
        "select 'x' where b like '%x y%'",
        "100%",
        "100%%",
        "a %% b",
        "%d and %d",
        "%s %05d",
        "%(name)s",
        "%",
        "%%",
        "%5",
        "%y",
        "%99999999999999999999999999d", // wider than Python can count: malformed to it
    ];
    for text in texts {
        client.put(text);
        assert_eq!(client.pop().as_deref(), Some(text));
    }
}

#[test]
fn a_conversion_of_absurd_width_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    for width in ["70000", "999999999", "9223372036854775807"] {
        let reply = client.ask_json(8001, &json!({"sql": format!("%{width}d")}));
        assert!(!reply.error().is_empty());
        assert_eq!(client.length(), 0, "nothing is stored");
    }
    client.put("%d");
    assert_eq!(client.pop().as_deref(), Some("1"), "a refused put takes no number");
}

#[test]
fn named_queues_keep_objects() {
    let server = Server::start();
    let mut client = server.client();
    let stored = [
        (json!({"i": 7, "sql": "100%d"}), "success7"),
        (json!({"text": "no i"}), "success0"),
        (json!({"i": "abc", "deep": {"er": [1, 2.5, null, true]}}), "successabc"),
        (json!({}), "success0"),
    ];
    for (object, message) in &stored {
        let mut request = object.clone();
        request["queue_type"] = json!("sql");
        assert_reply(&client.ask_json(8001, &request), 8001, &json!({"msg": message}));
    }
    let named = json!({"queue_type": "sql"});
    assert_reply(&client.ask_json(8003, &named), 8003, &json!(stored.len()));
    for (object, _) in &stored {
        assert_reply(&client.ask_json(8002, &named), 8002, object);
    }
    assert_reply(&client.ask_json(8002, &named), 4002, &json!({"msg": "queue is empty"}));
    assert_reply(&client.ask_json(8003, &named), 8003, &json!(0));
}

#[test]
fn an_unknown_queue_type_is_named_so() {
    let server = Server::start();
    let mut client = server.client();
    for command in [8001, 8002, 8003] {
        let reply = client.ask_json(command, &json!({"queue_type": "nosuch", "i": 1}));
        assert_reply(&reply, 4001, &json!({"msg": "queue type error"}));
    }
    client.put("the connection stays");
    assert_eq!(client.length(), 1);
}

#[test]
fn the_names_of_queues_come_from_the_configuration() {
    let server = Setup::new().set("queue.names", r#"["mail"]"#).start();
    let mut client = server.client();
    let reply = client.ask_json(8001, &json!({"queue_type": "mail", "to": "a"}));
    assert_reply(&reply, 8001, &json!({"msg": "success0"}));
    let reply = client.ask_json(8001, &json!({"queue_type": "sql", "i": 1}));
    assert_reply(&reply, 4001, &json!({"msg": "queue type error"}));
}

#[test]
fn named_queues_and_the_default_queue_never_mix() {
    let server = Server::start();
    let mut client = server.client();
    for number in 0..20 {
        client.put(&format!("default {number}"));
        for queue in ["sql", "img"] {
            let request = json!({"queue_type": queue, "from": queue, "i": number});
            let reply = client.ask_json(8001, &request);
            assert_reply(&reply, 8001, &json!({"msg": format!("success{number}")}));
        }
    }
    client.put("%d");
    for number in 0..20 {
        for queue in ["img", "sql"] {
            let reply = client.ask_json(8002, &json!({"queue_type": queue}));
            assert_reply(&reply, 8002, &json!({"from": queue, "i": number}));
        }
        assert_eq!(client.pop(), Some(format!("default {number}")));
    }
    let counted = client.pop();
    assert_eq!(counted.as_deref(), Some("21"), "puts elsewhere do not count here");
}

#[test]
fn an_unknown_command_is_answered_and_the_connection_kept() {
    let server = Server::start();
    let mut client = server.client();
    for command in [0, 1, 8000, 9999, u16::MAX] {
        for body in ["", "{}", "nonsense"] {
            let reply = client.ask(command, body);
            assert_reply(&reply, 0, &json!({"error": "cmd not defined"}));
        }
    }
    client.put("still here");
}

#[test]
fn a_full_queue_says_so_and_takes_again_after_a_dequeue() {
    let server = Setup::new().set("queue.length_max", 3).start();
    let mut client = server.client();
    for round in 0..5 {
        for number in 0..3 {
            client.put(&format!("{round}/{number}"));
        }
        assert_msg_error(&client.ask_json(8001, &json!({"sql": "one too many"})));
        assert_eq!(client.length(), 3);
        for number in 0..3 {
            assert_eq!(client.pop(), Some(format!("{round}/{number}")), "nothing stale");
        }
        assert_eq!(client.pop(), None);
    }
}

#[test]
fn a_full_queue_may_overwrite_its_oldest_instead() {
    let server =
        Setup::new().set("queue.length_max", 3).set("queue.full", "overwrite-oldest").start();
    let mut client = server.client();
    (0..10).for_each(|number| client.put(&number.to_string()));
    assert_eq!(client.length(), 3);
    assert_eq!(support::load::drain(server.address()), ["7", "8", "9"]);
}

#[test]
fn what_is_wrong_with_a_body_is_said_and_nothing_stored() {
    let server = Server::start();
    let mut client = server.client();
    let cases: [(&[u8], &[&str]); 12] = [
        (b"", &["empty"]),
        (b"{\"sql\": \"x\"", &["json"]),
        (b"{'sql': 'x'}", &["json"]),
        (b"{\"sql\": \"x\"} trailing", &["json"]),
        (b"nonsense", &["json"]),
        (b"{\"sql\": \"\xff\xfe\"}", &["utf-8"]),
        (b"[\"sql\"]", &["object"]),
        (b"\"sql\"", &["object"]),
        (b"7", &["object"]),
        (b"{}", &["sql", "missing"]),
        (b"{\"SQL\": \"x\"}", &["sql", "missing"]),
        (b"{\"sql\": 7}", &["sql", "string"]),
    ];
    for (body, words) in cases {
        let shown = String::from_utf8_lossy(body);
        let error = client.ask(8001, body).error();
        for word in words {
            let found = error.to_lowercase().contains(word);
            assert!(found, "{shown:?}: the error must mention {word:?}: {error}");
        }
        assert_eq!(client.length(), 0, "{shown:?} stores nothing");
    }
    for value in ["null", "[]", "{}", "true"] {
        let error = client.ask(8001, format!("{{\"sql\": {value}}}")).error();
        assert!(error.contains("string"), "{value}: {error}");
    }
    assert_eq!(client.length(), 0);
    client.put("the connection was kept all along");
}

#[test]
fn frames_arrive_byte_by_byte() {
    let server = Server::start();
    let mut client = server.client();
    let mut bytes = frame(8001, r#"{"sql": "slow but whole %d"}"#);
    bytes.extend(frame(8003, ""));
    bytes.extend(frame(8002, "{}"));
    for byte in bytes {
        // TCP_NODELAY is set: each byte is a segment of its own.
        client.send_raw(&[byte]).expect("the server reads");
    }
    assert_reply(&client.reply(), 8001, &json!({"msg": "success"}));
    assert_reply(&client.reply(), 8003, &json!(1));
    assert_reply(&client.reply(), 8002, &json!("slow but whole 1"));
}

#[test]
fn frames_may_be_cut_anywhere() {
    let server = Server::start();
    let mut client = server.client();
    let mut bytes = frame(8001, r#"{"sql": "cut"}"#);
    bytes.extend(frame(8002, ""));
    for cut in 1..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        client.send_raw(head).expect("the server reads");
        // A round trip of somebody else: by now the server has surely seen the first part.
        assert_eq!(server.client().ask(8003, "").command, 8003);
        client.send_raw(tail).expect("the server reads");
        assert_reply(&client.reply(), 8001, &json!({"msg": "success"}));
        assert_reply(&client.reply(), 8002, &json!("cut"));
    }
}

#[test]
fn thousands_of_pipelined_frames_are_answered_in_order() {
    const FRAMES: usize = 5_000;
    let server = Server::start();
    let mut client = server.client();
    let mut bytes = Vec::new();
    for number in 0..FRAMES {
        bytes.extend(frame(8001, json!({"sql": format!("row {number}")}).to_string()));
        let named = json!({"queue_type": "sql", "i": number}).to_string();
        bytes.extend(frame(8001, named));
        if number % 100 == 0 {
            bytes.extend(frame(9999, ""));
        }
    }
    bytes.extend(frame(8003, ""));
    let mut writer = client.stream().try_clone().expect("a second handle");
    let writing = std::thread::spawn(move || {
        use std::io::Write;
        writer.write_all(&bytes).expect("the server reads");
    });
    for number in 0..FRAMES {
        assert_reply(&client.reply(), 8001, &json!({"msg": "success"}));
        let named = json!({"msg": format!("success{number}")});
        assert_reply(&client.reply(), 8001, &named);
        if number % 100 == 0 {
            assert_reply(&client.reply(), 0, &json!({"error": "cmd not defined"}));
        }
    }
    assert_reply(&client.reply(), 8003, &json!(FRAMES));
    writing.join().expect("all was written");

    let expected: Vec<_> = (0..FRAMES).map(|number| format!("row {number}")).collect();
    assert_eq!(support::load::drain(server.address()), expected);
}

#[test]
fn a_client_may_end_its_side_and_still_read() {
    let server = Server::start();
    let mut client = server.client();
    for number in 0..50 {
        let body = json!({"sql": number.to_string()}).to_string();
        client.send(8001, body).expect("the server reads");
    }
    client.send(8003, "").expect("the server reads");
    client.end_writing();
    for _ in 0..50 {
        assert_reply(&client.reply(), 8001, &json!({"msg": "success"}));
    }
    assert_reply(&client.reply(), 8003, &json!(50));
    client.assert_closed("all is answered");
}

#[test]
fn a_frame_cut_by_a_close_stores_nothing() {
    let server = Server::start();
    let bytes = frame(8001, r#"{"sql": "half"}"#);
    for cut in 0..bytes.len() {
        let mut client = server.client();
        client.send_raw(&bytes[..cut]).expect("the server reads");
        client.end_writing();
        client.assert_closed("there is nothing to answer");
    }
    assert_eq!(server.client().length(), 0);
}

#[test]
fn replies_never_reach_another_connection() {
    let server = Server::start();
    let address = server.address();
    let clients: Vec<_> = (0..16)
        .map(|client| {
            std::thread::spawn(move || {
                let mut connection = Client::connect(address);
                for number in 0..200 {
                    let mark = format!("{client}-{number}");
                    let request = json!({"queue_type": "img", "i": mark}).to_string();
                    let reply = connection.ask(8001, request);
                    assert_reply(&reply, 8001, &json!({"msg": format!("success{mark}")}));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every reply was the client's own");
    }
}

#[test]
fn replies_are_raw_utf_8() {
    let server = Server::start();
    let mut client = server.client();
    let text = "naïve – 队列 🦀 \u{7f}";
    let escaped = r#"{"sql": "na\u00efve \u2013 \u961f\u5217 \ud83e\udd80 \u007f"}"#;
    client.put(text);
    assert_eq!(client.ask(8001, escaped).command, 8001);
    for _ in 0..2 {
        let reply = client.ask(8002, "");
        assert_eq!(reply.body, format!("\"{text}\"").into_bytes(), "{reply:?}");
    }
    client.ask_json(8001, &json!({"queue_type": "sql", "text": text}));
    let reply = client.ask_json(8002, &json!({"queue_type": "sql"}));
    assert!(String::from_utf8_lossy(&reply.body).contains(text), "{reply:?}");
}

#[test]
fn what_fits_in_fits_out() {
    let server = Server::start();
    let mut client = server.client();
    for filler in ["x", "é", "队", "🦀", "\\n", "\\\"", "\\\\", "\\u0001", "/"] {
        let (open, close) = (r#"{"sql":""#, r#""}"#);
        let room = 65_535 - open.len() - close.len();
        let mut text = filler.repeat(room / filler.len());
        text.push_str(&"x".repeat(room - text.len()));
        let body = format!("{open}{text}{close}");
        assert_eq!(body.len(), 65_535);
        let expected: Value = serde_json::from_str(&body).expect("the test's own JSON");
        assert_reply(&client.ask(8001, body), 8001, &json!({"msg": "success"}));
        let text = popped(&client.ask(8002, ""));
        assert_eq!(text.as_deref(), expected["sql"].as_str(), "filled with {filler:?}");
    }
}

#[test]
fn a_named_object_as_long_as_a_frame_comes_back() {
    let server = Server::start();
    let mut client = server.client();
    let (open, close) = (r#"{"queue_type":"img","data":""#, r#""}"#);
    let data = "é".repeat((65_535 - open.len() - close.len()) / 2);
    let reply = client.ask(8001, format!("{open}{data}{close}"));
    assert_reply(&reply, 8001, &json!({"msg": "success0"}));
    let reply = client.ask_json(8002, &json!({"queue_type": "img"}));
    assert_reply(&reply, 8002, &json!({"data": data}));
}

#[test]
fn strangers_are_closed_without_a_byte_and_delay_nobody() {
    let server = Server::start();
    let stranger = IpAddr::from([127, 0, 0, 2]);
    let mut client = server.client();
    let mut strangers = Vec::new();
    for number in 0..200 {
        let mut connection = Client::connect_from(stranger, server.address());
        // It may be closed before this is written: then writing fails, which is as well.
        drop(connection.send(8001, r#"{"sql": "from a stranger"}"#));
        strangers.push(connection);
        client.put(&number.to_string());
    }
    for mut connection in strangers {
        connection.assert_closed("the address is not on the list");
    }
    assert_eq!(client.length(), 200, "nothing of the strangers is stored");
}

#[test]
fn the_allow_list_takes_addresses_and_prefixes() {
    let server = Setup::new().set("queue.allow", r#"["127.0.0.5", "127.0.2.0/24"]"#).start();
    for (address, allowed) in [
        ([127, 0, 0, 5], true),
        ([127, 0, 2, 1], true),
        ([127, 0, 2, 254], true),
        ([127, 0, 0, 1], false),
        ([127, 0, 3, 1], false),
    ] {
        let mut client = Client::connect_from(address.into(), server.address());
        if allowed {
            client.put("allowed");
        } else {
            drop(client.send(8003, ""));
            client.assert_closed("the address is not on the list");
        }
    }
}

#[test]
fn a_restart_loses_nothing_and_the_counter_goes_on() {
    let data = tempfile::tempdir().expect("a private directory");
    let mut server = Setup::new().data_dir(data.path()).start();
    let mut client = server.client();
    (0..10).for_each(|_| client.put("row %d"));
    client.ask_json(8001, &json!({"queue_type": "sql", "kept": true}));
    assert_eq!(client.pop().as_deref(), Some("row 1"));
    server.stop();

    let server = Setup::new().data_dir(data.path()).start();
    let mut client = server.client();
    client.put("row %d");
    let expected: Vec<_> = (2..=11).map(|number| format!("row {number}")).collect();
    assert_eq!(support::load::drain(server.address()), expected);
    let reply = client.ask_json(8002, &json!({"queue_type": "sql"}));
    assert_reply(&reply, 8002, &json!({"kept": true}));
}
