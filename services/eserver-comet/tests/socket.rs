//! WebSocket: channels over `/v1/socket`, as another implementation sees them.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use eserver_comet::{Auth, ChannelSettings, Settings};
use eserver_wire::ws::{Opcode, encode_masked_frame};
use serde_json::{Value, json};
use support::{Client, PATIENCE, Site, eventually, everywhere};
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Bytes, Message};

const FIELDS: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

/// A WebSocket that is open.
struct Socket(WebSocket<TcpStream>);

fn request(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

impl Socket {
    fn open(site: &Site, query: &str) -> Self {
        let mut stream = TcpStream::connect(site.front).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request(&format!("/v1/socket?{query}"), FIELDS).as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", head.escape_ascii());
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        Socket(WebSocket::from_raw_socket(stream, Role::Client, None))
    }

    fn send(&mut self, order: &Value) {
        self.0.send(Message::text(order.to_string())).unwrap();
    }

    /// The next thing that is told.
    fn told(&mut self) -> Value {
        match self.0.read().unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("a text was due, not {other:?}"),
        }
    }

    /// The next thing that is told, but for its cursor.
    fn told_bare(&mut self) -> Value {
        let mut told = self.told();
        told.as_object_mut().unwrap().remove("cursor");
        told
    }

    /// The code and reason that it is closed with.
    fn closed(&mut self) -> (u16, String) {
        loop {
            match self.0.read().unwrap() {
                Message::Close(Some(close)) => {
                    return (close.code.into(), close.reason.to_string());
                }
                Message::Text(_) => {}
                other => panic!("a close was due, not {other:?}"),
            }
        }
    }
}

fn publish(site: &Site, channel: &str, data: &Value) {
    let body = json!({ "channel": channel, "data": data }).to_string();
    let length = body.len();
    let head = format!("POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    let answer = site.admin().ask(&(head + &body));
    assert_eq!(answer.head.status, 200, "{}", answer.body);
}

fn token(site: &Site, wanted: &Value) -> String {
    let body = wanted.to_string();
    let length = body.len();
    let head = format!("POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    let answer = site.admin().ask(&(head + &body));
    assert_eq!(answer.head.status, 200, "{}", answer.body);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    answer["token"].as_str().unwrap().to_owned()
}

#[test]
fn channels_come_and_go_on_one_connection() {
    everywhere(&Settings::default(), |site| {
        let mut socket = Socket::open(&site, "channel=a");
        assert_eq!(socket.told_bare(), json!({"type":"subscribed","channel":"a","offset":0}));
        publish(&site, "a", &json!({"x": 1}));
        let message = json!({"type":"message","channel":"a","offset":1,"data":{"x":1}});
        assert_eq!(socket.told_bare(), message);

        publish(&site, "b", &json!("before"));
        socket.send(&json!({"type":"subscribe","channel":"b","start":"all","id":7}));
        let mut both = [socket.told_bare(), socket.told_bare(), socket.told_bare()];
        both.sort_by_key(|told| told["type"].as_str().map(str::to_owned));
        let message = json!({"type":"message","channel":"b","offset":1,"data":"before"});
        assert_eq!(both[0], message);
        assert_eq!(both[1], json!({"type":"ok","id":7}));
        assert_eq!(both[2]["channel"], "b");
        publish(&site, "b", &json!(2));
        publish(&site, "a", &json!(3));
        let mut both = [socket.told_bare()["data"].clone(), socket.told_bare()["data"].clone()];
        both.sort_by_key(Value::as_u64);
        assert_eq!(both, [json!(2), json!(3)]);

        socket.send(&json!({"type":"unsubscribe","channel":"a","id":"x"}));
        assert_eq!(socket.told(), json!({"type":"ok","id":"x"}));
        eventually("it has left", || site.subscribers("a") == 0);
        publish(&site, "a", &json!("not for it"));
        socket.send(&json!({"type":"unsubscribe","channel":"a"}));
        assert_eq!(socket.told()["code"], "not_subscribed");
        publish(&site, "b", &json!(4));
        assert_eq!(socket.told()["data"], 4);
        drop(socket);
        eventually("nobody is left", || site.subscribers("b") == 0);
    });
}

#[test]
fn a_cursor_brings_back_what_was_missed_once_and_in_order() {
    everywhere(&Settings::default(), |site| {
        let mut socket = Socket::open(&site, "channel=a&channel=b");
        let mut cursor = String::new();
        for _ in 0..2 {
            cursor = socket.told()["cursor"].as_str().unwrap().to_owned();
        }
        drop(socket);
        for number in 0..3 {
            publish(&site, "a", &json!(number));
        }
        let mut socket = Socket::open(&site, &format!("channel=a&channel=b&cursor={cursor}"));
        let mut data = Vec::new();
        while data.len() < 3 {
            let told = socket.told();
            assert_ne!(told["type"], "reset", "{told}");
            if told["type"] == "message" {
                data.push(told["data"].clone());
            }
        }
        assert_eq!(data, [json!(0), json!(1), json!(2)]);
        drop(socket);
        // One channel alone, as a member of its own: replayed one message a frame.
        let mut socket = Socket::open(&site, "channel=a&start=all");
        assert_eq!(socket.told()["type"], "subscribed");
        for number in 0..3 {
            let told = socket.told();
            assert_eq!((&told["data"], &told["offset"]), (&json!(number), &json!(number + 1)));
        }
        site.tell("/close?cname=a");
        assert_eq!(socket.told()["type"], "closed");
        // It is on no channel now, and goes on.
        socket.send(&json!({"type":"subscribe","channel":"c"}));
        let kinds = [socket.told()["type"].clone(), socket.told()["type"].clone()];
        assert!(kinds.contains(&json!("ok")) && kinds.contains(&json!("subscribed")), "{kinds:?}");
        publish(&site, "c", &json!("still there"));
        assert_eq!(socket.told()["data"], "still there");
    });
}

#[test]
fn a_message_may_be_longer_than_what_may_wait() {
    let settings = Settings::default();
    everywhere(&settings, |site| {
        let mut socket = Socket::open(&site, "channel=a");
        assert_eq!(socket.told()["type"], "subscribed");
        let data = json!("x".repeat(2 * settings.channel.outbox_bytes_max));
        publish(&site, "a", &data);
        assert!(socket.told()["data"] == data, "live");
        let mut socket = Socket::open(&site, "channel=a&start=all");
        assert_eq!(socket.told()["type"], "subscribed");
        assert!(socket.told()["data"] == data, "from the history");
    });
}

#[test]
fn a_long_history_comes_as_fast_as_it_is_read() {
    const MESSAGES: usize = 20;
    let channel = ChannelSettings {
        history_messages_max: MESSAGES,
        history_bytes_max: MESSAGES << 20,
        ..ChannelSettings::default()
    };
    everywhere(&Settings { channel, ..Settings::default() }, |site| {
        let data = json!("x".repeat(900 * 1024));
        (0..MESSAGES).for_each(|_| publish(&site, "a", &data));
        for query in ["channel=a&start=all", "channel=a&channel=b&start=all"] {
            let mut socket = Socket::open(&site, query);
            let mut offsets = Vec::new();
            while offsets.len() < MESSAGES {
                let told = socket.told();
                if told["type"] == "message" {
                    offsets.push(told["offset"].as_u64().unwrap() as usize);
                }
            }
            assert!(offsets.iter().copied().eq(1..=MESSAGES), "{query} {offsets:?}");
            drop(socket);
            site.wait_for_subscribers("a", 0);
        }
    });
}

#[test]
fn who_may_publishes() {
    let settings = Settings { auth: Auth::Token, ..Settings::default() };
    everywhere(&settings, |site| {
        let wanted = json!({"prefixes":["room/"],"publish":true,"subject":"ann"});
        let mut ann = Socket::open(&site, &format!("token={}", token(&site, &wanted)));
        ann.send(&json!({"type":"subscribe","channel":"room/1","id":1}));
        let kinds = [ann.told()["type"].clone(), ann.told()["type"].clone()];
        assert!(kinds.contains(&json!("ok")) && kinds.contains(&json!("subscribed")), "{kinds:?}");
        let publish = json!({"type":"publish","channel":"room/1","data":["hi"],"id":2});
        ann.send(&publish);
        let mut told = [ann.told(), ann.told()];
        told.sort_by_key(|told| told["type"].as_str().map(str::to_owned));
        if told[0]["type"] == "ok" {
            told.swap(0, 1);
        }
        assert_eq!(told[0]["data"], json!(["hi"]));
        assert_eq!((&told[1]["type"], &told[1]["id"]), (&json!("ok"), &json!(2)));
        for (order, code) in [
            (json!({"type":"publish","channel":"other","data":1}), "forbidden"),
            (json!({"type":"subscribe","channel":"other"}), "forbidden"),
            (json!({"type":"publish","channel":"room/1"}), "bad_data"),
            (json!({"type":"dance"}), "bad_type"),
            (json!({"type":"subscribe"}), "bad_channel"),
            (json!({"type":"subscribe","channel":"room/1","cursor":"?"}), "bad_cursor"),
            (json!({"typ":"subscribe"}), "bad_json"),
            (json!("subscribe"), "bad_json"),
        ] {
            ann.send(&order);
            assert_eq!(ann.told()["code"], code, "{order}");
        }
        ann.send(&json!({"type":"ping","id":{"a":1}}));
        assert_eq!(ann.told(), json!({"type":"pong","id":{"a":1}}));
        let listener = json!({"prefixes":["room/"],"subject":"bob"});
        let query = format!("channel=room/1&token={}", token(&site, &listener));
        let mut bob = Socket::open(&site, &query);
        assert_eq!(bob.told()["type"], "subscribed");
        bob.send(&publish);
        assert_eq!(bob.told()["code"], "forbidden");
        let members = site.tell("/v1/channels/room%2F1/members");
        assert!(members.contains("ann") && members.contains("bob"), "{members}");

        let refused = |query: &str| {
            let mut client = site.front();
            client.send(request(&format!("/v1/socket?{query}"), FIELDS));
            client.answer().head.status
        };
        assert_eq!(refused("channel=a"), 401);
        assert_eq!(refused(&format!("channel=a&token={}", token(&site, &listener))), 403);
        // A token of one second: the socket is closed when its time is over.
        let short = json!({"channels":["a"],"expires_s":1});
        let mut socket = Socket::open(&site, &format!("channel=a&token={}", token(&site, &short)));
        assert_eq!(socket.closed(), (1008, "the token has expired".to_owned()));
    });
}

#[test]
fn a_token_is_worth_nothing_when_its_time_is_over() {
    everywhere(&Settings::default(), |site| {
        let short = json!({"prefixes":[""],"publish":true,"expires_s":1});
        let mut holder = Socket::open(&site, &format!("token={}", token(&site, &short)));
        let publish = json!({"type":"publish","channel":"a","data":1});
        eventually("it may not publish any more", || {
            holder.send(&publish);
            holder.told()["code"] == "token_expired"
        });
        holder.send(&json!({"type":"subscribe","channel":"a"}));
        assert_eq!(holder.told()["code"], "token_expired");
        // One that comes with a later channel counts as well.
        let mut socket = Socket::open(&site, "channel=a");
        assert_eq!(socket.told()["type"], "subscribed");
        let token = token(&site, &short);
        socket.send(&json!({"type":"subscribe","channel":"b","token":token}));
        assert_eq!(socket.closed(), (1008, "the token has expired".to_owned()));
    });
}

#[test]
fn who_does_not_read_its_answers_is_not_read_from() {
    const ORDERS: usize = 3_000;
    let site = Site::start(1, &Settings::default());
    let mut socket = Socket::open(&site, "");
    let order = json!({"type":"ping","id":"x".repeat(8_000)}).to_string();
    let mut orders = Vec::new();
    for _ in 0..ORDERS {
        encode_masked_frame(Opcode::Text, order.as_bytes(), false, [0; 4], &mut orders);
    }
    let mut stream = socket.0.get_ref().try_clone().unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0;
    while let Ok(more) = stream.write(&orders[sent..]) {
        sent += more;
        assert!(sent < orders.len(), "all of it was taken in");
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let rest = std::thread::spawn(move || stream.write_all(&orders[sent..]).unwrap());
    for _ in 0..ORDERS {
        assert_eq!(socket.told()["type"], "pong");
    }
    rest.join().unwrap();
}

#[test]
fn what_is_no_handshake_is_refused() {
    let site = Site::start(1, &Settings::default());
    let plain = String::new();
    let other_version = FIELDS.replace("Version: 13", "Version: 8");
    let bad_key = FIELDS.replace("dGhlIHNhbXBsZSBub25jZQ==", "x");
    for (method, fields, status) in [
        ("GET", &plain, 426),
        ("GET", &other_version, 426),
        ("GET", &bad_key, 400),
        // Another method is wrong before and after an upgrade.
        ("POST", &plain, 405),
        ("POST", &FIELDS.to_owned(), 405),
        ("PUT", &other_version, 405),
        ("DELETE", &bad_key, 405),
        ("HEAD", &plain, 405),
    ] {
        let mut client: Client = site.front();
        client.send(request("/v1/socket?channel=a", fields).replacen("GET", method, 1));
        let answer = client.answer_to(method);
        assert_eq!(answer.head.status, status, "{method} {fields}: {}", answer.body);
        assert_eq!(answer.body.is_empty(), method == "HEAD");
        // RFC 9110, 7.8, 15.5.6 and 15.5.22: what must be in such answers.
        let has = |name: &str| answer.head.field(name);
        assert_eq!(has("Allow"), (status == 405).then_some("GET, OPTIONS"));
        assert_eq!(has("Upgrade"), (status == 426).then_some("websocket"));
        assert_eq!(has("Connection"), (status == 426).then_some("upgrade"));
        assert_eq!(has("Sec-WebSocket-Version"), (status == 426).then_some("13"));
        // The connection goes on as it was.
        assert_eq!(client.get("/ping").head.status, 200);
    }
    eventually("nobody is there", || site.subscribers("a") == 0);
}

#[test]
fn the_protocol_is_kept_on_both_sides() {
    let site = Site::start(1, &Settings::default());
    let mut socket = Socket::open(&site, "channel=a");
    assert_eq!(socket.told()["type"], "subscribed");
    socket.0.send(Message::Ping(Bytes::from_static(b"are you there"))).unwrap();
    assert_eq!(socket.0.read().unwrap(), Message::Pong(Bytes::from_static(b"are you there")));
    socket.0.send(Message::binary(vec![1, 2])).unwrap();
    assert_eq!(socket.closed().0, 1008);
    // A frame without a mask, and a text that is none.
    for (frame, code) in [(&b"\x81\x02hi"[..], 1002), (b"\x81\x81\0\0\0\0\xff", 1007)] {
        let mut socket = Socket::open(&site, "channel=a");
        assert_eq!(socket.told()["type"], "subscribed");
        socket.0.get_mut().write_all(frame).unwrap();
        assert_eq!(socket.closed().0, code);
    }
    let mut socket = Socket::open(&site, "channel=a");
    socket.0.close(None).unwrap();
    while socket.0.read().is_ok() {}
    eventually("all have left", || site.subscribers("a") == 0);
}

#[test]
fn an_idle_socket_gets_signs_of_life_and_a_goodbye() {
    let channel = ChannelSettings { poll_timeout_s: 1, ..ChannelSettings::default() };
    let site = Site::start(1, &Settings { channel, ..Settings::default() });
    let mut socket = Socket::open(&site, "channel=a");
    let mut idle = Socket::open(&site, "");
    assert_eq!(socket.told()["type"], "subscribed");
    assert_eq!(socket.told(), json!({"type":"ping"}));
    assert_eq!(socket.told(), json!({"type":"ping"}));
    let end = std::thread::spawn(move || site.running.shutdown(Duration::from_secs(20)));
    let goodbye = loop {
        let told = socket.told();
        if told["type"] != "ping" {
            break told;
        }
    };
    assert_eq!(goodbye["type"], "goodbye");
    assert!(goodbye["retry_ms"].as_u64().is_some_and(|retry| retry >= 1000), "{goodbye}");
    assert_eq!(socket.closed().0, 1001);
    assert_eq!(idle.closed().0, 1001);
    drop((socket, idle));
    assert_eq!(end.join().unwrap().cut_off, 0);
}

/// What is published is more than sockets hold and the server keeps.
#[test]
fn who_reads_too_slowly_is_told_so() {
    everywhere(&Settings::default(), |site| {
        let mut socket = Socket::open(&site, "channel=much");
        site.wait_for_subscribers("much", 1);
        let data = json!("x".repeat(60_000));
        let mut published = 0;
        while !site.comet.stats().contains(&("slow_closed", 1)) {
            publish(&site, "much", &data);
            published += 1;
            assert!(published < 1_000, "it is never closed");
        }
        assert_eq!(socket.told()["type"], "subscribed");
        let mut count = 0;
        let last = loop {
            let told = socket.told();
            if told["type"] != "message" {
                break told;
            }
            count += 1;
            assert_eq!(told["offset"], count, "each once and in order");
        };
        assert_eq!(last, json!({ "type": "error", "code": "too_slow" }));
        assert_eq!(socket.closed(), (1013, "it is read too slowly".to_owned()));
        assert!(count < published);
    });
}
