//! The framed protocol over real sockets: what a consumer in the process changes, looking at what
//! was buried, and watching. (The other commands are tested against the binary.)

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use eserver::{AllowList, Announce, Consumer, Report, Running, Server, Taken, Turn};
use eserver_queue::{Clock, QueueService, QueueSettings, Queues};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// Admits objects with `stmt`, and texts without a semicolon.
struct Picky;

impl Consumer for Picky {
    fn admit(&self, payload: &[u8]) -> Result<(), String> {
        match serde_json::from_slice(payload).expect("JSON") {
            Value::Object(object) if object.contains_key("stmt") => Ok(()),
            Value::String(text) if !text.contains(';') => Ok(()),
            other => Err(format!("cannot make anything of {other}")),
        }
    }

    fn report(&self) -> Report {
        Report { state: "running".to_owned(), numbers: vec![("applied", 7), ("age_ms", 0)] }
    }
}

/// A server with the queues `default` and `sql`.
struct Peer {
    queues: Arc<Queues>,
    running: Option<Running>,
    _directory: TempDir,
}

impl Peer {
    /// `consumed` are the queues that have a consumer.
    fn start(consumed: &[usize]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut queues = Queues::open(
            directory.path(),
            &["sql".to_owned()],
            &QueueSettings::default(),
            Clock::start(),
            1 << 20,
            |name, error| panic!("{name}: {error}"),
        )
        .expect("queues open");
        for &index in consumed {
            queues.set_consumer(index, Arc::new(Picky));
        }
        let queues = Arc::new(queues);
        let allow: AllowList = ["127.0.0.1/32".parse().expect("a prefix")].into_iter().collect();
        let maker = QueueService::maker(Arc::clone(&queues));
        let server = Server::new().shards(1).listen("127.0.0.1:0", allow, maker);
        let running = Some(server.expect("an address").start().expect("a free port"));
        Peer { queues, running, _directory: directory }
    }

    fn client(&self) -> Client {
        let address = self.running.as_ref().and_then(|running| running.addresses().next());
        let stream = TcpStream::connect(address.expect("it runs")).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client(stream)
    }

    fn turn(&self, queue: usize, turn: Turn) -> Taken {
        let (answer, answered) = mpsc::channel();
        let tell = move |result| answer.send(result).expect("it is waited for");
        self.queues.feed(queue).turn(turn, Box::new(tell));
        answered.recv_timeout(PATIENCE).expect("in time").expect("the log works")
    }

    /// Takes all, and buries each with a reason.
    fn bury_all(&self, queue: usize, reason: impl Fn(u64) -> String) {
        let all = || Turn { messages_max: usize::MAX, bytes_max: usize::MAX, ..Turn::default() };
        let taken = self.turn(queue, all());
        let refused = taken.iter().map(|message| (message.id, reason(message.id))).collect();
        self.turn(queue, Turn { refused, ..Turn::default() });
    }
}

struct Client(TcpStream);

impl Client {
    fn send(&mut self, command: u16, body: &Value) {
        let body = body.to_string();
        let mut frame = command.to_be_bytes().to_vec();
        frame.extend_from_slice(&u16::try_from(body.len()).expect("a short body").to_be_bytes());
        frame.extend_from_slice(body.as_bytes());
        self.0.write_all(&frame).expect("the server reads");
    }

    fn receive(&mut self) -> (u16, Value) {
        let mut head = [0; 4];
        self.0.read_exact(&mut head).expect("an answer");
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        self.0.read_exact(&mut body).expect("a whole answer");
        let json = serde_json::from_slice(&body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&body)));
        (u16::from_be_bytes([head[0], head[1]]), json)
    }

    fn ask(&mut self, command: u16, body: &Value) -> (u16, Value) {
        self.send(command, body);
        self.receive()
    }

    /// Asks what must succeed.
    fn done(&mut self, command: u16, body: &Value) -> Value {
        let (answered, json) = self.ask(command, body);
        assert_eq!(answered, command, "{body}: {json}");
        json
    }

    /// Asks what must be refused, and returns the sentence.
    fn refused(&mut self, command: u16, body: &Value) -> String {
        let (answered, json) = self.ask(command, body);
        assert_eq!(answered, 0, "{body}: {json}");
        json["error"].as_str().unwrap_or_else(|| panic!("a sentence: {json}")).to_owned()
    }
}

fn payloads(taken: &Taken) -> Vec<&str> {
    taken.iter().map(|message| std::str::from_utf8(message.payload).expect("text")).collect()
}

#[test]
fn a_consumer_decides_what_is_stored() {
    let peer = Peer::start(&[0, 1]);
    let mut client = peer.client();
    let puts = [
        (8001, json!({"sql": "drop; %d"}), "cannot make anything of \"drop; %d\""),
        (8001, json!({"params": [1]}), "cannot make anything of {\"params\":[1]}"),
        (8001, json!({"queue_type": "sql", "a": 1}), "cannot make anything of {\"a\":1}"),
        (
            8015,
            json!({"queue": "sql", "items": [{"stmt": "a"}, "b", 3]}),
            "`items[2]`: cannot make anything of 3",
        ),
        (8001, json!({"other": 1}), "`sql` is missing: it holds the statement to store"),
    ];
    for (command, body, sentence) in puts {
        assert_eq!(client.refused(command, &body), sentence, "{body}");
    }
    for queue in ["default", "sql"] {
        let stats = client.done(8016, &json!({ "queue": queue }));
        assert_eq!(stats["next_id"], 1, "nothing was stored: {stats}");
        assert_eq!(stats["drain"].to_string(), r#"{"state":"running","applied":7,"age_ms":0}"#);
    }
    client.done(8015, &json!({"queue": "sql", "items": [{"stmt": "a"}, "b"]}));
    client.done(8001, &json!({"queue_type": "sql", "stmt": "c", "i": 1}));
    let all = Turn { messages_max: 9, bytes_max: 1000, ..Turn::default() };
    let taken = peer.turn(1, all);
    assert_eq!(payloads(&taken), [r#"{"stmt":"a"}"#, r#""b""#, r#"{"stmt":"c","i":1}"#]);
}

#[test]
fn the_default_queue_keeps_whole_what_only_a_consumer_understands() {
    let bodies = [
        (r#"{"sql":"t(%d)"}"#, r#""t(1)""#, r#""t(1)""#),
        (r#"{"sql":"t(%d)","other":1}"#, r#""t(2)""#, r#""t(2)""#),
        (
            r#" {"stmt":"add", "params":[1.50], "sql":"%d"} "#,
            r#"{"stmt":"add", "params":[1.50], "sql":"%d"}"#,
            r#""3""#,
        ),
        (
            r#"{"sql":"x","stmt":"add","notify":"n","key":7}"#,
            r#"{"sql":"x","stmt":"add","notify":"n","key":7}"#,
            r#""x""#,
        ),
    ];
    for consumed in [&[0][..], &[]] {
        let peer = Peer::start(consumed);
        let mut client = peer.client();
        for (body, _, _) in bodies {
            let mut frame = 8001_u16.to_be_bytes().to_vec();
            frame.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
            frame.extend_from_slice(body.as_bytes());
            client.0.write_all(&frame).unwrap();
            assert_eq!(client.receive(), (8001, json!({"msg": "success"})), "{body}");
        }
        let all = Turn { messages_max: 9, bytes_max: 1000, ..Turn::default() };
        let taken = peer.turn(0, all);
        let expected =
            bodies.map(|(_, with, without)| if consumed.is_empty() { without } else { with });
        assert_eq!(payloads(&taken), expected);
    }
    let peer = Peer::start(&[]);
    let mut client = peer.client();
    let sentence = client.refused(8001, &json!({"stmt": "add"}));
    assert_eq!(sentence, "`sql` is missing: it holds the statement to store");
    let stats = client.done(8016, &json!({}));
    assert!(stats["queues"]["default"].get("drain").is_none(), "{stats}");
}

#[test]
fn statistics_of_all_show_each_consumer() {
    let peer = Peer::start(&[1]);
    let stats = peer.client().done(8016, &json!({}));
    assert_eq!(stats["queues"]["sql"]["drain"]["applied"], 7);
    assert!(stats["queues"]["default"].get("drain").is_none(), "{stats}");
}

#[test]
fn what_is_buried_is_shown_page_by_page() {
    let peer = Peer::start(&[]);
    let mut client = peer.client();
    let empty = client.done(8017, &json!({}));
    assert_eq!(empty, json!({"buried": [], "next": null}));
    let long = "x".repeat(30_000);
    let items = [json!({"n": 1}), json!(long), json!(long), json!(long), json!(5)];
    for item in &items {
        client.done(8015, &json!({"queue": "sql", "items": [item]}));
    }
    peer.bury_all(1, |id| format!("\"reason\" {id}"));

    let page = |client: &mut Client, from: u64, max: u64| {
        let page = client.done(8017, &json!({"queue": "sql", "from": from, "max": max}));
        let shown = page["buried"].as_array().unwrap();
        for message in shown {
            let id = message["id"].as_u64().unwrap();
            assert_eq!(message["attempts"], 1);
            assert_eq!(message["reason"], format!("\"reason\" {id}"));
            assert_eq!(message["payload"], items[id as usize - 1]);
        }
        let ids: Vec<_> = shown.iter().map(|message| message["id"].as_u64().unwrap()).collect();
        (ids, page["next"].as_u64())
    };
    assert_eq!(page(&mut client, 0, 100), (vec![1, 2, 3], Some(4)), "as many as fit");
    assert_eq!(page(&mut client, 4, 100), (vec![4, 5], None));
    assert_eq!(page(&mut client, 2, 1), (vec![2], Some(3)), "as many as are asked for");
    assert_eq!(page(&mut client, 6, 1), (vec![], None));
    assert!(client.refused(8017, &json!({"form": 1})).contains("unknown field `form`"));
    assert_eq!(client.ask(8017, &json!({"queue": "x"})).0, 4001);
}

#[test]
fn a_payload_that_fits_no_frame_is_shown_by_its_length() {
    let peer = Peer::start(&[]);
    let mut client = peer.client();
    let long = json!("x".repeat(65_400));
    client.done(8015, &json!({"items": [long]}));
    peer.bury_all(0, |_| "r".repeat(600));
    let page = client.done(8017, &json!({}));
    let message = &page["buried"][0];
    assert_eq!((&message["bytes"], &page["next"]), (&json!(65_402), &Value::Null), "{page}");
    assert_eq!(message["reason"], "r".repeat(512));
    assert!(message.get("payload").is_none());
}

#[test]
fn kick_and_drop_see_to_what_is_buried() {
    let peer = Peer::start(&[]);
    let mut client = peer.client();
    client.done(8015, &json!({"items": [1, 2, 3, 4]}));
    peer.bury_all(0, |_| "why".to_owned());
    client.done(8015, &json!({"items": [5]}));
    let answer = client.done(8018, &json!({"ids": [2, 5, 9]}));
    assert_eq!(answer, json!({"kicked": 1, "missing": [5, 9]}));
    let answer = client.done(8019, &json!({"ids": [1, 2, 5, 9]}));
    assert_eq!(answer, json!({"dropped": 1, "missing": [2, 5, 9]}), "no live message is dropped");
    let answer = client.done(8018, &json!({"all": true}));
    assert_eq!(answer, json!({"kicked": 2, "missing": []}));
    let reserved = client.done(8011, &json!({"max": 9}));
    let ids: Vec<_> = reserved["messages"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, [2, 3, 4, 5]);
    assert_eq!(client.done(8019, &json!({"all": true})), json!({"dropped": 0, "missing": []}));
    let stats = client.done(8016, &json!({"queue": "default"}));
    assert_eq!(
        (&stats["since_start"]["kicked"], &stats["since_start"]["dropped"]),
        (&json!(3), &json!(1))
    );
    for (body, words) in [
        (json!({}), "`ids` is missing"),
        (json!({"all": false}), "`ids` is missing"),
        (json!({"ids": [1], "all": true}), "exclude each other"),
        (json!({"ids": vec![1; 3001]}), "at most 3000"),
    ] {
        for command in [8018, 8019] {
            let sentence = client.refused(command, &body);
            assert!(sentence.contains(words), "{sentence}");
        }
    }
}

#[test]
fn all_is_a_thousand_at_a_time() {
    let peer = Peer::start(&[]);
    let mut client = peer.client();
    client.done(8015, &json!({"items": vec![0; 2500]}));
    peer.bury_all(0, |_| String::new());
    let dropped = client.done(8019, &json!({"all": true}));
    assert_eq!(dropped, json!({"dropped": 1000, "missing": [], "more": true}));
    let kicked = client.done(8018, &json!({"all": true}));
    assert_eq!(kicked, json!({"kicked": 1000, "missing": [], "more": true}));
    assert_eq!(client.done(8018, &json!({"all": true})), json!({"kicked": 500, "missing": []}));
    let stats = client.done(8016, &json!({"queue": "default"}));
    assert_eq!((&stats["ready"], &stats["buried"]), (&json!(1500), &json!(0)));
}

#[test]
fn a_watch_is_answered_by_the_announcement() {
    let peer = Peer::start(&[]);
    let mut client = peer.client();
    let events = peer.queues.events();
    events.announce("before", b"0");
    let start = client.done(8020, &json!({"wait_ms": 0}));
    assert_eq!((&start["events"], &start["missed"]), (&json!([]), &json!(0)));
    let watch = json!({"channel": "a \"b\"", "after": start["cursor"], "wait_ms": 60_000});
    // Answered in the order of requests: the second waits for the watch.
    client.send(8020, &watch);
    client.send(8003, &json!({}));
    events.announce("other", b"1");
    events.announce("a \"b\"", br#"{"id":1,"ok":true}"#);
    let (command, seen) = client.receive();
    assert_eq!(command, 8020);
    assert_eq!(seen["events"], json!([{"channel": "a \"b\"", "event": {"id": 1, "ok": true}}]));
    assert_eq!(client.receive(), (8003, json!(0)));
    let rest = client.done(8020, &json!({"after": start["cursor"]}));
    assert_eq!(rest["events"].as_array().unwrap().len(), 2, "{rest}");
    assert_eq!(rest["cursor"], seen["cursor"]);
    let nothing = client.done(8020, &json!({"after": rest["cursor"], "wait_ms": 20}));
    assert_eq!((&nothing["events"], &nothing["cursor"]), (&json!([]), &rest["cursor"]));
    for (body, words) in [
        (json!({"after": "x"}), "`after` is not a cursor"),
        (json!({"wait": 1}), "unknown field `wait`"),
    ] {
        let sentence = client.refused(8020, &body);
        assert!(sentence.contains(words), "{sentence}");
    }
    let stranger = client.done(8020, &json!({"after": "1-7", "wait_ms": 60_000}));
    assert_eq!((&stranger["restarted"], &stranger["missed"]), (&json!(true), &json!(0)));
    assert_eq!(stranger["events"].as_array().unwrap().len(), 3);
}

#[test]
fn events_that_do_not_fit_a_frame_come_with_the_next() {
    let peer = Peer::start(&[]);
    let mut client = peer.client();
    let events = peer.queues.events();
    let mut cursor = client.done(8020, &json!({"wait_ms": 0}))["cursor"].clone();
    let long = |bytes: usize| json!("x".repeat(bytes - 2)).to_string();
    let sizes = [30_000, 30_000, 30_000, 65_400, 100_000, 10, 65_000];
    for bytes in sizes {
        events.announce("c", long(bytes).as_bytes());
    }
    let channel = "\u{1}".repeat(20_000);
    events.announce(&channel, b"1");
    let mut seen = Vec::new();
    let mut pages = 0;
    while seen.len() < sizes.len() + 1 {
        let page = client.done(8020, &json!({"after": cursor, "wait_ms": 0}));
        for event in page["events"].as_array().unwrap() {
            let bytes = event["event"].as_str().map(|text| text.len() + 2);
            seen.push((bytes, event["bytes"].as_u64(), event["channel"].is_null()));
        }
        assert_eq!(page["missed"], 0);
        cursor = page["cursor"].clone();
        pages += 1;
        assert!(pages < 20, "{seen:?}");
    }
    let whole = |bytes| (Some(bytes), None, false);
    let cut = |bytes| (None, Some(bytes), false);
    let expected = [
        whole(30_000),
        whole(30_000),
        whole(30_000),
        cut(65_400),
        cut(100_000),
        whole(10),
        whole(65_000),
        (None, Some(1), true),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_end_does_not_wait_for_watchers() {
    let mut peer = Peer::start(&[]);
    let mut client = peer.client();
    client.send(8020, &json!({"wait_ms": 60_000}));
    // The shard has begun with the watch when it answers another connection's later request.
    let mut other = peer.client();
    let watching = json!({"after": other.done(8020, &json!({"wait_ms": 0}))["cursor"]});
    peer.queues.events().close();
    let (command, answer) = client.receive();
    assert!(command == 8020 || answer["error"] == "the server is ending", "{answer}");
    assert_eq!(other.refused(8020, &watching), "the server is ending");
    drop((client, other));
    let ended = peer.running.take().unwrap().shutdown(PATIENCE);
    assert_eq!(ended.cut_off, 0);
}
