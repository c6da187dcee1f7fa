//! A storm: ten thousand event streams that are lost at once come back at once, and are told exactly
//! what they have missed, or that it cannot be had.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;
use support::http::{HttpClient, request};
use support::listener::{publish, raise_descriptor_limit};
use support::server::{Server, Setup};
use support::{PATIENCE, eventually, rounds};

/// So many channels they are on.
const CHANNELS: usize = 20;

/// What reads need at a time: an event is shorter.
const READ_BYTES: usize = 512;

/// A stream and how far it has come.
struct Listener {
    channel: usize,
    /// `Last-Event-ID`, once there was one.
    cursor: Option<String>,
    stream: Option<BufReader<TcpStream>>,
}

impl Listener {
    /// Asks for its channel, from where it was, and does not wait for the answer.
    fn come(&mut self, public: SocketAddr) {
        let mut stream = TcpStream::connect(public).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let field = self
            .cursor
            .as_ref()
            .map(|cursor| format!("Last-Event-ID: {cursor}\r\n"))
            .unwrap_or_default();
        let target = format!("/v1/events?channel=storm{}", self.channel);
        stream.write_all(request("GET", &target, &field).as_bytes()).expect("it reads");
        self.stream = Some(BufReader::with_capacity(READ_BYTES, stream));
    }

    /// The next thing it is told, but for signs of life.
    fn told(&mut self) -> Value {
        let stream = self.stream.as_mut().expect("it has come");
        let mut line = String::new();
        loop {
            line.clear();
            let count = stream.read_line(&mut line).expect("a line in time");
            assert!(count > 0, "the stream has ended");
            if let Some(cursor) = line.strip_prefix("id: ") {
                self.cursor = Some(cursor.trim_end().to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }
}

fn publish_to_all(server: &Server, data: &str) {
    let mut admin = HttpClient::connect(server.admin_address());
    for channel in 0..CHANNELS {
        publish(&mut admin, &format!("storm{channel}"), data);
    }
}

/// That there are this many subscribers.
fn wait_for(server: &Server, count: usize) {
    let mut admin = HttpClient::connect(server.admin_address());
    let sign = format!("\"subscribers\": {count}}}");
    eventually(&sign, || admin.get("/info").text().contains(&sign).then_some(()));
}

/// All are told this next, in these words of `type` and `data`.
fn all_are_told(listeners: &mut [Listener], kind: &str, data: Option<&str>) {
    for listener in listeners {
        let told = listener.told();
        assert_eq!((told["type"].as_str(), told["data"].as_str()), (Some(kind), data), "{told}");
    }
}

#[test]
fn all_come_back_at_once_and_know_what_they_have_missed() {
    let count = rounds("ESERVER_STORM_CLIENTS", 10_000);
    raise_descriptor_limit(count as u64 + 100);
    let mut server = Server::start();
    let (public, admin_address) = (server.public_address(), server.admin_address());
    let new = |number| Listener { channel: number % CHANNELS, cursor: None, stream: None };
    let mut listeners: Vec<_> = (0..count).map(new).collect();
    listeners.iter_mut().for_each(|listener| listener.come(public));
    all_are_told(&mut listeners, "subscribed", None);
    publish_to_all(&server, "one");
    all_are_told(&mut listeners, "message", Some("one"));

    // The network goes, and three messages are missed.
    listeners.iter_mut().for_each(|listener| listener.stream = None);
    wait_for(&server, 0);
    let missed = ["two", "three", "four"];
    missed.iter().for_each(|data| publish_to_all(&server, data));
    let start = Instant::now();
    listeners.iter_mut().for_each(|listener| listener.come(public));
    all_are_told(&mut listeners, "subscribed", None);
    for data in missed {
        all_are_told(&mut listeners, "message", Some(data));
    }
    println!("{count} came back to {} messages each in {:?}", missed.len(), start.elapsed());
    wait_for(&server, count);
    publish_to_all(&server, "five");
    all_are_told(&mut listeners, "message", Some("five"));

    // The server goes, and all it had in memory.
    server.kill();
    let start = Instant::now();
    let server =
        Setup::new().set("comet.listen", public).set("admin.listen", admin_address).start();
    listeners.iter_mut().for_each(|listener| listener.come(public));
    for listener in &mut listeners {
        let told = listener.told();
        let reason = told["reason"].as_str().unwrap_or_default().to_owned();
        assert_eq!(told["type"], "reset", "{told}");
        assert!(["expired", "epoch changed"].contains(&reason.as_str()), "{told}");
    }
    println!("{count} came back after a crash in {:?}", start.elapsed());
    publish_to_all(&server, "six");
    all_are_told(&mut listeners, "message", Some("six"));
}
